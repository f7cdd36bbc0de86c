//! Parsed expressions.

/// An expression, and where it begins (for operators: where the operator stands), in characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Offset in the source.
    pub at: usize,
    /// What it is.
    pub kind: Kind,
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.0`
    Double(f64),
    /// `'a'`
    String(String),
    /// `b'a'`
    Bytes(Vec<u8>),
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A literal.
    Literal(Literal),
    /// A variable, or the name of a type.
    Ident(String),
    /// A field; with a mark, it may be absent (`a.?b`).
    Select(Box<Expr>, String, bool),
    /// Whether a field is there.
    Has(Box<Expr>, String),
    /// A function or operator, on a target or not.
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    /// A list; marked entries may be absent.
    List(Vec<(Expr, bool)>),
    /// A map; marked entries may be absent.
    Map(Vec<(Expr, Expr, bool)>),
    /// An object of a named type; marked fields may be absent.
    Struct(String, Vec<(String, Expr, bool)>),
    /// A macro over the entries of a list or map.
    Comprehension(Box<Comprehension>),
    /// A name for a value: `cel.bind(x, value, body)`.
    Bind(String, Box<Expr>, Box<Expr>),
    /// What becomes of a value that may be absent, by a name for it: `a.optMap(x, body)`; marked, the body itself
    /// may be absent (`optFlatMap`).
    Within(Box<Expr>, String, Box<Expr>, bool),
}

/// Which macro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Macro {
    /// Holds for all.
    All,
    /// Holds for one or more.
    Exists,
    /// Holds for exactly one.
    ExistsOne,
    /// A list of what the entries become.
    Map,
    /// The entries for which it holds.
    Filter,
    /// A map of what the entries become.
    TransformMap,
    /// The entries in the order of what they become.
    SortBy,
}

/// A macro over the entries of a list or map.
#[derive(Clone, Debug, PartialEq)]
pub struct Comprehension {
    /// Which.
    pub of: Macro,
    /// The list or map.
    pub range: Expr,
    /// The variable; the first of two is the index or key.
    pub variable: String,
    /// The second variable.
    pub second: Option<String>,
    /// The condition.
    pub condition: Option<Expr>,
    /// What entries become.
    pub transform: Option<Expr>,
}

impl Expr {
    /// The dotted name that an expression is, if it is nothing but one.
    pub fn dotted(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select(inner, name, false) => Some(format!("{}.{name}", inner.dotted()?)),
            _ => None,
        }
    }
}
