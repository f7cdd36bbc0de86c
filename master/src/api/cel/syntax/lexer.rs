//! From characters to tokens, one at a time: the longest token that begins here, or what no token can be made of.

use super::token::Kind;

/// A token's kind and where its text is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it starts.
    pub start: usize,
    /// Where the next character is.
    pub stop: usize,
}

/// What begins at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lexed {
    /// A token.
    Token(Token),
    /// No token; where the next may begin. The last character before that is the one that did not fit, unless
    /// the source ended first.
    Wrong {
        /// Where the next token may begin.
        stop: usize,
    },
}

/// What becomes of one way to read a token.
enum Read {
    /// A token that ends before this character.
    Token(usize),
    /// This character did not fit.
    Stuck(usize),
}

/// The operator or bracket that begins with a character, before another.
fn symbol(c: char, next: Option<char>) -> Option<Kind> {
    Some(match (c, next) {
        ('=', Some('=')) => Kind::Equals,
        ('!', Some('=')) => Kind::NotEquals,
        ('<', Some('=')) => Kind::LessEquals,
        ('>', Some('=')) => Kind::GreaterEquals,
        ('&', Some('&')) => Kind::And,
        ('|', Some('|')) => Kind::Or,
        ('<', _) => Kind::Less,
        ('>', _) => Kind::Greater,
        ('[', _) => Kind::OpenBracket,
        (']', _) => Kind::CloseBracket,
        ('{', _) => Kind::OpenBrace,
        ('}', _) => Kind::CloseBrace,
        ('(', _) => Kind::Open,
        (')', _) => Kind::Close,
        ('.', _) => Kind::Dot,
        (',', _) => Kind::Comma,
        ('-', _) => Kind::Minus,
        ('!', _) => Kind::Not,
        ('?', _) => Kind::Question,
        (':', _) => Kind::Colon,
        ('+', _) => Kind::Plus,
        ('*', _) => Kind::Times,
        ('/', _) => Kind::Divide,
        ('%', _) => Kind::Modulo,
        _ => return None,
    })
}

/// What a word is: most are names.
fn word(chars: &[char]) -> Kind {
    match chars {
        ['i', 'n'] => Kind::In,
        ['t', 'r', 'u', 'e'] => Kind::True,
        ['f', 'a', 'l', 's', 'e'] => Kind::False,
        ['n', 'u', 'l', 'l'] => Kind::Null,
        _ => Kind::Identifier,
    }
}

/// The characters of a source, and how many of them became tokens.
#[derive(Debug)]
pub struct Lexer<'a> {
    chars: &'a [char],
    next: usize,
}

impl<'a> Lexer<'a> {
    /// Begins at the first character.
    pub fn new(chars: &'a [char]) -> Self {
        Lexer { chars, next: 0 }
    }

    /// Where the next token may begin.
    pub fn position(&self) -> usize {
        self.next
    }

    /// What comes next; at the end, the end, again and again.
    pub fn next(&mut self) -> Lexed {
        let start = self.next;
        let lexed = self.token(start);
        self.next = match lexed {
            Lexed::Token(token) => token.stop,
            Lexed::Wrong { stop } => stop,
        };
        lexed
    }

    fn is(&self, at: usize, wanted: impl Fn(&char) -> bool) -> bool {
        self.chars.get(at).is_some_and(wanted)
    }

    fn past(&self, mut at: usize, wanted: impl Fn(&char) -> bool) -> usize {
        while self.is(at, &wanted) {
            at += 1;
        }
        at
    }

    fn token(&self, start: usize) -> Lexed {
        let token = |kind, stop| Lexed::Token(Token { kind, start, stop });
        let Some(c) = self.chars.get(start).copied() else { return token(Kind::End, start) };
        let space = |c: &char| matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}');
        let quoted = match c {
            '"' | '\'' => Some((Kind::String, self.string(start))),
            'r' | 'R' if self.quote(start + 1) => Some((Kind::String, self.raw_string(start + 1))),
            'b' | 'B' if self.quote(start + 1) => Some((Kind::Bytes, self.string(start + 1))),
            'b' | 'B' if self.is(start + 1, |c| matches!(c, 'r' | 'R')) && self.quote(start + 2) => {
                Some((Kind::Bytes, self.raw_string(start + 2)))
            }
            '`' => Some((Kind::EscapedIdentifier, self.escaped_identifier(start))),
            _ => None,
        };
        match quoted {
            Some((kind, Read::Token(stop))) => return token(kind, stop),
            // What may begin a string may also be a name.
            Some((_, Read::Stuck(at))) if !c.is_ascii_alphabetic() => {
                return Lexed::Wrong { stop: (at + 1).min(self.chars.len()) };
            }
            _ => {}
        }
        if space(&c) {
            token(Kind::Space, self.past(start, space))
        } else if c == '/' && self.is(start + 1, |c| *c == '/') {
            token(Kind::Comment, self.past(start, |c| *c != '\n'))
        } else if c.is_ascii_digit() || (c == '.' && self.is(start + 1, char::is_ascii_digit)) {
            let (kind, stop) = self.number(start);
            token(kind, stop)
        } else if c.is_ascii_alphabetic() || c == '_' {
            let stop = self.past(start, |c| c.is_ascii_alphanumeric() || *c == '_');
            token(word(&self.chars[start..stop]), stop)
        } else {
            match symbol(c, self.chars.get(start + 1).copied()) {
                Some(kind) => token(kind, start + kind.fixed().map_or(1, str::len)),
                // Half an operator fails at the character after it.
                None if matches!(c, '=' | '&' | '|') => {
                    Lexed::Wrong { stop: (start + 2).min(self.chars.len()) }
                }
                None => Lexed::Wrong { stop: start + 1 },
            }
        }
    }

    fn number(&self, start: usize) -> (Kind, usize) {
        let digit = char::is_ascii_digit;
        let unsigned = |kind, stop: usize| {
            if self.is(stop, |c| matches!(c, 'u' | 'U')) { (Kind::Uint, stop + 1) } else { (kind, stop) }
        };
        if self.chars[start] == '0'
            && self.is(start + 1, |c| *c == 'x')
            && self.is(start + 2, char::is_ascii_hexdigit)
        {
            return unsigned(Kind::Int, self.past(start + 2, char::is_ascii_hexdigit));
        }
        let whole = self.past(start, digit);
        let (mut kind, mut stop) = (Kind::Int, whole);
        if self.is(whole, |c| *c == '.') && self.is(whole + 1, digit) {
            (kind, stop) = (Kind::Float, self.past(whole + 1, digit));
        }
        if self.is(stop, |c| matches!(c, 'e' | 'E')) {
            let sign = usize::from(self.is(stop + 1, |c| matches!(c, '+' | '-')));
            if self.is(stop + 1 + sign, digit) {
                (kind, stop) = (Kind::Float, self.past(stop + 1 + sign, digit));
            }
        }
        if kind == Kind::Float { (kind, stop) } else { unsigned(kind, stop) }
    }

    fn quote(&self, at: usize) -> bool {
        self.is(at, |c| matches!(c, '"' | '\''))
    }

    fn escaped_identifier(&self, start: usize) -> Read {
        let inside = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ');
        let stop = self.past(start + 1, inside);
        if stop > start + 1 && self.is(stop, |c| *c == '`') {
            Read::Token(stop + 1)
        } else {
            Read::Stuck(stop)
        }
    }

    /// A string from its first quote on. An empty one may be the start of one between three quotes.
    fn string(&self, start: usize) -> Read {
        self.between(start, |at| {
            if !self.is(at, |c| *c == '\\') {
                return Ok(at + 1);
            }
            let (digits, from) = match self.chars.get(at + 1) {
                Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => {
                    return Ok(at + 2);
                }
                Some('x' | 'X') => (2, at + 2),
                Some('u') => (4, at + 2),
                Some('U') => (8, at + 2),
                Some('0'..='3') => {
                    let octal = self.past(at + 2, |c| matches!(c, '0'..='7')).min(at + 4);
                    return if octal == at + 4 { Ok(octal) } else { Err(octal) };
                }
                _ => return Err(at + 1),
            };
            let stop = self.past(from, char::is_ascii_hexdigit).min(from + digits);
            if stop == from + digits { Ok(stop) } else { Err(stop) }
        })
    }

    fn raw_string(&self, start: usize) -> Read {
        self.between(start, |at| Ok(at + 1))
    }

    /// What is between quotes; `next` steps over a character of it, or tells which one is wrong.
    fn between(&self, start: usize, next: impl Fn(usize) -> Result<usize, usize>) -> Read {
        let quote = self.chars[start];
        let quotes = |at: usize, count: usize| (at..at + count).all(|i| self.is(i, |c| *c == quote));
        let (triple, empty) = (quotes(start, 3), quotes(start, 2));
        let mut at = start + if triple { 3 } else { 1 };
        let stuck = loop {
            if at >= self.chars.len() {
                break self.chars.len();
            }
            if triple && quotes(at, 3) {
                return Read::Token(at + 3);
            }
            if !triple && quotes(at, 1) {
                return Read::Token(at + 1);
            }
            if !triple && self.is(at, |c| matches!(c, '\n' | '\r')) {
                break at;
            }
            match next(at) {
                Ok(after) => at = after,
                Err(wrong) => break wrong,
            }
        };
        if empty { Read::Token(start + 2) } else { Read::Stuck(stuck) }
    }
}
