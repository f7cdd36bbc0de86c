//! Call stacks, as prediction has them: who called, and who called that; several at once, where ways met.
//!
//! Equal ones are one, so that comparing them is comparing their numbers.

use std::collections::HashMap;

use super::network::StateId;

/// A context, by its number.
pub type ContextId = u32;

/// A caller: the state after the call, and the context of it.
pub type Caller = (StateId, ContextId);

/// All contexts that were met.
#[derive(Debug)]
pub struct Contexts {
    nodes: Vec<Box<[Caller]>>,
    known: HashMap<Box<[Caller]>, ContextId>,
    merged: HashMap<(ContextId, ContextId, bool), ContextId>,
}

impl Default for Contexts {
    fn default() -> Self {
        Contexts { nodes: vec![Box::default()], known: HashMap::new(), merged: HashMap::new() }
    }
}

impl Contexts {
    /// Nobody called; or, while it is not known who does, anybody may have.
    pub const EMPTY: ContextId = 0;
    /// What called is not asked for.
    pub const UNKNOWN: ContextId = ContextId::MAX;

    /// The callers in a context, in the order of their states.
    pub fn callers(&self, id: ContextId) -> &[Caller] {
        self.nodes.get(id as usize).map_or(&[], |node| node)
    }

    fn intern(&mut self, callers: Vec<Caller>) -> ContextId {
        let callers = callers.into_boxed_slice();
        if let Some(id) = self.known.get(&callers) {
            return *id;
        }
        let id = self.nodes.len() as ContextId;
        self.nodes.push(callers.clone());
        self.known.insert(callers, id);
        id
    }

    /// The context within a call.
    pub fn called(&mut self, context: ContextId, after: StateId) -> ContextId {
        self.intern(vec![(after, context)])
    }

    /// Two contexts as one. Where an empty one means that anybody may have called, it swallows the other; where it
    /// means that nobody did, it is swallowed.
    pub fn merge(&mut self, a: ContextId, b: ContextId, anybody: bool) -> ContextId {
        if a == b {
            return a;
        }
        if a == Self::EMPTY || b == Self::EMPTY {
            return if anybody { Self::EMPTY } else { a.max(b) };
        }
        let key = (a.min(b), a.max(b), anybody);
        if let Some(id) = self.merged.get(&key) {
            return *id;
        }
        let (left, right) = (self.nodes[a as usize].to_vec(), self.nodes[b as usize].to_vec());
        let mut both = Vec::with_capacity(left.len() + right.len());
        let (mut i, mut j) = (0, 0);
        while let (Some(l), Some(r)) = (left.get(i), right.get(j)) {
            if l.0 == r.0 {
                both.push((l.0, self.merge(l.1, r.1, anybody)));
                (i, j) = (i + 1, j + 1);
            } else if l.0 < r.0 {
                both.push(*l);
                i += 1;
            } else {
                both.push(*r);
                j += 1;
            }
        }
        both.extend_from_slice(&left[i..]);
        both.extend_from_slice(&right[j..]);
        let id = self.intern(both);
        self.merged.insert(key, id);
        id
    }
}
