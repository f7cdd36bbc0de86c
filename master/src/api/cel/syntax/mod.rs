//! What is wrong with an expression, as upstream tells it: the same problems, at the same places, in the same words.
//!
//! [`super::parse`] reads what is right. Only what it refuses comes here, where it is read again with more care. Upstream
//! reads by a general machine over a network of states, and what that tells of a source that does not fit depends on
//! how far it looks ahead and on how it goes on afterwards; so this is such a machine too:
//!
//! - [`token`], [`lexer`], [`stream`]: from characters to tokens.
//! - [`grammar`]: the rules, as data; [`network`]: the states that they make; [`lookahead`]: what may come next.
//! - [`predict`]: which way to go, by any number of tokens, with [`closure`] and [`contexts`].
//! - [`parser`]: reads a source into a [`tree`]; [`recover`]: what is told where it does not fit, and where to go on.
//! - [`visit`], [`macros`]: what else is wrong with what was read.
//!
//! Sources come from anyone. Their length, the depth of rules in themselves, the number of problems, how often it is
//! gone on after one and what may be remembered of predictions are bounded, so no source exhausts time, memory or the stack.

mod closure;
mod contexts;
mod grammar;
pub(super) mod lexer;
mod lookahead;
mod macros;
mod network;
mod parser;
mod predict;
mod recover;
mod stream;
pub(super) mod token;
mod tree;
mod visit;

#[cfg(test)]
mod tests;

pub(super) use parser::RECURSION_MAX;
pub(super) use visit::reserved;

use super::depth::with_room;
use super::problem::{Place, Problem};

/// Said of what is too deep, though every rule that it is made of is not.
pub(super) const TOO_DEEP: &str = "max recursion depth exceeded";

/// Characters of an expression.
pub const CHARS_MAX: usize = 100_000;

/// All that is wrong with a source. With `binds`, it may name values with `cel.bind`.
pub fn problems(source: &str, binds: bool) -> Vec<Problem> {
    let chars: Vec<char> = source.chars().collect();
    if chars.len() > CHARS_MAX {
        let size = chars.len();
        let message = format!("expression code point size exceeds limit: size: {size}, limit {CHARS_MAX}");
        return vec![Problem { place: Place::Nowhere, message }];
    }
    // No part is deeper than every other character of the source begins another.
    let read = with_room(chars.len() / 2, || {
        let mut parser = parser::Parser::new(&chars);
        if parser.run().is_ok() {
            // Where a limit is exceeded, that is told, and nothing else is.
            let _stopped = visit::Visitor::new(&mut parser, binds).run();
        }
        parser.stream.problems
    });
    read.unwrap_or_else(|| vec![Problem { place: Place::Nowhere, message: TOO_DEEP.to_owned() }])
}
