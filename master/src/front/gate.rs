//! The cluster's gate: authentication, impersonation and authorization as the front asks for them.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use async_trait::async_trait;
use protocol::{ApiError, ApiRequest, Caller};

use super::handle::header;
use super::{Admitted, Gate};
use crate::auth::{Attributes, Authenticator, ClusterAuthorizer, Decision, Impersonation};

/// Authenticates by certificate or token, authorizes by Node and RBAC.
pub struct ClusterGate {
    authenticator: Authenticator,
    authorizer: Arc<ClusterAuthorizer>,
}

impl ClusterGate {
    /// Over the cluster's authenticator and authorizer.
    pub fn new(authenticator: Authenticator, authorizer: Arc<ClusterAuthorizer>) -> Self {
        ClusterGate { authenticator, authorizer }
    }

    fn require(&self, attributes: &Attributes) -> Result<(), ApiError> {
        match self.authorizer.decide(attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
        }
    }
}

#[async_trait]
impl Gate for ClusterGate {
    async fn caller(&self, certificate: Option<&[u8]>, headers: &HeaderMap) -> Result<Admitted, ApiError> {
        let authorization = Some(header(headers, "authorization")).filter(|h| !h.is_empty());
        let actor = self.authenticator.authenticate(certificate, authorization)?;
        let pairs = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let Some(wanted) = Impersonation::from_headers(pairs)? else {
            return Ok(Admitted { caller: actor, actor: None });
        };
        for permission in wanted.permissions(&actor) {
            self.require(&permission)?;
        }
        Ok(Admitted { caller: wanted.caller(), actor: Some(actor) })
    }

    fn decision(&self, attributes: &Attributes) -> Decision {
        self.authorizer.decide(attributes)
    }

    fn may_visit(&self, caller: &Caller, method: &str, path: &str) -> Result<(), ApiError> {
        let verb = if method == "HEAD" { "GET" } else { method };
        self.require(&Attributes::path(caller.clone(), verb, path))
    }

    fn may(&self, request: &ApiRequest) -> Result<(), ApiError> {
        self.require(&Attributes::of(request))
    }
}
