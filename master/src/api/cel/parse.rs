//! The parser. Its recursion is bounded, and so is the size of what it reads.
//!
//! It is made for what is right, and says no more of what is wrong than that it is; [`super::syntax`] tells why.

mod macros;
mod primary;

use super::ast::{Expr, Kind as Node};
use super::depth::with_room;
use super::problem::{Place, Problem};
use super::syntax::lexer::{Lexed, Lexer, Token};
use super::syntax::token::Kind;
use super::syntax::{self, CHARS_MAX, RECURSION_MAX};

/// Parses an expression. With `binds`, it may name values with `cel.bind`.
pub fn parse(source: &str, binds: bool) -> Result<Expr, Vec<Problem>> {
    read(source, binds).ok_or_else(|| {
        let mut problems = syntax::problems(source, binds);
        if problems.is_empty() {
            problems.push(Problem { place: Place::Nowhere, message: syntax::TOO_DEEP.to_owned() });
        }
        problems
    })
}

/// What a source means, if it is right.
fn read(source: &str, binds: bool) -> Option<Expr> {
    let chars: Vec<char> = source.chars().collect();
    if chars.len() > CHARS_MAX {
        return None;
    }
    let mut lexer = Lexer::new(&chars);
    let mut tokens = Vec::with_capacity(chars.len() / 2);
    loop {
        let Lexed::Token(token) = lexer.next() else { return None };
        if !token.kind.hidden() {
            tokens.push(token);
        }
        if token.kind == Kind::End {
            break;
        }
    }
    let levels = nesting(&tokens);
    let mut parser =
        Parser { chars: &chars, tokens, next: 0, binds, exprs: 0, relations: 0, calculations: 0, height: 0 };
    with_room(levels, move || parser.expr().filter(|_| parser.kind() == Kind::End)).flatten()
}

/// How deep the parser may have to go for some tokens.
fn nesting(tokens: &[Token]) -> usize {
    let (mut open, mut deepest, mut conditions) = (0_usize, 0, 0);
    for token in tokens {
        match token.kind {
            Kind::Open | Kind::OpenBracket | Kind::OpenBrace => open += 1,
            Kind::Close | Kind::CloseBracket | Kind::CloseBrace => open = open.saturating_sub(1),
            Kind::Question => conditions += 1,
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest + conditions
}

struct Parser<'a> {
    chars: &'a [char],
    tokens: Vec<Token>,
    next: usize,
    binds: bool,
    /// How deep rules are in themselves. Others are never deeper than one of these.
    exprs: usize,
    relations: usize,
    calculations: usize,
    /// How many operators, calls and fields are above each other in what was read last.
    height: usize,
}

/// Operators that take two sides, but for those that are chains: how tight they bind, and their names.
fn binary(kind: Kind) -> Option<(u8, &'static str)> {
    Some(match kind {
        Kind::Less => (0, "_<_"),
        Kind::LessEquals => (0, "_<=_"),
        Kind::Greater => (0, "_>_"),
        Kind::GreaterEquals => (0, "_>=_"),
        Kind::Equals => (0, "_==_"),
        Kind::NotEquals => (0, "_!=_"),
        Kind::In => (0, "@in"),
        Kind::Plus => (1, "_+_"),
        Kind::Minus => (1, "_-_"),
        Kind::Times => (2, "_*_"),
        Kind::Divide => (2, "_/_"),
        Kind::Modulo => (2, "_%_"),
        _ => return None,
    })
}

impl Parser<'_> {
    fn token(&self) -> Token {
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn kind(&self) -> Kind {
        self.token().kind
    }

    /// The kind of a token after the next.
    fn ahead(&self, count: usize) -> Kind {
        self.tokens.get(self.next + count).map_or(Kind::End, |token| token.kind)
    }

    fn at(&self) -> usize {
        self.token().start
    }

    fn eat(&mut self, kind: Kind) -> bool {
        let found = self.kind() == kind;
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, kind: Kind) -> Option<usize> {
        let at = self.at();
        self.eat(kind).then_some(at)
    }

    fn text(&self, token: Token) -> String {
        self.chars[token.start..token.stop].iter().collect()
    }

    /// What was read last and something else have so many more above them.
    fn raise(&mut self, other: usize, by: usize) -> Option<()> {
        self.height = self.height.max(other) + by;
        (self.height <= RECURSION_MAX).then_some(())
    }

    fn expr(&mut self) -> Option<Expr> {
        self.exprs += 1;
        if self.exprs > RECURSION_MAX {
            return None;
        }
        let mut made = self.chain(Kind::Or, "_||_")?;
        let at = self.at();
        if self.eat(Kind::Question) {
            let height = self.height;
            let yes = self.chain(Kind::Or, "_||_")?;
            self.raise(height, 0)?;
            let height = self.height;
            self.expect(Kind::Colon)?;
            let no = self.expr()?;
            self.raise(height, 1)?;
            made = call(at, "_?_:_", vec![made, yes, no]);
        }
        self.exprs -= 1;
        Some(made)
    }

    /// Terms with `||` between them, each of which is terms with `&&` between them.
    fn chain(&mut self, kind: Kind, name: &str) -> Option<Expr> {
        let first = self.term(kind)?;
        if self.kind() != kind {
            return Some(first);
        }
        let mut height = self.height;
        let (mut terms, mut places) = (vec![Some(first)], Vec::new());
        while let Some(at) = self.expect(kind) {
            places.push(at);
            terms.push(Some(self.term(kind)?));
            height = height.max(self.height);
        }
        self.height = height;
        balanced(&mut terms, &places, name)
    }

    fn term(&mut self, kind: Kind) -> Option<Expr> {
        if kind == Kind::Or {
            return self.chain(Kind::And, "_&&_");
        }
        self.relations += 1;
        self.calculations += 1;
        if self.relations > RECURSION_MAX || self.calculations > RECURSION_MAX {
            return None;
        }
        let made = self.operators(0)?;
        self.relations -= 1;
        self.calculations -= 1;
        Some(made)
    }

    /// Operators that bind at least this tight.
    fn operators(&mut self, least: u8) -> Option<Expr> {
        let mut left = self.unary()?;
        while let Some((tight, name)) = binary(self.kind()).filter(|(tight, _)| *tight >= least) {
            let at = self.at();
            self.next += 1;
            let height = self.height;
            let (relation, calculation) = (usize::from(tight == 0), usize::from(tight > 0));
            self.relations += relation;
            self.calculations += calculation;
            if self.relations > RECURSION_MAX || self.calculations > RECURSION_MAX {
                return None;
            }
            let right = self.operators(tight + 1)?;
            self.relations -= relation;
            self.calculations -= calculation;
            self.raise(height, 1)?;
            left = call(at, name, vec![left, right]);
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Expr> {
        let at = self.at();
        let (kind, name) = match self.kind() {
            Kind::Not => (Kind::Not, "!_"),
            // A minus before a number is a part of it.
            Kind::Minus if !matches!(self.ahead(1), Kind::Int | Kind::Float) => (Kind::Minus, "-_"),
            _ => return self.member(),
        };
        let mut count = 0;
        while self.eat(kind) {
            count += 1;
        }
        let operand = self.member()?;
        Some(if count % 2 == 0 { operand } else { call(at, name, vec![operand]) })
    }

    fn member(&mut self) -> Option<Expr> {
        let mut expr = self.primary()?;
        loop {
            let at = self.at();
            let height = self.height;
            if self.eat(Kind::Dot) {
                let optional = self.eat(Kind::Question);
                let token = self.token();
                let name = self.text(token);
                // In backticks, names are not for here.
                self.expect(Kind::Identifier)?;
                let open = self.at();
                if !optional && self.eat(Kind::Open) {
                    let arguments = self.arguments()?;
                    self.raise(height, 1)?;
                    expr = self.member_call(open, expr, name, arguments)?;
                } else {
                    self.raise(0, 1)?;
                    expr = Expr { at, kind: Node::Select(Box::new(expr), name, optional) };
                }
            } else if self.eat(Kind::OpenBracket) {
                let name = if self.eat(Kind::Question) { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect(Kind::CloseBracket)?;
                self.raise(height, 1)?;
                expr = call(at, name, vec![expr, index]);
            } else {
                return Some(expr);
            }
        }
    }

    fn member_call(&self, at: usize, target: Expr, name: String, arguments: Vec<Expr>) -> Option<Expr> {
        let binds = self.binds && target.kind == Node::Ident("cel".to_owned());
        macros::member(at, target, name, arguments, binds)
    }
}

/// Terms as a tree with as little depth as there can be, so that long chains are not deep.
fn balanced(terms: &mut [Option<Expr>], places: &[usize], name: &str) -> Option<Expr> {
    if places.is_empty() {
        return terms.first_mut()?.take();
    }
    let middle = places.len() / 2;
    let (before, after) = terms.split_at_mut(middle + 1);
    let left = balanced(before, &places[..middle], name)?;
    let right = balanced(after, &places[middle + 1..], name)?;
    Some(call(places[middle], name, vec![left, right]))
}

fn call(at: usize, name: &str, arguments: Vec<Expr>) -> Expr {
    Expr { at, kind: Node::Call(None, name.to_owned(), arguments) }
}
