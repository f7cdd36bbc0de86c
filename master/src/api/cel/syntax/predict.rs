//! Which alternative to take, by as many tokens as it takes to tell: first as if any rule might have called this one,
//! and, where that leaves a conflict, with the rules that did.
//!
//! What was found is kept, as states of an automaton, so that repetitive sources cost little. What it may cost is
//! bounded: when it is used up, the first of conflicting alternatives is taken.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::closure::{Alternative, Closure, Config, Configs, Purpose};
use super::contexts::{ContextId, Contexts};
use super::network::{NETWORK, StateId};
use super::stream::{Stopped, Stream};
use super::token::{KINDS, Kind};

/// States that are made for one source, at most, before conflicts are no longer looked into.
const FULL_STATES_MAX: usize = 20_000;

/// How far a state of the automaton is.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// More tokens are needed.
    Open,
    /// It is this alternative.
    Sure(Alternative),
    /// It is the least of these; each holds if operators that bind this tight may follow. Whether contexts are asked.
    Either { alternatives: Vec<Alternative>, tests: Option<Vec<(Alternative, Option<u8>)>>, conflict: bool },
}

#[derive(Debug)]
struct Node {
    configs: Rc<Configs>,
    verdict: Verdict,
    next: [Next; KINDS],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Unknown,
    None,
    Node(usize),
}

/// What identifies where an automaton begins: the decision, how tight operators have to bind, and, if they are asked,
/// who called.
type Begin = (StateId, u8, Option<ContextId>);

/// No alternative fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAlternative {
    /// The token that does not fit, by its number.
    pub offending: usize,
}

/// Predictions, and what was learned for them.
#[derive(Debug, Default)]
pub struct Predictor {
    /// Contexts.
    pub contexts: Contexts,
    nodes: Vec<Node>,
    begins: HashMap<Begin, usize>,
    known: HashMap<(Begin, bool, Vec<Config>), usize>,
    full_states: usize,
}

impl Predictor {
    /// The alternative to take at a decision, or that there is none. The stream stays where it is.
    ///
    /// `context` is who called, `precedence` how tight operators have to bind.
    pub fn predict(
        &mut self,
        decision: StateId,
        stream: &mut Stream<'_>,
        context: ContextId,
        precedence: u8,
    ) -> Result<Result<Alternative, NoAlternative>, Stopped> {
        let start = stream.index();
        let found = self.any_caller(decision, stream, context, precedence);
        stream.seek(start);
        found
    }

    fn any_caller(
        &mut self,
        decision: StateId,
        stream: &mut Stream<'_>,
        context: ContextId,
        precedence: u8,
    ) -> Result<Result<Alternative, NoAlternative>, Stopped> {
        let start = stream.index();
        let recursion = NETWORK.at(decision).recursion;
        // Only in loops of left recursive rules does the automaton depend on it.
        let begin = (decision, if recursion { precedence } else { 0 }, None);
        let mut node = self.begin(begin, precedence);
        loop {
            let kind = stream.kind(1)?;
            let Some(next) = self.next(begin, node, kind, precedence) else {
                let offending = stream.current();
                let configs = &self.nodes[node].configs;
                let holds = |c: &Config| c.tight.is_none_or(|tight| tight >= precedence);
                let finished = configs.finished(holds).or_else(|| configs.finished(|c| !holds(c)));
                return Ok(finished.ok_or(NoAlternative { offending }));
            };
            match &self.nodes[next].verdict {
                Verdict::Open => {}
                Verdict::Sure(alternative) => return Ok(Ok(*alternative)),
                Verdict::Either { alternatives, tests, conflict } => {
                    let left: Vec<Alternative> = match tests {
                        None => alternatives.clone(),
                        Some(tests) => tests
                            .iter()
                            .filter(|(_, tight)| tight.is_none_or(|tight| tight >= precedence))
                            .map(|(alternative, _)| *alternative)
                            .collect(),
                    };
                    let least = left.iter().min().copied();
                    let settled = !conflict || (tests.is_some() && left.len() == 1);
                    if settled || self.full_states >= FULL_STATES_MAX {
                        return Ok(least.ok_or(NoAlternative { offending: start }));
                    }
                    stream.seek(start);
                    return self.known_callers(decision, stream, context, precedence, least);
                }
            }
            node = next;
            if kind != Kind::End {
                stream.advance()?;
            }
        }
    }

    fn known_callers(
        &mut self,
        decision: StateId,
        stream: &mut Stream<'_>,
        context: ContextId,
        precedence: u8,
        least: Option<Alternative>,
    ) -> Result<Result<Alternative, NoAlternative>, Stopped> {
        let start = stream.index();
        let begin = (decision, precedence, Some(context));
        let mut node = self.begin(begin, precedence);
        loop {
            let kind = stream.kind(1)?;
            let Some(next) = self.next(begin, node, kind, precedence) else {
                let finished = self.nodes[node].configs.finished(|_| true);
                return Ok(finished.ok_or(NoAlternative { offending: start }));
            };
            if let Verdict::Sure(alternative) = self.nodes[next].verdict {
                return Ok(Ok(alternative));
            }
            if self.full_states >= FULL_STATES_MAX {
                return Ok(least.ok_or(NoAlternative { offending: start }));
            }
            node = next;
            if kind != Kind::End {
                stream.advance()?;
            }
        }
    }

    fn begin(&mut self, begin: Begin, precedence: u8) -> usize {
        if let Some(node) = self.begins.get(&begin) {
            return *node;
        }
        let (decision, _, context) = begin;
        let state = NETWORK.at(decision);
        let full = context.is_some();
        let purpose =
            Purpose { full, at_end: false, loop_of: state.recursion.then_some(state.rule), precedence };
        let mut list = Configs::default();
        for (at, edge) in state.edges.iter().enumerate() {
            // Each alternative is followed for itself, so what one met does not stop another.
            let mut closure = Closure::new(purpose, &mut self.contexts);
            closure.found = list;
            let config = Config {
                state: edge.to,
                alternative: at as Alternative + 1,
                context: context.unwrap_or(Contexts::EMPTY),
                tight: None,
                outside: false,
                unfiltered: false,
            };
            closure.add(config, true);
            list = closure.found;
        }
        let list = if state.recursion && !full { self.filtered(&list, precedence) } else { list };
        let node = self.node(begin, list, Verdict::Open);
        self.begins.insert(begin, node);
        node
    }

    /// In the loop of a left recursive rule: without the operators that do not bind tight enough, and without going
    /// past the loop where going on leads to the same.
    fn filtered(&mut self, configs: &Configs, precedence: u8) -> Configs {
        let mut out = Configs::default();
        let mut on: HashMap<StateId, ContextId> = HashMap::new();
        for config in configs.list.iter().filter(|c| c.alternative == 1) {
            if config.tight.is_none_or(|tight| tight >= precedence) {
                on.insert(config.state, config.context);
                out.add(Config { tight: None, ..*config }, &mut self.contexts, false);
            }
        }
        for config in configs.list.iter().filter(|c| c.alternative != 1) {
            if config.unfiltered || on.get(&config.state) != Some(&config.context) {
                out.add(*config, &mut self.contexts, false);
            }
        }
        out
    }

    fn node(&mut self, begin: Begin, configs: Configs, verdict: Verdict) -> usize {
        let key = (begin, verdict == Verdict::Open, configs.list);
        if let Some(node) = self.known.get(&key) {
            return *node;
        }
        let node = self.nodes.len();
        let configs = Configs::of(key.2.clone());
        self.nodes.push(Node { configs: Rc::new(configs), verdict, next: [Next::Unknown; KINDS] });
        self.known.insert(key, node);
        self.full_states += usize::from(begin.2.is_some());
        node
    }

    fn next(&mut self, begin: Begin, node: usize, kind: Kind, precedence: u8) -> Option<usize> {
        match self.nodes[node].next[kind.index()] {
            Next::Node(next) => return Some(next),
            Next::None => return None,
            Next::Unknown => {}
        }
        let configs = Rc::clone(&self.nodes[node].configs);
        let made = self.reach(begin, &configs, kind, precedence).map(|reached| {
            let verdict = if begin.2.is_some() { full_verdict(&reached) } else { verdict(&reached) };
            self.node(begin, reached, verdict)
        });
        self.nodes[node].next[kind.index()] = made.map_or(Next::None, Next::Node);
        made
    }

    /// What can be reached by a token.
    fn reach(&mut self, begin: Begin, configs: &Configs, kind: Kind, precedence: u8) -> Option<Configs> {
        let full = begin.2.is_some();
        let at_end = kind == Kind::End;
        let mut direct = Configs::default();
        let mut stopped = Vec::new();
        for config in &configs.list {
            if config.stopped() {
                if full || at_end {
                    stopped.push(*config);
                }
                continue;
            }
            for edge in &NETWORK.at(config.state).edges {
                if edge.step.takes(kind) {
                    direct.add(Config { state: edge.to, ..*config }, &mut self.contexts, full);
                }
            }
        }
        let mut reached = if stopped.is_empty() && !at_end && direct.unique().is_some() {
            direct
        } else {
            let state = NETWORK.at(begin.0);
            let purpose =
                Purpose { full, at_end, loop_of: state.recursion.then_some(state.rule), precedence };
            let mut closure = Closure::new(purpose, &mut self.contexts);
            for config in direct.list {
                closure.add(config, false);
            }
            closure.found
        };
        if at_end && !reached.all_stopped() {
            let mut ended = Configs::default();
            for config in reached.list.iter().filter(|config| config.stopped()) {
                ended.add(*config, &mut self.contexts, full);
            }
            reached = ended;
        }
        if !full || !reached.list.iter().any(Config::stopped) {
            for config in stopped {
                reached.add(config, &mut self.contexts, full);
            }
        }
        (!reached.list.is_empty()).then_some(reached)
    }
}

/// Alternatives that share a state and a context, for each of these.
fn shared(configs: &Configs) -> Vec<Vec<Alternative>> {
    let mut sets: BTreeMap<(StateId, ContextId), Vec<Alternative>> = BTreeMap::new();
    for config in &configs.list {
        let set = sets.entry((config.state, config.context)).or_default();
        if !set.contains(&config.alternative) {
            set.push(config.alternative);
        }
    }
    sets.into_values().collect()
}

/// While anybody may have called: whether one alternative is left, or no token can tell any more.
fn verdict(configs: &Configs) -> Verdict {
    let mut alternatives: Vec<Alternative>;
    let conflict;
    if let Some(only) = configs.unique() {
        (alternatives, conflict) = (vec![only], false);
    } else {
        let sets = shared(configs);
        let mut by_state: BTreeMap<StateId, Vec<Alternative>> = BTreeMap::new();
        for config in &configs.list {
            let set = by_state.entry(config.state).or_default();
            if !set.contains(&config.alternative) {
                set.push(config.alternative);
            }
        }
        let hopeless = configs.all_stopped()
            || (sets.iter().any(|set| set.len() > 1) && !by_state.values().any(|set| set.len() == 1));
        if !hopeless {
            return Verdict::Open;
        }
        alternatives = sets.into_iter().flatten().collect();
        conflict = true;
    }
    alternatives.sort_unstable();
    alternatives.dedup();
    let tests =
        configs.list.iter().any(|c| c.tight.is_some()).then(|| tests(configs, &alternatives)).flatten();
    match (&tests, conflict) {
        (None, false) => Verdict::Sure(alternatives[0]),
        _ => Verdict::Either { alternatives, tests, conflict },
    }
}

/// What has to hold for each of some alternatives, if anything has to for any.
fn tests(configs: &Configs, alternatives: &[Alternative]) -> Option<Vec<(Alternative, Option<u8>)>> {
    let tests: Vec<_> = alternatives
        .iter()
        .map(|alternative| {
            let of = configs.list.iter().filter(|c| c.alternative == *alternative);
            let tights: Option<Vec<u8>> = of.map(|c| c.tight).collect();
            (*alternative, tights.and_then(|tights| tights.into_iter().max()))
        })
        .collect();
    tests.iter().any(|(_, tight)| tight.is_some()).then_some(tests)
}

/// When it is known who called: whether one alternative is left, or is the first wherever several are.
fn full_verdict(configs: &Configs) -> Verdict {
    if let Some(only) = configs.unique() {
        return Verdict::Sure(only);
    }
    let mut least = shared(configs).into_iter().filter_map(|set| set.into_iter().min());
    match least.next() {
        Some(first) if least.all(|other| other == first) => Verdict::Sure(first),
        _ => Verdict::Open,
    }
}
