//! What documents say, in words, of types and their fields. The words are in `words/`, a file for each API group.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use protocol::schema::{Definition, Field};

use super::schemas::is_list;

/// The version of an object.
pub const API_VERSION: &str =
    "APIVersion defines the schema that this object is written in: a group and a version of it.";
/// The kind of an object.
pub const KIND: &str =
    "Kind says what this object is, in CamelCase. It goes with the path, and stays as it is.";
/// The metadata of an object.
pub const METADATA: &str = "Standard object's metadata: what it is called, labels, owners and history.";
/// The metadata of a list.
pub const LIST_METADATA: &str =
    "Standard list metadata: the state that the list shows, and where it goes on.";
const ITEMS: &str = "The objects of the list.";

const FILES: &[&str] = &[
    include_str!("words/admissionregistration.txt"),
    include_str!("words/apiextensions.txt"),
    include_str!("words/apiregistration.txt"),
    include_str!("words/apps.txt"),
    include_str!("words/authentication.txt"),
    include_str!("words/authorization.txt"),
    include_str!("words/autoscaling.txt"),
    include_str!("words/batch.txt"),
    include_str!("words/certificates.txt"),
    include_str!("words/coordination.txt"),
    include_str!("words/core.txt"),
    include_str!("words/discovery.txt"),
    include_str!("words/events.txt"),
    include_str!("words/flowcontrol.txt"),
    include_str!("words/machinery.txt"),
    include_str!("words/networking.txt"),
    include_str!("words/node.txt"),
    include_str!("words/policy.txt"),
    include_str!("words/rbac.txt"),
    include_str!("words/resource.txt"),
    include_str!("words/scheduling.txt"),
    include_str!("words/storage.txt"),
];

/// What is said of one type.
struct Told {
    said: &'static str,
    fields: HashMap<&'static str, &'static str>,
}

/// By the types' short names.
static WORDS: LazyLock<HashMap<&'static str, Told>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    for text in FILES {
        let mut last = None;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for (name, said) in lines.filter_map(|line| line.split_once(' ')) {
            match (name, last, said.split_once(' ')) {
                ("def", _, Some((of, said))) => {
                    all.insert(of, Told { said, fields: HashMap::new() });
                    last = Some(of);
                }
                (_, Some(of), _) => {
                    let told = all.get_mut(of);
                    told.map(|told: &mut Told| told.fields.insert(name, said));
                }
                _ => {}
            }
        }
    }
    all
});

/// What is said of a type, by its short name.
pub fn of_named(name: &str) -> Option<&'static str> {
    WORDS.get(name).map(|told| told.said)
}

/// What is said of a type.
pub fn of_type(definition: &Definition) -> Option<Cow<'static, str>> {
    match (definition.gvk, of_named(definition.name)) {
        (_, Some(said)) => Some(said.into()),
        (Some((_, _, kind)), None) if is_list(definition) => {
            let of = kind.strip_suffix("List").unwrap_or(kind);
            Some(format!("A list of objects of kind {of}.").into())
        }
        _ => None,
    }
}

/// What is said of a field.
pub fn of(definition: &Definition, field: &Field) -> Option<&'static str> {
    let told = || WORDS.get(definition.name)?.fields.get(field.name).copied();
    match field.name {
        _ if definition.gvk.is_none() => told(),
        "apiVersion" => Some(API_VERSION),
        "kind" => Some(KIND),
        "metadata" if is_list(definition) => Some(LIST_METADATA),
        "metadata" => Some(METADATA),
        "items" if is_list(definition) => Some(ITEMS),
        _ => told(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use protocol::schema;

    use super::*;

    #[test]
    fn every_type_and_field_is_described() {
        for definition in schema::all().iter().filter(|definition| !definition.unlisted) {
            assert!(of_type(definition).is_some(), "{}", definition.name);
            for field in &definition.fields {
                assert!(of(definition, field).is_some(), "{}.{}", definition.name, field.name);
            }
        }
    }

    #[test]
    fn nothing_is_described_that_is_not_there() {
        for (name, told) in &*WORDS {
            let definition = schema::definition(name).expect(name);
            let known: BTreeSet<&str> = definition.fields.iter().map(|field| field.name).collect();
            let unknown: Vec<_> = told.fields.keys().filter(|name| !known.contains(*name)).collect();
            assert!(unknown.is_empty(), "{name}: {unknown:?}");
        }
    }

    #[test]
    fn words_are_sentences() {
        let all = WORDS.values().flat_map(|told| told.fields.values().chain([&told.said]));
        for said in all {
            assert!(said.ends_with(['.', ')']) && !said.contains("  ") && said.is_ascii(), "{said:?}");
            assert!(said.len() <= 480, "{} bytes: {said:?}", said.len());
        }
    }

    #[test]
    fn lists_are_described_by_what_is_in_them() {
        let list = schema::kind("", "v1", "PodList").expect("a kind");
        assert_eq!(list.field("metadata").and_then(|field| of(list, field)), Some(LIST_METADATA));
        assert_eq!(of_type(list).as_deref(), Some("A list of objects of kind Pod."));
    }
}
