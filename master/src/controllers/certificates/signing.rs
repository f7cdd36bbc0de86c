//! Signs approved requests with the cluster's CA.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use super::rules::{is_ours, refusal};
use super::{condition, is_issued, parse};
use crate::controllers::machinery::meta::time;
use crate::controllers::machinery::watches::own;
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::pki::{self, Pki};

/// The controller.
pub struct Signer {
    /// Where the CA is.
    pub pki: Arc<Pki>,
}

impl Reconciler for Signer {
    const NAME: &'static str = "csrsigning";
    const ACCOUNT: &'static str = super::ACCOUNT;
    const RESOURCE: &'static str = "certificatesigningrequests";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        vec![own::<CertificateSigningRequest>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(request) = cx.cache.get::<CertificateSigningRequest>("", &key.name) else {
            return Ok(Outcome::DONE);
        };
        let approved = condition(&request, "Approved").is_some() && condition(&request, "Denied").is_none();
        if is_issued(&request)
            || !approved
            || condition(&request, "Failed").is_some()
            || !is_ours(&request.spec.signer_name)
        {
            return Ok(Outcome::DONE);
        }
        let mut copy = (*request).clone();
        let status = copy.status.get_or_insert_default();
        match self.sign(&request) {
            Ok(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
            Err(why) => status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
                type_: "Failed".to_owned(),
                status: "True".to_owned(),
                reason: Some("SignerValidationFailure".to_owned()),
                message: Some(why),
                last_update_time: Some(time(cx.now)),
                last_transition_time: None,
            }),
        }
        cx.client.update_status(&copy).await?;
        Ok(Outcome::DONE)
    }
}

impl Signer {
    fn sign(&self, request: &CertificateSigningRequest) -> Result<String, String> {
        let usages = request.spec.usages.clone().unwrap_or_default();
        let asked = parse(request).map_err(|e| e.to_string())?;
        if let Some(why) = refusal(&request.spec.signer_name, &asked, &usages) {
            return Err(why);
        }
        let seconds = request.spec.expiration_seconds.and_then(|s| u64::try_from(s).ok());
        let lifetime = seconds.map_or(pki::LIFETIME, |s| Duration::from_secs(s).min(pki::LIFETIME));
        self.pki.sign_as_asked(&asked, &usages, lifetime).map_err(|e| e.to_string())
    }
}
