//! What to do about an object, given how its owners are. Pure.

use crate::cache::OwnerRef;

/// Finalizer of an object that waits for its dependents to be deleted.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object that wants its dependents to outlive it.
pub const ORPHAN: &str = "orphan";

/// How an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// There.
    Present,
    /// Gone, or another object by now.
    Absent,
    /// Being deleted, waiting for its dependents.
    Waiting,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave it.
    Nothing,
    /// It still has an owner: take the references to the others away.
    DropOwners(Vec<Box<str>>),
    /// Nobody owns it any more: delete it, by this propagation policy.
    Delete(&'static str),
}

/// Decides about an object with these owners.
pub fn decide(
    owners: &[(OwnerRef, OwnerState)],
    orphans: bool,
    foreground: bool,
    has_dependents: bool,
) -> Action {
    let any = |state: OwnerState| owners.iter().any(|(_, s)| *s == state);
    if owners.is_empty() {
        return Action::Nothing;
    }
    if any(OwnerState::Present) {
        let gone = owners.iter().filter(|(_, s)| *s != OwnerState::Present);
        let gone: Vec<Box<str>> = gone.map(|(o, _)| o.uid.clone()).collect();
        return if gone.is_empty() { Action::Nothing } else { Action::DropOwners(gone) };
    }
    if any(OwnerState::Waiting) && has_dependents {
        // The owner's foreground deletion goes all the way down.
        return Action::Delete("Foreground");
    }
    Action::Delete(if orphans {
        "Orphan"
    } else if foreground {
        "Foreground"
    } else {
        "Background"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use OwnerState::{Absent, Present, Waiting};

    #[test]
    fn objects_go_when_no_owner_is_left() {
        let owner =
            |n: usize, s: OwnerState| (OwnerRef { uid: n.to_string().into(), ..OwnerRef::default() }, s);
        let check = |states: &[OwnerState], finalizers: (bool, bool), dependents: bool, expected: Action| {
            let owners: Vec<_> = states.iter().enumerate().map(|(n, s)| owner(n, *s)).collect();
            assert_eq!(decide(&owners, finalizers.0, finalizers.1, dependents), expected, "{states:?}");
        };
        let none = (false, false);
        check(&[], none, false, Action::Nothing);
        check(&[Present], none, false, Action::Nothing);
        check(&[Absent], none, true, Action::Delete("Background"));
        check(&[Present, Absent], none, false, Action::DropOwners(vec!["1".into()]));
        check(&[Waiting, Present], none, false, Action::DropOwners(vec!["0".into()]));
        check(&[Waiting], none, false, Action::Delete("Background"));
        check(&[Waiting], none, true, Action::Delete("Foreground"));
        check(&[Absent], (true, false), true, Action::Delete("Orphan"));
        check(&[Absent], (false, true), true, Action::Delete("Foreground"));
    }
}
