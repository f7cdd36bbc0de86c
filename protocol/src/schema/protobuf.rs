//! Objects as protobuf, by the table of field numbers: what Go clients send and prefer to get.
//!
//! Objects are JSON everywhere else; a body that comes in is turned into JSON text, and an answer is derived
//! from JSON when somebody asks for it.
//!
//! - [`read`]: messages to JSON. Fields that the table does not know are passed over, as protobuf readers do.
//! - [`write`](mod@write): JSON to messages. - [`list`]: lists, an item at a time.

use std::collections::HashMap;
use std::sync::LazyLock;

mod list;
mod read;
mod write;

pub use list::List;
pub use read::to_json;
pub use write::{envelope, watch_frame};

/// What every such body starts with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may nest.
const DEPTH_MAX: usize = 64;

/// Why a protobuf body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The envelope is not there.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The bytes end too early or make no sense.
    #[error("proto: unexpected EOF or malformed field")]
    Malformed,
    /// The kind is not served.
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    Kind {
        /// Kind.
        kind: String,
        /// Group and version.
        version: String,
    },
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Bool,
    Int,
    Double,
    Bytes,
    Message(&'static str),
}

struct Entry {
    number: u64,
    name: &'static str,
    kind: Kind,
    repeated: bool,
    map: bool,
    /// What Go embeds is a message of its own in protobuf, while JSON shows its fields in the outer object.
    embedded: bool,
    /// Go has no pointer for it, and so writes it even at zero.
    always: bool,
}

impl Entry {
    /// Finds out how Go holds the field of a message: from its definition, or, of an embedded message, which has
    /// none, from that of the message that it is embedded in. What neither says is no pointer.
    fn held_by(&mut self, definition: Option<&super::Definition>) {
        let single = !self.repeated && !self.map;
        let message = matches!(self.kind, Kind::Message(_));
        let field = definition.map(|definition| definition.field(self.name));
        self.embedded = message && single && field.is_some_and(|field| field.is_none());
        let pointer = match field.flatten() {
            Some(field) => field.pointer,
            None => self.name == "responseKind",
        };
        self.always = single && !pointer && !matches!(self.kind, Kind::Bytes);
    }
}

/// Reads the table: what `read` makes of the number, name and type of each message's fields, in the order of
/// declaration.
pub(super) fn table<E>(
    read: impl Fn(&'static str, &'static str, &'static str) -> Option<E>,
) -> HashMap<&'static str, Vec<E>> {
    let mut messages = HashMap::<_, Vec<E>>::new();
    let mut current = "";
    for line in include_str!("../../data/protobuf.txt").lines().filter(|l| !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix("msg ") {
            current = name;
            messages.entry(name).or_default();
            continue;
        }
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        if let Some(entry) = read(next(), next(), next()) {
            messages.entry(current).or_default().push(entry);
        }
    }
    messages
}

/// The fields of each message, by number.
type Messages = HashMap<&'static str, Vec<Entry>>;

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| {
    let mut messages = table(|number, name, ty| {
        let (repeated, map) = (ty.starts_with('['), ty.starts_with('{'));
        let kind = match ty.trim_start_matches(['[', '{']) {
            "s" => Kind::Text,
            "b" => Kind::Bool,
            "d" => Kind::Double,
            "B" => Kind::Bytes,
            other => other.strip_prefix('@').map_or(Kind::Int, Kind::Message),
        };
        let number = number.parse().ok()?;
        Some(Entry { number, name, kind, repeated, map, embedded: false, always: false })
    });
    let mut outer = HashMap::new();
    for (name, entries) in &mut messages {
        entries.sort_by_key(|entry| entry.number);
        let definition = super::definition(name);
        for entry in entries {
            entry.held_by(definition);
            if let (true, Kind::Message(inner)) = (entry.embedded, entry.kind)
                && super::definition(inner).is_none()
            {
                outer.insert(inner, definition);
            }
        }
    }
    for (name, definition) in outer {
        messages.get_mut(name).into_iter().flatten().for_each(|entry| entry.held_by(definition));
    }
    messages
});

/// The message behind a kind; `None` where there is none.
fn message_of(api_version: &str, kind: &str) -> Option<&'static str> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    message_named(group, version, kind)
}

fn message_named(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    let name = match super::kind(group, version, kind) {
        Some(definition) => definition.name,
        // Options have every group's version.
        None if kind == "DeleteOptions" => "m.DeleteOptions",
        None if group == "meta.k8s.io" => &format!("m.{kind}"),
        None if group == "apidiscovery.k8s.io" => &format!("a.apidiscovery.{version}.{kind}"),
        None => return None,
    };
    MESSAGES.get_key_value(name).map(|(name, _)| *name)
}

/// Whether objects of a kind have a protobuf form.
pub fn knows(group: &str, version: &str, kind: &str) -> bool {
    message_named(group, version, kind).is_some()
}

/// Messages whose JSON form is not an object of their fields.
#[derive(Clone, Copy)]
enum Special {
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON of any form, as text.
    Raw,
    /// A list of texts that is a message of its own.
    Texts,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrTexts,
}

impl Special {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "m.Time" => Special::Time,
            "m.MicroTime" => Special::MicroTime,
            "p.api.resource.Quantity" => Special::Quantity,
            "p.util.intstr.IntOrString" => Special::IntOrString,
            "p.runtime.RawExtension" | "m.FieldsV1" | "x.JSON" => Special::Raw,
            "m.Verbs" => Special::Texts,
            name if name.ends_with(".ExtraValue") => Special::Texts,
            "x.JSONSchemaPropsOrArray" => Special::SchemaOrArray,
            "x.JSONSchemaPropsOrBool" => Special::SchemaOrBool,
            "x.JSONSchemaPropsOrStringArray" => Special::SchemaOrTexts,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use serde_json::Value;

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![(number << 3 | 2) as u8, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn a_pod_with_an_embedded_volume_source_is_read() {
        // Pod > spec(2) > volumes(1) > name(1), volumeSource(2) > emptyDir(2) > sizeLimit(2) > string(1)
        let limit = field(2, &field(1, b"1Gi"));
        let volume = [field(1, b"v"), field(2, &field(2, &limit))].concat();
        let meta =
            field(1, &[field(1, b"p"), field(11, &[field(1, b"a"), field(2, b"b")].concat())].concat());
        let raw = [meta, field(2, &field(1, &volume))].concat();
        let envelope = [field(1, &[field(1, b"v1"), field(2, b"Pod")].concat()), field(2, &raw)].concat();
        let body = [MAGIC, &envelope].concat();
        let json: Value = serde_json::from_slice(&to_json(&body).expect("reads")).expect("json");
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        assert_eq!(to_json(b"{}"), Err(ProtobufError::Prefix));
        assert_eq!(to_json(b"k8s\0\x0a\xff"), Err(ProtobufError::Malformed));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let envelope = [field(1, &[field(1, b"v1"), field(2, b"Pod")].concat()), field(2, &bytes[..bytes.len().min(120)])].concat();
            let _ = to_json(&[MAGIC, &envelope].concat());
        }
    }
}
