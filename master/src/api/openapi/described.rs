//! What documents say, in words, of the fields that objects of all kinds have.

use protocol::schema::{Definition, Field, Type};

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

/// Fields of `ObjectMeta`.
const OBJECT_META: &[(&str, &str)] = &[
    ("annotations", "Annotations are texts that programs keep with the object; nothing is selected by them."),
    (
        "creationTimestamp",
        "CreationTimestamp is a timestamp: when the server made the object. Clients cannot set it.",
    ),
    (
        "deletionGracePeriodSeconds",
        "How many seconds the object has from the deletion's request to its end. Clients cannot set it; it only gets less.",
    ),
    (
        "deletionTimestamp",
        "When the object is due to be gone. It is set by a deletion that has to wait, and is never taken back.",
    ),
    (
        "finalizers",
        "Who has to do something before the object goes. Each takes its own entry out when that is done.",
    ),
    ("generateName", "What the server begins a name with that it makes up, where no name is given."),
    ("generation", "Counts the wanted states. The server does it."),
    ("labels", "Labels are short texts that objects are selected by."),
    (
        "managedFields",
        "Which manager set which fields, by versions. Server-side apply needs it; people seldom do.",
    ),
    (
        "name",
        "The object's name, which is its own among those of its kind in its namespace. It stays as it is.",
    ),
    ("namespace", "The namespace that the object is in; none where the kind knows no namespaces."),
    (
        "ownerReferences",
        "Objects that this one belongs to. Once all are gone it is collected. One at most controls it.",
    ),
    (
        "resourceVersion",
        "Which state of the object this is. It is to be compared for equality, and given back with changes of that state.",
    ),
    ("selfLink", "Not filled in any more."),
    ("uid", "Tells this object from all others, also from those that had its name. The server makes it up."),
];

/// Fields of `ListMeta`.
const LIST_META: &[(&str, &str)] = &[
    ("continue", "Where a list that has a limit goes on. Given back with the next request, as it is."),
    ("remainingItemCount", "How many more there are after this part of the list, where that is known."),
    ("resourceVersion", "The state that the list shows; watches go on from it."),
    ("selfLink", "Not filled in any more."),
];

/// What is said of a field.
pub fn of(definition: &Definition, field: &Field) -> Option<&'static str> {
    let known = |table: &[(&str, &'static str)]| {
        table.iter().find(|(name, _)| *name == field.name).map(|(_, said)| *said)
    };
    match (definition.name, field.name) {
        ("m.ObjectMeta", _) => known(OBJECT_META),
        ("m.ListMeta", _) => known(LIST_META),
        _ if definition.gvk.is_none() => None,
        (_, "apiVersion") => Some(API_VERSION),
        (_, "kind") => Some(KIND),
        (_, "metadata") => match field.ty {
            Type::Object(_) if field.ty.definition().is_some_and(|d| d.name == "m.ListMeta") => {
                Some(LIST_METADATA)
            }
            _ => Some(METADATA),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::schema;

    use super::*;

    #[test]
    fn all_metadata_is_described_and_nothing_else() {
        for name in ["m.ObjectMeta", "m.ListMeta"] {
            let definition = schema::definition(name).expect("metadata");
            let undescribed = definition.fields.iter().filter(|field| of(definition, field).is_none());
            // What few servers have is for them to say.
            let names: Vec<&str> =
                undescribed.map(|field| field.name).filter(|n| *n != "shardInfo").collect();
            assert!(names.is_empty(), "{names:?}");
        }
        let known = |table: &[(&str, &str)], of: &str| {
            let definition = schema::definition(of).expect("metadata");
            table.iter().all(|(name, _)| definition.field(name).is_some())
        };
        assert!(known(OBJECT_META, "m.ObjectMeta") && known(LIST_META, "m.ListMeta"));
        let list = schema::kind("", "v1", "PodList").expect("a kind");
        assert_eq!(list.field("metadata").and_then(|field| of(list, field)), Some(LIST_METADATA));
    }
}
