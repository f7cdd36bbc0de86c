//! The grammar as a network of states: what [`super::predict`] walks to look ahead, and the parser to parse.
//!
//! States are numbered in the order in which they are made, rules first, because contexts are kept in that order.

use std::sync::LazyLock;

use super::grammar::{Body, Choice, Form, Item, Label, RULES, Rule};
use super::lookahead;
use super::token::{Kind, Kinds};

/// A state, by its number.
pub type StateId = u16;

/// What it takes to go from a state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Free,
    /// A token.
    Token(Kind, Label),
    /// A token of one of some kinds.
    OneOf(&'static [Kind]),
    /// A rule, that is entered with how tight its operators have to bind; and the state after it.
    Call(Rule, u8, StateId),
    /// That operators that bind this tight may follow.
    Tight(u8),
}

impl Step {
    /// Whether it takes no token.
    pub fn is_free(self) -> bool {
        !matches!(self, Step::Token(..) | Step::OneOf(_))
    }

    /// Whether it takes such a token.
    pub fn takes(self, kind: Kind) -> bool {
        match self {
            Step::Token(wanted, _) => wanted == kind,
            Step::OneOf(wanted) => wanted.contains(&kind),
            _ => false,
        }
    }
}

/// A way from a state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What it takes.
    pub step: Step,
    /// Where it leads.
    pub to: StateId,
    /// From the end of a left recursive rule to where it was entered for operators of any kind.
    pub outermost: bool,
}

/// What a state is for. Those at which a way is chosen say how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Role {
    Basic,
    RuleStart,
    RuleStop,
    /// Of alternatives, or of what may be there or not.
    BlockStart(Choice),
    BlockEnd,
    /// Of what may come many times: where one of several is chosen, if there are several.
    LoopStart(Option<Choice>),
    LoopEntry(Choice),
    LoopBack,
    LoopEnd,
    /// Of what comes once or more.
    FirstStart,
    FirstBack(Choice),
}

/// A state.
#[derive(Debug)]
pub struct State {
    /// The rule that it belongs to.
    pub rule: Rule,
    /// What it is for.
    pub role: Role,
    /// The ways from it; where one is chosen, these are the alternatives, from the first on.
    pub edges: Vec<Edge>,
    /// What each alternative is read as.
    pub forms: Vec<Form>,
    /// Whether none of its edges takes a token. It is not so of a state without edges.
    pub free: bool,
    /// Whether it is the loop of a left recursive rule.
    pub recursion: bool,
    /// Tokens that may come next, of this rule alone.
    pub next: Kinds,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    /// All states.
    pub states: Vec<State>,
    /// Of left recursive rules, what they are read as before any operator.
    pub first_forms: [Form; RULES.len()],
}

/// The network of the grammar.
pub static NETWORK: LazyLock<Network> = LazyLock::new(Network::build);

/// The state that a rule begins with.
pub fn start(rule: Rule) -> StateId {
    2 * rule as StateId
}

/// The state that a rule ends with.
pub fn stop(rule: Rule) -> StateId {
    2 * rule as StateId + 1
}

/// A state whose last edge does not yet lead anywhere, or that has none yet.
type Open = StateId;

impl Network {
    fn build() -> Network {
        let mut network = Network { states: Vec::new(), first_forms: [Form::Plain; RULES.len()] };
        for (rule, ..) in &RULES {
            network.state(*rule, Role::RuleStart);
            network.state(*rule, Role::RuleStop);
        }
        for (rule, _, body) in &RULES {
            network.rule(*rule, body);
        }
        network.link_follows();
        for state in &mut network.states {
            state.free = !state.edges.is_empty() && state.edges.iter().all(|edge| edge.step.is_free());
        }
        for id in 0..network.states.len() {
            let next = lookahead::within_rule(&network, id as StateId);
            network.states[id].next = next;
        }
        network
    }

    /// The state of a number.
    pub fn at(&self, id: StateId) -> &State {
        &self.states[usize::from(id)]
    }

    fn state(&mut self, rule: Rule, role: Role) -> StateId {
        self.states.push(State {
            rule,
            role,
            edges: Vec::new(),
            forms: Vec::new(),
            free: false,
            recursion: false,
            next: Kinds::default(),
        });
        (self.states.len() - 1) as StateId
    }

    fn edge(&mut self, from: StateId, step: Step, to: StateId) {
        self.states[usize::from(from)].edges.push(Edge { step, to, outermost: false });
    }

    fn free(&mut self, from: StateId, to: StateId) {
        self.edge(from, Step::Free, to);
    }

    /// Leads the last edge of a state somewhere: after what it takes, or freely.
    fn close(&mut self, open: Open, to: StateId) {
        let role = self.at(open).role;
        if role == Role::Basic
            && let Some(edge) = self.states[usize::from(open)].edges.last_mut()
        {
            match &mut edge.step {
                Step::Call(_, _, after) => *after = to,
                _ => edge.to = to,
            }
        } else {
            self.free(open, to);
        }
    }

    fn rule(&mut self, rule: Rule, body: &'static Body) {
        match body {
            Body::Sequence(items) => {
                let (left, last) = self.sequence(rule, items);
                let right = self.ended(rule, last);
                self.free(start(rule), left);
                self.free(right, stop(rule));
            }
            Body::Alternatives(choice, alternatives) => {
                let parts: Vec<_> = alternatives
                    .iter()
                    .map(|(_, items)| {
                        let (left, last) = self.sequence(rule, items);
                        (left, self.tail(rule, items, last))
                    })
                    .collect();
                let block = self.state(rule, Role::BlockStart(*choice));
                let end = self.state(rule, Role::BlockEnd);
                self.states[usize::from(block)].forms = alternatives.iter().map(|(form, _)| *form).collect();
                for (left, last) in parts {
                    self.free(block, left);
                    self.close(last, end);
                }
                self.free(start(rule), block);
                self.free(end, stop(rule));
            }
            Body::Recursive(form, items, operators) => {
                self.first_forms[rule as usize] = *form;
                let entered = self.state(rule, Role::Basic);
                let (left, last) = self.sequence(rule, items);
                self.free(entered, left);
                let right = self.ended(rule, last);
                let parts: Vec<_> = operators
                    .iter()
                    .map(|(tight, _, items)| {
                        let tested = self.state(rule, Role::Basic);
                        let (left, last) = self.sequence(rule, items);
                        self.edge(tested, Step::Tight(*tight), left);
                        (tested, self.tail(rule, items, last))
                    })
                    .collect();
                let choice = (parts.len() > 1).then_some(Choice::Predicted);
                let entry = self.repeated(rule, parts, choice, Choice::Predicted);
                let block = self.at(entry).edges[0].to;
                self.states[usize::from(entry)].recursion = true;
                self.states[usize::from(block)].forms = operators.iter().map(|(_, form, _)| *form).collect();
                let end = self.at(entry).edges[1].to;
                self.free(start(rule), entered);
                self.free(right, entry);
                self.free(end, stop(rule));
            }
        }
    }

    /// A loop around alternatives: its entry.
    fn repeated(
        &mut self,
        rule: Rule,
        parts: Vec<(StateId, Open)>,
        choice: Option<Choice>,
        go_on: Choice,
    ) -> StateId {
        let block = self.state(rule, Role::LoopStart(choice));
        let end = self.state(rule, Role::BlockEnd);
        let entry = self.state(rule, Role::LoopEntry(go_on));
        let out = self.state(rule, Role::LoopEnd);
        let back = self.state(rule, Role::LoopBack);
        for (left, last) in parts {
            self.free(block, left);
            self.close(last, end);
        }
        self.free(end, back);
        self.free(entry, block);
        self.free(entry, out);
        self.free(back, entry);
        entry
    }

    /// One thing after another: the first state, and the one with which the last thing begins or ends.
    fn sequence(&mut self, rule: Rule, items: &'static [Item]) -> (StateId, Open) {
        let mut first = None;
        let mut last: Option<Open> = None;
        for item in items {
            let (left, right) = self.item(rule, item);
            if let Some(last) = last {
                self.close(last, left);
            }
            first = first.or(Some(left));
            last = Some(right);
        }
        let empty = start(rule);
        (first.unwrap_or(empty), last.unwrap_or(empty))
    }

    fn item(&mut self, rule: Rule, item: &'static Item) -> (StateId, Open) {
        let basic = |network: &mut Network, step: Step| {
            let left = network.state(rule, Role::Basic);
            let to = if let Step::Call(called, ..) = step { start(called) } else { left };
            network.edge(left, step, to);
            (left, left)
        };
        match item {
            Item::Token(kind, label) => basic(self, Step::Token(*kind, *label)),
            Item::OneOf(kinds) => basic(self, Step::OneOf(kinds)),
            Item::Call(called) => basic(self, Step::Call(*called, 0, 0)),
            Item::Bound(called, tight) => basic(self, Step::Call(*called, *tight, 0)),
            Item::Maybe(items) => {
                let (left, last) = self.sequence(rule, items);
                let last = self.tail(rule, items, last);
                let block = self.state(rule, Role::BlockStart(Choice::Next));
                let end = self.state(rule, Role::BlockEnd);
                self.free(block, left);
                self.close(last, end);
                self.free(block, end);
                (block, end)
            }
            Item::Many(items, choice) => {
                let (left, last) = self.sequence(rule, items);
                let last = self.tail(rule, items, last);
                let entry = self.repeated(rule, vec![(left, last)], None, *choice);
                (entry, self.at(entry).edges[1].to)
            }
            Item::Some(items, choice) => {
                let (left, last) = self.sequence(rule, items);
                let last = self.tail(rule, items, last);
                let block = self.state(rule, Role::FirstStart);
                let end = self.state(rule, Role::BlockEnd);
                let back = self.state(rule, Role::FirstBack(*choice));
                let out = self.state(rule, Role::LoopEnd);
                self.free(block, left);
                self.close(last, end);
                self.free(end, back);
                self.free(back, block);
                self.free(back, out);
                (block, out)
            }
        }
    }

    /// A state of its own after the last thing, if that has none.
    fn ended(&mut self, rule: Rule, last: Open) -> StateId {
        if self.at(last).role != Role::Basic {
            return last;
        }
        let right = self.state(rule, Role::Basic);
        self.close(last, right);
        right
    }

    /// The end of an alternative. It has a state of its own where another rule stands before the last thing; where
    /// not, the last thing itself leads on.
    fn tail(&mut self, rule: Rule, items: &'static [Item], last: Open) -> Open {
        let calls = |item: &Item| matches!(item, Item::Call(_) | Item::Bound(..));
        if items.iter().rev().skip(1).any(calls) { self.ended(rule, last) } else { last }
    }

    /// From the end of each rule to wherever it may be called from.
    fn link_follows(&mut self) {
        let calls: Vec<_> = self.states.iter().flat_map(|state| &state.edges).map(|edge| edge.step).collect();
        for call in calls {
            if let Step::Call(rule, tight, after) = call {
                let recursive = matches!(RULES[rule as usize].2, Body::Recursive(..));
                let edge = Edge { step: Step::Free, to: after, outermost: recursive && tight == 0 };
                self.states[usize::from(stop(rule))].edges.push(edge);
            }
        }
    }
}
