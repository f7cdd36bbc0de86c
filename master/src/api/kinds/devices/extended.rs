//! Which class of devices stands behind an extended resource: the one that names it, or whose own name is in it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::Resource;
use k8s_openapi::api::resource::v1::DeviceClass;

use crate::cache::{Derived, Snapshot};

/// What the name of a resource begins with that a class has without naming one.
pub const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/";

/// Annotation of a claim that was made for a pod's extended resources.
pub const CLAIM: &str = "resource.kubernetes.io/extended-resource-claim";

/// The resources that classes of devices stand behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backed {
    /// Classes by the resource that they name.
    by_resource: BTreeMap<String, String>,
    /// The resource that a class names, by class.
    by_class: BTreeMap<String, Option<String>>,
}

impl Backed {
    /// What a cluster's classes say.
    pub fn of(snapshot: &Snapshot) -> Self {
        let stored = snapshot.list(DeviceClass::GROUP, DeviceClass::URL_PATH_SEGMENT, "");
        let mut classes: Vec<_> = stored.filter_map(|s| s.typed::<DeviceClass>().ok()).collect();
        // Of several that name one resource the newest has it, so that a new class can take over from an old one.
        classes.sort_by_cached_key(|class| {
            let created = class.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (created, Reverse(class.metadata.name.clone()))
        });
        let mut backed = Backed::default();
        for class in classes {
            let name = class.metadata.name.clone().unwrap_or_default();
            let resource = class.spec.extended_resource_name.clone().filter(|r| !r.is_empty());
            if let Some(resource) = &resource {
                backed.by_resource.insert(resource.clone(), name.clone());
            }
            backed.by_class.insert(name, resource);
        }
        backed
    }

    /// One class that names no resource.
    #[cfg(test)]
    pub fn with_class(class: &str) -> Self {
        Backed { by_resource: BTreeMap::new(), by_class: BTreeMap::from([(class.to_owned(), None)]) }
    }

    /// The class behind a resource.
    pub fn class_of(&self, resource: &str) -> Option<&str> {
        match resource.strip_prefix(IMPLICIT) {
            Some(class) => self.by_class.get_key_value(class).map(|(class, _)| class.as_str()),
            None => self.by_resource.get(resource).map(String::as_str),
        }
    }

    /// The resource that a class names; the outer `None` is for classes that there are not.
    pub fn resource_of(&self, class: &str) -> Option<Option<&str>> {
        self.by_class.get(class).map(Option::as_deref)
    }
}

impl Derived for Backed {
    const KINDS: &'static [(&'static str, &'static str)] =
        &[(DeviceClass::GROUP, DeviceClass::URL_PATH_SEGMENT)];

    fn derive(_: Option<&Self>, snapshot: &Snapshot) -> Self {
        Backed::of(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use actors::TraceContext;
    use serde_json::json;

    use super::*;
    use crate::cache::Cache;
    use crate::store::{Record, key};

    fn backed(classes: &[(&str, &str, u32)]) -> Backed {
        let record = |(at, (name, resource, second)): (usize, &(&str, &str, u32))| {
            let resource = Some(resource).filter(|r| !r.is_empty());
            let value = json!({"metadata": {"name": name, "uid": name,
                "creationTimestamp": format!("2030-01-01T00:00:{second:02}Z")},
                "spec": {"extendedResourceName": resource}});
            let revision = at as u64 + 2;
            Record {
                key: key(DeviceClass::GROUP, DeviceClass::URL_PATH_SEGMENT, "", name),
                value: value.to_string().into(),
                trace: TraceContext::default(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
            }
        };
        let cache = Cache::new();
        cache.load(classes.iter().enumerate().map(record).collect(), classes.len() as u64 + 2);
        Backed::of(&cache.snapshot())
    }

    #[test]
    fn the_newest_class_that_names_a_resource_has_it() {
        let (gpu, b) =
            ("example.com/gpu", backed(&[("a", "example.com/gpu", 2), ("b", "example.com/gpu", 1)]));
        assert_eq!(b.class_of(gpu), Some("a"));
        let b = backed(&[("a", gpu, 1), ("b", gpu, 2)]);
        assert_eq!(b.class_of(gpu), Some("b"));
        let b = backed(&[("a", gpu, 1), ("b", gpu, 1)]);
        assert_eq!(b.class_of(gpu), Some("a"), "of one age");
        assert_eq!(b.resource_of("b"), Some(Some(gpu)), "it names it all the same");
    }

    #[test]
    fn every_class_has_a_resource_of_its_own() {
        let b = backed(&[("a", "", 1), ("b", "example.com/gpu", 1)]);
        assert_eq!(b.class_of("deviceclass.resource.kubernetes.io/a"), Some("a"));
        assert_eq!(b.class_of("deviceclass.resource.kubernetes.io/b"), Some("b"));
        assert_eq!(b.class_of("deviceclass.resource.kubernetes.io/c"), None);
        assert_eq!(b.class_of("example.com/a"), None);
        assert_eq!((b.resource_of("a"), b.resource_of("c")), (Some(None), None));
    }
}
