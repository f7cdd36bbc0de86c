//! What is counted with every request, found without its labels being hashed for each of its metrics.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
use parking_lot::RwLock;

/// Values by key, each made once: the members of families that requests of one sort are counted by. It is as large as
/// those families are, so its keys, like their labels, have few values.
pub struct Held<K, V>(RwLock<HashMap<K, V, RandomState>>);

impl<K, V> Default for Held<K, V> {
    fn default() -> Self {
        Held(RwLock::default())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Held<K, V> {
    /// The value of a key, made if this is the first time.
    pub fn get(&self, key: &K, make: impl FnOnce() -> V) -> V {
        if let Some(known) = self.0.read().get(key) {
            return known.clone();
        }
        // Of two that make it at the same time the first one's is kept.
        self.0.write().entry(key.clone()).or_insert_with(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_for_each_key() {
        let held = Held::<&str, u32>::default();
        assert_eq!((held.get(&"a", || 1), held.get(&"a", || 2), held.get(&"b", || 3)), (1, 1, 3));
    }
}
