//! The Common Expression Language, as Kubernetes uses it.
//!
//! - [`parse`]: text to an [`ast`], with bounds on both; [`syntax`]: what is wrong with a text that is none, word for
//!   word as upstream tells it; [`problem`]: how that is shown.
//! - [`check`]: types, by [`types`] and [`signatures`]; `found`: what nothing says is found out.
//! - [`eval`]: values, within a budget; [`value`], [`library`]: what values are and what functions do.
//! - [`time`]: durations and times; [`depth`]: room for what is deep. - [`Program`]: all of it together.
//!
//! Anyone who may declare a kind or a policy may write expressions, so nothing here is unbounded.

pub mod ast;
pub mod check;
pub mod depth;
pub mod eval;
mod found;
pub mod library;
pub mod literals;
pub mod parse;
pub mod problem;
pub mod signatures;
pub mod syntax;
pub mod time;
pub mod types;
pub mod value;

use std::sync::Arc;

pub use check::Environment;
pub use eval::{Failure, Scope};
pub use types::Type;
pub use value::Value;

/// What one evaluation may cost.
pub const CALL_COST_MAX: u64 = 1_000_000;
/// What all evaluations for one object may cost.
pub const TOTAL_COST_MAX: u64 = 10_000_000;

/// Said where an expression is so deep that it takes a thread of its own, and there can be none.
const NO_ROOM: &str = "the expression is too deep for now";

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it was read as.
    expr: Arc<ast::Expr>,
    /// How deep that is.
    levels: usize,
    /// The type of its value.
    pub ty: Type,
}

impl Program {
    /// Compiles an expression; the error is shown with its place.
    pub fn compile(environment: &Environment, source: &str) -> Result<Program, String> {
        Program::check(environment, source).map_err(|why| format!("compilation failed: {why}"))
    }

    /// Compiles an expression; the error is the problems alone.
    pub fn check(environment: &Environment, source: &str) -> Result<Program, String> {
        Program::check_all(environment, source).map(|(program, _)| program)
    }

    /// Compiles an expression as [`check`](Self::check) does; also the types of all that it is made of.
    pub fn check_all(environment: &Environment, source: &str) -> Result<(Program, check::Types), String> {
        let failed = |problems: &[problem::Problem]| problem::render(source, problems);
        let expr = parse::parse(source, environment.binds).map_err(|p| failed(&p))?;
        let levels = expr.all().map(|(level, _)| level).max().unwrap_or(0);
        let checked = depth::with_room(levels, || check::check(environment, &expr));
        let (ty, types) = checked.ok_or(NO_ROOM)?.map_err(|p| failed(&p))?;
        Ok((Program { expr: Arc::new(expr), levels, ty }, types))
    }

    /// What a conversion of something that is written there, or a pattern that is, fails with, which is known before
    /// anything is evaluated.
    pub fn unready(&self) -> Option<String> {
        const CONVERSIONS: [&str; 7] = ["bool", "bytes", "double", "duration", "int", "string", "uint"];
        let written = |args: &'_ [ast::Expr]| match args.first() {
            Some(ast::Expr { kind: ast::Kind::Literal(literal), .. }) => Some(literal.clone()),
            _ => None,
        };
        let fails = |expr: &ast::Expr| match &expr.kind {
            ast::Kind::Call(Some(_), name, args) if matches!(name.as_str(), "find" | "findAll") => {
                match written(args)? {
                    ast::Literal::String(pattern) => {
                        crate::api::custom::schema::pattern::pattern_error(&pattern)
                    }
                    _ => None,
                }
            }
            ast::Kind::Call(None, name, args) if CONVERSIONS.contains(&ast::bare(name)) => {
                written(args)?;
                let made = eval::evaluate(expr, &Scope::new([]), &mut CALL_COST_MAX.clone());
                made.err().map(|why| why.to_string())
            }
            _ => None,
        };
        let failed = self.inspect(|expr| expr.all().find_map(|(_, expr)| fails(expr)))?;
        failed.map(|why| format!("instantiation failed: {why}"))
    }

    /// Whether it mentions a variable.
    pub fn mentions(&self, name: &str) -> bool {
        self.expr.all().any(|(_, expr)| matches!(&expr.kind, ast::Kind::Ident(of) if ast::bare(of) == name))
    }

    /// Looks at what it was read as, however deep that is. `None` if there is no room for that.
    pub fn inspect<T: Send>(&self, look: impl FnOnce(&ast::Expr) -> T + Send) -> Option<T> {
        depth::with_room(self.levels, || look(&self.expr))
    }

    /// Evaluates it; what it costs is taken from `budget`, and is no more than one evaluation may cost.
    pub fn evaluate<'a>(&self, scope: &Scope<'a>, budget: &mut u64) -> Result<Value<'a>, Failure> {
        let mut own = (*budget).min(CALL_COST_MAX);
        let before = own;
        let made = self
            .inspect(|expr| eval::evaluate(expr, scope, &mut own))
            .unwrap_or_else(|| eval::error(NO_ROOM));
        *budget -= before - own;
        made
    }
}

#[cfg(test)]
mod tests;
