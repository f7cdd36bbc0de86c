//! Configurations of a prediction: where in the network an alternative may be; and all that can be reached from one
//! without taking a token.

use std::collections::{HashMap, HashSet};

use super::contexts::{ContextId, Contexts};
use super::network::{NETWORK, Role, StateId, Step};
use super::token::Kind;

/// An alternative of a decision, from one on; zero is none.
pub type Alternative = u8;

/// Where an alternative may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The state.
    pub state: StateId,
    /// The alternative.
    pub alternative: Alternative,
    /// Who called the rule of the state.
    pub context: ContextId,
    /// How tight operators may have to bind at most for the alternative to hold.
    pub tight: Option<u8>,
    /// Whether it left the rule in which the decision is.
    pub outside: bool,
    /// Whether it left a left recursive rule that had been entered for operators of any kind.
    pub unfiltered: bool,
}

/// Configurations in the order in which they were found. Those that differ in their contexts alone are one.
#[derive(Clone, Debug, Default)]
pub struct Configs {
    /// All of them.
    pub list: Vec<Config>,
    index: HashMap<(StateId, Alternative, Option<u8>), usize>,
}

impl Configs {
    /// A list of them, to which none is added.
    pub fn of(list: Vec<Config>) -> Configs {
        Configs { list, index: HashMap::new() }
    }

    /// Adds one. `full` tells that contexts are complete.
    pub fn add(&mut self, config: Config, contexts: &mut Contexts, full: bool) {
        let key = (config.state, config.alternative, config.tight);
        let Some(at) = self.index.get(&key).copied() else {
            self.index.insert(key, self.list.len());
            self.list.push(config);
            return;
        };
        let existing = &mut self.list[at];
        existing.context = contexts.merge(existing.context, config.context, !full);
        existing.outside |= config.outside;
        existing.unfiltered |= config.unfiltered;
    }

    /// The one alternative that is left.
    pub fn unique(&self) -> Option<Alternative> {
        let first = self.list.first()?.alternative;
        self.list.iter().all(|config| config.alternative == first).then_some(first)
    }

    /// Whether all are at the end of a rule.
    pub fn all_stopped(&self) -> bool {
        self.list.iter().all(Config::stopped)
    }

    /// The least alternative that left the rule in which the decision is, of those that `holds` lets through.
    pub fn finished(&self, holds: impl Fn(&Config) -> bool) -> Option<Alternative> {
        let done = |c: &&Config| c.outside || (c.stopped() && c.context == Contexts::EMPTY);
        self.list.iter().filter(|c| holds(c)).filter(done).map(|c| c.alternative).min()
    }
}

impl Config {
    /// Whether it is at the end of a rule.
    pub fn stopped(&self) -> bool {
        NETWORK.at(self.state).role == Role::RuleStop
    }
}

/// What a closure is made for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Whether contexts are complete.
    pub full: bool,
    /// Whether the source ends here.
    pub at_end: bool,
    /// The left recursive rule of whose loop this is a decision.
    pub loop_of: Option<super::grammar::Rule>,
    /// How tight operators have to bind.
    pub precedence: u8,
}

/// What is left to be done in a closure. The last comes first.
enum Task {
    Enter { config: Config, collect: bool, depth: i32 },
    Leave { config: Config, collect: bool, depth: i32, edge: usize },
}

/// A closure in the making.
pub struct Closure<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// Contexts.
    pub contexts: &'a mut Contexts,
    /// What was found.
    pub found: Configs,
    busy: HashSet<Config>,
}

impl<'a> Closure<'a> {
    /// An empty one.
    pub fn new(purpose: Purpose, contexts: &'a mut Contexts) -> Self {
        Closure { purpose, contexts, found: Configs::default(), busy: HashSet::new() }
    }

    /// Adds all that can be reached from a configuration. With `collect`, what operators have to bind at least is
    /// kept with what is found.
    pub fn add(&mut self, config: Config, collect: bool) {
        let mut tasks = vec![Task::Enter { config, collect, depth: 0 }];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Enter { config, collect, depth } => self.enter(config, collect, depth, &mut tasks),
                Task::Leave { config, collect, depth, edge } => {
                    if edge + 1 < NETWORK.at(config.state).edges.len() {
                        tasks.push(Task::Leave { config, collect, depth, edge: edge + 1 });
                    }
                    self.leave(config, collect, depth, edge, &mut tasks);
                }
            }
        }
    }

    fn enter(&mut self, config: Config, collect: bool, depth: i32, tasks: &mut Vec<Task>) {
        if config.stopped() {
            if config.context != Contexts::EMPTY {
                for (state, context) in self.contexts.callers(config.context) {
                    let config = Config { state: *state, context: *context, unfiltered: false, ..config };
                    tasks.push(Task::Enter { config, collect, depth });
                }
                return;
            }
            if self.purpose.full {
                self.found.add(config, self.contexts, true);
                return;
            }
        }
        let state = NETWORK.at(config.state);
        if !state.free {
            self.found.add(config, self.contexts, self.purpose.full);
        }
        if !state.edges.is_empty() {
            tasks.push(Task::Leave { config, collect, depth, edge: 0 });
        }
    }

    fn leave(&mut self, config: Config, collect: bool, depth: i32, edge: usize, tasks: &mut Vec<Task>) {
        if edge == 0 && self.needless_loop(&config) {
            return;
        }
        let edge = NETWORK.at(config.state).edges[edge];
        let mut target = Config { state: edge.to, ..config };
        let mut below = depth;
        match edge.step {
            Step::Free => {}
            Step::Call(_, _, after) => {
                target.context = self.contexts.called(config.context, after);
                if below >= 0 {
                    below += 1;
                }
            }
            Step::Tight(tight) => {
                if collect && depth == 0 {
                    if !self.purpose.full {
                        target.tight = Some(config.tight.map_or(tight, |other| other.min(tight)));
                    } else if tight < self.purpose.precedence {
                        return;
                    }
                }
            }
            Step::Token(..) | Step::OneOf(_) => {
                // The end may be taken as often as one likes.
                if !(self.purpose.at_end && edge.step.takes(Kind::End) && self.is_new(target)) {
                    return;
                }
            }
        }
        if config.stopped() {
            if edge.outermost && self.purpose.loop_of == Some(NETWORK.at(config.state).rule) {
                target.unfiltered = true;
            }
            target.outside = true;
            if !self.is_new(target) {
                return;
            }
            below -= 1;
        }
        tasks.push(Task::Enter { config: target, collect, depth: below });
    }

    /// Whether it is met for the first time.
    fn is_new(&mut self, config: Config) -> bool {
        self.busy.insert(Config { outside: false, ..config })
    }

    /// Whether entering the loop of a left recursive rule from here would find only what going past it finds: it was
    /// called by itself.
    fn needless_loop(&self, config: &Config) -> bool {
        let state = NETWORK.at(config.state);
        if !state.recursion || config.context == Contexts::EMPTY {
            return false;
        }
        let block = state.edges[0].to;
        self.contexts.callers(config.context).iter().all(|(after, _)| {
            let back = NETWORK.at(*after);
            back.rule == state.rule && {
                // The state after the call is the end of an alternative of the loop, or leads there.
                let end = block + 1;
                let [only] = back.edges.as_slice() else { return false };
                only.step.is_free() && (*after == end || only.to == end)
            }
        })
    }
}
