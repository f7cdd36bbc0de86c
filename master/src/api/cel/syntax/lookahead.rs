//! Which tokens may come next, from a state on.

use std::collections::HashSet;

use super::contexts::{ContextId, Contexts};
use super::network::{Network, Role, StateId, Step};
use super::token::{Kind, Kinds};

/// What is asked, and what was seen.
struct Look<'a> {
    network: &'a Network,
    contexts: &'a mut Contexts,
    found: Kinds,
    busy: HashSet<(StateId, ContextId)>,
    /// Rules that are being looked into, one bit each.
    entered: u32,
}

/// Tokens that may come next without leaving the rule, and whether it may end.
pub fn within_rule(network: &Network, state: StateId) -> Kinds {
    within(network, &mut Contexts::default(), state, Contexts::UNKNOWN)
}

/// Tokens that may come next when the rules around are known.
pub fn within(network: &Network, contexts: &mut Contexts, state: StateId, context: ContextId) -> Kinds {
    let mut look = Look { network, contexts, found: Kinds::default(), busy: HashSet::new(), entered: 0 };
    look.from(state, context);
    look.found
}

impl Look<'_> {
    fn from(&mut self, id: StateId, context: ContextId) {
        if !self.busy.insert((id, context)) {
            return;
        }
        let network = self.network;
        let state = network.at(id);
        if state.role == Role::RuleStop {
            match context {
                Contexts::UNKNOWN => self.found.add_nothing(),
                Contexts::EMPTY => self.found.add(Kind::End),
                _ => {
                    let bit = 1 << state.rule as u32;
                    let before = self.entered & bit;
                    self.entered &= !bit;
                    for (after, parent) in self.contexts.callers(context).to_vec() {
                        self.from(after, parent);
                    }
                    self.entered |= before;
                }
            }
            return;
        }
        for edge in &state.edges {
            match edge.step {
                Step::Call(rule, _, after) => {
                    let bit = 1 << rule as u32;
                    if self.entered & bit == 0 {
                        let inner = self.contexts.called(context, after);
                        self.entered |= bit;
                        self.from(edge.to, inner);
                        self.entered &= !bit;
                    }
                }
                Step::Free | Step::Tight(_) => self.from(edge.to, context),
                Step::Token(kind, _) => self.found.add(kind),
                Step::OneOf(kinds) => {
                    // In the order of their numbers, as one range or several.
                    let mut sorted = kinds.to_vec();
                    sorted.sort();
                    let mut set = Kinds::default();
                    sorted.into_iter().for_each(|kind| set.add(kind));
                    self.found.add_all(&set);
                }
            }
        }
    }
}

/// Tokens that are expected in a state, within rules that go on at the states `after`, the innermost first.
pub fn expected(network: &Network, state: StateId, after: impl Iterator<Item = StateId>) -> Kinds {
    let mut following = network.at(state).next.clone();
    if !following.has_nothing() {
        return following;
    }
    let mut expected = following.clone();
    expected.remove_nothing();
    for state in after {
        if !following.has_nothing() {
            break;
        }
        following = network.at(state).next.clone();
        expected.add_all(&following);
        expected.remove_nothing();
    }
    if following.has_nothing() {
        expected.add(Kind::End);
    }
    expected
}
