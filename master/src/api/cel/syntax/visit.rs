//! What is wrong with a source besides its syntax: goes through the tree, which has gaps where the syntax is wrong.
//!
//! It does not make the expression; it follows what would be made of each part only so far as macros look at it.

use super::super::literals;
use super::super::problem::{Place, Problem};
use super::TOO_DEEP;
use super::grammar::{Form, Label, Rule};
use super::macros;
use super::parser::{Parser, RECURSION_MAX};
use super::stream::{Stopped, TokenId};
use super::tree::NodeId;

/// Names that the language keeps for itself.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Whether the language keeps a name for itself.
pub fn reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// What a part would become, as far as macros look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Something that is not known, because it is wrong.
    Unknown,
    /// A literal, a map or an object.
    Value,
    /// A variable.
    Ident(String),
    /// A field.
    Select,
    /// A list, a call or a macro.
    Computed,
}

/// A part, and where it is.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it would become.
    pub shape: Shape,
    /// Where it is. Nowhere, if the token that tells it is missing.
    pub place: Place,
}

/// Goes through the tree of one source.
pub struct Visitor<'p, 'a> {
    parser: &'p mut Parser<'a>,
    binds: bool,
    depth: usize,
}

type Visited = Result<Part, Stopped>;

impl<'p, 'a> Visitor<'p, 'a> {
    /// A visitor of what a parser read.
    pub fn new(parser: &'p mut Parser<'a>, binds: bool) -> Self {
        Visitor { parser, binds, depth: 0 }
    }

    /// Goes through the whole tree.
    pub fn run(&mut self) -> Result<(), Stopped> {
        let whole = self.child(0, Rule::Expr, 0);
        self.visit(whole).map(|_| ())
    }

    /// Tells a problem; what stands for the part that has it.
    pub fn report(&mut self, place: Place, message: impl Into<String>) -> Part {
        self.parser.stream.problems.push(Problem { place, message: message.into() });
        // What stands nowhere is put before everything.
        unknown(place.max(Place::Before))
    }

    fn child(&self, node: NodeId, rule: Rule, nth: usize) -> Option<NodeId> {
        self.parser.tree.child(node, rule, nth)
    }

    fn children(&self, node: NodeId, rule: Rule) -> Vec<NodeId> {
        self.parser.tree.children(node, rule).collect()
    }

    fn start(&self, node: NodeId) -> Place {
        Place::At(self.parser.stream.place(self.parser.tree.nodes[node].start))
    }

    fn token(&self, node: NodeId, label: Label) -> Option<TokenId> {
        self.parser.tree.nodes[node].token(label)
    }

    fn tokens(&self, node: NodeId, label: Label) -> Vec<TokenId> {
        self.parser.tree.nodes[node].tokens(label).collect()
    }

    /// Where a token is that may be missing.
    fn place(&self, token: Option<TokenId>) -> Place {
        token.map_or(Place::Nowhere, |token| Place::At(self.parser.stream.place(token)))
    }

    fn text(&self, token: TokenId) -> String {
        self.parser.stream.text(token)
    }

    /// Down to the first node that is more than what is in it.
    fn meant(&self, mut node: Option<NodeId>) -> Option<NodeId> {
        while let Some(id) = node {
            let plain = self.token(id, Label::Operator).is_none();
            node = match (self.parser.tree.nodes[id].rule, self.parser.tree.nodes[id].form) {
                (Rule::Expr, _) if plain => self.child(id, Rule::Or, 0),
                (Rule::Or, _) if plain => self.child(id, Rule::And, 0),
                (Rule::And, _) if plain => self.child(id, Rule::Relation, 0),
                (Rule::Relation, _) if plain => self.child(id, Rule::Calc, 0),
                (Rule::Calc, _) if plain => self.child(id, Rule::Unary, 0),
                (_, Form::OfMember) => self.child(id, Rule::Member, 0),
                (_, Form::OfPrimary) => self.child(id, Rule::Primary, 0),
                (_, Form::Nested) => self.child(id, Rule::Expr, 0),
                (_, Form::Constant) => self.child(id, Rule::Literal, 0),
                _ => return node,
            };
        }
        None
    }

    fn visit(&mut self, node: Option<NodeId>) -> Visited {
        let Some(node) = self.meant(node) else { return Ok(unknown(Place::Before)) };
        let (rule, form) = (self.parser.tree.nodes[node].rule, self.parser.tree.nodes[node].form);
        let deeper = matches!(rule, Rule::Expr | Rule::Relation | Rule::Calc | Rule::Member);
        self.depth += usize::from(deeper);
        if self.depth > RECURSION_MAX {
            return Err(self.parser.stream.limit(TOO_DEEP.to_owned()));
        }
        let visited = self.part(node, rule, form)?;
        self.depth -= usize::from(deeper);
        Ok(visited)
    }

    fn part(&mut self, node: NodeId, rule: Rule, form: Form) -> Visited {
        match (rule, form) {
            (Rule::Expr, _) => {
                let operator = self.place(self.token(node, Label::Operator));
                self.visit(self.child(node, Rule::Or, 0))?;
                self.visit(self.child(node, Rule::Or, 1))?;
                self.visit(self.child(node, Rule::Expr, 0))?;
                Ok(computed(operator))
            }
            (Rule::Or, _) => self.chain(node, Rule::And, "unexpected character, wanted '||'"),
            (Rule::And, _) => self.chain(node, Rule::Relation, "unexpected character, wanted '&&'"),
            (Rule::Relation | Rule::Calc, _) => {
                let operator = self.token(node, Label::Operator);
                if operator
                    .is_none_or(|token| self.text(token).starts_with('<') && self.text(token).len() > 2)
                {
                    return Ok(self.report(self.start(node), "operator not found"));
                }
                self.visit(self.child(node, rule, 0))?;
                self.visit(self.child(node, rule, 1))?;
                Ok(computed(self.place(operator)))
            }
            (_, Form::Not | Form::Negate) => {
                let operators = self.tokens(node, Label::Operator);
                let operand = self.visit(self.child(node, Rule::Member, 0))?;
                if operators.len().is_multiple_of(2) {
                    return Ok(operand);
                }
                Ok(computed(self.place(operators.first().copied())))
            }
            (Rule::Unary, _) => Ok(value(self.start(node))),
            (_, Form::Select) => self.select(node),
            (_, Form::MemberCall) => {
                let target = self.visit(self.child(node, Rule::Member, 0))?;
                let Some(name) = self.token(node, Label::Name) else { return Ok(unknown(self.start(node))) };
                let place = self.place(self.token(node, Label::Open));
                let arguments = self.arguments(node)?;
                Ok(macros::expand(self, self.binds, place, &self.text(name), Some(&target), &arguments))
            }
            (_, Form::Index) => {
                self.visit(self.child(node, Rule::Member, 0))?;
                let Some(operator) = self.token(node, Label::Operator) else {
                    return Ok(unknown(self.start(node)));
                };
                self.visit(self.child(node, Rule::Expr, 0))?;
                Ok(computed(self.place(Some(operator))))
            }
            (_, Form::Ident | Form::Call) => self.named(node, form),
            (_, Form::List) => {
                let place = self.place(self.token(node, Label::Operator));
                if let Some(entries) = self.child(node, Rule::ListEntries, 0) {
                    for entry in self.children(entries, Rule::OptionalExpr) {
                        self.visit(self.child(entry, Rule::Expr, 0))?;
                    }
                }
                Ok(computed(place))
            }
            (_, Form::Map) => {
                let place = self.place(self.token(node, Label::Operator));
                if let Some(entries) = self.child(node, Rule::MapEntries, 0) {
                    self.map(entries)?;
                }
                Ok(value(place))
            }
            (_, Form::Message) => {
                let place = self.place(self.token(node, Label::Operator));
                if let Some(fields) = self.child(node, Rule::Fields, 0) {
                    self.fields(fields)?;
                }
                Ok(value(place))
            }
            (Rule::Literal, form) if form != Form::Plain => Ok(self.literal(node, form)),
            _ => Ok(unknown(Place::Before)),
        }
    }

    /// Terms between which the same operator stands. They are taken for a balanced tree.
    fn chain(&mut self, node: NodeId, rule: Rule, wanted: &str) -> Visited {
        let terms = self.children(node, rule);
        let operators = self.tokens(node, Label::Operator);
        self.visit(terms.first().copied())?;
        for at in 0..operators.len() {
            let Some(term) = terms.get(at + 1) else {
                return Ok(self.report(self.start(node), wanted));
            };
            self.visit(Some(*term))?;
        }
        Ok(computed(self.place(operators.get(operators.len() / 2).copied())))
    }

    fn select(&mut self, node: NodeId) -> Visited {
        self.visit(self.child(node, Rule::Member, 0))?;
        let operator = self.token(node, Label::Operator);
        let (Some(name), Some(_)) = (self.child(node, Rule::AnyIdentifier, 0), operator) else {
            return Ok(unknown(self.start(node)));
        };
        if let Err(wrong) = self.identifier(Some(name)) {
            self.report(self.start(name), wrong);
        }
        let place = self.place(operator);
        let optional = self.token(node, Label::Optional).is_some();
        Ok(if optional { computed(place) } else { Part { shape: Shape::Select, place } })
    }

    /// Whether a name may stand where it does. Those in backticks may not.
    fn identifier(&self, node: Option<NodeId>) -> Result<(), &'static str> {
        match node.map(|node| self.parser.tree.nodes[node].form) {
            Some(Form::Simple) => Ok(()),
            Some(Form::Escaped) => Err("unsupported syntax: '`'"),
            _ => Err("unsupported ident kind"),
        }
    }

    fn arguments(&mut self, node: NodeId) -> Result<Vec<Part>, Stopped> {
        let Some(list) = self.child(node, Rule::Exprs, 0) else { return Ok(Vec::new()) };
        self.children(list, Rule::Expr).into_iter().map(|argument| self.visit(Some(argument))).collect()
    }

    fn named(&mut self, node: NodeId, form: Form) -> Visited {
        let Some(token) = self.token(node, Label::Name) else { return Ok(unknown(self.start(node))) };
        let name = self.text(token);
        if reserved(&name) {
            return Ok(self.report(self.start(node), format!("reserved identifier: {name}")));
        }
        let dot = if self.token(node, Label::LeadingDot).is_some() { "." } else { "" };
        let name = format!("{dot}{name}");
        if form == Form::Ident {
            return Ok(Part { shape: Shape::Ident(name), place: self.place(Some(token)) });
        }
        let place = self.place(self.token(node, Label::Operator));
        let arguments = self.arguments(node)?;
        Ok(macros::expand(self, self.binds, place, &name, None, &arguments))
    }

    fn map(&mut self, entries: NodeId) -> Result<(), Stopped> {
        let keys = self.children(entries, Rule::OptionalExpr);
        let values = self.children(entries, Rule::Expr);
        for at in 0..self.tokens(entries, Label::Colon).len() {
            let (Some(key), Some(value)) = (keys.get(at), values.get(at)) else { break };
            self.visit(self.child(*key, Rule::Expr, 0))?;
            self.visit(Some(*value))?;
        }
        Ok(())
    }

    fn fields(&mut self, entries: NodeId) -> Result<(), Stopped> {
        let values = self.children(entries, Rule::Expr);
        let colons = self.tokens(entries, Label::Colon).len();
        for (at, field) in self.children(entries, Rule::Field).into_iter().enumerate() {
            let Some(value) = values.get(at).filter(|_| at < colons) else { break };
            if let Err(wrong) = self.identifier(self.child(field, Rule::AnyIdentifier, 0)) {
                self.report(self.start(entries), wrong);
                continue;
            }
            self.visit(Some(*value))?;
        }
        Ok(())
    }

    fn literal(&mut self, node: NodeId, form: Form) -> Part {
        let sign = if self.token(node, Label::Sign).is_some() { "-" } else { "" };
        let text = self.token(node, Label::Value).map(|token| self.text(token)).unwrap_or_default();
        let read = match form {
            Form::Int => literals::int(&format!("{sign}{text}")).map(|_| ()),
            Form::Uint => literals::uint(&text).map(|_| ()),
            Form::Double => literals::double(&format!("{sign}{text}")).map(|_| ()),
            Form::String => literals::string(&text).map(|_| ()),
            Form::Bytes => literals::bytes(&text).map(|_| ()),
            _ => Ok(()),
        };
        let place = self.start(node);
        match read {
            Ok(()) => value(place),
            Err(wrong) => {
                let part = self.report(place, wrong);
                // A text is taken as it stands.
                if matches!(form, Form::String | Form::Bytes) { value(place) } else { part }
            }
        }
    }
}

fn unknown(place: Place) -> Part {
    Part { shape: Shape::Unknown, place }
}

fn value(place: Place) -> Part {
    Part { shape: Shape::Value, place }
}

/// What is computed at a place.
pub fn computed(place: Place) -> Part {
    Part { shape: Shape::Computed, place }
}
