//! Which form an answer takes, and which a body has, by upstream's rules.
//!
//! Upstream asks twice. Its router compares the bare media types of `Accept` and of a patch's `Content-Type`
//! with what a route makes and takes ([`produces`], [`consumes_patch`]); then the handler picks the best of the
//! client's choices, parameters included ([`choose`]). Both refuse in words of their own.

use protocol::{ApiError, PatchKind};
use serde_json::json;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object as it is.
    Object,
    /// A `Table` for people.
    Table,
    /// Metadata only, of one object.
    Partial,
    /// Metadata only, of a list.
    PartialList,
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
    /// Protobuf, in upstream's envelope.
    Protobuf,
}

impl Syntax {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Syntax::Json => JSON,
            Syntax::Yaml => YAML,
            Syntax::Protobuf => PROTOBUF,
        }
    }
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What a route that may also be watched makes besides.
const STREAMS: &[&str] =
    &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// What the handler behind a route can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The kind has a protobuf form (custom kinds have none).
    pub protobuf: bool,
    /// Objects may become metadata.
    pub transforms: bool,
    /// Objects may become Tables.
    pub tables: bool,
    /// Discovery may be aggregated.
    pub aggregates: bool,
    /// The answer is a stream of events, which YAML has no form for.
    pub stream: bool,
}

impl Offer {
    /// What errors are written in.
    pub const PLAIN: Offer =
        Offer { protobuf: true, transforms: false, tables: false, aggregates: false, stream: false };
    /// Objects of a kind.
    pub const OBJECTS: Offer = Offer { transforms: true, tables: true, ..Offer::PLAIN };
    /// Discovery documents that have an aggregated form.
    pub const DISCOVERY: Offer = Offer { aggregates: true, ..Offer::PLAIN };

    fn media_types(self) -> impl Iterator<Item = Syntax> {
        let all = [(Syntax::Json, true), (Syntax::Yaml, !self.stream), (Syntax::Protobuf, self.protobuf)];
        all.into_iter().filter_map(|(syntax, offered)| offered.then_some(syntax))
    }
}

/// An answer's form as the client chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its form.
    pub form: Form,
    /// `meta.k8s.io/v1beta1` was asked for, not `v1`.
    pub beta: bool,
    /// How it is written.
    pub syntax: Syntax,
    /// Indented.
    pub pretty: bool,
}

impl Chosen {
    /// The object itself, as JSON: what needs no work.
    pub const PLAIN: Chosen = Chosen { form: Form::Object, beta: false, syntax: Syntax::Json, pretty: false };

    /// What errors are written as: what is asked for, as far as an error can be that.
    pub fn for_errors(header: &str) -> Syntax {
        choose(header, Offer::PLAIN).map_or(Syntax::Json, |chosen| chosen.syntax)
    }

    /// What an error is written as, where this was chosen from a header for what went well: it has no other forms.
    pub fn of_error(self, header: &str) -> Chosen {
        match self.form {
            Form::Object => self,
            _ => Chosen { form: Form::Object, syntax: Chosen::for_errors(header), ..self },
        }
    }
}

struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

/// The clauses of an Accept header, best first.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = header
        .split(',')
        .filter_map(|part| {
            let mut words = part.split(';').map(str::trim);
            let (kind, subtype) = match words.next()? {
                "*" => ("*", "*"),
                range => range.split_once('/')?,
            };
            let parameters: Vec<(&str, &str)> =
                words.filter_map(|w| w.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
            let quality = parameters.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok());
            Some(Clause {
                kind: kind.trim(),
                subtype: subtype.trim(),
                parameters,
                quality: quality.unwrap_or(1.0),
            })
        })
        .collect();
    clauses.sort_by(|a, b| {
        let rank = |c: &Clause<'_>| (c.kind == "*", c.subtype == "*");
        b.quality.total_cmp(&a.quality).then(rank(a).cmp(&rank(b)))
    });
    clauses
}

/// The best of a client's choices that is on offer; `None` when none is.
pub fn choose(header: &str, offer: Offer) -> Option<Chosen> {
    // What most programs say, and nothing.
    if matches!(header.trim(), "" | JSON | "*/*") {
        return Some(Chosen::PLAIN);
    }
    clauses(header).iter().find_map(|clause| {
        offer.media_types().find_map(|syntax| {
            let (kind, subtype) = syntax.media_type().split_once('/')?;
            let matches = (clause.kind == kind && (clause.subtype == subtype || clause.subtype == "*"))
                || (clause.kind == "*" && clause.subtype == "*");
            if matches { with_parameters(clause, syntax, offer) } else { None }
        })
    })
}

/// The first of a client's choices that is aggregated discovery.
pub fn aggregated(header: &str) -> Option<Chosen> {
    clauses(header).iter().find_map(|clause| {
        Offer::DISCOVERY.media_types().find_map(|syntax| {
            let made = format!("{}/{}", clause.kind, clause.subtype) == syntax.media_type();
            let chosen = if made { with_parameters(clause, syntax, Offer::DISCOVERY) } else { None };
            chosen.filter(|chosen| chosen.form == Form::Aggregated)
        })
    })
}

fn with_parameters(clause: &Clause<'_>, syntax: Syntax, offer: Offer) -> Option<Chosen> {
    let get = |name: &str| clause.parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    // Saying that a watch would be read too does no harm to other answers.
    if get("stream").is_some_and(|stream| stream != "watch" || syntax == Syntax::Yaml) {
        return None;
    }
    let (group, version) = (get("g").unwrap_or_default(), get("v").unwrap_or_default());
    let wanted = get("as").unwrap_or_default();
    let meta = group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
    let form = match wanted {
        "" if group.is_empty() && version.is_empty() => Form::Object,
        "Table" if offer.tables && meta && syntax != Syntax::Protobuf => Form::Table,
        "PartialObjectMetadata" if offer.transforms && meta => Form::Partial,
        "PartialObjectMetadataList" if offer.transforms && meta => Form::PartialList,
        "APIGroupDiscoveryList" if offer.aggregates && group == "apidiscovery.k8s.io" && version == "v2" => {
            Form::Aggregated
        }
        _ => return None,
    };
    Some(Chosen { form, beta: version == "v1beta1", syntax, pretty: get("pretty") == Some("1") })
}

/// The router's look at what a client accepts. `watchable` routes make streams as well.
pub fn produces(header: &str, watchable: bool) -> Result<(), ApiError> {
    if header == JSON {
        return Ok(());
    }
    let streams = STREAMS.iter().copied().filter(|_| watchable);
    made_as(header, &[JSON, YAML, PROTOBUF].into_iter().chain(streams).collect::<Vec<_>>())
}

/// The same for a route whose document has no form but JSON.
pub fn produces_json(header: &str) -> Result<(), ApiError> {
    made_as(header, &[JSON])
}

/// The same for a route whose document has one form that is not of the usual ones.
pub fn produces_only(header: &str, media: &str) -> Result<(), ApiError> {
    made_as(header, &[media])
}

/// What is made of the range that a client likes best of those that anything can be made of, whatever their
/// parameters; a client that says nothing takes anything.
pub fn preferred<T>(header: &str, mut made: impl FnMut(&str) -> Option<T>) -> Option<T> {
    if header.is_empty() {
        return made("*/*");
    }
    clauses(header).iter().find_map(|clause| made(&format!("{}/{}", clause.kind, clause.subtype)))
}

/// Whether a client reads pages for people.
pub fn reads_text(header: &str) -> bool {
    header.is_empty() || bare_types(header).any(|t| matches!(t, "*/*" | "text/*" | "text/plain"))
}

/// The media types of a header, without their parameters.
fn bare_types(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(|part| part.split(';').next().unwrap_or_default().trim())
}

fn made_as(header: &str, made: &[&str]) -> Result<(), ApiError> {
    if header.is_empty() || bare_types(header).any(|t| t == "*/*" || made.contains(&t)) {
        return Ok(());
    }
    let message = format!("406: Not Acceptable\n\nAvailable representations: {}", made.join(", "));
    Err(ApiError::about(406, "NotAcceptable", message, json!({})))
}

/// The handler's refusal of a watch that nobody can read.
pub fn no_stream(offer: Offer) -> ApiError {
    let types: Vec<String> =
        offer.media_types().map(|t| format!("{};stream=watch", t.media_type())).collect();
    only(&types.join(", "))
}

fn only(types: &str) -> ApiError {
    ApiError::new(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
}

/// The refusal of a page that is made for people, and of structures that it does not have here.
pub fn no_page() -> ApiError {
    only("application/json, application/yaml, text/plain")
}

/// The handler's refusal when nothing that a client accepts is on offer. It names protobuf for kinds that have none, too.
pub fn not_acceptable(offer: Offer) -> ApiError {
    let types: Vec<&str> = Offer { protobuf: true, ..offer }.media_types().map(Syntax::media_type).collect();
    only(&types.join(", "))
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
}

/// The type of an object's body by its Content-Type.
pub fn content_type(header: &str) -> Result<BodyType, ApiError> {
    let (kind, parameters) = header.split_once(';').unwrap_or((header, ""));
    match kind.trim().to_ascii_lowercase().as_str() {
        "" if header.is_empty() => Ok(BodyType::Json),
        JSON if are_parameters(parameters) => Ok(BodyType::Json),
        YAML if are_parameters(parameters) => Ok(BodyType::Yaml),
        PROTOBUF if are_parameters(parameters) => Ok(BodyType::Protobuf),
        _ => Err(unknown_format(&[JSON, YAML, PROTOBUF])),
    }
}

/// The handler's refusal of a body that is in none of these types.
fn unknown_format(types: &[&str]) -> ApiError {
    let types = types.join(", ");
    let message =
        format!("the body of the request was in an unknown format - accepted media types include: {types}");
    ApiError::new(415, "UnsupportedMediaType", message)
}

/// Whether what follows a media type is `name=value`, of tokens or quoted texts, with semicolons between them, and no
/// name has two values.
fn are_parameters(text: &str) -> bool {
    let token = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c);
    let mut rest = text.trim();
    let mut values = std::collections::BTreeMap::new();
    while !rest.is_empty() {
        let Some((name, value)) = rest.split_once('=') else { return false };
        let (name, value) = (name.trim(), value.trim_start());
        if name.is_empty() || !name.chars().all(token) {
            return false;
        }
        let end = match value.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map(|end| end + 2),
            None => Some(value.find(|c: char| !token(c)).unwrap_or(value.len())).filter(|end| *end > 0),
        };
        let Some(end) = end else { return false };
        let said = value[..end].trim_matches('"');
        if values.insert(name.to_ascii_lowercase(), said).is_some_and(|before| before != said) {
            return false;
        }
        rest = value[end..].trim_start();
        match rest.strip_prefix(';') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => {}
            None => return false,
        }
    }
    true
}

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// The router's look at a patch's Content-Type.
pub fn consumes_patch(header: &str) -> Result<PatchKind, ApiError> {
    media_types(header)
        .find_map(|media_type| {
            Some(match media_type {
                JSON_PATCH => PatchKind::Json,
                MERGE_PATCH => PatchKind::Merge,
                STRATEGIC_PATCH => PatchKind::Strategic,
                APPLY_PATCH => PatchKind::Apply,
                _ => return None,
            })
        })
        .ok_or_else(not_consumed)
}

/// The look at a patch of a declared kind, which has no strategy of its fields: of the one handler that they all share.
pub fn consumes_declared_patch(header: &str) -> Result<(), ApiError> {
    const TYPES: &[&str] = &[JSON_PATCH, MERGE_PATCH, APPLY_PATCH];
    let given = header.split(';').next().unwrap_or_default();
    if TYPES.contains(&given) { Ok(()) } else { Err(unknown_format(TYPES)) }
}

/// The router's look at the Content-Type of who asks for a document: a body, which nobody reads, would have to be one.
pub fn consumes_document(header: &str) -> Result<(), ApiError> {
    let fits = header.is_empty() || media_types(header).any(|given| [JSON, YAML, PROTOBUF].contains(&given));
    if fits { Ok(()) } else { Err(not_consumed()) }
}

fn media_types(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(|part| part.split(';').next().unwrap_or_default().trim())
}

fn not_consumed() -> ApiError {
    ApiError::about(415, "UnsupportedMediaType", "415: Unsupported Media Type", json!({}))
}

/// Whether an answer is to be indented: asked for by the query, or a browser or `curl` that says nothing.
pub fn wants_pretty(query: Option<&str>, user_agent: &str) -> bool {
    match query {
        Some(value) => !matches!(value, "0" | "false" | "False" | "FALSE" | "f" | "F"),
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|agent| user_agent.starts_with(agent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_choice_on_offer_is_taken() {
        use Form::{Aggregated, Object, Partial, PartialList, Table};
        use Syntax::{Json, Protobuf, Yaml};
        for (header, expected) in [
            ("", Some((Object, Json))),
            ("*/*", Some((Object, Json))),
            ("application/*", Some((Object, Json))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Object, Protobuf))),
            ("application/vnd.kubernetes.protobuf;q=0.5,application/json", Some((Object, Json))),
            ("*/*, application/yaml", Some((Object, Yaml))),
            ("text/html", None),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Table, Json))),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Some((Table, Json))),
            ("application/json;as=Table;v=v2;g=meta.k8s.io, application/json", Some((Object, Json))),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
                Some((Partial, Protobuf)),
            ),
            ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", Some((PartialList, Json))),
            ("application/json;stream=watch", Some((Object, Json))),
            ("application/yaml;stream=watch", None),
        ] {
            let got = choose(header, Offer::OBJECTS).map(|c| (c.form, c.syntax));
            assert_eq!(got, expected, "{header}");
        }
        let aggregated =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let got = choose(aggregated, Offer::DISCOVERY).map(|c| c.form);
        assert_eq!(got, Some(Aggregated));
        let packed = aggregated.replace("application/json;", "application/vnd.kubernetes.protobuf;");
        let got = choose(&packed, Offer::DISCOVERY).map(|c| (c.form, c.syntax));
        assert_eq!(got, Some((Aggregated, Protobuf)));
        assert_eq!(choose(aggregated, Offer::OBJECTS).map(|c| c.form), Some(Object));
        let watch = Offer { stream: true, ..Offer::OBJECTS };
        assert_eq!(choose("application/yaml", watch), None);
        assert_eq!(choose("application/json;stream=watch", watch).map(|c| c.syntax), Some(Json));
        let review = Offer { tables: false, ..Offer::OBJECTS };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(choose(table, review), None);
        assert_eq!(
            choose(&table.replace("Table", "PartialObjectMetadata"), review).map(|c| c.form),
            Some(Partial)
        );
        let custom = Offer { protobuf: false, ..Offer::OBJECTS };
        assert_eq!(choose("application/vnd.kubernetes.protobuf", custom), None);
    }

    #[test]
    fn the_aggregated_form_is_found_wherever_it_is_asked_for() {
        let wanted = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        for header in
            [wanted.to_owned(), format!("application/json,{wanted}"), format!("*/*, {wanted};q=0.5")]
        {
            assert_eq!(aggregated(&header).map(|chosen| chosen.form), Some(Form::Aggregated), "{header}");
        }
        for header in ["", "*/*", "application/json", &wanted.replace("v=v2", "v=v9")] {
            assert_eq!(aggregated(header), None, "{header}");
        }
    }

    #[test]
    fn the_router_compares_bare_types() {
        for (header, fits) in [
            ("", true),
            ("*/*", true),
            ("application/*", false),
            ("text/html, application/json;q=0.1", true),
            ("text/html", false),
        ] {
            assert_eq!(produces(header, false).is_ok(), fits, "{header}");
        }
        for (header, kind) in [
            ("application/merge-patch+json; charset=utf-8", Some(PatchKind::Merge)),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(consumes_patch(header).ok(), kind, "{header}");
        }
        for (header, declared, document) in [
            ("", false, true),
            ("application/merge-patch+json; charset=utf-8", true, false),
            ("application/strategic-merge-patch+json", false, false),
            ("application/json;charset=utf-8", false, true),
            ("Application/JSON", false, false),
        ] {
            assert_eq!(consumes_declared_patch(header).is_ok(), declared, "{header}");
            assert_eq!(consumes_document(header).is_ok(), document, "{header}");
        }
        assert_eq!(content_type("Application/JSON"), Ok(BodyType::Json));
        assert!(content_type("text/plain").is_err());
        for (parameters, fit) in [
            ("", true),
            ("; charset=utf-8", true),
            (";charset=\"utf-8\"; a=b;", true),
            ("; charset", false),
            (";a=", false),
            (";=a", false),
            (";a=b c", false),
            (";a=b;A=\"b\"", true),
            (";a=b;a=c", false),
        ] {
            assert_eq!(content_type(&format!("application/yaml{parameters}")).is_ok(), fit, "{parameters}");
        }
        assert!(content_type(";").is_err());
    }
}
