//! The second look at an object, once somebody has changed what others saw before.
//!
//! Whoever may change an object looks at it in turn: the plugins, the policies, the webhooks. Where a policy or a webhook
//! changes it, all plugins look again, and so do those policies and webhooks that want to; there is no third time.

use std::collections::BTreeSet;

use serde_json::Value;

/// How often an object was looked at, and who wants to look again.
#[derive(Default)]
pub struct Reinvocation {
    /// Policies with their bindings, by their places in the order in which they are asked.
    pub policies: Invoked<(usize, usize)>,
    /// Webhooks, likewise.
    pub hooks: Invoked<usize>,
    needed: bool,
    second: bool,
}

impl Reinvocation {
    /// Whether this is the second look.
    pub fn is_second(&self) -> bool {
        self.second
    }

    /// Notes that somebody changed the object.
    pub fn require(&mut self) {
        self.needed = true;
    }

    /// Ends a look. Returns whether there is another one.
    pub fn again(&mut self) -> bool {
        let again = self.needed && !self.second;
        self.second = true;
        again
    }
}

/// Those of one plugin that have seen the object, and may want to see it again.
pub struct Invoked<K> {
    /// Asked since the last change that they do not know of.
    seen: BTreeSet<K>,
    /// To be asked in the second look.
    wanted: BTreeSet<K>,
    /// What the first look left behind.
    left: Option<Value>,
}

impl<K> Default for Invoked<K> {
    fn default() -> Self {
        Invoked { seen: BTreeSet::new(), wanted: BTreeSet::new(), left: None }
    }
}

impl<K: Ord> Invoked<K> {
    /// Begins a plugin's turn. Where others changed the object since its last one, all that want to are asked again.
    pub fn begin(&mut self, object: &Value) {
        if self.left.as_ref().is_some_and(|left| left != object) {
            self.changed();
        }
    }

    /// Whether somebody is to be asked in the second look.
    pub fn wants(&self, key: &K) -> bool {
        self.wanted.contains(key)
    }

    /// Notes somebody who wants to see what others change from now on.
    pub fn saw(&mut self, key: K) {
        self.seen.insert(key);
    }

    /// Notes a change that those who saw the object do not know of.
    pub fn changed(&mut self) {
        self.wanted.append(&mut self.seen);
    }

    /// Ends a plugin's turn. What it left is kept only where somebody wants to see what becomes of it.
    pub fn end(&mut self, object: &Value) {
        if !self.seen.is_empty() {
            self.left = Some(object.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_is_a_second_look_after_a_change_and_no_third() {
        let mut calm = Reinvocation::default();
        assert!(!calm.is_second() && !calm.again());
        let mut changed = Reinvocation::default();
        changed.require();
        assert!(changed.again() && changed.is_second());
        changed.require();
        assert!(!changed.again());
    }

    #[test]
    fn those_before_a_change_are_asked_again() {
        let mut hooks = Invoked::default();
        hooks.begin(&json!(1));
        hooks.saw("a");
        hooks.changed();
        hooks.saw("b");
        hooks.end(&json!(2));
        // Nobody else changed anything.
        hooks.begin(&json!(2));
        assert!(hooks.wants(&"a") && !hooks.wants(&"b") && !hooks.wants(&"c"));
    }

    #[test]
    fn after_others_changes_all_that_want_to_are_asked_again() {
        let mut hooks = Invoked::default();
        hooks.begin(&json!(1));
        hooks.saw("a");
        hooks.end(&json!(1));
        hooks.begin(&json!(2));
        assert!(hooks.wants(&"a") && !hooks.wants(&"b"));
    }
}
