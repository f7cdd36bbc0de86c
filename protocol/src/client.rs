//! The typed client: what controllers, the scheduler and nodes call.
//!
//! [`Api`] is the door (in process, or over the link); [`Client`] puts Kubernetes types on it. Both ends
//! pass the same authentication, authorization and admission as an HTTP client.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, ListableResource, Metadata, NamespaceResourceScope, Resource};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::ApiError;
use crate::request::{ApiRequest, ApiResponse, PatchKind, Target, Verb, WatchStream};

/// A door to the API server's pipeline.
#[async_trait]
pub trait Api: Send + Sync + 'static {
    /// Performs one request. A refusal is an `Ok` answer with a `Status` body; `Err` means that the server
    /// was not reached.
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError>;

    /// Performs a list whose answer's body comes in pieces, one after another, that may lie where the objects lie; the
    /// answer's own body is empty. There are one before the items, two for each item and one after them; or a single
    /// one. A refusal is an answer without pieces.
    async fn list(&self, request: ApiRequest) -> Result<(ApiResponse, Vec<Bytes>), ApiError> {
        let mut response = self.call(request).await?;
        let pieces = if response.code < 400 { vec![std::mem::take(&mut response.body)] } else { Vec::new() };
        Ok((response, pieces))
    }

    /// Opens a watch (the request's verb is [`Verb::Watch`]).
    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError>;
}

/// A Kubernetes type with metadata, as `k8s-openapi` defines them.
pub trait Object:
    Resource
    + ListableResource
    + Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Whether the kind lives in namespaces.
    const NAMESPACED: bool;
}

/// Tells namespaced kinds from cluster-scoped ones.
pub trait Scope {
    /// Whether the kind lives in namespaces.
    const NAMESPACED: bool;
}
impl Scope for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}
impl Scope for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

impl<K> Object for K
where
    K: Resource
        + ListableResource
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static,
    K::Scope: Scope,
{
    const NAMESPACED: bool = <K::Scope as Scope>::NAMESPACED;
}

/// A typed client over a door. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    api: Arc<dyn Api>,
    user_agent: Arc<str>,
}

impl Client {
    /// A client over `api`; `user_agent` is also the default field manager.
    pub fn new(api: Arc<dyn Api>, user_agent: &str) -> Self {
        Client { api, user_agent: user_agent.into() }
    }

    /// The door underneath, for requests that this type has no method for.
    pub fn api(&self) -> &Arc<dyn Api> {
        &self.api
    }

    /// The target of a kind's collection, or of one object when `name` is given. An empty `namespace` is
    /// all namespaces (or a cluster-scoped kind).
    pub fn target<K: Object>(namespace: &str, name: Option<&str>, subresource: Option<&str>) -> Target {
        Target {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            resource: K::URL_PATH_SEGMENT.to_owned(),
            namespace: (K::NAMESPACED && !namespace.is_empty()).then(|| namespace.to_owned()),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        }
    }

    /// Sends a request and turns a refusal into an error.
    pub async fn send(&self, mut request: ApiRequest) -> Result<ApiResponse, ApiError> {
        if request.user_agent.is_empty() {
            request.user_agent = self.user_agent.to_string();
        }
        let response = self.api.call(request).await?;
        if response.code >= 400 {
            Err(ApiError::from_status(response.code, &response.body))
        } else {
            Ok(response)
        }
    }

    async fn typed<T: DeserializeOwned>(&self, request: ApiRequest) -> Result<T, ApiError> {
        let response = self.send(request).await?;
        serde_json::from_slice(&response.body).map_err(|e| ApiError::Malformed(e.to_string()))
    }

    /// Reads one object.
    pub async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<K, ApiError> {
        self.typed(ApiRequest::new(Verb::Get, Self::target::<K>(namespace, Some(name), None))).await
    }

    /// Reads one object; `None` when it does not exist.
    pub async fn find<K: Object>(&self, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Lists a namespace, or all namespaces when it is empty.
    pub async fn list<K: Object>(&self, namespace: &str) -> Result<Vec<K>, ApiError> {
        #[derive(serde::Deserialize)]
        struct Items {
            items: Vec<Value>,
        }
        let list: Items =
            self.typed(ApiRequest::new(Verb::List, Self::target::<K>(namespace, None, None))).await?;
        list.items
            .into_iter()
            .map(|item| serde_json::from_value(item).map_err(|e| ApiError::Malformed(e.to_string())))
            .collect()
    }

    /// Creates an object in the namespace that its metadata names.
    pub async fn create<K: Object>(&self, object: &K) -> Result<K, ApiError> {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        self.write(Verb::Create, Self::target::<K>(namespace, None, None), object).await
    }

    /// Replaces an object; its resourceVersion, when set, must be current.
    pub async fn update<K: Object>(&self, object: &K) -> Result<K, ApiError> {
        self.replace(object, None).await
    }

    /// Replaces an object's status; its resourceVersion, when set, must be current.
    pub async fn update_status<K: Object>(&self, object: &K) -> Result<K, ApiError> {
        self.replace(object, Some("status")).await
    }

    async fn replace<K: Object>(&self, object: &K, subresource: Option<&str>) -> Result<K, ApiError> {
        let meta = object.metadata();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        self.write(Verb::Update, Self::target::<K>(namespace, Some(name), subresource), object).await
    }

    async fn write<K: Object>(&self, verb: Verb, target: Target, object: &K) -> Result<K, ApiError> {
        let mut request = ApiRequest::new(verb, target);
        request.body = encode(object)?;
        self.typed(request).await
    }

    /// Creates a subresource of an object (`binding`, `eviction`, `token`) and returns the answer as JSON.
    pub async fn create_subresource<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let mut request =
            ApiRequest::new(Verb::Create, Self::target::<K>(namespace, Some(name), Some(subresource)));
        request.body = encode(body)?;
        self.typed(request).await
    }

    /// Patches an object, or a subresource of it.
    pub async fn patch<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<K, ApiError> {
        let mut request = ApiRequest::new(Verb::Patch, Self::target::<K>(namespace, Some(name), subresource));
        request.patch = Some(kind);
        request.body = encode(patch)?;
        self.typed(request).await
    }

    /// Applies a configuration to an object, or to a subresource of it, for a manager who takes what others own too.
    pub async fn apply<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        manager: &str,
        configuration: &Value,
    ) -> Result<K, ApiError> {
        let mut request = ApiRequest::new(Verb::Patch, Self::target::<K>(namespace, Some(name), subresource));
        request.patch = Some(PatchKind::Apply);
        request.options.field_manager = Some(manager.to_owned());
        request.options.force = true;
        request.body = encode(configuration)?;
        self.typed(request).await
    }

    /// Deletes an object. `uid` guards against deleting a successor of the same name.
    pub async fn delete<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        grace_period_seconds: Option<i64>,
    ) -> Result<(), ApiError> {
        let mut request = ApiRequest::new(Verb::Delete, Self::target::<K>(namespace, Some(name), None));
        request.options.precondition_uid = uid.map(str::to_owned);
        request.options.grace_period_seconds = grace_period_seconds;
        self.send(request).await.map(drop)
    }

    /// Opens a watch on a namespace (all when empty), from after `revision`; 0 begins with what exists, as
    /// ADDED events. Pass a field selector to watch less.
    pub async fn watch<K: Object>(
        &self,
        namespace: &str,
        revision: u64,
        field_selector: Option<&str>,
    ) -> Result<WatchStream, ApiError> {
        let mut request = ApiRequest::new(Verb::Watch, Self::target::<K>(namespace, None, None));
        request.user_agent = self.user_agent.to_string();
        request.options.resource_version = Some(revision.to_string());
        request.options.field_selector = field_selector.map(str::to_owned);
        request.options.allow_watch_bookmarks = true;
        self.api.watch(request).await
    }
}

fn encode(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| ApiError::Malformed(e.to_string()))
}
