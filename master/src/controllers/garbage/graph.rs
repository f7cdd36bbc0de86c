//! Who depends on whom, by uid. A hint whom to look at: nothing is deleted because of it alone.

use std::collections::{BTreeSet, HashMap};

use crate::controllers::machinery::Key;

#[derive(Default)]
struct Entry {
    /// Where it is; `None` while only its dependents are known.
    key: Option<Key>,
    owners: Vec<Box<str>>,
    dependents: BTreeSet<Box<str>>,
}

/// The graph of owners and dependents.
#[derive(Default)]
pub struct Graph {
    entries: HashMap<Box<str>, Entry>,
}

impl Graph {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Learns of an object and of its owners; which were its owners before, and are no more.
    pub fn set(&mut self, uid: &str, key: Key, owners: Vec<Box<str>>) -> Vec<Box<str>> {
        let entry = self.entries.entry(uid.into()).or_default();
        entry.key = Some(key);
        let former = std::mem::replace(&mut entry.owners, owners.clone());
        for owner in owners.iter().filter(|o| !former.contains(o)) {
            self.entries.entry(owner.clone()).or_default().dependents.insert(uid.into());
        }
        let gone: Vec<Box<str>> = former.into_iter().filter(|o| !owners.contains(o)).collect();
        gone.iter().for_each(|owner| self.unlink(owner, uid));
        gone
    }

    /// Forgets an object; its dependents stay known.
    pub fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.key = None;
        let owners = std::mem::take(&mut entry.owners);
        let alone = entry.dependents.is_empty();
        for owner in owners {
            self.unlink(&owner, uid);
        }
        if alone {
            self.entries.remove(uid);
        }
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(entry) = self.entries.get_mut(owner) {
            entry.dependents.remove(dependent);
            if entry.dependents.is_empty() && entry.key.is_none() {
                self.entries.remove(owner);
            }
        }
    }

    /// The keys of an object's dependents.
    pub fn dependents(&self, uid: &str) -> Vec<Key> {
        let Some(entry) = self.entries.get(uid) else { return Vec::new() };
        entry.dependents.iter().filter_map(|d| self.key(d)).collect()
    }

    /// Where an object is.
    pub fn key(&self, uid: &str) -> Option<Key> {
        self.entries.get(uid)?.key.clone()
    }

    /// How many objects are known, those included of which only dependents are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: usize) -> Key {
        Key::new("", &format!("o{n}"))
    }

    fn uid(n: usize) -> Box<str> {
        n.to_string().into()
    }

    #[test]
    fn owners_that_are_none_any_more_are_told_of() {
        let mut graph = Graph::default();
        assert!(graph.set(&uid(0), key(0), vec![uid(1), uid(2)]).is_empty());
        assert_eq!(graph.set(&uid(0), key(0), vec![uid(2)]), [uid(1)]);
        assert!(graph.dependents(&uid(1)).is_empty());
    }

    proptest! {
        /// After any changes the graph is what the objects say, and nothing lingers when all are gone.
        #[test]
        fn the_graph_follows_the_objects(steps in proptest::collection::vec(
            (0usize..8, proptest::option::of(proptest::collection::btree_set(0usize..8, 0..3))), 0..60)
        ) {
            let mut graph = Graph::default();
            let mut truth: std::collections::BTreeMap<usize, BTreeSet<usize>> = Default::default();
            for (object, owners) in steps {
                match owners {
                    Some(owners) => {
                        graph.set(&uid(object), key(object), owners.iter().map(|o| uid(*o)).collect());
                        truth.insert(object, owners);
                    }
                    None => {
                        graph.remove(&uid(object));
                        truth.remove(&object);
                    }
                }
                for owner in 0..8 {
                    let expected: Vec<Key> =
                        truth.iter().filter(|(_, o)| o.contains(&owner)).map(|(n, _)| key(*n)).collect();
                    let mut got = graph.dependents(&uid(owner));
                    got.sort();
                    prop_assert_eq!(got, expected);
                }
            }
            for object in truth.keys() {
                graph.remove(&uid(*object));
            }
            prop_assert!(graph.is_empty());
        }
    }
}
