//! What operators stand between: literals, names, calls, and what is in brackets.

use super::super::ast::{Expr, Field, Kind as Node, Literal};
use super::super::literals;
use super::super::syntax::lexer::Token;
use super::super::syntax::reserved;
use super::super::syntax::token::Kind;
use super::{Parser, macros};

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Option<Expr> {
        let token = self.token();
        self.height = 0;
        match token.kind {
            Kind::Identifier => self.named(false),
            Kind::Dot => {
                self.next += 1;
                self.named(true)
            }
            Kind::Open => {
                self.next += 1;
                let inner = self.expr()?;
                self.expect(Kind::Close)?;
                Some(inner)
            }
            Kind::OpenBracket => {
                let items = self.entries(Kind::CloseBracket, |me| {
                    let optional = me.eat(Kind::Question);
                    Some((me.expr()?, optional))
                })?;
                Some(Expr { at: token.start, kind: Node::List(items) })
            }
            Kind::OpenBrace => {
                let entries = self.entries(Kind::CloseBrace, |me| {
                    let optional = me.eat(Kind::Question);
                    let key = me.expr()?;
                    let height = me.height;
                    me.expect(Kind::Colon)?;
                    let value = me.expr()?;
                    me.raise(height, 0)?;
                    Some((key, value, optional))
                })?;
                Some(Expr { at: token.start, kind: Node::Map(entries) })
            }
            _ => self.literal(token),
        }
    }

    fn literal(&mut self, token: Token) -> Option<Expr> {
        self.next += 1;
        let text = self.text(token);
        let literal = match token.kind {
            Kind::Minus => {
                let number = self.token();
                self.next += 1;
                let text = format!("-{}", self.text(number));
                match number.kind {
                    Kind::Int => Literal::Int(literals::int(&text).ok()?),
                    Kind::Float => Literal::Double(literals::double(&text).ok()?),
                    _ => return None,
                }
            }
            Kind::Int => Literal::Int(literals::int(&text).ok()?),
            Kind::Uint => Literal::Uint(literals::uint(&text).ok()?),
            Kind::Float => Literal::Double(literals::double(&text).ok()?),
            Kind::String => Literal::String(literals::string(&text).ok()?),
            Kind::Bytes => Literal::Bytes(literals::bytes(&text).ok()?),
            Kind::True => Literal::Bool(true),
            Kind::False => Literal::Bool(false),
            Kind::Null => Literal::Null,
            _ => return None,
        };
        Some(Expr { at: token.start, kind: Node::Literal(literal) })
    }

    /// What stands in brackets, with commas between, of which one may be left over in the end.
    fn entries<T>(&mut self, close: Kind, entry: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.next += 1;
        let (mut entries, mut height) = (Vec::new(), 0);
        while self.kind() != close && self.kind() != Kind::Comma {
            entries.push(entry(self)?);
            height = height.max(self.height);
            if self.kind() != Kind::Comma || self.ahead(1) == close {
                break;
            }
            self.next += 1;
            if self.kind() == Kind::Comma {
                return None;
            }
        }
        self.eat(Kind::Comma);
        self.expect(close)?;
        self.height = height;
        Some(entries)
    }

    /// What begins with a name: a variable, a call or an object.
    fn named(&mut self, rooted: bool) -> Option<Expr> {
        let token = self.token();
        self.expect(Kind::Identifier)?;
        let text = self.text(token);
        let name = if rooted { format!(".{text}") } else { text.clone() };
        let open = self.at();
        if !self.eat(Kind::Open) {
            let mut length = 0;
            while self.ahead(length) == Kind::Dot && self.ahead(length + 1) == Kind::Identifier {
                length += 2;
            }
            if self.ahead(length) == Kind::OpenBrace {
                return self.object(name, length);
            }
            return (!reserved(&text)).then_some(Expr { at: token.start, kind: Node::Ident(name) });
        }
        if reserved(&text) {
            return None;
        }
        let arguments = self.arguments()?;
        macros::global(open, name, arguments)
    }

    fn object(&mut self, mut name: String, length: usize) -> Option<Expr> {
        for token in &self.tokens[self.next..self.next + length] {
            name.extend(&self.chars[token.start..token.stop]);
        }
        self.next += length;
        let at = self.at();
        let fields = self.entries(Kind::CloseBrace, |me| {
            let optional = me.eat(Kind::Question);
            let field = me.text(me.token());
            me.expect(Kind::Identifier)?;
            let colon = me.at();
            me.expect(Kind::Colon)?;
            Some(Field { name: field, colon, value: me.expr()?, optional })
        })?;
        Some(Expr { at, kind: Node::Struct(name, fields) })
    }

    pub(super) fn arguments(&mut self) -> Option<Vec<Expr>> {
        let (mut arguments, mut height) = (Vec::new(), 0);
        if !self.eat(Kind::Close) {
            loop {
                arguments.push(self.expr()?);
                height = height.max(self.height);
                if !self.eat(Kind::Comma) {
                    break;
                }
            }
            self.expect(Kind::Close)?;
        }
        self.height = height;
        Some(arguments)
    }
}
