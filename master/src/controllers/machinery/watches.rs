//! The usual maps from changes to keys.

use protocol::Object;

use super::labels::selector_option;
use super::{Key, Watch};
use crate::cache::{Cache, Change, OwnerRef, Stored};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The key of a stored object.
pub fn key_of(stored: &Stored) -> Key {
    Key::new(&stored.meta.namespace, &stored.meta.name)
}

/// Follows a kind whose objects are the keys themselves.
pub fn own<K: Object>() -> Watch {
    mapped::<K>(|change, _| vec![key_of(&change.stored)])
}

/// Follows a kind with a map of one's own.
pub fn mapped<K: Object>(map: impl Fn(&Change, &Cache) -> Vec<Key> + Send + Sync + 'static) -> Watch {
    Watch { group: K::GROUP, resource: K::URL_PATH_SEGMENT, map: Box::new(map) }
}

/// Follows a kind whose objects are managed by those that the keys name: a change concerns its manager, and
/// its former one.
pub fn owned<K: Object, Owner: Object>() -> Watch {
    mapped::<K>(|change, _| managers::<Owner>(change))
}

/// Like [`owned`]; an object that nobody manages concerns every owner in its namespace whose selector
/// selects it, because one of them may adopt it.
pub fn owned_or_selected<K: Object, Owner: Object>(
    selector: impl Fn(&Owner) -> Option<LabelSelector> + Send + Sync + 'static,
) -> Watch {
    mapped::<K>(move |change, cache| {
        let mut keys = managers::<Owner>(change);
        if change.stored.meta.controller().is_none() && !change.stored.meta.labels.is_empty() {
            for owner in cache.list::<Owner>(&change.stored.meta.namespace) {
                let selector = selector_option(selector(&owner).as_ref());
                if selector.matches_by(|label| change.stored.meta.labels.get(label)) {
                    keys.push(Key::of(owner.metadata()));
                }
            }
        }
        keys
    })
}

/// The keys of the managing `Owner`s of an object, before and after a change.
pub fn managers<Owner: Object>(change: &Change) -> Vec<Key> {
    let mut keys = Vec::new();
    for stored in change.previous.iter().chain([&change.stored]) {
        if let Some(owner) = stored.meta.controller().filter(|o| is_a::<Owner>(o)) {
            let key = Key::new(if Owner::NAMESPACED { &stored.meta.namespace } else { "" }, &owner.name);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

/// Whether a reference is to an object of a kind, in whatever version.
pub fn is_a<K: Object>(owner: &OwnerRef) -> bool {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    &*owner.kind == K::KIND && group == K::GROUP
}
