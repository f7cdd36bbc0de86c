//! Media types: what the client sent, and what it wants back.

use protocol::PatchKind;

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
}

impl Syntax {
    /// The Content-Type.
    pub fn media_type(self) -> &'static str {
        match self {
            Syntax::Json => "application/json",
            Syntax::Yaml => "application/yaml",
        }
    }
}

/// What an answer shows of the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The objects.
    #[default]
    Object,
    /// A `Table`, of this version of `meta.k8s.io`.
    Table(&'static str),
    /// Their metadata only.
    Partial(&'static str),
    /// The aggregated discovery document, of this version of `apidiscovery.k8s.io`.
    Discovery(&'static str),
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// How it is written.
    pub syntax: Syntax,
    /// What it shows.
    pub shape: Shape,
}

/// A media type with its parameters, in lowercase but for values.
struct Range<'a> {
    kind: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn get(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| v)
    }
}

fn ranges(accept: &str) -> Vec<Range<'_>> {
    let mut found: Vec<(f32, Range<'_>)> = accept
        .split(',')
        .filter_map(|part| {
            let mut pieces = part.split(';').map(str::trim);
            let kind = pieces.next().filter(|k| !k.is_empty())?;
            let parameters: Vec<(&str, &str)> = pieces.filter_map(|p| p.split_once('=')).collect();
            let range = Range { kind, parameters };
            let weight = range.get("q").parse().unwrap_or(1.0);
            Some((weight, range))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, range)| range).collect()
}

/// The first acceptable form. `discovery` also offers the aggregated documents, and passes over transformations
/// that it does not know; elsewhere those are not acceptable.
pub fn form(accept: &str, discovery: bool) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::default());
    }
    ranges(accept).iter().find_map(|range| {
        let syntax = match range.kind {
            "application/json" | "*/*" | "application/*" => Syntax::Json,
            "application/yaml" | "application/x-yaml" => Syntax::Yaml,
            _ => return None,
        };
        let (group, version) = (range.get("g"), range.get("v"));
        let meta_version = match version {
            "v1" if group == "meta.k8s.io" => Some("v1"),
            "v1beta1" if group == "meta.k8s.io" => Some("v1beta1"),
            _ => None,
        };
        let shape = match range.get("as") {
            "" => Shape::Object,
            "Table" if !discovery => Shape::Table(meta_version?),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if !discovery => {
                Shape::Partial(meta_version?)
            }
            "APIGroupDiscoveryList" if discovery && group == "apidiscovery.k8s.io" => match version {
                "v2" => Shape::Discovery("v2"),
                "v2beta1" => Shape::Discovery("v2beta1"),
                _ => return None,
            },
            _ => return None,
        };
        Some(Form { syntax, shape })
    })
}

/// How a request's body is written; `None` for a type that is not understood.
pub fn body_syntax(content_type: &str) -> Option<Syntax> {
    match media_type(content_type).as_str() {
        "" | "application/json" => Some(Syntax::Json),
        "application/yaml" | "application/x-yaml" => Some(Syntax::Yaml),
        _ => None,
    }
}

/// The patch language that a Content-Type names.
pub fn patch_kind(content_type: &str) -> Option<PatchKind> {
    match media_type(content_type).as_str() {
        "application/json-patch+json" => Some(PatchKind::Json),
        "application/merge-patch+json" => Some(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Some(PatchKind::Strategic),
        "application/apply-patch+yaml" => Some(PatchKind::Apply),
        _ => None,
    }
}

fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_form_wins() {
        let object = |syntax| Some(Form { syntax, shape: Shape::Object });
        let table = |version| Some(Form { syntax: Syntax::Json, shape: Shape::Table(version) });
        for (accept, expected) in [
            ("", object(Syntax::Json)),
            ("*/*", object(Syntax::Json)),
            ("application/yaml", object(Syntax::Yaml)),
            ("text/html,application/json;q=0.5", object(Syntax::Json)),
            ("application/vnd.kubernetes.protobuf,application/json", object(Syntax::Json)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", table("v1")),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", table("v1beta1")),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
            ("application/json;q=0.1,application/yaml", object(Syntax::Yaml)),
            ("text/html", None),
        ] {
            assert_eq!(form(accept, false), expected, "{accept}");
        }
        let aggregated =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(form(aggregated, true).map(|f| f.shape), Some(Shape::Discovery("v2")));
    }
}
