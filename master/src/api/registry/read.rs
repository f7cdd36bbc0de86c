//! Reading objects and collections from the snapshot.

use std::sync::Arc;

use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{NO_PAD, URL_SAFE_NO_PAD};
use base64::engine::{Engine, GeneralPurpose};
use bytes::{BufMut, Bytes, BytesMut};
use protocol::schema::{self, written};
use protocol::{ApiError, ApiRequest, FieldSelector, Options, Selector, Verb};
use serde_json::{Value, json};

use super::options::said;
use super::{Answer, Subject, options, view};
use crate::api::pipeline::Inner;
use crate::api::{kinds, object};
use crate::cache::{Snapshot, Stored};
use crate::store::{KeyRange, Range, StoreError};

/// The selectors of a request, parsed and checked.
#[derive(Clone, Default)]
pub struct Choice {
    /// On labels.
    pub labels: Selector,
    /// On fields, under the names that the stored kind has.
    pub fields: FieldSelector,
}

impl Choice {
    /// Reads a request's selectors.
    pub fn of(request: &ApiRequest, subject: &Subject<'_>) -> Result<Self, ApiError> {
        let bad = |e: protocol::selector::SelectorError| ApiError::bad_request(e.0);
        let labels =
            request.options.label_selector.as_deref().map(Selector::parse).transpose().map_err(bad)?;
        let fields =
            request.options.field_selector.as_deref().map(FieldSelector::parse).transpose().map_err(bad)?;
        let mut fields = fields.unwrap_or_default();
        for requirement in &mut fields.requirements {
            requirement.field = stored_field(subject, &requirement.field)?;
        }
        Ok(Choice { labels: labels.unwrap_or_default(), fields })
    }

    /// Whether every object is chosen.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.requirements.is_empty()
    }

    /// Whether an object is chosen.
    pub fn matches(&self, stored: &Stored) -> bool {
        self.labels.matches_by(|key| stored.meta.labels.get(key))
            && self.fields.matches(|path| stored.field(path))
    }
}

/// A field label under the name that the stored kind has for it.
fn stored_field(subject: &Subject<'_>, field: &str) -> Result<String, ApiError> {
    let resource = subject.resource;
    let common =
        field == "metadata.name" || (field == "metadata.namespace" && kinds::selects_namespace(resource));
    if common {
        return Ok(field.to_owned());
    }
    if !resource.selectable.contains(&field) {
        return Err(ApiError::bad_request(kinds::unknown_field(resource, field)));
    }
    Ok(match field.strip_prefix("regarding.") {
        Some(rest) => format!("involvedObject.{rest}"),
        None if field == "reportingController" => "reportingComponent".to_owned(),
        None => field.to_owned(),
    })
}

/// What a list found.
pub struct Chosen {
    /// The objects, in key order.
    pub items: Vec<Arc<Stored>>,
    /// The revision that the list shows.
    pub revision: u64,
    /// Where the next chunk begins, and how many objects are left.
    pub next: Option<(String, usize)>,
}

impl Chosen {
    /// The list's own metadata.
    pub fn meta(&self, request: &ApiRequest, subject: &Subject<'_>) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some((after, left)) = &self.next {
            meta["continue"] = encode_continue(i64::try_from(self.revision).unwrap_or(-1), after).into();
            let selective =
                request.options.label_selector.is_some() || request.options.field_selector.is_some();
            if !selective {
                meta["remainingItemCount"] = (*left).into();
            }
        }
        if subject.resource.custom && meta.get("continue").is_none() {
            meta["continue"] = "".into();
        }
        meta
    }
}

/// Where a chunked list goes on.
struct Continue {
    revision: u64,
    after: String,
}

/// What a token says that it is.
const CONTINUE_FORM: &str = "meta.k8s.io/v1";

/// Reads what Go reads: bits that are left over in the end may be anything.
const TOKENS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// A token; revision -1 goes on with whatever is there by then.
fn encode_continue(revision: i64, after: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": CONTINUE_FORM, "rv": revision, "start": after}).to_string())
}

fn decode_continue(token: &str) -> Result<Continue, ApiError> {
    let bad = |why: &str| {
        ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let bytes = TOKENS.decode(token).map_err(|_| bad("illegal base64 data at input byte 0"))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        bad(&protocol::schema::syntax::error(&bytes).unwrap_or_else(|| error.to_string()))
    })?;
    let form = value["v"].as_str().unwrap_or_default();
    if form != CONTINUE_FORM {
        return Err(bad(&format!("server does not recognize this encoded version {form}")));
    }
    let revision = value["rv"].as_i64().unwrap_or_default();
    if revision == 0 {
        return Err(bad(&format!("incorrect encoded start resourceVersion (version {CONTINUE_FORM})")));
    }
    let start = value["start"].as_str().unwrap_or_default();
    if start.is_empty() {
        return Err(bad(&format!("encoded start key empty (version {CONTINUE_FORM})")));
    }
    // A key goes down, never up again, and has no empty parts.
    if start.trim_start_matches('/').split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad(start));
    }
    Ok(Continue { revision: u64::try_from(revision).unwrap_or(0), after: start.to_owned() })
}

impl Inner {
    /// Reads one object.
    pub async fn get(&self, request: &ApiRequest, subject: Subject<'_>) -> Result<Answer, ApiError> {
        let version = request.options.resource_version.as_deref();
        options::storage_revision(version.unwrap_or_default())?;
        let snapshot = self.snapshot_for(version).await?;
        let stored = self.found(&subject, &snapshot).await?;
        Ok(Answer {
            code: 200,
            body: view(&subject, stored.json.clone(), stored.revision)?,
            revision: stored.revision,
        })
    }

    /// The snapshot that a resourceVersion asks for: none is the newest, `0` whatever is there.
    async fn snapshot_for(&self, version: Option<&str>) -> Result<Arc<Snapshot>, ApiError> {
        match version.unwrap_or_default() {
            "" => self.fresh().await,
            "0" => Ok(self.cache.snapshot()),
            version => {
                let revision = options::revision(version)?;
                self.at_least(revision).await
            }
        }
    }

    /// Chooses the objects of a collection.
    pub async fn select(&self, request: &ApiRequest, subject: &Subject<'_>) -> Result<Chosen, ApiError> {
        let choice = Choice::of(request, subject)?;
        let list = &request.options;
        let token =
            list.continue_token.as_deref().filter(|t| !t.is_empty()).map(decode_continue).transpose()?;
        let version = list.resource_version.as_deref().unwrap_or_default();
        options::revision(version)?;
        // What goes on is of the version that it began with.
        if token.is_some() && !matches!(version, "" | "0") {
            let why = "specifying resource version is not allowed when using continue";
            return Err(ApiError::bad_request(why));
        }
        // A collection is deleted as it was at the version that is named, where nothing else is said.
        let matching = said(&list.resource_version_match);
        let deletes =
            request.verb == Verb::DeleteCollection && !matches!(version, "" | "0") && matching.is_none();
        let exact = matching == Some("Exact") && !version.is_empty() || deletes;
        let at = match &token {
            Some(token) => Some(token.revision).filter(|r| *r != 0),
            None if exact => Some(options::revision(version)?),
            None => None,
        };
        // What is exact may lie in the future, which is told at once.
        let snapshot = self.snapshot_for(if token.is_some() || exact { None } else { Some(version) }).await?;
        let after = token.as_ref().map(|t| format!("{}{}", subject.stored.prefix(""), t.after));
        // Whatever there is comes whole.
        let asked = if version == "0" && kinds::is_held(subject.stored) { 0 } else { list.limit };
        let limit = usize::try_from(asked).unwrap_or(usize::MAX);
        let key_ns = if subject.resource.namespaced { subject.namespace } else { "" };
        match at {
            // Also where nothing changed since: who lists in pieces must not take for ever.
            Some(revision) if revision < self.cache.forgotten() => Err(compacted()),
            // The past that nobody changed since is the present.
            Some(revision)
                if revision != snapshot.revision()
                    && snapshot.kind_revision(subject.stored.group, subject.stored.plural) > revision =>
            {
                self.select_past(subject, &choice, revision, after, limit).await
            }
            Some(revision) if revision > snapshot.revision() => {
                Err(super::too_large(revision, snapshot.revision(), None))
            }
            at => {
                let (group, plural) = (subject.stored.group, subject.stored.plural);
                let all = match &after {
                    Some(after) => snapshot.list_after(group, plural, key_ns, after),
                    None => snapshot.list(group, plural, key_ns),
                };
                let revision = at.unwrap_or(snapshot.revision());
                let converts = subject.custom.is_some_and(|custom| custom.webhook.is_some());
                if converts && !choice.is_everything() {
                    // What is selected is seen in the version asked for.
                    let all: Vec<_> = all.cloned().collect();
                    let all = self.in_version(subject, all).await?;
                    return Ok(cut(all.into_iter().filter(|s| choice.matches(s)), limit, revision, subject));
                }
                let chosen = cut(all.filter(|s| choice.matches(s)).cloned(), limit, revision, subject);
                Ok(Chosen { items: self.in_version(subject, chosen.items).await?, ..chosen })
            }
        }
    }

    /// A list as of an older revision, which only the store still has.
    async fn select_past(
        &self,
        subject: &Subject<'_>,
        choice: &Choice,
        revision: u64,
        after: Option<String>,
        limit: usize,
    ) -> Result<Chosen, ApiError> {
        let range = Range {
            keys: KeyRange::Prefix(subject.stored.prefix(subject.namespace)),
            start_after: after,
            limit: 0,
            revision: Some(revision),
        };
        let result = self.store.range(range).await.map_err(|e| match e {
            StoreError::Compacted { .. } => compacted(),
            other => super::store_error(other),
        })?;
        let all: Vec<_> = result.records.into_iter().filter_map(|r| self.cache.stored(r)).collect();
        let all = self.in_version(subject, all).await?;
        let chosen = all.into_iter().filter(|s| choice.matches(s));
        Ok(cut(chosen, limit, revision, subject))
    }

    /// Lists a collection. The body goes to `pieces`, where there are any.
    pub async fn list(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        pieces: Option<&mut Vec<Bytes>>,
    ) -> Result<Answer, ApiError> {
        options::check_list(request)?;
        let chosen = match self.select(request, &subject).await {
            Err(error) if is_expired(&error) => return Ok(expired(&request.options)),
            chosen => chosen?,
        };
        let made = list_pieces(&subject, &chosen.items, &chosen.meta(request, &subject))?;
        let body = match pieces {
            Some(pieces) => {
                *pieces = made;
                Bytes::new()
            }
            None => joined(&made),
        };
        Ok(Answer { code: 200, body, revision: chosen.revision })
    }
}

fn cut(all: impl Iterator<Item = Arc<Stored>>, limit: usize, revision: u64, subject: &Subject<'_>) -> Chosen {
    if limit == 0 {
        return Chosen { items: all.collect(), revision, next: None };
    }
    let mut items = Vec::new();
    let mut left = 0;
    for stored in all {
        if items.len() < limit {
            items.push(stored);
        } else {
            left += 1;
        }
    }
    let prefix = subject.stored.prefix("");
    let next = items.last().filter(|_| left > 0).map(|last| (last.key[prefix.len()..].to_owned(), left));
    Chosen { items, revision, next }
}

/// The answer to a list as of a revision that is gone.
fn compacted() -> ApiError {
    ApiError::new(410, "Expired", "The resourceVersion for the provided list is too old.")
}

/// Whether the history that a list needs is gone.
pub fn is_expired(error: &ApiError) -> bool {
    *error == compacted()
}

/// The answer to a list whose history is gone. Who was in the midst of it gets a token to go on with, at the
/// price of a list that is of no single revision.
pub fn expired(list: &Options) -> Answer {
    let token = list.continue_token.as_deref().filter(|t| !t.is_empty());
    let Some(after) = token.and_then(|token| decode_continue(token).ok()) else {
        return Answer::json(410, &compacted().to_status());
    };
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                   new list without the continue parameter, or use the continue token in this response to retrieve \
                   the remainder of the results. Continuing with the provided token results in an inconsistent list \
                   - objects that were created, modified, or deleted between the time the first chunk was returned \
                   and now may show up in the list.";
    let mut status = ApiError::new(410, "Expired", message).to_status();
    status["metadata"]["continue"] = encode_continue(-1, &after.after).into();
    Answer::json(410, &status)
}

/// A list's JSON, whole.
pub fn list_body(subject: &Subject<'_>, items: &[Arc<Stored>], meta: &Value) -> Result<Bytes, ApiError> {
    Ok(joined(&list_pieces(subject, items, meta)?))
}

fn joined(pieces: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| whole.put_slice(piece));
    whole.freeze()
}

/// A list's JSON, in pieces: most of them are the items' stored bytes, without kind and apiVersion. Nothing of them is
/// copied.
fn list_pieces(subject: &Subject<'_>, items: &[Arc<Stored>], meta: &Value) -> Result<Vec<Bytes>, ApiError> {
    let resource = subject.resource;
    let head = object::head(resource);
    let mut pieces = Vec::with_capacity(2 * items.len() + 2);
    let (kind, version) = (resource.list_kind, resource.api_version());
    // What Go has no types for it prints sorted.
    let (opening, end) = if resource.custom {
        let end = format!("],\"kind\":\"{kind}\",\"metadata\":{meta}}}");
        (format!("{{\"apiVersion\":\"{version}\",\"items\":["), end)
    } else {
        let meta = written::of(schema::definition("m.ListMeta"), meta);
        let meta = String::from_utf8_lossy(&meta);
        let opening =
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{meta},\"items\":[");
        (opening, "]}".to_owned())
    };
    pieces.push(Bytes::from(opening));
    for (i, stored) in items.iter().enumerate() {
        let json = view(subject, stored.json.clone(), stored.revision)?;
        let whole =
            |bytes: Bytes| if i > 0 { [Bytes::from_static(b","), bytes] } else { [Bytes::new(), bytes] };
        if resource.custom {
            // Items of declared kinds say what they are.
            pieces.extend(whole(json));
        } else if json.starts_with(head.as_bytes()) && json.get(head.len()) == Some(&b',') {
            // `{"kind":…,"apiVersion":…,"metadata":…}` becomes `{"metadata":…}`.
            pieces.push(Bytes::from_static(if i > 0 { b",{" } else { b"{" }));
            pieces.push(json.slice(head.len() + 1..));
        } else {
            // Written by somebody else, in another order.
            let mut value: Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
            if let Some(map) = value.as_object_mut() {
                map.remove("kind");
                map.remove("apiVersion");
            }
            pieces.extend(whole(Bytes::from(written::of(Some(subject.definition), &value))));
        }
    }
    pieces.push(Bytes::from(end));
    Ok(pieces)
}
