//! Deletes requests that nobody will look at again.

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{condition, is_issued};
use crate::controllers::machinery::meta::{uid, until};
use crate::controllers::machinery::watches::own;
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// How long an answered request stays.
const ANSWERED: Duration = Duration::from_secs(3600);
/// How long one stays that nobody has answered.
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// The controller.
pub struct Cleaner;

impl Reconciler for Cleaner {
    const NAME: &'static str = "csrcleaner";
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
        let left = until(cx.now, ends(&request));
        if !left.is_zero() {
            return Ok(Outcome::again(left));
        }
        let id = Some(uid(&request.metadata));
        match cx.client.delete::<CertificateSigningRequest>("", &key.name, id, None).await {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// When a request may go.
fn ends(request: &CertificateSigningRequest) -> Timestamp {
    let made = request.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0);
    let answered = ["Denied", "Failed", "Approved"]
        .iter()
        .filter_map(|kind| condition(request, kind))
        .filter_map(|c| c.last_update_time.as_ref())
        .map(|t| t.0)
        .min();
    let plus = |t: Timestamp, d: Duration| t.checked_add(d).unwrap_or(Timestamp::MAX);
    let stays = match answered {
        // An approved request waits for its certificate as long as one that is not decided.
        Some(at) if is_issued(request) || condition(request, "Approved").is_none() => plus(at, ANSWERED),
        _ => plus(made, PENDING),
    };
    expiry(request).map_or(stays, |over| stays.min(over))
}

/// When the certificate is over.
fn expiry(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let pem = &request.status.as_ref()?.certificate.as_ref()?.0;
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn answered_requests_go_sooner() {
        let ends = |status: Value| {
            let request = serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status,
                "spec": {"request": "", "signerName": "x"}}));
            ends(&request.unwrap()).to_string()
        };
        let condition =
            |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T02:00:00Z"}]);
        assert_eq!(ends(json!({})), "2026-01-02T00:00:00Z");
        assert_eq!(ends(json!({"conditions": condition("Denied")})), "2026-01-01T03:00:00Z");
        assert_eq!(ends(json!({"conditions": condition("Approved")})), "2026-01-02T00:00:00Z");
        assert_eq!(
            ends(json!({"conditions": condition("Approved"), "certificate": "eA=="})),
            "2026-01-01T03:00:00Z"
        );
    }
}
