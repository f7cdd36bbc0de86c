//! The first document of a YAML text, put together as Go's reader of the older YAML does it: what a scalar means,
//! which keys are the same, and where a merge key counts.
//!
//! What follows the first document is not looked at. A document is composed without copying what aliases stand for,
//! and only then made a value, whose size and depth are bounded.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Number, Value};

use super::resolve::{Scalar, resolve};

/// How many repeated keys are told.
const REPEATED_MAX: usize = 100;
/// How deep nodes lie in one another at most, with what aliases stand for.
const DEPTH_MAX: usize = 512;
/// How many nodes a value has at most, of which aliases may stand for all but a few.
const NODES_MAX: usize = 1_000_000;

/// Beyond this not every whole number is a float of its own.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why there is no value.
pub(super) enum Fault {
    /// The text is no YAML; another reader tells why.
    Syntax,
    /// What is wrong with what it says.
    Said(String),
}

/// What a document says.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Its value; of keys that are there twice the last counts.
    pub value: Value,
    /// Those keys as Go prints them, with the lines of their values.
    pub repeated: Vec<(usize, String)>,
}

enum Content {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

struct Node {
    content: Content,
    /// Where it stands; of an alias, where what it stands for does.
    line: usize,
    /// It is the key whose value is merged into the map.
    merges: bool,
    /// How deep nodes lie in it, with what aliases stand for.
    height: usize,
}

/// Reads the first document of a text.
pub(super) fn first(text: &str) -> Result<Document, Fault> {
    let mut composer = Composer { events: Parser::new_from_str(text), anchors: HashMap::new(), depth: 0 };
    let Some(root) = composer.root()? else { return Ok(Document::default()) };
    let mut made = Making { repeated: Vec::new(), left: NODES_MAX };
    let value = made.value(&root)?;
    Ok(Document { value, repeated: made.repeated })
}

struct Composer<I> {
    events: I,
    anchors: HashMap<usize, Rc<Node>>,
    depth: usize,
}

impl<'t, E, I: Iterator<Item = Result<(Event<'t>, Span), E>>> Composer<I> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(_)) | None => Err(Fault::Syntax),
        }
    }

    fn root(&mut self) -> Result<Option<Rc<Node>>, Fault> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (event, span) => {
                    if let Some(node) = self.node(event, span)? {
                        // What ends the document may still be wrong.
                        self.next()?;
                        return Ok(Some(node));
                    }
                }
            }
        }
    }

    /// The node that an event begins, if it begins one.
    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Option<Rc<Node>>, Fault> {
        let line = span.start.line();
        let (content, anchor, merges) = match event {
            Event::Alias(of) => return self.anchors.get(&of).cloned().map(Some).ok_or(Fault::Syntax),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(name_of);
                let plain = style == ScalarStyle::Plain;
                let merges = text == "<<" && (plain && tag.is_none() || tag.as_deref() == Some("!!merge"));
                let scalar = resolve(&text, plain, tag.as_deref()).map_err(|why| said(&why))?;
                (Content::Scalar(scalar), anchor, merges)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                while let Some(item) = self.inner()? {
                    items.push(item);
                }
                (Content::List(items), anchor, false)
            }
            Event::MappingStart(_, anchor, _) => {
                let mut entries = Vec::new();
                while let Some(key) = self.inner()? {
                    let value = self.inner()?.ok_or(Fault::Syntax)?;
                    entries.push((key, value));
                }
                (Content::Map(entries), anchor, false)
            }
            _ => return Ok(None),
        };
        let height = match &content {
            Content::Scalar(_) => 0,
            Content::List(items) => items.iter().map(|item| item.height + 1).max().unwrap_or(1),
            Content::Map(entries) => {
                entries.iter().map(|(key, value)| key.height.max(value.height) + 1).max().unwrap_or(1)
            }
        };
        // Whoever goes through it, or lets go of it, does so level by level.
        if height > DEPTH_MAX {
            return Err(too_deep());
        }
        let node = Rc::new(Node { content, line, merges, height });
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(Some(node))
    }

    /// The next node within a list or map; nothing at its end.
    fn inner(&mut self) -> Result<Option<Rc<Node>>, Fault> {
        if self.depth >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.depth += 1;
        let found = loop {
            match self.next()? {
                (Event::SequenceEnd | Event::MappingEnd, _) => break None,
                (event, span) => {
                    if let Some(node) = self.node(event, span)? {
                        break Some(node);
                    }
                }
            }
        };
        self.depth -= 1;
        Ok(found)
    }
}

/// A tag in its short form.
fn name_of(tag: &Tag) -> String {
    match tag.handle() {
        "tag:yaml.org,2002:" => format!("!!{}", tag.suffix()),
        handle => format!("{handle}{}", tag.suffix()),
    }
}

fn said(why: &str) -> Fault {
    Fault::Said(format!("yaml: {why}"))
}

fn too_deep() -> Fault {
    said(&format!("exceeded max depth of {DEPTH_MAX}"))
}

/// A value that is being made of nodes.
struct Making {
    repeated: Vec<(usize, String)>,
    /// How many nodes it may yet have.
    left: usize,
}

impl Making {
    fn value(&mut self, node: &Node) -> Result<Value, Fault> {
        self.left = self.left.checked_sub(1).ok_or_else(|| said("document contains excessive aliasing"))?;
        match &node.content {
            Content::Scalar(scalar) => json(scalar),
            Content::List(items) => Ok(Value::Array(
                items.iter().map(|item| self.value(item)).collect::<Result<Vec<Value>, Fault>>()?,
            )),
            Content::Map(entries) => {
                let (mut map, mut seen) = (Map::new(), HashSet::new());
                self.fill(&mut map, &mut seen, entries)?;
                Ok(Value::Object(map))
            }
        }
    }

    /// Puts entries into a map, in order: a merge key does so where it stands, and what comes later counts.
    fn fill(
        &mut self,
        map: &mut Map<String, Value>,
        seen: &mut HashSet<Scalar>,
        entries: &[(Rc<Node>, Rc<Node>)],
    ) -> Result<(), Fault> {
        let mut nameless = None;
        for (key, node) in entries {
            if key.merges {
                self.merge(map, seen, node)?;
                continue;
            }
            let scalar = match &key.content {
                Content::Scalar(scalar) => scalar,
                _ => return Err(said(&format!("invalid map key: {}", go(key)))),
            };
            let value = self.value(node)?;
            let name = name(scalar);
            if !seen.insert(scalar.clone()) && self.repeated.len() < REPEATED_MAX {
                let shown = match (scalar, &name) {
                    (Scalar::Text(text), _) => format!("{text:?}"),
                    (_, name) => name.clone().unwrap_or_else(|| "<nil>".to_owned()),
                };
                self.repeated.push((node.line, shown));
            }
            match name {
                Some(name) => drop(map.insert(name, value)),
                None => nameless = Some(node),
            }
        }
        match nameless {
            None => Ok(()),
            Some(node) => {
                let why = "unsupported map key of type: %!s(<nil>), key: <nil>, value: ";
                Err(Fault::Said(format!("{why}{}", go(node))))
            }
        }
    }

    fn merge(
        &mut self,
        map: &mut Map<String, Value>,
        seen: &mut HashSet<Scalar>,
        node: &Node,
    ) -> Result<(), Fault> {
        self.left = self.left.checked_sub(1).ok_or_else(|| said("document contains excessive aliasing"))?;
        match &node.content {
            Content::Map(entries) => self.fill(map, seen, entries),
            // Of several the first counts.
            Content::List(items) if items.iter().all(|item| matches!(item.content, Content::Map(_))) => {
                items.iter().rev().try_for_each(|item| self.merge(map, seen, item))
            }
            _ => Err(said("map merge requires map or sequence of maps as the value")),
        }
    }
}

fn json(scalar: &Scalar) -> Result<Value, Fault> {
    Ok(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Text(text) => text.as_str().into(),
        Scalar::Bool(value) => (*value).into(),
        Scalar::Int(number) => (*number).into(),
        Scalar::Unsigned(number) => (*number).into(),
        Scalar::Float(bits) => {
            let value = f64::from_bits(*bits);
            // Go prints a float that is whole as a whole number.
            if value.fract() == 0.0 && value.abs() <= EXACT_FLOAT_MAX {
                return Ok(Value::from(value as i64));
            }
            let number = Number::from_f64(value);
            Value::Number(
                number.ok_or_else(|| Fault::Said(format!("json: unsupported value: {}", float(value))))?,
            )
        }
    })
}

/// A float that is none that JSON has, as Go prints it.
fn float(value: f64) -> &'static str {
    match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "+Inf",
        _ => "-Inf",
    }
}

/// What a key is called in JSON; null is none.
fn name(key: &Scalar) -> Option<String> {
    Some(match key {
        Scalar::Null => return None,
        Scalar::Text(text) => text.clone(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(number) => number.to_string(),
        Scalar::Unsigned(number) => number.to_string(),
        Scalar::Float(bits) => match f64::from_bits(*bits) {
            value if value.is_finite() => (value as f32).to_string(),
            value if value.is_nan() => ".nan".to_owned(),
            value if value > 0.0 => ".inf".to_owned(),
            _ => "-.inf".to_owned(),
        },
    })
}

/// A node in Go's syntax; what lies deeper than a few levels is left out.
fn go(node: &Node) -> String {
    fn inner(node: &Node, depth: usize) -> String {
        if depth > 4 {
            return "...".to_owned();
        }
        match &node.content {
            Content::Scalar(Scalar::Null) => "interface {}(nil)".to_owned(),
            Content::Scalar(Scalar::Text(text)) => format!("{text:?}"),
            Content::Scalar(other) => name(other).unwrap_or_default(),
            Content::List(items) => {
                let items: Vec<String> = items.iter().take(16).map(|item| inner(item, depth + 1)).collect();
                format!("[]interface {{}}{{{}}}", items.join(", "))
            }
            Content::Map(entries) => {
                let mut entries: Vec<String> = entries
                    .iter()
                    .take(16)
                    .map(|(key, value)| format!("{}:{}", inner(key, depth + 1), inner(value, depth + 1)))
                    .collect();
                entries.sort();
                format!("map[interface {{}}]interface {{}}{{{}}}", entries.join(", "))
            }
        }
    }
    match &node.content {
        Content::Scalar(Scalar::Null) => "<nil>".to_owned(),
        _ => inner(node, 0),
    }
}

#[cfg(test)]
mod tests;
