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

/// A field of an object that an expression makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Where the colon behind the name stands.
    pub colon: usize,
    /// What it is to be.
    pub value: Expr,
    /// It may be absent.
    pub optional: bool,
}

/// A name without the dot in front of it that makes it absolute: one that no variable of a macro takes.
pub fn bare(name: &str) -> &str {
    name.strip_prefix('.').unwrap_or(name)
}

/// What an expression is. The names of variables, of functions without a target and of types keep a dot that stands
/// in front of them; [`bare`] takes it off.
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
    /// An object of a named type.
    Struct(String, Vec<Field>),
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
    /// A map of the entries that the entries become.
    TransformMapEntry,
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
    /// What it is made of, directly.
    fn parts(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
            Kind::Select(inner, ..) | Kind::Has(inner, _) => vec![inner],
            Kind::Call(target, _, arguments) => target.as_deref().into_iter().chain(arguments).collect(),
            Kind::List(items) => items.iter().map(|(item, _)| item).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Kind::Struct(_, fields) => fields.iter().map(|field| &field.value).collect(),
            Kind::Comprehension(c) => {
                [Some(&c.range), c.condition.as_ref(), c.transform.as_ref()].into_iter().flatten().collect()
            }
            Kind::Bind(_, value, body) | Kind::Within(value, _, body, _) => vec![value, body],
        }
    }

    /// It and all that it is made of, each with how deep it is in it. It goes through it without calling itself.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Expr)> {
        let mut left = vec![(1, self)];
        std::iter::from_fn(move || {
            let (level, expr) = left.pop()?;
            left.extend(expr.parts().into_iter().map(|part| (level + 1, part)));
            Some((level, expr))
        })
    }

    /// The dotted name that an expression is, if it is nothing but one.
    pub fn dotted(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select(inner, name, false) => Some(format!("{}.{name}", inner.dotted()?)),
            _ => None,
        }
    }
}
