//! The parser. Its recursion is bounded, and so is the size of what it reads.

use super::ast::{Comprehension, Expr, Kind, Literal, Macro};

/// Characters of an expression.
const CHARS_MAX: usize = 100_000;
/// Errors that one expression may have.
const PROBLEMS_MAX: usize = 100;
/// Depth of nesting.
const DEPTH_MAX: usize = 100;

/// An error, and where it is, in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Offset in the source.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

/// Errors as they are shown: with the line, and a mark below it.
pub fn render(source: &str, problems: &[Problem]) -> String {
    let chars: Vec<char> = source.chars().collect();
    let one = |p: &Problem| {
        let at = p.at.min(chars.len());
        let start = chars[..at].iter().rposition(|c| *c == '\n').map_or(0, |i| i + 1);
        let line_number = chars[..at].iter().filter(|c| **c == '\n').count() + 1;
        let line: String = chars[start..].iter().take_while(|c| **c != '\n').collect();
        let column = at - start;
        // Below what is wide, the marks are wide too.
        let wide = |c: char| c.len_utf8() > 1;
        let dots: String = line.chars().take(column).map(|c| if wide(c) { '．' } else { '.' }).collect();
        let mark = if line.chars().nth(column).is_some_and(wide) { '＾' } else { '^' };
        format!(
            "ERROR: <input>:{line_number}:{}: {}\n | {}\n | {dots}{mark}",
            column + 1,
            p.message,
            line.replace('\t', " "),
        )
    };
    problems.iter().map(one).collect::<Vec<_>>().join("\n")
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Ident(String),
    Literal(Literal),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", "=", "&", "|",
];

/// The tokens of a source. What is none is told, and left out.
fn lex(source: &str, problems: &mut Vec<Problem>) -> Result<Vec<(usize, Token)>, Problem> {
    let chars: Vec<char> = source.chars().collect();
    let problem = |at: usize, message: String| Problem { at, message };
    if chars.len() > CHARS_MAX {
        return Err(problem(
            0,
            format!("expression code point size exceeds limit: size: {}, limit {CHARS_MAX}", chars.len()),
        ));
    }
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c.is_whitespace() {
            i += 1;
        } else if c == '/' && chars.get(i + 1) == Some(&'/') {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if begins_string(&chars, i) {
            match string(&chars, i) {
                Ok(Some((literal, end))) => {
                    tokens.push((i, Token::Literal(literal)));
                    i = end;
                }
                Ok(None) => i += 1,
                Err(Unread::Wrong(message)) => return Err(problem(i, message)),
                Err(Unread::Open(end)) => {
                    let text: String = chars[i..end].iter().collect();
                    problems.push(problem(i, format!("Syntax error: token recognition error at: '{text}'")));
                    i = end;
                }
            }
        } else if c.is_ascii_digit() || (c == '.' && chars.get(i + 1).is_some_and(char::is_ascii_digit)) {
            let (literal, end) = number(&chars, i).map_err(|m| problem(i, m))?;
            tokens.push((i, Token::Literal(literal)));
            i = end;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let start = i;
            while i < chars.len() && (chars[i].is_ascii_alphanumeric() || chars[i] == '_') {
                i += 1;
            }
            let word: String = chars[start..i].iter().collect();
            tokens.push((
                start,
                match word.as_str() {
                    "true" => Token::Literal(Literal::Bool(true)),
                    "false" => Token::Literal(Literal::Bool(false)),
                    "null" => Token::Literal(Literal::Null),
                    "in" => Token::Symbol("in"),
                    _ => Token::Ident(word),
                },
            ));
        } else if c == '`' {
            let start = i + 1;
            let length = chars[start..].iter().position(|c| *c == '`');
            let Some(length) = length else {
                return Err(problem(i, "Syntax error: token recognition error at: '`'".to_owned()));
            };
            tokens.push((i, Token::Ident(chars[start..start + length].iter().collect())));
            i = start + length + 1;
        } else {
            let symbol =
                SYMBOLS.iter().find(|s| s.chars().enumerate().all(|(n, c)| chars.get(i + n) == Some(&c)));
            match symbol {
                Some(symbol) if !["=", "&", "|"].contains(symbol) => {
                    tokens.push((i, Token::Symbol(symbol)));
                    i += symbol.len();
                }
                _ if problems.len() < PROBLEMS_MAX => {
                    problems.push(problem(i, format!("Syntax error: token recognition error at: '{c}'")));
                    i += 1;
                }
                _ => return Err(problem(i, format!("Syntax error: token recognition error at: '{c}'"))),
            }
        }
    }
    tokens.push((chars.len(), Token::End));
    Ok(tokens)
}

fn number(chars: &[char], start: usize) -> Result<(Literal, usize), String> {
    let mut i = start;
    let hex = chars[i] == '0' && matches!(chars.get(i + 1), Some('x' | 'X'));
    let digits = |i: &mut usize, hex: bool| {
        while chars.get(*i).is_some_and(|c| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() }) {
            *i += 1;
        }
    };
    if hex {
        i += 2;
    }
    let from = i;
    digits(&mut i, hex);
    let mut double = false;
    if !hex {
        if chars.get(i) == Some(&'.') && chars.get(i + 1).is_some_and(char::is_ascii_digit) {
            double = true;
            i += 1;
            digits(&mut i, false);
        }
        if matches!(chars.get(i), Some('e' | 'E')) {
            let mut after = i + 1;
            if matches!(chars.get(after), Some('+' | '-')) {
                after += 1;
            }
            if chars.get(after).is_some_and(char::is_ascii_digit) {
                double = true;
                i = after;
                digits(&mut i, false);
            }
        }
    }
    let text: String = chars[from..i].iter().collect();
    if double {
        return text
            .parse()
            .map(|n| (Literal::Double(n), i))
            .map_err(|_| "invalid double literal".to_owned());
    }
    let radix = if hex { 16 } else { 10 };
    if matches!(chars.get(i), Some('u' | 'U')) {
        let n = u64::from_str_radix(&text, radix).map_err(|_| "invalid uint literal".to_owned())?;
        return Ok((Literal::Uint(n), i + 1));
    }
    // The least integer is written as the negation of what is no integer itself.
    let n = u64::from_str_radix(&text, radix).map_err(|_| "invalid int literal".to_owned())?;
    match i64::try_from(n) {
        Ok(n) => Ok((Literal::Int(n), i)),
        Err(_) if n == 1 << 63 => Ok((Literal::Int(i64::MIN), i)),
        Err(_) => Err("invalid int literal".to_owned()),
    }
}

/// Why a string is none.
enum Unread {
    /// It does not end on its line, or where the source does.
    Open(usize),
    /// Something in it is wrong.
    Wrong(String),
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Unread::Wrong(why)
    }
}

/// Whether a string or bytes literal begins here.
fn begins_string(chars: &[char], start: usize) -> bool {
    let quoted = |at: usize| matches!(chars.get(at), Some('"' | '\''));
    let marked = |at: usize| matches!(chars.get(at), Some('r' | 'R' | 'b' | 'B'));
    quoted(start) || (marked(start) && (quoted(start + 1) || (marked(start + 1) && quoted(start + 2))))
}

/// A string or bytes literal, where one begins.
fn string(chars: &[char], start: usize) -> Result<Option<(Literal, usize)>, Unread> {
    let mut i = start;
    let (mut raw, mut bytes) = (false, false);
    while let Some(c) = chars.get(i) {
        match c {
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes => bytes = true,
            '"' | '\'' => break,
            _ => return Ok(None),
        }
        i += 1;
    }
    let Some(quote) = chars.get(i).copied() else { return Ok(None) };
    let triple = chars.get(i + 1) == Some(&quote) && chars.get(i + 2) == Some(&quote);
    let width = if triple { 3 } else { 1 };
    i += width;
    let mut out: Vec<char> = Vec::new();
    let mut raw_bytes: Vec<u8> = Vec::new();
    let mut put = |c: char, byte: bool| {
        out.push(c);
        let mut buffer = [0; 4];
        if byte {
            raw_bytes.push(u32::from(c) as u8);
        } else {
            raw_bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        }
    };
    loop {
        let Some(c) = chars.get(i).copied() else {
            return Err(Unread::Open(chars.len()));
        };
        if c == quote && (!triple || (chars.get(i + 1) == Some(&quote) && chars.get(i + 2) == Some(&quote))) {
            i += width;
            break;
        }
        if c == '\n' && !triple {
            return Err(Unread::Open(i));
        }
        if c != '\\' || raw {
            put(c, false);
            i += 1;
            continue;
        }
        let Some(escape) = chars.get(i + 1).copied() else {
            return Err(Unread::Open(chars.len()));
        };
        let digits = |from: usize, count: usize, radix: u32| -> Option<u32> {
            let text: String = chars.get(from..from + count)?.iter().collect();
            u32::from_str_radix(&text, radix).ok()
        };
        let bad = || "unable to unescape string".to_owned();
        let (code, length, byte) = match escape {
            'a' => (7, 2, false),
            'b' => (8, 2, false),
            'f' => (12, 2, false),
            'n' => (10, 2, false),
            'r' => (13, 2, false),
            't' => (9, 2, false),
            'v' => (11, 2, false),
            '\\' | '\'' | '"' | '`' | '?' => (u32::from(escape), 2, false),
            'x' | 'X' => (digits(i + 2, 2, 16).ok_or_else(bad)?, 4, true),
            'u' if !bytes => (digits(i + 2, 4, 16).ok_or_else(bad)?, 6, false),
            'U' if !bytes => (digits(i + 2, 8, 16).ok_or_else(bad)?, 10, false),
            '0'..='3' => (digits(i + 1, 3, 8).ok_or_else(bad)?, 4, true),
            _ => return Err(bad().into()),
        };
        put(char::from_u32(code).ok_or_else(bad)?, byte);
        i += length;
    }
    let literal = if bytes { Literal::Bytes(raw_bytes) } else { Literal::String(out.into_iter().collect()) };
    Ok(Some((literal, i)))
}

/// Parses an expression.
pub fn parse(source: &str) -> Result<Expr, Vec<Problem>> {
    let mut problems = Vec::new();
    let tokens = lex(source, &mut problems).map_err(|problem| vec![problem])?;
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let parsed = parser.expr().and_then(|expr| match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("<EOF>")),
    });
    match parsed {
        Ok(expr) if problems.is_empty() => Ok(expr),
        Ok(_) => Err(problems),
        Err(problem) => {
            problems.push(problem);
            Err(problems)
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER}";

/// Binary operators: how tight they bind, and their names.
fn binary(token: &Token) -> Option<(u8, &'static str)> {
    let Token::Symbol(symbol) = token else { return None };
    Some(match *symbol {
        "||" => (1, "_||_"),
        "&&" => (2, "_&&_"),
        "<" => (3, "_<_"),
        "<=" => (3, "_<=_"),
        ">" => (3, "_>_"),
        ">=" => (3, "_>=_"),
        "==" => (3, "_==_"),
        "!=" => (3, "_!=_"),
        "in" => (3, "@in"),
        "+" => (4, "_+_"),
        "-" => (4, "_-_"),
        "*" => (5, "_*_"),
        "/" => (5, "_/_"),
        "%" => (5, "_%_"),
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].0
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Problem> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(&format!("'{symbol}'"))) }
    }

    fn shown(&self) -> String {
        match self.peek() {
            Token::Ident(name) => name.clone(),
            Token::Symbol(symbol) => (*symbol).to_owned(),
            Token::End => "<EOF>".to_owned(),
            Token::Literal(literal) => match literal {
                Literal::Null => "null".to_owned(),
                Literal::Bool(b) => b.to_string(),
                Literal::Int(n) => n.to_string(),
                Literal::Uint(n) => format!("{n}u"),
                Literal::Double(n) => n.to_string(),
                Literal::String(s) => format!("'{s}'"),
                Literal::Bytes(_) => "b''".to_owned(),
            },
        }
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        Problem {
            at: self.at(),
            message: format!("Syntax error: mismatched input '{}' expecting {wanted}", self.shown()),
        }
    }

    fn expr(&mut self) -> Result<Expr, Problem> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = "expression recursion limit exceeded: 250".to_owned();
            return Err(Problem { at: self.at(), message });
        }
        let condition = self.operators(1)?;
        let at = self.at();
        let made = if self.eat("?") {
            let yes = self.operators(1)?;
            self.expect(":")?;
            let no = self.expr()?;
            call(at, "_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        self.depth -= 1;
        Ok(made)
    }

    fn operators(&mut self, least: u8) -> Result<Expr, Problem> {
        let mut left = self.unary()?;
        while let Some((tight, name)) = binary(self.peek()).filter(|(tight, _)| *tight >= least) {
            let at = self.at();
            self.next += 1;
            let right = self.operators(tight + 1)?;
            left = call(at, name, vec![left, right]);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Problem> {
        let at = self.at();
        for (symbol, name) in [("!", "!_"), ("-", "-_")] {
            if self.eat(symbol) {
                // A minus before a number is a part of it.
                if symbol == "-" {
                    let negated = match self.peek() {
                        Token::Literal(Literal::Int(n)) => Some(Literal::Int(n.wrapping_neg())),
                        Token::Literal(Literal::Double(n)) => Some(Literal::Double(-n)),
                        _ => None,
                    };
                    if let Some(literal) = negated {
                        self.next += 1;
                        return self.members(Expr { at, kind: Kind::Literal(literal) });
                    }
                }
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(Problem {
                        at,
                        message: "expression recursion limit exceeded: 250".to_owned(),
                    });
                }
                let inner = self.unary()?;
                self.depth -= 1;
                return Ok(call(at, name, vec![inner]));
            }
        }
        let at = self.at();
        if let Token::Literal(Literal::Int(i64::MIN)) = self.peek() {
            return Err(Problem { at, message: "invalid int literal".to_owned() });
        }
        let primary = self.primary()?;
        self.members(primary)
    }

    fn primary(&mut self) -> Result<Expr, Problem> {
        let at = self.at();
        if !matches!(self.peek(), Token::Ident(_) | Token::Literal(_) | Token::Symbol("(" | "[" | "{" | "."))
        {
            return Err(self.unexpected(OPERAND));
        }
        match self.take() {
            Token::Literal(literal) => Ok(Expr { at, kind: Kind::Literal(literal) }),
            Token::Ident(name) => self.named(at, name),
            Token::Symbol(".") => match self.take() {
                Token::Ident(name) => self.named(at, name),
                _ => {
                    self.next -= 1;
                    Err(self.no_alternative("."))
                }
            },
            Token::Symbol("(") => {
                let inner = self.expr()?;
                if *self.peek() == Token::End {
                    let message = "Syntax error: missing ')' at '<EOF>'".to_owned();
                    return Err(Problem { at: self.at(), message });
                }
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => {
                let mut items = Vec::new();
                while !self.eat("]") {
                    let optional = self.eat("?");
                    items.push((self.expr()?, optional));
                    if !self.eat(",") {
                        self.expect("]")?;
                        break;
                    }
                }
                Ok(Expr { at, kind: Kind::List(items) })
            }
            _ => {
                let mut entries = Vec::new();
                while !self.eat("}") {
                    let optional = self.eat("?");
                    let key = self.expr()?;
                    self.expect(":")?;
                    entries.push((key, self.expr()?, optional));
                    if !self.eat(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                Ok(Expr { at, kind: Kind::Map(entries) })
            }
        }
    }

    fn no_alternative(&self, input: &str) -> Problem {
        Problem { at: self.at(), message: format!("Syntax error: no viable alternative at input '{input}'") }
    }

    fn named(&mut self, at: usize, name: String) -> Result<Expr, Problem> {
        let open = self.at();
        if self.eat("(") {
            let args = self.arguments()?;
            return self.global(open, name, args);
        }
        Ok(Expr { at, kind: Kind::Ident(name) })
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Problem> {
        let mut args = Vec::new();
        while !self.eat(")") {
            args.push(self.expr()?);
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(args)
    }

    fn members(&mut self, mut expr: Expr) -> Result<Expr, Problem> {
        loop {
            let at = self.at();
            if self.eat(".") {
                let optional = self.eat("?");
                let Token::Ident(name) = self.peek().clone() else { return Err(self.no_alternative(".")) };
                self.next += 1;
                let open = self.at();
                if !optional && self.eat("(") {
                    let args = self.arguments()?;
                    expr = member(open, expr, name, args)?;
                } else {
                    expr = Expr { at, kind: Kind::Select(Box::new(expr), name, optional) };
                }
            } else if self.eat("[") {
                let name = if self.eat("?") { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                expr = call(at, name, vec![expr, index]);
            } else if matches!(self.peek(), Token::Symbol("{"))
                && let Some(name) = expr.dotted()
            {
                self.next += 1;
                let mut fields = Vec::new();
                while !self.eat("}") {
                    let optional = self.eat("?");
                    let Token::Ident(field) = self.peek().clone() else {
                        return Err(self.unexpected("{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}"));
                    };
                    self.next += 1;
                    self.expect(":")?;
                    fields.push((field, self.expr()?, optional));
                    if !self.eat(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                expr = Expr { at, kind: Kind::Struct(name, fields) };
            } else {
                return Ok(expr);
            }
        }
    }

    fn global(&self, at: usize, name: String, mut args: Vec<Expr>) -> Result<Expr, Problem> {
        if name == "has" && args.len() == 1 {
            return match args.remove(0) {
                Expr { kind: Kind::Select(inner, field, false), .. } => {
                    Ok(Expr { at, kind: Kind::Has(inner, field) })
                }
                other => Err(Problem { at: other.at, message: "invalid argument to has() macro".to_owned() }),
            };
        }
        Ok(Expr { at, kind: Kind::Call(None, name, args) })
    }
}

fn call(at: usize, name: &str, args: Vec<Expr>) -> Expr {
    Expr { at, kind: Kind::Call(None, name.to_owned(), args) }
}

/// A call on a target, or one of the macros that look like one.
fn member(at: usize, target: Expr, name: String, args: Vec<Expr>) -> Result<Expr, Problem> {
    let of = match (name.as_str(), args.len()) {
        ("all", 2 | 3) => Macro::All,
        ("exists", 2 | 3) => Macro::Exists,
        ("exists_one" | "existsOne", 2 | 3) => Macro::ExistsOne,
        ("map", 2 | 3) | ("transformList", 3 | 4) => Macro::Map,
        ("filter", 2) => Macro::Filter,
        ("transformMap", 3 | 4) => Macro::TransformMap,
        ("sortBy", 2) => Macro::SortBy,
        ("optMap" | "optFlatMap", 2) => {
            let flat = name == "optFlatMap";
            let mut args = args.into_iter();
            return match (args.next(), args.next()) {
                (Some(Expr { kind: Kind::Ident(name), .. }), Some(body)) => {
                    let (target, body) = (Box::new(target), Box::new(body));
                    Ok(Expr { at, kind: Kind::Within(target, name, body, flat) })
                }
                (other, _) => Err(Problem {
                    at: other.map_or(at, |other| other.at),
                    message: format!("{name}() variable name must be a simple identifier"),
                }),
            };
        }
        ("bind", 3) if target.kind == Kind::Ident("cel".to_owned()) => {
            let mut args = args.into_iter();
            if let (Some(Expr { kind: Kind::Ident(name), .. }), Some(value), Some(body)) =
                (args.next(), args.next(), args.next())
            {
                return Ok(Expr { at, kind: Kind::Bind(name, Box::new(value), Box::new(body)) });
            }
            return Err(Problem {
                at,
                message: "cel.bind() variable names must be simple identifiers".to_owned(),
            });
        }
        _ => return Ok(Expr { at, kind: Kind::Call(Some(Box::new(target)), name, args) }),
    };
    let two = match name.as_str() {
        "map" | "filter" | "sortBy" => false,
        "transformList" | "transformMap" => true,
        _ => args.len() == 3,
    };
    let mut args = args.into_iter();
    let mut variable = || match args.next() {
        Some(Expr { kind: Kind::Ident(name), .. }) => Ok(name),
        Some(other) => Err(Problem { at: other.at, message: "argument must be a simple name".to_owned() }),
        None => Err(Problem { at, message: "argument must be a simple name".to_owned() }),
    };
    let first = variable()?;
    let second = if two { Some(variable()?) } else { None };
    let (one, another) = (args.next(), args.next());
    let (condition, transform) = match of {
        Macro::Map | Macro::TransformMap | Macro::SortBy => match another {
            Some(transform) => (one, Some(transform)),
            None => (None, one),
        },
        _ => (one, None),
    };
    let made = Comprehension { of, range: target, variable: first, second, condition, transform };
    Ok(Expr { at, kind: Kind::Comprehension(Box::new(made)) })
}
