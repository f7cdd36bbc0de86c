//! The managers of an object: `metadata.managedFields`, read and written.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::element::Element;
use super::encode::FieldsError;
use super::set::{Set, shown};

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying a configuration.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// Who owns fields. An applier is the same whatever version it speaks; an updater is another per version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its name.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version that it writes, for updaters; empty for appliers.
    pub version: String,
    /// The subresource that it writes through; empty for none.
    pub subresource: String,
}

impl Manager {
    /// Somebody who writes a version of an object.
    pub fn new(name: &str, operation: Operation, version: &str, subresource: &str) -> Manager {
        let version = if operation == Operation::Apply { "" } else { version };
        Manager {
            name: name.to_owned(),
            operation,
            version: version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// As conflicts show it.
    pub fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.version));
        }
        text
    }

    /// Upstream orders managers by an identifier that is their JSON.
    fn identifier(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |name: &str, value: &str| {
            if !value.is_empty() {
                parts.push(format!("{name:?}:{}", Value::from(value)));
            }
        };
        part("manager", &self.name);
        part("operation", self.operation.as_str());
        part("apiVersion", &self.version);
        part("subresource", &self.subresource);
        format!("{{{}}}", parts.join(","))
    }
}

/// The bytes of a name up to the quote that ends it in JSON, where JSON shows it as it is.
fn quoted(name: &str) -> Option<impl Iterator<Item = u8>> {
    let plain = !name.is_empty() && name.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\');
    plain.then(|| name.bytes().chain([b'"']))
}

impl Ord for Manager {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other {
            return Ordering::Equal;
        }
        // Mostly their names tell, which come first in identifiers.
        match (quoted(&self.name), quoted(&other.name)) {
            (Some(a), Some(b)) if self.name != other.name => a.cmp(b),
            _ => self.identifier().cmp(&other.identifier()),
        }
    }
}

impl PartialOrd for Manager {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// The fields.
    pub fields: Set,
    /// The version whose fields they are.
    pub version: String,
    /// When it last changed any; as objects spell times, absent where unknown.
    pub time: Option<String>,
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed(pub BTreeMap<Manager, Owned>);

/// Why managed fields are not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// Not a list of entries.
    #[error("managed fields are no list of objects")]
    NotAList,
    /// An unknown operation.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    Version,
    /// No type of fields.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// A type of fields of the future.
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    FieldsType(usize, String),
    /// The fields are not understood.
    #[error("error decoding versioned set: error decoding set: {0}")]
    Fields(#[from] FieldsError),
}

impl Managed {
    /// Reads `metadata.managedFields`.
    pub fn decode(entries: &Value) -> Result<Managed, ManagedError> {
        let entries = match entries {
            Value::Null => return Ok(Managed::default()),
            Value::Array(entries) => entries,
            _ => return Err(ManagedError::NotAList),
        };
        let mut managed = Managed::default();
        for (i, entry) in entries.iter().enumerate() {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(ManagedError::Operation),
            };
            let version = text("apiVersion");
            if version.is_empty() {
                return Err(ManagedError::Version);
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(ManagedError::NoFieldsType(i)),
                other => return Err(ManagedError::FieldsType(i, other.to_owned())),
            }
            let manager = Manager::new(text("manager"), operation, version, text("subresource"));
            let time = entry["time"].as_str().map(str::to_owned);
            let fields = Set::decode(&entry["fieldsV1"])?;
            managed.0.insert(manager, Owned { fields, version: version.to_owned(), time });
        }
        Ok(managed)
    }

    /// Writes `metadata.managedFields`; nothing where there are no managers.
    pub fn encode(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let mut entries: Vec<Value> = self.0.iter().map(|(manager, owned)| encode(manager, owned)).collect();
        entries.sort_by_cached_key(order);
        Value::Array(entries)
    }

    /// Merges the oldest updaters of each version into one, so that an object never has more than `max`.
    pub fn cap_updaters(&mut self, max: usize) {
        const ANCIENT: &str = "ancient-changes";
        let mut updaters: Vec<Manager> =
            self.0.keys().filter(|m| m.operation == Operation::Update).cloned().collect();
        if updaters.len() <= max {
            return;
        }
        let age = |m: &Manager| self.0.get(m).map_or(0, |o| seconds(o.time.as_deref()));
        updaters.sort_by_cached_key(|m| (age(m), m.identifier()));
        let mut count = updaters.len();
        let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
        for manager in updaters {
            if count <= max {
                return;
            }
            let Some(owned) = self.0.get(&manager).cloned() else { continue };
            let Some(first) = first_of.get(&owned.version) else {
                first_of.insert(owned.version, manager);
                continue;
            };
            let bucket = Manager::new(ANCIENT, Operation::Update, &owned.version, "");
            if !self.0.contains_key(&bucket)
                && let Some(moved) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), moved);
            }
            self.0.remove(&manager);
            if let Some(merged) = self.0.get_mut(&bucket) {
                merged.fields.extend(&owned.fields);
                // The newer of the two.
                merged.time = owned.time;
            }
            count -= 1;
        }
    }
}

/// What entries of `metadata.managedFields` are sorted by: appliers first, then age.
pub fn order(entry: &Value) -> impl Ord + use<> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let age = seconds(entry["time"].as_str());
    (text("operation"), age, text("manager"), text("apiVersion"), text("subresource"))
}

fn encode(manager: &Manager, owned: &Owned) -> Value {
    entry(manager, &owned.version, owned.time.as_deref(), owned.fields.encode())
}

/// One entry of `metadata.managedFields`, of fields that are encoded already.
pub(super) fn entry(manager: &Manager, version: &str, time: Option<&str>, fields: Value) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
    put("apiVersion", version.into());
    put("fieldsType", "FieldsV1".into());
    put("fieldsV1", fields);
    if !manager.name.is_empty() {
        put("manager", manager.name.as_str().into());
    }
    put("operation", manager.operation.as_str().into());
    if !manager.subresource.is_empty() {
        put("subresource", manager.subresource.as_str().into());
    }
    if let Some(time) = time {
        put("time", time.into());
    }
    Value::Object(entry)
}

fn seconds(time: Option<&str>) -> i64 {
    time.and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok()).map_or(0, OffsetDateTime::unix_timestamp)
}

/// Whether a write asks to forget all managers: an empty list, or one empty entry.
pub fn is_reset(entries: &Value) -> bool {
    match entries {
        Value::Array(entries) => match entries.as_slice() {
            [] => true,
            [only] => only.as_object().is_some_and(Map::is_empty),
            _ => false,
        },
        _ => false,
    }
}

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: Manager,
    /// The field.
    pub path: Vec<Element>,
}

impl Conflict {
    /// The field as messages show it.
    pub fn field(&self) -> String {
        shown(&self.path)
    }
}

/// What an apply that conflicts is answered with.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager.shown(),
            one.field()
        );
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager.shown()));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.field()));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_manager() -> impl Strategy<Value = Manager> {
        let operation = prop_oneof![Just(Operation::Apply), Just(Operation::Update)];
        // Few letters, so that names are often equal or begin alike.
        (r#"[ab !"\\\n~é]{0,3}"#, operation, "(v1|apps/v1)?", "(status|scale)?")
            .prop_map(|(name, operation, version, part)| Manager::new(&name, operation, &version, &part))
    }

    proptest! {
        #[test]
        fn managers_stand_in_the_order_of_their_identifiers(a in any_manager(), b in any_manager()) {
            prop_assert_eq!(a.cmp(&b), a.identifier().cmp(&b.identifier()));
        }
    }
}
