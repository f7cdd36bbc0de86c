//! What a source was read as: which rule, and which alternative of it, every part of it is.

use super::grammar::{Form, Label, Rule};
use super::stream::TokenId;

/// A node, by its number.
pub type NodeId = usize;

/// A part of the source that a rule was read from.
#[derive(Debug)]
pub struct Node {
    /// The rule.
    pub rule: Rule,
    /// The alternative of it.
    pub form: Form,
    /// The first token.
    pub start: TokenId,
    /// Tokens in it that the rule has a use for.
    pub tokens: Vec<(Label, TokenId)>,
    /// Rules in it.
    pub children: Vec<NodeId>,
}

impl Node {
    /// A node of which nothing but its first token is known.
    pub fn new(rule: Rule, form: Form, start: TokenId) -> Node {
        Node { rule, form, start, tokens: Vec::new(), children: Vec::new() }
    }

    /// The tokens with a label.
    pub fn tokens(&self, label: Label) -> impl Iterator<Item = TokenId> {
        self.tokens.iter().filter(move |(of, _)| *of == label).map(|(_, token)| *token)
    }

    /// The first token with a label.
    pub fn token(&self, label: Label) -> Option<TokenId> {
        self.tokens(label).next()
    }
}

/// All nodes; the first is the whole.
#[derive(Debug, Default)]
pub struct Tree {
    /// Nodes, by their numbers.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// Adds a node.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// What is in a node that was read by a rule, one after another.
    pub fn children(&self, node: NodeId, rule: Rule) -> impl Iterator<Item = NodeId> {
        self.nodes[node].children.iter().copied().filter(move |child| self.nodes[*child].rule == rule)
    }

    /// The one of these at a place.
    pub fn child(&self, node: NodeId, rule: Rule, nth: usize) -> Option<NodeId> {
        self.children(node, rule).nth(nth)
    }
}
