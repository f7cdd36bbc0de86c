//! Following the kinds that clients declare, as they come and go.

use std::collections::BTreeMap;
use std::future::{Future, pending};

use futures::StreamExt;
use futures::future::{AbortHandle, Abortable};
use futures::stream::FuturesUnordered;
use protocol::Resource;

use crate::api::custom::{Catalog, DEFINITIONS};
use crate::cache::{Cache, WatchFrom};

/// Keeps one `each` running for every declared kind that is stored, as long as it is declared. Never ends.
pub async fn follow<F: Future<Output = ()>>(cache: Cache, each: impl Fn(&'static Resource) -> Option<F>) {
    let mut running = FuturesUnordered::new();
    let mut followed: BTreeMap<(&'static str, &'static str), AbortHandle> = BTreeMap::new();
    cache.ready().await;
    loop {
        let (group, plural) = DEFINITIONS;
        let Ok(mut definitions) = cache.watch(group, plural, "", WatchFrom::InitialState) else {
            return pending().await;
        };
        loop {
            let changed = tokio::select! {
                changed = definitions.next() => changed,
                Some(_) = running.next() => continue,
            };
            if changed.is_err() {
                break;
            }
            let catalog = cache.derived::<Catalog>();
            let stored: BTreeMap<_, _> =
                catalog.stored().filter(|k| k.custom).map(|k| ((k.group, k.plural), k)).collect();
            followed.retain(|kind, task| {
                let stays = stored.contains_key(kind);
                if !stays {
                    task.abort();
                }
                stays
            });
            for (name, kind) in stored {
                if followed.contains_key(&name) {
                    continue;
                }
                if let Some(work) = each(kind) {
                    let (task, registration) = AbortHandle::new_pair();
                    running.push(Abortable::new(work, registration));
                    followed.insert(name, task);
                }
            }
        }
    }
}
