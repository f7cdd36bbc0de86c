//! The grammar of the language, as data: what rules are made of, and how a way through each is chosen.

use super::token::Kind;

/// The rules, in the order of [`RULES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the grammar below tells what each is")]
pub enum Rule {
    Start,
    Expr,
    Or,
    And,
    Relation,
    Calc,
    Unary,
    Member,
    Primary,
    Exprs,
    ListEntries,
    Fields,
    Field,
    MapEntries,
    AnyIdentifier,
    OptionalExpr,
    Literal,
}

/// What a token in a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Label {
    None,
    Operator,
    Optional,
    LeadingDot,
    Name,
    Open,
    Sign,
    Colon,
    Value,
}

/// Which alternative of its rule a part of the source was read as. A rule without alternatives stays plain, as one
/// does for which none was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the grammar below tells what each is")]
pub enum Form {
    Plain,
    OfMember,
    Not,
    Negate,
    OfPrimary,
    Select,
    MemberCall,
    Index,
    Ident,
    Call,
    Nested,
    List,
    Map,
    Message,
    Constant,
    Simple,
    Escaped,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Bool,
    Null,
}

/// How it is decided which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By the next token alone.
    Next,
    /// By as many tokens as it takes.
    Predicted,
}

/// A part of a rule.
#[derive(Debug)]
pub enum Item {
    /// A token.
    Token(Kind, Label),
    /// A token of one of some kinds.
    OneOf(&'static [Kind]),
    /// Another rule.
    Call(Rule),
    /// A rule that is recursive on its left, for what binds this tight or tighter.
    Bound(Rule, u8),
    /// Once or not at all; the next token tells.
    Maybe(&'static [Item]),
    /// As often as may be.
    Many(&'static [Item], Choice),
    /// Once or more.
    Some(&'static [Item], Choice),
}

/// What a rule is made of.
#[derive(Debug)]
pub enum Body {
    /// One thing after another.
    Sequence(&'static [Item]),
    /// One of several.
    Alternatives(Choice, &'static [(Form, &'static [Item])]),
    /// Something, and then operators that take it for their left side. Each has how tight it binds.
    Recursive(Form, &'static [Item], &'static [(u8, Form, &'static [Item])]),
}

use Body::{Alternatives, Recursive, Sequence};
use Choice::{Next, Predicted};
use Item::{Bound, Call, Many, Maybe, OneOf, Some, Token};
use Kind as K;
use Label as L;

const DOT: Item = Maybe(&[Token(K::Dot, L::LeadingDot)]);
const MARK: Item = Maybe(&[Token(K::Question, L::Optional)]);
const COMMA: Item = Maybe(&[Token(K::Comma, L::None)]);
const SIGN: Item = Maybe(&[Token(K::Minus, L::Sign)]);

const RELATIONS: &[Kind] =
    &[K::Equals, K::NotEquals, K::In, K::Less, K::LessEquals, K::GreaterEquals, K::Greater];

/// Every rule, with its name.
pub static RULES: [(Rule, &str, Body); 17] = [
    (Rule::Start, "start", Sequence(&[Call(Rule::Expr), Token(K::End, L::None)])),
    (
        Rule::Expr,
        "expr",
        Sequence(&[
            Call(Rule::Or),
            Maybe(&[
                Token(K::Question, L::Operator),
                Call(Rule::Or),
                Token(K::Colon, L::None),
                Call(Rule::Expr),
            ]),
        ]),
    ),
    (
        Rule::Or,
        "conditionalOr",
        Sequence(&[Call(Rule::And), Many(&[Token(K::Or, L::Operator), Call(Rule::And)], Next)]),
    ),
    (
        Rule::And,
        "conditionalAnd",
        Sequence(&[
            Bound(Rule::Relation, 0),
            Many(&[Token(K::And, L::Operator), Bound(Rule::Relation, 0)], Next),
        ]),
    ),
    (
        Rule::Relation,
        "relation",
        Recursive(
            Form::Plain,
            &[Bound(Rule::Calc, 0)],
            &[(1, Form::Plain, &[OneOf(RELATIONS), Bound(Rule::Relation, 2)])],
        ),
    ),
    (
        Rule::Calc,
        "calc",
        Recursive(
            Form::Plain,
            &[Call(Rule::Unary)],
            &[
                (2, Form::Plain, &[OneOf(&[K::Times, K::Divide, K::Modulo]), Bound(Rule::Calc, 3)]),
                (1, Form::Plain, &[OneOf(&[K::Minus, K::Plus]), Bound(Rule::Calc, 2)]),
            ],
        ),
    ),
    (
        Rule::Unary,
        "unary",
        Alternatives(
            Predicted,
            &[
                (Form::OfMember, &[Bound(Rule::Member, 0)]),
                (Form::Not, &[Some(&[Token(K::Not, L::Operator)], Next), Bound(Rule::Member, 0)]),
                (Form::Negate, &[Some(&[Token(K::Minus, L::Operator)], Predicted), Bound(Rule::Member, 0)]),
            ],
        ),
    ),
    (
        Rule::Member,
        "member",
        Recursive(
            Form::OfPrimary,
            &[Call(Rule::Primary)],
            &[
                (3, Form::Select, &[Token(K::Dot, L::Operator), MARK, Call(Rule::AnyIdentifier)]),
                (
                    2,
                    Form::MemberCall,
                    &[
                        Token(K::Dot, L::Operator),
                        Token(K::Identifier, L::Name),
                        Token(K::Open, L::Open),
                        Maybe(&[Call(Rule::Exprs)]),
                        Token(K::Close, L::None),
                    ],
                ),
                (
                    1,
                    Form::Index,
                    &[
                        Token(K::OpenBracket, L::Operator),
                        MARK,
                        Call(Rule::Expr),
                        Token(K::CloseBracket, L::None),
                    ],
                ),
            ],
        ),
    ),
    (
        Rule::Primary,
        "primary",
        Alternatives(
            Predicted,
            &[
                (Form::Ident, &[DOT, Token(K::Identifier, L::Name)]),
                (
                    Form::Call,
                    &[
                        DOT,
                        Token(K::Identifier, L::Name),
                        Token(K::Open, L::Operator),
                        Maybe(&[Call(Rule::Exprs)]),
                        Token(K::Close, L::None),
                    ],
                ),
                (Form::Nested, &[Token(K::Open, L::None), Call(Rule::Expr), Token(K::Close, L::None)]),
                (
                    Form::List,
                    &[
                        Token(K::OpenBracket, L::Operator),
                        Maybe(&[Call(Rule::ListEntries)]),
                        COMMA,
                        Token(K::CloseBracket, L::None),
                    ],
                ),
                (
                    Form::Map,
                    &[
                        Token(K::OpenBrace, L::Operator),
                        Maybe(&[Call(Rule::MapEntries)]),
                        COMMA,
                        Token(K::CloseBrace, L::None),
                    ],
                ),
                (
                    Form::Message,
                    &[
                        DOT,
                        Token(K::Identifier, L::Name),
                        Many(&[Token(K::Dot, L::None), Token(K::Identifier, L::Name)], Next),
                        Token(K::OpenBrace, L::Operator),
                        Maybe(&[Call(Rule::Fields)]),
                        COMMA,
                        Token(K::CloseBrace, L::None),
                    ],
                ),
                (Form::Constant, &[Call(Rule::Literal)]),
            ],
        ),
    ),
    (
        Rule::Exprs,
        "exprList",
        Sequence(&[Call(Rule::Expr), Many(&[Token(K::Comma, L::None), Call(Rule::Expr)], Next)]),
    ),
    (
        Rule::ListEntries,
        "listInit",
        Sequence(&[
            Call(Rule::OptionalExpr),
            Many(&[Token(K::Comma, L::None), Call(Rule::OptionalExpr)], Predicted),
        ]),
    ),
    (
        Rule::Fields,
        "fieldInitializerList",
        Sequence(&[
            Call(Rule::Field),
            Token(K::Colon, L::Colon),
            Call(Rule::Expr),
            Many(
                &[Token(K::Comma, L::None), Call(Rule::Field), Token(K::Colon, L::Colon), Call(Rule::Expr)],
                Predicted,
            ),
        ]),
    ),
    (Rule::Field, "optField", Sequence(&[MARK, Call(Rule::AnyIdentifier)])),
    (
        Rule::MapEntries,
        "mapInitializerList",
        Sequence(&[
            Call(Rule::OptionalExpr),
            Token(K::Colon, L::Colon),
            Call(Rule::Expr),
            Many(
                &[
                    Token(K::Comma, L::None),
                    Call(Rule::OptionalExpr),
                    Token(K::Colon, L::Colon),
                    Call(Rule::Expr),
                ],
                Predicted,
            ),
        ]),
    ),
    (
        Rule::AnyIdentifier,
        "escapeIdent",
        Alternatives(
            Next,
            &[
                (Form::Simple, &[Token(K::Identifier, L::Name)]),
                (Form::Escaped, &[Token(K::EscapedIdentifier, L::Name)]),
            ],
        ),
    ),
    (Rule::OptionalExpr, "optExpr", Sequence(&[MARK, Call(Rule::Expr)])),
    (
        Rule::Literal,
        "literal",
        Alternatives(
            Predicted,
            &[
                (Form::Int, &[SIGN, Token(K::Int, L::Value)]),
                (Form::Uint, &[Token(K::Uint, L::Value)]),
                (Form::Double, &[SIGN, Token(K::Float, L::Value)]),
                (Form::String, &[Token(K::String, L::Value)]),
                (Form::Bytes, &[Token(K::Bytes, L::Value)]),
                (Form::Bool, &[Token(K::True, L::Value)]),
                (Form::Bool, &[Token(K::False, L::Value)]),
                (Form::Null, &[Token(K::Null, L::Value)]),
            ],
        ),
    ),
];
