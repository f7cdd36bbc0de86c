//! The cluster's gate: authentication, impersonation, authorization and, for connections, admission as the front asks
//! for them.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use async_trait::async_trait;
use protocol::{ApiError, ApiRequest, Caller};

use super::handle::header;
use super::metrics::FrontMetrics;
use super::shown::Shown;
use super::{Admitted, Gate};
use crate::api::pipeline::Pipeline;
use crate::auth::impersonation::Impersonator;
use crate::auth::request_header::RequestHeaders;
use crate::auth::{ANONYMOUS, Attributes, Authenticator, ClusterAuthorizer, Decision, Impersonation};

/// Authenticates by proxy, certificate or token, authorizes by Node and RBAC.
pub struct ClusterGate {
    authenticator: Authenticator,
    authorizer: Arc<ClusterAuthorizer>,
    impersonator: Impersonator,
    pipeline: Pipeline,
    metrics: FrontMetrics,
    proxies: Option<RequestHeaders>,
}

impl ClusterGate {
    /// Over the pipeline's authenticator, authorizer and admission.
    pub fn new(pipeline: Pipeline, metrics: FrontMetrics, proxies: Option<RequestHeaders>) -> Self {
        let (authenticator, authorizer) = (pipeline.authenticator().clone(), pipeline.authorizer().clone());
        let impersonator = Impersonator::new(authorizer.clone());
        ClusterGate { authenticator, authorizer, impersonator, pipeline, metrics, proxies }
    }

    /// Who asks, before impersonation: whom a proxy names, else by certificate, else by token.
    fn identify(&self, shown: Option<&Shown>, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
        if let (Some(proxies), Some(shown)) = (&self.proxies, shown.filter(|shown| shown.proxy)) {
            match proxies.caller(&shown.der, pairs(headers)) {
                Ok(Some(caller)) => return Ok(Arc::new(caller)),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a proxy was not believed"),
            }
        }
        let certificate = shown.filter(|shown| shown.client).map(|shown| &*shown.der);
        let authorization = Some(header(headers, AUTHORIZATION)).filter(|h| !h.is_empty());
        let caller = self.authenticator.authenticate(certificate, authorization)?;
        // A certificate that is nobody's is a credential that is wrong, not none.
        if shown.is_some() && certificate.is_none() && caller.user == ANONYMOUS {
            return Err(ApiError::new(401, "Unauthorized", "Unauthorized"));
        }
        Ok(caller)
    }
}

/// The refusal, where it is one.
fn refused(attributes: &Attributes, decision: Decision) -> Result<(), ApiError> {
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

#[async_trait]
impl Gate for ClusterGate {
    async fn caller(
        &self,
        certificate: Option<&Shown>,
        headers: &HeaderMap,
        what: &(dyn Fn(Arc<Caller>) -> Attributes + Sync),
    ) -> Result<Admitted, ApiError> {
        let begun = std::time::Instant::now();
        let known = self.identify(certificate, headers);
        let user = known.as_ref().map(|caller| caller.user.as_str()).map_err(drop);
        self.metrics.identified(user, begun.elapsed());
        let actor = known?;
        let Some(wanted) = Impersonation::from_headers(pairs(headers))? else {
            return Ok(Admitted { caller: actor, actor: None });
        };
        let caller = self.impersonator.admit(wanted, &what(actor.clone()))?;
        Ok(Admitted { caller: Arc::new(caller), actor: Some(actor) })
    }

    fn decision(&self, attributes: &Attributes) -> Decision {
        self.authorizer.decide(attributes)
    }

    fn may_visit(&self, caller: &Arc<Caller>, method: &str, path: &str) -> Result<(), ApiError> {
        let attributes = Attributes::path(caller.clone(), method, path);
        refused(&attributes, self.authorizer.decide_counted(&attributes))
    }

    fn may(&self, request: &ApiRequest) -> Result<(), ApiError> {
        let attributes = Attributes::of(request);
        match self.authorizer.decide(&attributes) {
            // The pipeline decides once more, and counts then.
            Decision::Allow(_) => Ok(()),
            _ => refused(&attributes, self.authorizer.decide_counted(&attributes)),
        }
    }

    async fn admit(&self, request: &ApiRequest, rest: &str) -> Result<Vec<String>, ApiError> {
        self.pipeline.connecting(request, rest).await
    }
}
