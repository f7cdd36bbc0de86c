//! What an object of a kind looks like, for whoever tries everything with it.

use serde_json::{Value, json};

/// What a kind's subresource `status` writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    Absent,
    /// The status, and the metadata.
    Metadata,
    /// The status alone.
    Alone,
}

/// A kind, and what its objects look like.
pub struct Sample {
    pub group_version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// What its subresource `status` writes.
    pub status: Status,
    /// The fields beside the metadata, for a namespace and a number.
    body: fn(&str, u8) -> Value,
    /// Its objects' names, where not any name will do.
    name: Option<fn(u8) -> String>,
}

impl Sample {
    /// The object with this number of the namespace, or named and labelled for it.
    pub fn object(&self, ns: &str, number: u8) -> Value {
        let mut object = (self.body)(ns, number);
        let name = self.name.map_or_else(|| format!("{ns}-{number}"), |name| name(number));
        object["apiVersion"] = self.group_version.into();
        object["kind"] = self.kind.into();
        object["metadata"] = json!({"name": name, "labels": {"of": ns}});
        object
    }
}

/// A kind of namespaced objects.
pub const fn inside(
    group_version: &'static str,
    plural: &'static str,
    kind: &'static str,
    body: fn(&str, u8) -> Value,
) -> Sample {
    Sample { group_version, plural, kind, namespaced: true, status: Status::Absent, body, name: None }
}

/// A kind of the cluster's objects.
pub const fn outside(
    group_version: &'static str,
    plural: &'static str,
    kind: &'static str,
    body: fn(&str, u8) -> Value,
) -> Sample {
    Sample { group_version, plural, kind, namespaced: false, status: Status::Absent, body, name: None }
}

/// … whose status writes the metadata too.
pub const fn with_status(sample: Sample) -> Sample {
    Sample { status: Status::Metadata, ..sample }
}

/// … whose status writes nothing else.
pub const fn with_status_alone(sample: Sample) -> Sample {
    Sample { status: Status::Alone, ..sample }
}

/// … whose objects cannot have any name.
pub const fn named(sample: Sample, name: fn(u8) -> String) -> Sample {
    Sample { name: Some(name), ..sample }
}
