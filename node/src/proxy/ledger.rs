//! All Services' parts of a rule set together, and what of them the kernel doesn't have yet.

use std::collections::BTreeMap;

use super::ServiceKey;

/// One Service's part of a rule set. An empty one is none.
pub trait Part: Clone + Default + PartialEq {
    /// Names a place that Services share, such as an element of a map.
    type Element: Clone + Ord;

    /// What it wants to have at shared places.
    fn shared(&self) -> &BTreeMap<Self::Element, String>;
}

/// What is wanted of the kernel, and what it still has where that differs.
#[derive(Debug)]
pub struct Ledger<P: Part> {
    parts: BTreeMap<ServiceKey, P>,
    /// Who wants which shared place. Two Services may want the same (an external IP): the first by name has it, and the
    /// next inherits it.
    shared: BTreeMap<P::Element, BTreeMap<ServiceKey, String>>,
    changes: Changes<P>,
}

/// What the kernel still has, of everything that changed.
#[derive(Debug)]
pub struct Changes<P: Part> {
    /// Parts as they were.
    pub parts: BTreeMap<ServiceKey, P>,
    /// What was at shared places.
    pub shared: BTreeMap<P::Element, Option<String>>,
}

impl<P: Part> Default for Changes<P> {
    fn default() -> Self {
        Changes { parts: BTreeMap::new(), shared: BTreeMap::new() }
    }
}

impl<P: Part> Default for Ledger<P> {
    fn default() -> Self {
        Ledger { parts: BTreeMap::new(), shared: BTreeMap::new(), changes: Changes::default() }
    }
}

impl<P: Part> Ledger<P> {
    /// The present part of a Service.
    pub fn part(&self, key: &str) -> Option<&P> {
        self.parts.get(key)
    }

    /// What is to be at a shared place.
    pub fn element(&self, element: &P::Element) -> Option<&String> {
        self.shared.get(element).and_then(|wanting| wanting.values().next())
    }

    /// Whether there are no parts.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The Services that have a part.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.parts.keys()
    }

    /// Replaces a Service's part; an empty one removes it.
    pub fn set(&mut self, key: &ServiceKey, part: P) {
        let old = self.parts.get(key).cloned().unwrap_or_default();
        if old == part {
            return;
        }
        for element in old.shared().keys().chain(part.shared().keys()) {
            let present = self.element(element).cloned();
            self.changes.shared.entry(element.clone()).or_insert(present);
        }
        for element in old.shared().keys() {
            if let Some(wanting) = self.shared.get_mut(element) {
                wanting.remove(key);
                if wanting.is_empty() {
                    self.shared.remove(element);
                }
            }
        }
        for (element, value) in part.shared() {
            self.shared.entry(element.clone()).or_default().insert(key.clone(), value.clone());
        }
        if part == P::default() {
            self.parts.remove(key);
        } else {
            self.parts.insert(key.clone(), part);
        }
        self.changes.parts.entry(key.clone()).or_insert(old);
    }

    /// What changed since this or [`Ledger::take_all`] was last called.
    pub fn take_changes(&mut self) -> Changes<P> {
        let mut changes = std::mem::take(&mut self.changes);
        let none = P::default();
        changes.parts.retain(|key, old| *old != *self.parts.get(key).unwrap_or(&none));
        changes.shared.retain(|element, old| {
            let now = self.shared.get(element).and_then(|wanting| wanting.values().next());
            old.as_ref() != now
        });
        changes
    }

    /// Everything, as a change from nothing. Nothing has changed afterwards.
    pub fn take_all(&mut self) -> Changes<P> {
        self.changes = Changes::default();
        Changes {
            parts: self.parts.keys().map(|key| (key.clone(), P::default())).collect(),
            shared: self.shared.keys().map(|element| (element.clone(), None)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Wants(BTreeMap<&'static str, String>);

    impl Part for Wants {
        type Element = &'static str;
        fn shared(&self) -> &BTreeMap<&'static str, String> {
            &self.0
        }
    }

    fn wants(pairs: &[(&'static str, &str)]) -> Wants {
        Wants(pairs.iter().map(|(e, v)| (*e, (*v).to_owned())).collect())
    }

    fn shared(changes: &Changes<Wants>) -> Vec<(&'static str, Option<&str>)> {
        changes.shared.iter().map(|(e, old)| (*e, old.as_deref())).collect()
    }

    #[test]
    fn the_first_by_name_has_a_place_and_the_next_inherits_it() {
        let (a, b): (ServiceKey, ServiceKey) = ("d/a".into(), "d/b".into());
        let mut ledger = Ledger::default();
        ledger.set(&b, wants(&[("x", "b")]));
        assert_eq!(shared(&ledger.take_changes()), [("x", None)]);
        ledger.set(&a, wants(&[("x", "a"), ("y", "a")]));
        assert_eq!(shared(&ledger.take_changes()), [("x", Some("b")), ("y", None)]);
        assert_eq!(ledger.element(&"x").map(String::as_str), Some("a"));
        ledger.set(&a, Wants::default());
        assert_eq!(shared(&ledger.take_changes()), [("x", Some("a")), ("y", Some("a"))]);
        assert_eq!(ledger.element(&"x").map(String::as_str), Some("b"));
        assert_eq!(ledger.element(&"y"), None);
    }

    #[test]
    fn what_cancels_out_is_no_change() {
        let key: ServiceKey = "d/a".into();
        let mut ledger = Ledger::default();
        ledger.set(&key, wants(&[("x", "1")]));
        assert_eq!(ledger.take_all().parts.len(), 1);
        ledger.set(&key, wants(&[("x", "2"), ("y", "2")]));
        ledger.set(&key, wants(&[("x", "1")]));
        let changes = ledger.take_changes();
        assert!(changes.parts.is_empty() && changes.shared.is_empty());
    }
}
