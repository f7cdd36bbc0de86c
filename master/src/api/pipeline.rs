//! The one pipeline that every door feeds: authorization, admission, registry.
//!
//! HTTP, the node links and in-process callers all bring an [`ApiRequest`] whose caller is authenticated;
//! what happens then is the same for all of them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::{Api, ApiError, ApiRequest, ApiResponse, Caller, DualRange, Verb, WatchStream};
use serde_json::json;

use super::admission::config::AdmissionConfig;
use super::custom::Catalog;
use super::custom::catalog::Found;
use super::custom::conversion::Converter;
use super::invalid::go_quote;
use super::registry::part::Part;
use super::registry::read::Choice;
use super::registry::{Answer, Subject, not_served, options};
use super::webhook::call::Webhooks;
use super::webhook::measured::HookMetrics;
use super::{kinds, meta};
use crate::aggregation::Aggregation;
use crate::auth::{Attributes, Authenticator, Authorizer, ClusterAuthorizer};
use crate::cache::Cache;
use crate::link::Nodes;
use crate::store::{LeaseId, Store};

/// What the pipeline needs to know about the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// The range of Service addresses.
    pub service_cidr: DualRange,
    /// The way to other API servers, for reads from within.
    pub aggregation: Option<Aggregation>,
    /// How admission is configured.
    pub admission: AdmissionConfig,
}

impl Default for Config {
    fn default() -> Self {
        let network = std::net::Ipv4Addr::new(10, 96, 0, 0);
        Config {
            service_cidr: ipnet::Ipv4Net::new_assert(network, 16).into(),
            aggregation: None,
            admission: AdmissionConfig::default(),
        }
    }
}

/// What all parts of the pipeline share.
pub struct Inner {
    pub(super) config: Config,
    pub(super) store: Arc<dyn Store>,
    pub(super) cache: Cache,
    /// The way to webhooks.
    pub(super) webhooks: Webhooks,
    /// What is counted of webhooks.
    pub(super) hook_metrics: HookMetrics,
    /// Brings objects of declared kinds from one version to another.
    pub(super) converter: Converter,
    pub(super) authorizer: Arc<ClusterAuthorizer>,
    pub(super) authenticator: Authenticator,
    /// The newest revision that a write through here was acknowledged at.
    pub(super) acknowledged: AtomicU64,
    /// The lease that events are put under, and when it was granted.
    pub(super) event_lease: Mutex<Option<(LeaseId, actors::time::Instant)>>,
    /// Who may write to a namespace with quotas.
    pub(super) quota_turns: super::admission::quota::Turns,
}

/// The pipeline. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

impl Pipeline {
    /// A pipeline over a store and the cache that is kept up from it.
    pub fn new(
        config: Config,
        store: Arc<dyn Store>,
        cache: Cache,
        authorizer: Arc<ClusterAuthorizer>,
        authenticator: Authenticator,
    ) -> Self {
        let event_lease = Mutex::new(None);
        let quota_turns = Default::default();
        let nodes = config.aggregation.as_ref().map(Aggregation::nodes);
        let webhooks = Webhooks::new(cache.clone(), nodes.unwrap_or_else(|| Arc::new(Nodes::default())));
        Pipeline {
            inner: Arc::new(Inner {
                config,
                store,
                converter: Converter::new(cache.clone(), webhooks.clone()),
                webhooks,
                hook_metrics: HookMetrics::default(),
                cache,
                authorizer,
                authenticator,
                acknowledged: AtomicU64::new(0),
                event_lease,
                quota_turns,
            }),
        }
    }

    /// Registers what the pipeline counts with a stage. Once per stage.
    pub fn register_metrics(&self, stage: &actors::Stage) {
        self.inner.hook_metrics.register(stage);
        self.inner.authorizer.metrics().register(stage);
    }

    /// The cache that reads come from.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// The authorizer that every request passes.
    pub fn authorizer(&self) -> &Arc<ClusterAuthorizer> {
        &self.inner.authorizer
    }

    /// The authenticator that the doors use.
    pub fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    /// A door for somebody inside the program; its requests are this caller's.
    pub fn as_caller(&self, caller: impl Into<Arc<Caller>>) -> Arc<dyn Api> {
        Arc::new(Door { pipeline: self.clone(), caller: caller.into() })
    }

    /// Performs a request of an authenticated caller. Refusals are answers.
    pub async fn perform(&self, request: &ApiRequest) -> ApiResponse {
        self.perform_into(request, None).await
    }

    /// The same; the body of a list goes to `pieces`, where there are any.
    async fn perform_into(&self, request: &ApiRequest, pieces: Option<&mut Vec<Bytes>>) -> ApiResponse {
        // A read that nothing caused causes nothing.
        if !request.verb.is_write() && actors::trace::current().is_none() {
            return self.answer(request, pieces).await;
        }
        let key = trace_key(request);
        let failed = |response: &ApiResponse| response.code >= 400;
        let subresource = request.target.subresource.as_deref().map(|s| format!("/{s}")).unwrap_or_default();
        let kind = format!("{}{subresource}", request.verb);
        actors::trace::step("master/api", &kind, key, failed, self.answer(request, pieces)).await
    }

    async fn answer(&self, request: &ApiRequest, pieces: Option<&mut Vec<Bytes>>) -> ApiResponse {
        let mut warnings = Vec::new();
        if let Some(answer) = self.elsewhere(request).await {
            return answer;
        }
        let (code, body, revision) = match self.inner.perform(request, &mut warnings, pieces).await {
            Ok(answer) => (answer.code, answer.body, answer.revision),
            Err(error) => (error.code(), error.to_body(), 0),
        };
        ApiResponse { code, body, revision, warnings }
    }

    /// The answer to a read or a deletion of what another API server serves; `None` for what is served here.
    async fn elsewhere(&self, request: &ApiRequest) -> Option<ApiResponse> {
        let aggregation = self.inner.config.aggregation.as_ref()?;
        let target = &request.target;
        let backend = aggregation.backend(&target.group, &target.version)?;
        let read = async {
            self.authorize(request).await?;
            match request.verb {
                Verb::Get | Verb::List | Verb::Delete | Verb::DeleteCollection => {
                    aggregation.within(&backend, request).await
                }
                _ => Err(method_not_allowed()),
            }
        };
        Some(read.await.unwrap_or_else(|error| ApiResponse {
            code: error.code(),
            body: error.to_body(),
            revision: 0,
            warnings: Vec::new(),
        }))
    }

    /// Opens a watch for an authenticated caller.
    pub async fn open_watch(&self, request: &ApiRequest) -> Result<WatchStream, ApiError> {
        let found = self.inner.kind_of(request).await?;
        let subject = Subject::of(request, &found)?;
        self.authorize(request).await?;
        if !subject.resource.allows(Verb::Watch) {
            return Err(method_not_allowed());
        }
        self.inner.watch(request, subject, &found).await
    }

    /// Authorizes, and lets policies and webhooks refuse, a connection into a pod, Service or node, or warn of it; `path` is what follows
    /// a `proxy`.
    pub async fn connecting(&self, request: &ApiRequest, path: &str) -> Result<Vec<String>, ApiError> {
        let (found, mut warnings) = (self.inner.kind_of(request).await?, Vec::new());
        let subject = Subject::of(request, &found)?;
        self.authorize(request).await?;
        self.inner.admit_connection(request, subject, path, &mut warnings).await?;
        Ok(warnings)
    }

    /// Refuses what the caller may not do.
    pub async fn authorize(&self, request: &ApiRequest) -> Result<(), ApiError> {
        self.inner.authorizer.require(&Attributes::of(request)).await
    }
}

/// `deployments/default/web`, as traces name objects.
fn trace_key(request: &ApiRequest) -> Option<Arc<str>> {
    let target = &request.target;
    let mut key = target.resource.clone();
    for part in [&target.namespace, &target.name].into_iter().flatten() {
        key.push('/');
        key.push_str(part);
    }
    Some(key.into())
}

/// The answer to a method that the resource does not offer.
pub fn method_not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::about(405, "MethodNotAllowed", message, json!({}))
}

/// Whether a path has a place for a namespace and nothing there.
fn lacks_namespace(request: &ApiRequest) -> bool {
    request.target.namespace.as_deref() == Some("")
}

/// The answer to a path that leaves the namespace of an object empty.
fn namespace_required() -> ApiError {
    ApiError::bad_request("Namespace parameter required.")
}

/// The answer to a verb that is not for a subresource, which of declared kinds is told with the kind.
fn unsupported(verb: Verb, resource: &protocol::Resource) -> ApiError {
    if !resource.custom {
        return method_not_allowed();
    }
    let (group, plural) = (resource.group, resource.plural);
    let message = format!("{} is not supported on resources of kind \"{plural}.{group}\"", verb.as_str());
    ApiError::about(405, "MethodNotAllowed", message, json!({"group": group, "kind": plural}))
}

impl Inner {
    /// The kind that a request is about.
    async fn kind_of(&self, request: &ApiRequest) -> Result<Found, ApiError> {
        let find = || Catalog::find_in(&self.cache, &request.target);
        if let Some(found) = find() {
            return Ok(found);
        }
        // It may have been declared a moment ago, through another master.
        self.fresh().await?;
        find().ok_or_else(not_served)
    }

    async fn perform(
        &self,
        request: &ApiRequest,
        warnings: &mut Vec<String>,
        pieces: Option<&mut Vec<Bytes>>,
    ) -> Result<Answer, ApiError> {
        let found = self.kind_of(request).await?;
        let subject = Subject::of(request, &found)?;
        self.authorizer.require(&Attributes::of(request)).await?;
        let resource = subject.resource;
        let offered = self.route(request, &subject)?;
        warnings.extend(kinds::notices(resource, request));
        if request.verb == Verb::DeleteCollection {
            options::check_list(request)?;
            Choice::of(request, &subject)?;
        }
        if request.verb.is_write() {
            options::check_write(request)?;
        }
        warnings.extend(kinds::left_behind(resource, request).map(str::to_owned));
        warnings.extend(subject.custom.and_then(|custom| custom.deprecation.clone()));
        // Found out where the object would be looked for.
        let wrong = meta::name_errors(meta::NameRule::PathSegment, subject.name, false);
        if resource.is_stored() && !wrong.is_empty() {
            let (name, why) = (go_quote(subject.name), wrong.join(";"));
            return Err(ApiError::bad_request(format!("Name parameter invalid: {name}: {why}")));
        }
        // Each way has a future of its own: one that is as large as the largest would be moved with every request.
        if let Some(name) = offered {
            return match (resource.plural, name) {
                (_, "scale") => Box::pin(self.scale(request, subject, warnings)).await,
                ("pods", "binding") => Box::pin(self.bind(request, subject, warnings)).await,
                ("pods", "eviction") => Box::pin(self.evict(request, subject, warnings)).await,
                ("serviceaccounts", "token") => Box::pin(self.token(request, subject, warnings)).await,
                _ => Box::pin(self.part(request, subject, warnings)).await,
            };
        }
        if !resource.is_stored() {
            return match (resource.plural, request.verb) {
                ("bindings", _) => Box::pin(self.bind(request, subject, warnings)).await,
                ("componentstatuses", verb) => {
                    warnings.push("v1 ComponentStatus is deprecated in v1.19+".to_owned());
                    match verb {
                        Verb::List => Choice::of(request, &subject).map(|_| component_statuses()),
                        _ => Err(ApiError::not_found("", "componentstatus", subject.name)),
                    }
                }
                (_, Verb::Create) => Box::pin(self.review(request, subject, warnings)).await,
                _ => Err(not_served()),
            };
        }
        match request.verb {
            Verb::Get => self.get(request, subject).await,
            Verb::List => Box::pin(self.list(request, subject, pieces)).await,
            Verb::Create => Box::pin(self.create(request, subject, warnings)).await,
            Verb::Update => Box::pin(self.update(request, subject, Part::Main, warnings)).await,
            Verb::Patch => Box::pin(self.patch(request, subject, Part::Main, warnings)).await,
            Verb::Delete => Box::pin(self.delete(request, subject, warnings)).await,
            Verb::DeleteCollection => Box::pin(self.delete_collection(request, subject, warnings)).await,
            Verb::Watch => Err(ApiError::bad_request("a watch is opened, not called")),
        }
    }

    /// Whether there is a route for a request, and to which subresource.
    fn route<'r>(&self, request: &'r ApiRequest, subject: &Subject<'_>) -> Result<Option<&'r str>, ApiError> {
        let resource = subject.resource;
        if let Some(name) = request.target.subresource.as_deref() {
            let absent = || if resource.custom { subject.not_found() } else { not_served() };
            let offered = resource.subresource(name).ok_or_else(absent)?;
            return if !offered.verbs.contains(&request.verb) {
                Err(unsupported(request.verb, resource))
            } else if lacks_namespace(request) && request.verb != Verb::Create {
                Err(namespace_required())
            } else {
                Ok(Some(name))
            };
        }
        // Declared kinds have no paths but those of their scope.
        let within = request.target.namespace.is_some();
        let across = within || matches!(request.verb, Verb::List | Verb::Watch);
        if resource.custom && (if resource.namespaced { !across } else { within }) {
            return Err(not_served());
        }
        // Whoever makes objects of declared kinds does not look at the name in the path.
        let named_create = request.verb == Verb::Create && request.target.name.is_some() && !resource.custom;
        if !resource.allows(request.verb) || named_create {
            // Kinds that are only created have no paths of single objects at all.
            let by_name =
                request.target.name.is_some() && !resource.is_stored() && !resource.allows(Verb::Get);
            return Err(if by_name { not_served() } else { method_not_allowed() });
        }
        if resource.is_stored()
            && resource.namespaced
            && subject.namespace.is_empty()
            && !matches!(request.verb, Verb::List | Verb::Watch)
        {
            if lacks_namespace(request) {
                // What is new has its own checks, which miss the namespace.
                let creates = request.verb == Verb::Create && subject.name.is_empty();
                return if creates { Ok(None) } else { Err(namespace_required()) };
            }
            // Without a namespace there is the collection only.
            return Err(if subject.name.is_empty() { method_not_allowed() } else { not_served() });
        }
        Ok(None)
    }

    /// Subresources that show a part of the object itself.
    async fn part(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let part = Part::of(request.target.subresource.as_deref()).ok_or_else(not_served)?;
        match request.verb {
            Verb::Get => self.get(request, subject).await,
            Verb::Update => self.update(request, subject, part, warnings).await,
            Verb::Patch => self.patch(request, subject, part, warnings).await,
            _ => Err(method_not_allowed()),
        }
    }
}

fn component_statuses() -> Answer {
    Answer::json(
        200,
        &json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": []}),
    )
}

/// An in-process door.
struct Door {
    pipeline: Pipeline,
    caller: Arc<Caller>,
}

#[async_trait]
impl Api for Door {
    async fn call(&self, mut request: ApiRequest) -> Result<ApiResponse, ApiError> {
        request.caller = self.caller.clone();
        Ok(self.pipeline.perform(&request).await)
    }

    async fn list(&self, mut request: ApiRequest) -> Result<(ApiResponse, Vec<Bytes>), ApiError> {
        request.caller = self.caller.clone();
        let mut pieces = Vec::new();
        let mut response = self.pipeline.perform_into(&request, Some(&mut pieces)).await;
        if pieces.is_empty() && response.code < 400 {
            // Somebody else's list, or no kind's.
            pieces.push(std::mem::take(&mut response.body));
        }
        Ok((response, pieces))
    }

    async fn watch(&self, mut request: ApiRequest) -> Result<WatchStream, ApiError> {
        request.caller = self.caller.clone();
        self.pipeline.open_watch(&request).await
    }
}
