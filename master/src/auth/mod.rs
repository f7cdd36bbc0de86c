//! Who asks, and whether they may.
//!
//! - [`authenticate`]: credentials to [`Caller`]; [`impersonation`]: who may act as whom.
//! - [`oidc`]: users of an outside issuer.
//! - [`request_header`]: users whom an authenticating proxy names.
//! - [`tokens`]: ServiceAccount tokens: minting and checking.
//! - [`reviews`]: TokenRequest, TokenReview and rules reviews.
//! - [`rbac`]: roles and bindings; [`node`]: what a node may touch.
//!
//! Deciding reads only the watch cache: no message, no I/O.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use protocol::{ApiError, ApiRequest, Caller, Verb};

use crate::cache::Cache;

pub use measured::AuthorizationMetrics;

pub mod authenticate;
pub mod impersonation;
mod measured;
pub mod node;
pub mod oidc;
pub mod rbac;
pub mod request_header;
pub mod reviews;
pub mod tokens;

pub use authenticate::{Authenticator, Impersonation};
pub use rbac::{PolicyRule, Rbac};
pub use reviews::rules_for;

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of everyone whose credential was accepted.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user without a credential.
pub const ANONYMOUS: &str = "system:anonymous";

/// What somebody wants to do, as authorizers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who.
    pub caller: Arc<Caller>,
    /// Verb; for non-resource requests the HTTP method in lowercase.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name; empty for non-resource requests.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Object name, or empty.
    pub name: String,
    /// Path of a non-resource request.
    pub path: String,
    /// Fields that a list or watch is restricted to exactly.
    pub field_equals: Vec<(String, String)>,
}

impl Attributes {
    /// What an API request wants.
    pub fn of(request: &ApiRequest) -> Self {
        let target = &request.target;
        let mut attributes = Attributes {
            caller: request.caller.clone(),
            verb: request.verb.as_str().to_owned(),
            group: target.group.clone(),
            version: target.version.clone(),
            resource: target.resource.clone(),
            subresource: target.subresource.clone().unwrap_or_default(),
            namespace: target.namespace.clone().unwrap_or_default(),
            name: target.name.clone().unwrap_or_default(),
            ..Attributes::default()
        };
        // A namespace lies in itself: who has a role in it may be allowed to read it.
        if target.group.is_empty() && target.resource == "namespaces" && target.namespace.is_none() {
            attributes.namespace = attributes.name.clone();
        }
        let selective = matches!(request.verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
        // Who sends options that cannot be read asks for no name in particular.
        let labels = request.options.label_selector.as_deref().unwrap_or_default();
        if let (true, Some(text)) = (selective, &request.options.field_selector)
            && protocol::Selector::parse(labels).is_ok()
            && let Ok(selector) = protocol::selector::FieldSelector::parse(text)
        {
            let exact = selector.requirements.into_iter().filter(|r| !r.negated);
            attributes.field_equals = exact.map(|r| (r.field, r.value)).collect();
            // A list of one name is a read of that name; a deletion is one of a collection all the same.
            let reads = attributes.name.is_empty() && request.verb != Verb::DeleteCollection;
            let named = attributes.field_equals.iter().find(|(field, _)| field == "metadata.name");
            if let (true, Some((_, name))) = (reads, named) {
                attributes.name = name.clone();
            }
        }
        attributes
    }

    /// A request to a path that is no resource.
    pub fn path(caller: Arc<Caller>, method: &str, path: &str) -> Self {
        Attributes {
            caller,
            verb: method.to_ascii_lowercase(),
            path: path.to_owned(),
            ..Attributes::default()
        }
    }

    /// Whether it is about a resource.
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// `pods/log`, or `pods`.
    pub fn full_resource(&self) -> Cow<'_, str> {
        match self.subresource.as_str() {
            "" => Cow::Borrowed(&self.resource),
            subresource => Cow::Owned(format!("{}/{subresource}", self.resource)),
        }
    }

    fn in_group(&self, group: &str) -> bool {
        self.caller.groups.iter().any(|g| g == group)
    }

    /// The refusal, in upstream's words.
    pub fn forbidden(&self, reason: &str) -> ApiError {
        let user = &self.caller.user;
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        if !self.is_resource() {
            let why =
                format!("forbidden: User \"{user}\" cannot {} path \"{}\"{reason}", self.verb, self.path);
            return ApiError::about(403, "Forbidden", why, serde_json::json!({}));
        }
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        let why = format!(
            "User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" {scope}{reason}",
            self.verb,
            self.full_resource(),
            self.group
        );
        ApiError::forbidden(&self.group, &self.resource, &self.name, &why)
    }
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No, whatever others say.
    Deny(String),
    /// Not on this authorizer's account, and what it missed.
    NoOpinion(String),
}

impl Decision {
    /// Whether it is a yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }

    /// The reason, for reviews and refusals.
    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow(reason) | Decision::Deny(reason) | Decision::NoOpinion(reason) => reason,
        }
    }
}

/// Decides whether somebody may do something.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Decides.
    async fn authorize(&self, attributes: &Attributes) -> Decision;

    /// Refuses with upstream's words unless it is allowed.
    async fn require(&self, attributes: &Attributes) -> Result<(), ApiError> {
        match self.authorize(attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
        }
    }
}

/// The cluster's authorizer: `system:masters`, then Node, then RBAC.
pub struct ClusterAuthorizer {
    rbac: Rbac,
    node: node::NodeAuthorizer,
    metrics: AuthorizationMetrics,
}

impl ClusterAuthorizer {
    /// Decides by what the cache holds.
    pub fn new(cache: Cache) -> Self {
        ClusterAuthorizer {
            rbac: Rbac::new(cache.clone()),
            node: node::NodeAuthorizer::new(cache),
            metrics: AuthorizationMetrics::default(),
        }
    }

    /// What is counted of decisions about requests.
    pub fn metrics(&self) -> &AuthorizationMetrics {
        &self.metrics
    }

    /// The RBAC part, for reviews and escalation checks.
    pub fn rbac(&self) -> &Rbac {
        &self.rbac
    }

    /// Decides about a request; it counts.
    pub fn decide_counted(&self, attributes: &Attributes) -> Decision {
        let begun = std::time::Instant::now();
        let decision = self.decide(attributes);
        self.metrics.decided(&decision, begun.elapsed());
        decision
    }

    /// Decides what somebody may do who need not be asking for it.
    pub fn decide(&self, attributes: &Attributes) -> Decision {
        if attributes.in_group(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons: Vec<String> = Vec::new();
        for decision in [self.node.decide(attributes), self.rbac.decide(attributes)] {
            match decision {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}

#[async_trait]
impl Authorizer for ClusterAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        self.decide_counted(attributes)
    }
}

#[cfg(test)]
mod tests;
