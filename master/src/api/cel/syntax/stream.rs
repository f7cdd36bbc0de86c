//! The tokens of a source, as the parser sees them; they are made when they are looked at.

use super::super::problem::{Place, Problem};
use super::lexer::{Lexed, Lexer};
use super::token::Kind;

/// Problems of syntax that are told.
const SYNTAX_PROBLEMS_MAX: usize = 100;

/// What ends the reading of a source before its end. The problem is told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// A token, by its number; those that are only thought to be there have one too.
pub type TokenId = usize;

/// A token, and those that are hidden.
#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    start: usize,
    stop: usize,
}

/// A token that is missing, and was put where it should be.
#[derive(Clone, Debug)]
struct Made {
    text: String,
    place: usize,
}

/// The tokens of a source.
#[derive(Debug)]
pub struct Stream<'a> {
    chars: &'a [char],
    lexer: Lexer<'a>,
    entries: Vec<Entry>,
    made: Vec<Made>,
    index: usize,
    syntax_problems: usize,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
}

/// Numbers of made tokens begin here.
const MADE: TokenId = usize::MAX / 2;

impl<'a> Stream<'a> {
    /// Begins at the first token that is not hidden.
    pub fn new(chars: &'a [char]) -> Self {
        let lexer = Lexer::new(chars);
        Stream {
            chars,
            lexer,
            entries: Vec::new(),
            made: Vec::new(),
            index: 0,
            syntax_problems: 0,
            problems: Vec::new(),
        }
    }

    /// Tells a problem of syntax; after too many, no more is read.
    pub fn report(&mut self, at: usize, message: &str) -> Result<(), Stopped> {
        let full = self.syntax_problems >= SYNTAX_PROBLEMS_MAX;
        self.syntax_problems += 1;
        let message = if full { "More than 100 syntax errors" } else { message };
        self.problems.push(Problem::at(at, format!("Syntax error: {message}")));
        if full { Err(Stopped) } else { Ok(()) }
    }

    /// Tells that a limit is exceeded, because of which no more is read.
    pub fn limit(&mut self, message: String) -> Stopped {
        self.problems.push(Problem { place: Place::Nowhere, message });
        Stopped
    }

    /// Reads tokens until there is one of a number, or the end.
    fn fill(&mut self, index: usize) -> Result<(), Stopped> {
        while self.entries.len() <= index && self.entries.last().is_none_or(|last| last.kind != Kind::End) {
            self.read()?;
        }
        Ok(())
    }

    /// Reads the next token, and tells what is none.
    fn read(&mut self) -> Result<(), Stopped> {
        loop {
            let start = self.lexer.position();
            match self.lexer.next() {
                Lexed::Token(token) => {
                    self.entries.push(Entry { kind: token.kind, start: token.start, stop: token.stop });
                    return Ok(());
                }
                Lexed::Wrong { stop } => {
                    let text: String = self.chars[start..stop].iter().collect();
                    self.report(start, &format!("token recognition error at: '{text}'"))?;
                }
            }
        }
    }

    /// The first token at or after a number that is not hidden.
    fn visible(&mut self, mut index: usize) -> Result<usize, Stopped> {
        loop {
            self.fill(index)?;
            index = index.min(self.entries.len().saturating_sub(1));
            if !self.entries[index].kind.hidden() {
                return Ok(index);
            }
            index += 1;
        }
    }

    /// Goes to the first token.
    pub fn begin(&mut self) -> Result<(), Stopped> {
        self.index = self.visible(0)?;
        Ok(())
    }

    /// The number of the next token.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Goes to a token that was the next one before.
    pub fn seek(&mut self, index: usize) {
        self.index = index;
    }

    /// The next token.
    pub fn current(&self) -> TokenId {
        self.index
    }

    /// What the next token is, or the one after it.
    pub fn kind(&mut self, ahead: usize) -> Result<Kind, Stopped> {
        let mut index = self.index;
        for _ in 1..ahead {
            index = self.visible(index + 1)?;
        }
        Ok(self.entries[index].kind)
    }

    /// The token before the next one.
    pub fn before(&self) -> Option<TokenId> {
        (0..self.index).rev().find(|i| !self.entries[*i].kind.hidden())
    }

    /// Goes past the next token, which is not the end.
    pub fn advance(&mut self) -> Result<(), Stopped> {
        self.index = self.visible(self.index + 1)?;
        Ok(())
    }

    /// Makes a token that is missing.
    pub fn make(&mut self, text: String, place: usize) -> TokenId {
        self.made.push(Made { text, place });
        MADE + self.made.len() - 1
    }

    /// Where a token begins.
    pub fn place(&self, id: TokenId) -> usize {
        match id.checked_sub(MADE) {
            Some(made) => self.made[made].place,
            None => self.entries[id].start,
        }
    }

    /// The text of a token.
    pub fn text(&self, id: TokenId) -> String {
        match id.checked_sub(MADE) {
            Some(made) => self.made[made].text.clone(),
            None => {
                let entry = &self.entries[id];
                match entry.kind {
                    Kind::End => "<EOF>".to_owned(),
                    _ => self.chars[entry.start..entry.stop].iter().collect(),
                }
            }
        }
    }

    /// The text from one token to another, without what is no token, and without the end.
    pub fn text_between(&self, from: TokenId, to: TokenId) -> String {
        let entries = self.entries.get(from..=to.min(self.entries.len() - 1)).unwrap_or_default();
        if entries.first().is_some_and(|entry| entry.kind == Kind::End) {
            return "<EOF>".to_owned();
        }
        let read = entries.iter().take_while(|entry| entry.kind != Kind::End);
        read.flat_map(|entry| &self.chars[entry.start..entry.stop]).collect()
    }
}
