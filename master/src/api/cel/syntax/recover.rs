//! What is done where the source does not fit: it is told once, and then tokens are left out, or thought to be there,
//! until one fits again.

use super::lookahead;
use super::network::{NETWORK, Role, StateId};
use super::parser::Parser;
use super::stream::{Stopped, TokenId};
use super::token::{Kind, Kinds};

/// How often it is tried to go on.
const ATTEMPTS_MAX: usize = 30;
/// Tokens that are left out at once.
const LEFT_OUT_MAX: usize = 256;

/// Why the source does not fit.
#[derive(Clone, Debug)]
pub enum Fault {
    /// No alternative does, from a token on to another.
    NoAlternative {
        /// Where the alternatives begin.
        start: TokenId,
        /// What fits none of them.
        offending: TokenId,
    },
    /// Another token should be there.
    Mismatch {
        /// What is there.
        token: TokenId,
        /// What should be.
        expected: Kinds,
    },
    /// An operator does not bind tight enough.
    Loose {
        /// The token at it.
        token: TokenId,
        /// How tight it binds.
        tight: u8,
    },
}

/// What is known of problems that were told.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Whether one was told, and no token fitted since.
    recovering: bool,
    attempts: usize,
    /// Where it was last gone on, and in which states since a token fitted.
    last: Option<usize>,
    states: Vec<StateId>,
}

impl Recovery {
    /// A token fits.
    pub fn matched(&mut self) {
        self.recovering = false;
        self.last = None;
        self.states.clear();
    }
}

/// Text in quotes, on one line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"))
}

/// Where a word stands that has a meaning of its own, a name is missed, rather than an alternative.
fn reworded(message: String) -> String {
    let after = |rest: &str| {
        let mut chars = rest.chars();
        chars.next().filter(|c| *c != '\n')?;
        ["true", "false", "null"].into_iter().find_map(|word| {
            let rest = chars.as_str().strip_prefix(word)?.strip_prefix('\'')?;
            Some(format!("mismatched input '{word}' expecting IDENTIFIER{rest}"))
        })
    };
    message.strip_prefix("no viable alternative at input '").and_then(after).unwrap_or(message)
}

impl Parser<'_> {
    fn notify(&mut self, token: TokenId, message: String) -> Result<(), Stopped> {
        let place = self.stream.place(token);
        self.stream.report(place, &reworded(message))
    }

    fn shown(&self, token: TokenId) -> String {
        quoted(&self.stream.text(token))
    }

    /// What is expected in this state, within the rules that are being read.
    fn expected(&self) -> Kinds {
        let callers = self.frames.iter().skip(1).rev().map(|frame| frame.after);
        lookahead::expected(&NETWORK, self.state, callers)
    }

    /// Tells why the source does not fit, unless something was told since a token did.
    pub fn report(&mut self, fault: &Fault) -> Result<(), Stopped> {
        if std::mem::replace(&mut self.recovery.recovering, true) {
            return Ok(());
        }
        let (token, message) = match fault {
            Fault::NoAlternative { start, offending } => {
                let text = quoted(&self.stream.text_between(*start, *offending));
                (*offending, format!("no viable alternative at input {text}"))
            }
            Fault::Mismatch { token, expected } => {
                (*token, format!("mismatched input {} expecting {expected}", self.shown(*token)))
            }
            Fault::Loose { token, tight } => {
                let rule = self.rule_name();
                let test = format!("p.Precpred(p.GetParserRuleContext(), {tight})");
                (*token, format!("rule {rule} failed predicate: {{{test}}}?"))
            }
        };
        self.notify(token, message)
    }

    fn report_unwanted(&mut self) -> Result<(), Stopped> {
        if std::mem::replace(&mut self.recovery.recovering, true) {
            return Ok(());
        }
        let token = self.stream.current();
        let message = format!("extraneous input {} expecting {}", self.shown(token), self.expected());
        self.notify(token, message)
    }

    fn report_missing(&mut self) -> Result<(), Stopped> {
        if std::mem::replace(&mut self.recovery.recovering, true) {
            return Ok(());
        }
        let token = self.stream.current();
        let message = format!("missing {} at {}", self.expected(), self.shown(token));
        self.notify(token, message)
    }

    /// After a rule failed: leaves out tokens until one may follow any of the rules that are being read.
    pub fn recover(&mut self) -> Result<(), Stopped> {
        self.attempt()?;
        let mut left_out = 0;
        let index = self.stream.index();
        if self.recovery.last == Some(index) && self.recovery.states.contains(&self.state) {
            // It was here before, and nothing was left out.
            self.leave_out(&mut left_out)?;
        }
        self.recovery.last = Some(self.stream.index());
        self.recovery.states.push(self.state);
        let follow = self.follow();
        while self.stands_before(&follow)? {
            self.leave_out(&mut left_out)?;
        }
        Ok(())
    }

    fn stands_before(&mut self, wanted: &Kinds) -> Result<bool, Stopped> {
        let kind = self.stream.kind(1)?;
        Ok(kind != Kind::End && !wanted.has(kind))
    }

    fn leave_out(&mut self, left_out: &mut usize) -> Result<(), Stopped> {
        if *left_out >= LEFT_OUT_MAX {
            let message = format!("error recovery token lookahead limit exceeded: {LEFT_OUT_MAX}");
            return Err(self.stream.limit(message));
        }
        *left_out += 1;
        self.consume()
    }

    fn attempt(&mut self) -> Result<(), Stopped> {
        if self.recovery.attempts == ATTEMPTS_MAX {
            let message = format!("error recovery attempt limit exceeded: {ATTEMPTS_MAX}");
            self.notify(self.stream.current(), message)?;
            return Err(Stopped);
        }
        self.recovery.attempts += 1;
        Ok(())
    }

    /// Tokens that may follow any of the rules that are being read.
    fn follow(&self) -> Kinds {
        let mut follow = Kinds::default();
        for frame in self.frames.iter().skip(1).rev() {
            follow.add_all(&NETWORK.at(frame.after).next);
        }
        follow.remove_nothing();
        follow
    }

    /// Where a way is chosen: looks whether the next token fits any, and if not, whether the one after it does.
    pub fn sync(&mut self) -> Result<(), Stopped> {
        if self.recovery.recovering {
            return Ok(());
        }
        let state = NETWORK.at(self.state);
        let kind = self.stream.kind(1)?;
        if state.next.has_nothing() || state.next.has(kind) {
            return Ok(());
        }
        match state.role {
            Role::BlockStart(_) | Role::LoopStart(_) | Role::FirstStart | Role::LoopEntry(_) => {
                if self.without_one()?.is_none() {
                    self.mismatch();
                }
                Ok(())
            }
            Role::LoopBack | Role::FirstBack(_) => {
                self.report_unwanted()?;
                let mut wanted = self.expected();
                wanted.add_all(&self.follow());
                while self.stands_before(&wanted)? {
                    self.consume()?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn mismatch(&mut self) {
        self.fault = Some(Fault::Mismatch { token: self.stream.current(), expected: self.expected() });
    }

    /// Where a token has to come that does not: takes it if it comes after this one, or acts as if it were there if
    /// what comes fits after it.
    pub fn recover_inline(&mut self) -> Result<Option<TokenId>, Stopped> {
        self.attempt()?;
        if let Some(token) = self.without_one()? {
            self.consume()?;
            return Ok(Some(token));
        }
        let kind = self.stream.kind(1)?;
        let after = NETWORK.at(self.state).edges.first().map_or(self.state, |edge| edge.to);
        let context = self.context();
        if lookahead::within(&NETWORK, &mut self.predictor.contexts, after, context).has(kind) {
            self.report_missing()?;
            let before = self.stream.before().filter(|_| kind == Kind::End);
            let place = self.stream.place(before.unwrap_or(self.stream.current()));
            let text = self.expected().first_missing();
            return Ok(Some(self.stream.make(text, place)));
        }
        self.mismatch();
        Ok(None)
    }

    /// Leaves a token out if the one after it is expected here: that one.
    fn without_one(&mut self) -> Result<Option<TokenId>, Stopped> {
        let next = self.stream.kind(2)?;
        if !self.expected().has(next) {
            return Ok(None);
        }
        self.report_unwanted()?;
        self.consume()?;
        self.recovery.matched();
        Ok(Some(self.stream.current()))
    }
}
