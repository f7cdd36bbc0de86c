//! The Common Expression Language, as Kubernetes uses it.
//!
//! - [`parse`]: text to an [`ast`], with bounds on both. - [`check`]: types, by [`types`] and [`signatures`].
//! - [`eval`]: values, within a budget; [`value`], [`library`]: what values are and what functions do.
//! - [`time`]: durations and times. - [`Program`]: all of it together.
//!
//! Anyone who may declare a kind or a policy may write expressions, so nothing here is unbounded.

pub mod ast;
pub mod check;
pub mod eval;
pub mod library;
pub mod parse;
pub mod signatures;
pub mod time;
pub mod types;
pub mod value;

pub use check::Environment;
pub use eval::{Failure, Scope};
pub use types::Type;
pub use value::Value;

/// What one evaluation may cost.
pub const CALL_COST_MAX: u64 = 1_000_000;
/// What all evaluations for one object may cost.
pub const TOTAL_COST_MAX: u64 = 10_000_000;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it was read as.
    pub expr: ast::Expr,
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
        let failed = |problems: &[parse::Problem]| parse::render(source, problems);
        let expr = parse::parse(source).map_err(|p| failed(&p))?;
        let (ty, types) = check::check(environment, &expr).map_err(|p| failed(&p))?;
        Ok((Program { expr, ty }, types))
    }

    /// Whether it mentions a variable.
    pub fn mentions(&self, name: &str) -> bool {
        format!("{:?}", self.expr).contains(&format!("Ident({name:?})"))
    }

    /// Evaluates it; what it costs is taken from `budget`, and is no more than one evaluation may cost.
    pub fn evaluate<'a>(&self, scope: &Scope<'a>, budget: &mut u64) -> Result<Value<'a>, Failure> {
        let mut own = (*budget).min(CALL_COST_MAX);
        let before = own;
        let made = eval::evaluate(&self.expr, scope, &mut own);
        *budget -= before - own;
        made
    }
}

#[cfg(test)]
mod tests;
