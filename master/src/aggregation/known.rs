//! What the documents of other API servers said when they were last read.
//!
//! Who looks whether a server is there reads its documents too, and puts them here. They outlive a server's
//! absence (then they are stale), not its registration.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::Value;

/// The documents of one version of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// Its kinds, in the form of aggregated discovery.
    pub resources: Vec<Value>,
    /// OpenAPI v3 of this version.
    pub openapi: Option<Bytes>,
    /// OpenAPI v2 of the whole server.
    pub openapi_v2: Option<Arc<Value>>,
    /// The server could not be asked the last time.
    pub stale: bool,
}

/// All documents, by the name of their registration.
pub type All = BTreeMap<String, Arc<Documents>>;

/// What is known. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Known {
    all: Arc<ArcSwap<All>>,
}

impl Known {
    /// Everything that is known now.
    pub fn all(&self) -> Arc<All> {
        self.all.load_full()
    }

    /// The documents of a registration.
    pub fn get(&self, name: &str) -> Option<Arc<Documents>> {
        self.all.load().get(name).cloned()
    }

    /// Remembers documents.
    pub fn put(&self, name: &str, documents: Documents) {
        if self.get(name).is_some_and(|known| *known == documents) {
            return;
        }
        let documents = Arc::new(documents);
        self.change(|all| drop(all.insert(name.to_owned(), documents.clone())));
    }

    /// The server cannot be asked: what it said may not be so any more.
    pub fn mark_stale(&self, name: &str) {
        if let Some(known) = self.get(name).filter(|known| !known.stale) {
            self.put(name, Documents { stale: true, ..(*known).clone() });
        }
    }

    /// Forgets a registration that is gone.
    pub fn forget(&self, name: &str) {
        if self.get(name).is_some() {
            self.change(|all| drop(all.remove(name)));
        }
    }

    fn change(&self, change: impl Fn(&mut All)) {
        self.all.rcu(|all| {
            let mut all = All::clone(all);
            change(&mut all);
            all
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_changes_nothing() {
        let known = Known::default();
        known.mark_stale("v1.g");
        assert!(known.all().is_empty());
        known.put("v1.g", Documents::default());
        let first = known.all();
        known.put("v1.g", Documents::default());
        assert!(Arc::ptr_eq(&first, &known.all()));
        known.mark_stale("v1.g");
        assert!(known.get("v1.g").is_some_and(|d| d.stale));
        known.forget("v1.g");
        assert!(known.all().is_empty());
    }
}
