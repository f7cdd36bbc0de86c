//! Sets of fields, as trees of path elements.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use super::element::Element;
use super::shape::Shape;

/// A set of fields. A field may be a member without its children, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    nodes: BTreeMap<Element, Node>,
}

/// What a set says about one element. One of the two is always the case, or the node is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    children: Set,
}

impl Node {
    fn some(self) -> Option<Node> {
        (self.member || !self.children.is_empty()).then_some(self)
    }
}

impl Set {
    /// No fields.
    pub fn new() -> Set {
        Set::default()
    }

    /// Fields given by names from the root.
    pub fn of(paths: &[&[&str]]) -> Set {
        let mut set = Set::new();
        for path in paths {
            set.insert(path.iter().map(|name| Element::field(name)));
        }
        set
    }

    /// Adds the field at a path; the empty path is nobody's. Parents are not added.
    pub fn insert(&mut self, path: impl IntoIterator<Item = Element>) {
        let mut path = path.into_iter();
        let Some(first) = path.next() else { return };
        let mut node = self.nodes.entry(first).or_default();
        for element in path {
            node = node.children.nodes.entry(element).or_default();
        }
        node.member = true;
    }

    /// Puts a whole subtree under an element (used when reading the encoded form).
    pub(super) fn attach(&mut self, element: Element, member: bool, children: Set) {
        let Some(node) = (Node { member, children }).some() else { return };
        match self.nodes.entry(element) {
            Entry::Vacant(entry) => drop(entry.insert(node)),
            Entry::Occupied(mut entry) => {
                let both = entry.get().children.union(&node.children);
                let member = entry.get().member || node.member;
                entry.insert(Node { member, children: both });
            }
        }
    }

    /// The elements at the top: whether each is a member, and what the set has below it.
    pub fn nodes(&self) -> impl Iterator<Item = (&Element, bool, &Set)> {
        self.nodes.iter().map(|(element, node)| (element, node.member, &node.children))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many fields are in it.
    pub fn len(&self) -> usize {
        self.nodes.values().map(|n| usize::from(n.member) + n.children.len()).sum()
    }

    /// Whether an element at the top is a member.
    pub fn has_member(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|n| n.member)
    }

    /// Whether the field at a path is a member.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.below(first).is_some_and(|children| children.has(rest)),
        }
    }

    /// What the set has below an element, if anything.
    pub fn below(&self, element: &Element) -> Option<&Set> {
        self.nodes.get(element).map(|n| &n.children).filter(|c| !c.is_empty())
    }

    /// Fields in either.
    pub fn union(&self, other: &Set) -> Set {
        let mut made = self.clone();
        made.extend(other);
        made
    }

    /// Adds another set's fields.
    pub fn extend(&mut self, other: &Set) {
        for (element, theirs) in &other.nodes {
            match self.nodes.get_mut(element) {
                Some(ours) => {
                    ours.member |= theirs.member;
                    ours.children.extend(&theirs.children);
                }
                None => drop(self.nodes.insert(element.clone(), theirs.clone())),
            }
        }
    }

    /// Fields in both.
    pub fn intersection(&self, other: &Set) -> Set {
        self.map(|element, node| {
            let theirs = other.nodes.get(element)?;
            let children = node.children.intersection(&theirs.children);
            Node { member: node.member && theirs.member, children }.some()
        })
    }

    /// Fields in this one and not in the other. A parent in the other takes nothing from its children.
    pub fn difference(&self, other: &Set) -> Set {
        self.map(|element, node| match other.nodes.get(element) {
            None => Some(node.clone()),
            Some(theirs) => {
                let children = node.children.difference(&theirs.children);
                Node { member: node.member && !theirs.member, children }.some()
            }
        })
    }

    /// Fields in this one, without those in the other and all that is below them.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        self.map(|element, node| match other.nodes.get(element) {
            None => Some(node.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => {
                let children = node.children.recursive_difference(&theirs.children);
                Node { member: node.member, children }.some()
            }
        })
    }

    fn map(&self, mut keep: impl FnMut(&Element, &Node) -> Option<Node>) -> Set {
        let nodes = self.nodes.iter().filter_map(|(e, n)| Some((e.clone(), keep(e, n)?))).collect();
        Set { nodes }
    }

    /// The set, with every declared field on the way to a member as a member too.
    pub fn with_named<'s, S: Shape<'s>>(&self, shape: Option<S>) -> Set {
        self.map(|element, node| {
            let (inner, declared) = match (element, shape) {
                (Element::Field(name), Some(shape)) => match shape.field(name) {
                    Some(member) => (Some(member.shape), member.declared),
                    None => (None, false),
                },
                (Element::Key(_), Some(shape)) => (shape.list().map(|l| l.element), false),
                _ => (None, false),
            };
            let named = declared && !node.children.is_empty();
            Some(Node { member: node.member || named, children: node.children.with_named(inner) })
        })
    }

    /// The paths of all members: those at a level before those below it.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect(&self, prefix: &mut Vec<Element>, found: &mut Vec<Vec<Element>>) {
        for (element, node) in &self.nodes {
            if node.member {
                found.push(prefix.iter().chain([element]).cloned().collect());
            }
        }
        for (element, node) in &self.nodes {
            prefix.push(element.clone());
            node.children.collect(prefix, found);
            prefix.pop();
        }
    }
}

/// A path as messages show it.
pub fn shown(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.paths().iter().map(|p| shown(p)).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests;
