//! The parser: it goes through the network, rule by rule, and makes the tree. Where the source does not fit,
//! [`super::recover`] tells so and finds where to go on.
//!
//! The rules that are being read are a list here, not calls of functions, so a source cannot exhaust the stack.

use super::contexts::{ContextId, Contexts};
use super::grammar::{Choice, Form, Label, RULES, Rule};
use super::network::{NETWORK, Role, State, StateId, Step, start};
use super::predict::Predictor;
use super::recover::{Fault, Recovery};
use super::stream::{Stopped, Stream, TokenId};
use super::token::Kind;
use super::tree::{Node, NodeId, Tree};

/// How deep a rule may be within itself.
pub const RECURSION_MAX: usize = 250;

/// A rule that is being read.
#[derive(Debug)]
pub struct Frame {
    rule: Rule,
    node: NodeId,
    /// Where it goes on after the rule.
    pub after: StateId,
    /// The rule's callers.
    pub context: ContextId,
}

/// What a step leads to.
enum Went {
    To(StateId),
    /// The rule is at its end.
    Done,
    /// The source does not fit; why is told in [`Parser::fault`].
    Wrong,
}

/// The parser of one source.
#[derive(Debug)]
pub struct Parser<'a> {
    /// The source.
    pub stream: Stream<'a>,
    /// What was read.
    pub tree: Tree,
    /// Rules that are being read, the innermost last.
    pub frames: Vec<Frame>,
    /// The state in which the source has to fit.
    pub state: StateId,
    /// Why it does not, until that is told.
    pub fault: Option<Fault>,
    /// What is known of problems that were told.
    pub recovery: Recovery,
    /// Predictions.
    pub predictor: Predictor,
    /// How tight operators have to bind in the left recursive rules that are being read.
    precedences: Vec<u8>,
    depths: [usize; RULES.len()],
}

impl<'a> Parser<'a> {
    /// A parser of a source.
    pub fn new(chars: &'a [char]) -> Self {
        Parser {
            stream: Stream::new(chars),
            tree: Tree::default(),
            frames: Vec::new(),
            state: 0,
            fault: None,
            recovery: Recovery::default(),
            predictor: Predictor::default(),
            precedences: vec![0],
            depths: [0; RULES.len()],
        }
    }

    /// Reads the whole source.
    pub fn run(&mut self) -> Result<(), Stopped> {
        self.stream.begin()?;
        self.enter(Rule::Start, 0, 0)?;
        let mut at = start(Rule::Start);
        loop {
            match self.step(at)? {
                Went::To(next) => at = next,
                Went::Done => match self.leave() {
                    Some(after) => at = after,
                    None => return Ok(()),
                },
                Went::Wrong => {
                    if let Some(fault) = self.fault.clone() {
                        self.report(&fault)?;
                        self.recover()?;
                        self.fault = None;
                    }
                    match self.leave() {
                        Some(after) => at = after,
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    /// How tight operators have to bind here.
    pub fn precedence(&self) -> u8 {
        self.precedences.last().copied().unwrap_or(0)
    }

    /// The innermost rule's callers.
    pub fn context(&self) -> ContextId {
        self.frames.last().map_or(Contexts::EMPTY, |frame| frame.context)
    }

    /// The name of the innermost rule.
    pub fn rule_name(&self) -> &'static str {
        self.frames.last().map_or("", |frame| RULES[frame.rule as usize].1)
    }

    /// The innermost rule's node.
    fn node(&mut self) -> Option<&mut Node> {
        let node = self.frames.last()?.node;
        self.tree.nodes.get_mut(node)
    }

    fn recursive(rule: Rule) -> bool {
        matches!(rule, Rule::Relation | Rule::Calc | Rule::Member)
    }

    fn enter(&mut self, rule: Rule, precedence: u8, after: StateId) -> Result<(), Stopped> {
        let form = NETWORK.first_forms[rule as usize];
        let node = self.tree.add(Node::new(rule, form, self.stream.current()));
        let context = match self.frames.last() {
            None => Contexts::EMPTY,
            Some(frame) => self.predictor.contexts.called(frame.context, after),
        };
        if Self::recursive(rule) {
            self.precedences.push(precedence);
        } else if let Some(around) = self.node() {
            around.children.push(node);
        }
        self.frames.push(Frame { rule, node, after, context });
        self.deeper(rule)
    }

    fn deeper(&mut self, rule: Rule) -> Result<(), Stopped> {
        self.depths[rule as usize] += 1;
        if self.depths[rule as usize] > RECURSION_MAX {
            return Err(self.stream.limit(format!("expression recursion limit exceeded: {RECURSION_MAX}")));
        }
        Ok(())
    }

    fn shallower(&mut self, rule: Rule) {
        self.depths[rule as usize] = self.depths[rule as usize].saturating_sub(1);
    }

    /// Goes out of a rule: to where it was called, unless it is the first.
    fn leave(&mut self) -> Option<StateId> {
        let frame = self.frames.pop()?;
        self.shallower(frame.rule);
        if Self::recursive(frame.rule) {
            self.precedences.pop();
            if let Some(around) = self.node() {
                around.children.push(frame.node);
            }
        }
        (!self.frames.is_empty()).then_some(frame.after)
    }

    /// What was read so far becomes the left side of an operator.
    fn push(&mut self, form: Form) -> Result<(), Stopped> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let left = frame.node;
        let mut node = Node::new(frame.rule, form, self.tree.nodes[left].start);
        node.children.push(left);
        frame.node = self.tree.add(node);
        let rule = frame.rule;
        self.deeper(rule)
    }

    fn step(&mut self, at: StateId) -> Result<Went, Stopped> {
        let state = NETWORK.at(at);
        let first = state.edges.first().map_or(at, |edge| edge.to);
        match state.role {
            Role::RuleStop => Ok(Went::Done),
            Role::RuleStart | Role::BlockEnd | Role::LoopEnd => Ok(Went::To(first)),
            Role::Basic => self.basic(at, state),
            Role::BlockStart(choice) => self.block(at, state, choice),
            Role::LoopStart(None) => {
                if let Some(form) = state.forms.first() {
                    self.push(*form)?;
                }
                Ok(Went::To(first))
            }
            Role::LoopStart(Some(_)) => {
                if !self.synced(at)? {
                    return Ok(Went::Wrong);
                }
                let Some(chosen) = self.predict(at)? else { return Ok(Went::Wrong) };
                self.push(state.forms[chosen])?;
                Ok(Went::To(state.edges[chosen].to))
            }
            Role::FirstStart => Ok(if self.synced(at)? { Went::To(first) } else { Went::Wrong }),
            Role::LoopEntry(choice) => {
                if !self.synced(at)? {
                    return Ok(Went::Wrong);
                }
                self.again(at, choice)
            }
            Role::LoopBack => {
                if !self.synced(at)? {
                    return Ok(Went::Wrong);
                }
                match NETWORK.at(first).role {
                    Role::LoopEntry(choice) => self.again(first, choice),
                    _ => Ok(Went::To(first)),
                }
            }
            Role::FirstBack(choice) => {
                self.synced(at)?;
                match self.again(at, choice)? {
                    // Not to the start of the block, where it would be looked at what comes next again.
                    Went::To(block) if block == first => Ok(Went::To(NETWORK.at(block).edges[0].to)),
                    went => Ok(went),
                }
            }
        }
    }

    fn basic(&mut self, at: StateId, state: &'static State) -> Result<Went, Stopped> {
        let Some(edge) = state.edges.first() else { return Ok(Went::Done) };
        if edge.step != Step::Free {
            self.state = at;
        }
        match edge.step {
            Step::Free => {}
            Step::Token(kind, label) => match self.matched(kind)? {
                Some(token) => self.label(label, token),
                None => return Ok(Went::Wrong),
            },
            Step::OneOf(kinds) => {
                let token = self.stream.current();
                if kinds.contains(&self.stream.kind(1)?) {
                    self.recovery.matched();
                    self.consume()?;
                    self.label(Label::Operator, token);
                } else if let Some(token) = self.recover_inline()? {
                    self.label(Label::Operator, token);
                }
                // If that failed it goes on all the same; it shows where it is asked next whether the source fits.
            }
            Step::Call(rule, precedence, after) => self.enter(rule, precedence, after)?,
            Step::Tight(tight) => {
                if tight < self.precedence() {
                    self.fault = Some(Fault::Loose { token: self.stream.current(), tight });
                    return Ok(Went::Wrong);
                }
            }
        }
        Ok(Went::To(edge.to))
    }

    fn label(&mut self, label: Label, token: TokenId) {
        if label != Label::None
            && let Some(node) = self.node()
        {
            node.tokens.push((label, token));
        }
    }

    /// Takes a token that has to come here.
    fn matched(&mut self, kind: Kind) -> Result<Option<TokenId>, Stopped> {
        if self.stream.kind(1)? != kind {
            return self.recover_inline();
        }
        let token = self.stream.current();
        self.recovery.matched();
        self.consume()?;
        Ok(Some(token))
    }

    /// Goes past the next token, unless it is the end.
    pub fn consume(&mut self) -> Result<(), Stopped> {
        if self.stream.kind(1)? == Kind::End { Ok(()) } else { self.stream.advance() }
    }

    /// Looks whether the next token fits in a state, and if not, whether it does without one.
    fn synced(&mut self, at: StateId) -> Result<bool, Stopped> {
        self.state = at;
        self.sync()?;
        Ok(self.fault.is_none())
    }

    /// The alternative to take, from zero on.
    fn predict(&mut self, at: StateId) -> Result<Option<usize>, Stopped> {
        let (context, precedence) = (self.context(), self.precedence());
        let start = self.stream.current();
        match self.predictor.predict(at, &mut self.stream, context, precedence)? {
            Ok(alternative) => Ok(Some(usize::from(alternative) - 1)),
            Err(none) => {
                self.fault = Some(Fault::NoAlternative { start, offending: none.offending });
                Ok(None)
            }
        }
    }

    fn block(&mut self, at: StateId, state: &'static State, choice: Choice) -> Result<Went, Stopped> {
        if !self.synced(at)? {
            return Ok(Went::Wrong);
        }
        let chosen = match choice {
            Choice::Predicted => self.predict(at)?,
            Choice::Next => {
                let kind = self.stream.kind(1)?;
                let fits = |edge: &super::network::Edge| NETWORK.at(edge.to).next.has(kind);
                match state.edges.iter().position(fits) {
                    None if state.forms.is_empty() => Some(state.edges.len() - 1),
                    None => {
                        let start = self.stream.current();
                        self.fault = Some(Fault::NoAlternative { start, offending: start });
                        None
                    }
                    // The last way goes past what need not be there.
                    found => found,
                }
            }
        };
        let Some(chosen) = chosen else { return Ok(Went::Wrong) };
        if let Some(form) = state.forms.get(chosen)
            && let Some(node) = self.node()
        {
            node.form = *form;
        }
        Ok(Went::To(state.edges[chosen].to))
    }

    /// Whether a loop goes on.
    fn again(&mut self, at: StateId, choice: Choice) -> Result<Went, Stopped> {
        let state = NETWORK.at(at);
        let chosen = match choice {
            Choice::Next => {
                let kind = self.stream.kind(1)?;
                usize::from(!NETWORK.at(state.edges[0].to).next.has(kind))
            }
            Choice::Predicted => match self.predict(at)? {
                Some(chosen) => chosen,
                None => return Ok(Went::Wrong),
            },
        };
        if chosen == 0 && state.recursion {
            self.shallower(state.rule);
        }
        Ok(Went::To(state.edges[chosen].to))
    }
}
