//! The text form of label selectors.

use std::collections::BTreeSet;

use super::{Operator, Requirement, Selector, SelectorError, label_value_error, qualified_name_error};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Error,
    Identifier,
    Comma,
    Not,
    Open,
    Close,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
}

fn special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::Greater,
        "<" => Token::Less,
        "!=" => Token::NotEquals,
        "(" => Token::Open,
        _ => return None,
    })
}

fn lex(text: &str) -> Vec<(Token, String)> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else {
            items.push((Token::End, String::new()));
            return items;
        };
        if special(first) {
            // The longest run that is a symbol; symbols are ASCII and at most two characters long.
            let run: String = rest.chars().take_while(|c| special(*c)).take(2).collect();
            let (token, taken) = match (symbol(&run), symbol(&run[..1])) {
                (Some(token), _) => (token, run.len()),
                (None, Some(token)) => (token, 1),
                (None, None) => (Token::Error, 1),
            };
            items.push((token, rest[..taken].to_owned()));
            rest = &rest[taken..];
        } else {
            let end = rest
                .find(|c: char| special(c) || matches!(c, ' ' | '\t' | '\r' | '\n'))
                .unwrap_or(rest.len());
            let token = match &rest[..end] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Identifier,
            };
            items.push((token, rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
}

struct Parser {
    items: Vec<(Token, String)>,
    at: usize,
}

type Parsed<T> = Result<T, SelectorError>;

fn fail<T>(message: String) -> Parsed<T> {
    Err(SelectorError(message))
}

/// `in` and `notin` are ordinary words where a value or key stands.
fn as_value(token: Token) -> Token {
    if matches!(token, Token::In | Token::NotIn) { Token::Identifier } else { token }
}

pub(super) fn parse(text: &str) -> Parsed<Selector> {
    let mut parser = Parser { items: lex(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        let (token, literal) = parser.look();
        match token {
            Token::Identifier | Token::Not => {
                let requirement = parser
                    .requirement()
                    .map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
                requirements.push(requirement);
                match parser.take() {
                    (Token::End, _) => break,
                    (Token::Comma, _) => {
                        let (next, literal) = parser.look();
                        if !matches!(next, Token::Identifier | Token::Not) {
                            return fail(format!("found '{literal}', expected: identifier after ','"));
                        }
                    }
                    (_, literal) => {
                        return fail(format!("found '{literal}', expected: ',' or 'end of string'"));
                    }
                }
            }
            Token::End => break,
            _ => return fail(format!("found '{literal}', expected: !, identifier, or 'end of string'")),
        }
    }
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Selector { requirements, nothing: false })
}

impl Parser {
    fn look(&self) -> (Token, String) {
        let (token, literal) = self.raw();
        (as_value(token), literal)
    }

    fn raw(&self) -> (Token, String) {
        self.items.get(self.at).cloned().unwrap_or((Token::End, String::new()))
    }

    fn take(&mut self) -> (Token, String) {
        let item = self.look();
        self.at += 1;
        item
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let (mut token, mut key) = self.take();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.take();
        }
        if token != Token::Identifier {
            return fail(format!("found '{key}', expected: identifier"));
        }
        let errors = qualified_name_error(&key);
        if !errors.is_empty() {
            return fail(format!("<nil>: Invalid value: {key:?}: {}", errors.join("; ")));
        }
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist });
        }
        if matches!(self.look().0, Token::End | Token::Comma) {
            return Ok(Requirement { key, operator: Operator::Exists });
        }
        let (token, literal) = self.raw();
        self.at += 1;
        let operator = match token {
            Token::In => Operator::In(self.values()?),
            Token::NotIn => Operator::NotIn(self.values()?),
            Token::Equals | Token::DoubleEquals => Operator::Equals(self.exact()?),
            Token::NotEquals => Operator::NotEquals(self.exact()?),
            Token::Greater => Operator::Greater(self.number(&key)?),
            Token::Less => Operator::Less(self.number(&key)?),
            _ => return fail(format!("found '{literal}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let values = match &operator {
            Operator::In(values) | Operator::NotIn(values) => values.as_slice(),
            Operator::Equals(value) | Operator::NotEquals(value) => std::slice::from_ref(value),
            _ => &[],
        };
        for (i, value) in values.iter().enumerate() {
            let errors = label_value_error(value);
            if !errors.is_empty() {
                return fail(format!("values[{i}][{key}]: Invalid value: {value:?}: {}", errors.join("; ")));
            }
        }
        Ok(Requirement { key, operator })
    }

    /// A bound, which must be a number and what a label can hold.
    fn number(&mut self, key: &str) -> Parsed<i64> {
        let value = self.exact()?;
        let errors = label_value_error(&value);
        let number = value.parse().map_err(|_| {
            format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        });
        match number {
            Ok(number) if errors.is_empty() => Ok(number),
            Ok(_) => fail(format!("values[0][{key}]: Invalid value: {value:?}: {}", errors.join("; "))),
            Err(why) => fail(why),
        }
    }

    fn exact(&mut self) -> Parsed<String> {
        if matches!(self.look().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.take() {
            (Token::Identifier, literal) => Ok(literal),
            (_, literal) => fail(format!("found '{literal}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Parsed<Vec<String>> {
        let (token, literal) = self.take();
        if token != Token::Open {
            return fail(format!("found '{literal}' expected: '('"));
        }
        let (token, literal) = self.look();
        match token {
            Token::Identifier | Token::Comma => {
                let values = self.list()?;
                if self.take().0 != Token::Close {
                    return fail(format!("found '{literal}', expected: ')'"));
                }
                Ok(values.into_iter().collect())
            }
            Token::Close => {
                self.at += 1;
                Ok(vec![String::new()])
            }
            _ => fail(format!("found '{literal}', expected: ',', ')' or identifier")),
        }
    }

    fn list(&mut self) -> Parsed<BTreeSet<String>> {
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                (Token::Identifier, literal) => {
                    values.insert(literal);
                    match self.look() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, literal) => return fail(format!("found '{literal}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.look().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, literal) => return fail(format!("found '{literal}', expected: ',', or identifier")),
            }
        }
    }
}
