//! API aggregation: groups that other servers serve, and that clients find here like any other.
//!
//! An APIService names the Service behind a version of a group. Requests for it are authenticated, authorized,
//! audited and seated here, and then carried there: over TLS on which this server shows its front proxy's
//! certificate, with headers that say on whose behalf. What such a server answers is given back as it is.
//!
//! - [`services`]: what is registered. - [`identity`]: who this server is to the others, and whom it speaks for.
//! - [`reach`]: connections to them, and small questions of our own. - [`serve`]: clients' requests.
//! - [`known`]: what their documents said when they were last read. - [`documents`], [`openapi`]: discovery and
//!   OpenAPI, joined. Whether a server is there is found out by `controllers::api_services`.
//!
//! One broken server breaks nothing but itself: documents are joined from what is known already, never by asking.

pub mod discovered;
pub mod documents;
pub mod identity;
pub mod known;
pub mod openapi;
pub mod reach;
pub mod serve;
pub mod services;

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::streams::NodeStreams;

use crate::api::custom::Catalog;
use crate::auth::request_header::RequestHeaders;
use crate::cache::Cache;

use documents::Joined;
use identity::FrontProxy;
use known::Known;
use services::{Backend, Registered};

/// Who a question of this server's own is asked as.
pub const AGGREGATOR: &str = "system:kube-aggregator";

/// The way to other API servers. Cheap to clone.
#[derive(Clone)]
pub struct Aggregation {
    cache: Cache,
    nodes: Arc<dyn NodeStreams>,
    identity: Arc<FrontProxy>,
    known: Known,
    /// Headers that say on whose behalf somebody asks: only ours are carried on.
    hidden: Arc<RequestHeaders>,
    joined: Arc<Mutex<Option<Arc<Joined>>>>,
}

impl std::fmt::Debug for Aggregation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregation").finish_non_exhaustive()
    }
}

impl Aggregation {
    /// Finds what is registered in a cache, and reaches servers in pods through their nodes.
    pub fn new(cache: Cache, nodes: Arc<dyn NodeStreams>, identity: FrontProxy) -> Self {
        Aggregation {
            cache,
            nodes,
            identity: Arc::new(identity),
            known: Known::default(),
            hidden: Arc::default(),
            joined: Arc::default(),
        }
    }

    /// Hides from the servers what they would believe of whoever asks here.
    pub fn hiding(mut self, headers: RequestHeaders) -> Self {
        self.hidden = Arc::new(headers);
        self
    }

    /// The nodes through which pods are reached.
    pub fn nodes(&self) -> Arc<dyn NodeStreams> {
        self.nodes.clone()
    }

    /// What is known of the servers' documents.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Who serves a path; `None` for what is served here.
    pub fn behind(&self, path: &str) -> Option<Arc<Backend>> {
        let mut segments = path.strip_prefix("/apis/")?.splitn(3, '/');
        self.backend(segments.next()?, segments.next()?)
    }

    /// Who serves a version of a group; `None` for what is served here.
    pub fn backend(&self, group: &str, version: &str) -> Option<Arc<Backend>> {
        // Nobody else serves the core group.
        if group.is_empty() {
            return None;
        }
        self.cache.derived::<Registered>().backend(group, version)
    }

    /// Our documents joined with those of the others; `None` where there are no others.
    pub fn joined(&self, catalog: &Arc<Catalog>) -> Option<Arc<Joined>> {
        let registered = self.cache.derived::<Registered>();
        if registered.is_empty() {
            return None;
        }
        let known = self.known.all();
        let mut held = self.joined.lock();
        if let Some(joined) = held.as_ref().filter(|joined| joined.is_of(catalog, &registered, &known)) {
            return Some(joined.clone());
        }
        let joined = Arc::new(Joined::new(catalog.clone(), registered, known));
        *held = Some(joined.clone());
        Some(joined)
    }
}
