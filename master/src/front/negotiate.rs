//! Which form an answer takes, and which a body has.

use protocol::PatchKind;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object as it is.
    Object,
    /// A `Table` for people.
    Table,
    /// Metadata only.
    Partial,
    /// Aggregated discovery.
    Aggregated,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What a client accepts: the first of its choices that can be served; `None` when none can.
pub fn accept(header: &str) -> Option<(Form, Syntax)> {
    if header.trim().is_empty() {
        return Some((Form::Object, Syntax::Json));
    }
    header.split(',').find_map(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let syntax = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            _ => return None,
        };
        let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
        let get = |name: &str| parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let form = match get("as") {
            None => Form::Object,
            Some("Table") if get("g") == Some("meta.k8s.io") && get("v") == Some("v1") => Form::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Form::Partial,
            Some("APIGroupDiscoveryList") if get("v") == Some("v2") => Form::Aggregated,
            Some(_) => return None,
        };
        Some((form, syntax))
    })
}

/// What can be read of a body's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    /// JSON, also where nothing is said.
    Json,
    /// YAML.
    Yaml,
    /// Protobuf, in upstream's envelope.
    Protobuf,
    /// A patch.
    Patch(PatchKind),
}

/// A body's type by its Content-Type; `None` when it is not understood.
pub fn content_type(header: &str) -> Option<BodyType> {
    Some(match header.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => BodyType::Json,
        "application/yaml" => BodyType::Yaml,
        "application/vnd.kubernetes.protobuf" => BodyType::Protobuf,
        "application/json-patch+json" => BodyType::Patch(PatchKind::Json),
        "application/merge-patch+json" => BodyType::Patch(PatchKind::Merge),
        "application/strategic-merge-patch+json" => BodyType::Patch(PatchKind::Strategic),
        "application/apply-patch+yaml" => BodyType::Patch(PatchKind::Apply),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_choice_that_can_be_served_is_taken() {
        for (header, expected) in [
            ("", Some((Form::Object, Syntax::Json))),
            ("*/*", Some((Form::Object, Syntax::Json))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Form::Object, Syntax::Json))),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/yaml", Some((Form::Object, Syntax::Yaml))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some((Form::Table, Syntax::Json)),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
                Some((Form::Object, Syntax::Json)),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some((Form::Aggregated, Syntax::Json)),
            ),
        ] {
            assert_eq!(accept(header), expected, "{header}");
        }
    }
}
