//! Causal trees: what followed from what, out of trace records.

mod tree;

pub use tree::{Origin, Tree, render};
