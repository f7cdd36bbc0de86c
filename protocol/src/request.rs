//! What every client of the API says, whichever door it comes through.
//!
//! The HTTP front, a node's link and in-process controllers all produce the same [`ApiRequest`]; one
//! pipeline answers them with an [`ApiResponse`] or a stream of [`WatchEvent`]s. Objects travel as JSON
//! bytes, because typed Kubernetes structs skip absent fields and cannot cross bincode.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use actors::TraceContext;
use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, Serialize};

/// What the caller wants done. Names and meaning are those that RBAC rules use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection.
    Watch,
    /// Make a new object (or call a create-only subresource such as `binding`).
    Create,
    /// Replace an object.
    Update,
    /// Change an object by a patch.
    Patch,
    /// Delete one object.
    Delete,
    /// Delete every matching object of a collection.
    DeleteCollection,
}

impl Verb {
    /// The verb as RBAC rules and audit records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    /// Whether the verb may change stored state.
    pub fn is_write(self) -> bool {
        !matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which resource, collection or object a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Plural resource name, such as `pods`.
    pub resource: String,
    /// Namespace; `None` for cluster-scoped resources and for requests across all namespaces.
    pub namespace: Option<String>,
    /// Object name; `None` for requests on the collection.
    pub name: Option<String>,
    /// Subresource, such as `status`.
    pub subresource: Option<String>,
}

/// A patch's language, as its Content-Type names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatchKind {
    /// `application/json-patch+json` (RFC 6902).
    Json,
    /// `application/merge-patch+json` (RFC 7386).
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml` (server-side apply).
    Apply,
}

/// Request options: the query parameters of the REST API, and the body of a DELETE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Label selector, unparsed.
    pub label_selector: Option<String>,
    /// Field selector, unparsed.
    pub field_selector: Option<String>,
    /// `resourceVersion` of a list, get or watch.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`: `Exact` or `NotOlderThan`.
    pub resource_version_match: Option<String>,
    /// At most this many items in one list answer; 0 is no limit.
    pub limit: u64,
    /// Continue token of a chunked list.
    pub continue_token: Option<String>,
    /// Ends a watch after this many seconds.
    pub timeout_seconds: Option<u64>,
    /// The watch was asked for by its path alone (`/watch/…`): upstream takes its options for a list's.
    pub watch_by_path: bool,
    /// Asks a watch for bookmarks.
    pub allow_watch_bookmarks: bool,
    /// Asks a watch to begin with synthetic ADDED events and a marked bookmark.
    pub send_initial_events: Option<bool>,
    /// Validate and answer, but store nothing.
    pub dry_run: bool,
    /// Who the changed fields belong to.
    pub field_manager: Option<String>,
    /// `Ignore`, `Warn` or `Strict`.
    pub field_validation: Option<String>,
    /// Server-side apply takes fields over from other managers.
    pub force: bool,
    /// Seconds until a gracefully deleted object goes; `None` leaves it to the object.
    pub grace_period_seconds: Option<i64>,
    /// `Orphan`, `Background` or `Foreground`.
    pub propagation_policy: Option<String>,
    /// Deprecated spelling of the orphan policy.
    pub orphan_dependents: Option<bool>,
    /// Write only if the object's uid is this one.
    pub precondition_uid: Option<String>,
    /// Write only if the object's resourceVersion is this one.
    pub precondition_resource_version: Option<String>,
    /// Query parameters that only a subresource understands (log's `follow`, exec's `command`), in order.
    pub extra: Vec<(String, String)>,
}

/// Who asks: the outcome of authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// User name.
    pub user: String,
    /// Unique id, where the authenticator knows one.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// A component's own identity, such as `system:controller:deployment-controller`.
    pub fn component(user: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        groups.push("system:authenticated".to_owned());
        Caller { user: user.into(), groups, ..Caller::default() }
    }
}

/// One request to the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRequest {
    /// Set by the door that authenticated the caller; what a link peer writes here is overwritten.
    pub caller: Arc<Caller>,
    /// What to do.
    pub verb: Verb,
    /// On what.
    pub target: Target,
    /// How.
    pub options: Options,
    /// The patch language; `Some` exactly when `verb` is [`Verb::Patch`].
    pub patch: Option<PatchKind>,
    /// The object, patch or delete options as JSON (an apply patch may be YAML); empty for reads.
    pub body: Bytes,
    /// The client's User-Agent; the default field manager is its first path segment.
    pub user_agent: String,
}

impl ApiRequest {
    /// A request with default options, no body and an empty caller (the door fills that in).
    pub fn new(verb: Verb, target: Target) -> Self {
        ApiRequest {
            caller: Arc::default(),
            verb,
            target,
            options: Options::default(),
            patch: None,
            body: Bytes::new(),
            user_agent: String::new(),
        }
    }
}

/// The answer to one request: always an object, a list or a `Status`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiResponse {
    /// HTTP status code.
    pub code: u16,
    /// JSON bytes; a `Status` when `code` is 400 or more.
    pub body: Bytes,
    /// Store revision of the object, or of the list; 0 where there is none.
    pub revision: u64,
    /// Warning texts for the `Warning` header.
    pub warnings: Vec<String>,
}

/// What happened to a watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WatchKind {
    /// It came into the watched set.
    Added,
    /// It changed and stays in the set.
    Modified,
    /// It left the set; the object is its last state.
    Deleted,
    /// Nothing changed; the object carries only a resourceVersion.
    Bookmark,
    /// The watch ends; the object is a `Status`.
    Error,
}

impl WatchKind {
    /// The event type as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            WatchKind::Added => "ADDED",
            WatchKind::Modified => "MODIFIED",
            WatchKind::Deleted => "DELETED",
            WatchKind::Bookmark => "BOOKMARK",
            WatchKind::Error => "ERROR",
        }
    }
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchKind,
    /// The object (or `Status`) as JSON, shared with the cache that it came from.
    pub object: Bytes,
    /// Store revision of the change.
    pub revision: u64,
    /// The message whose handler made the change, so that causes survive the store and the link.
    pub trace: TraceContext,
}

/// A running watch. It ends when the server ends it; dropping it ends it too.
pub type WatchStream = Pin<Box<dyn Stream<Item = WatchEvent> + Send>>;
