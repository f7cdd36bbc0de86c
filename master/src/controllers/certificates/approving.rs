//! Approves the requests of nodes for their own client certificates, where the requester may have them.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use protocol::request::Target;
use protocol::{ApiRequest, Client, Verb};
use serde_json::{Value, json};

use super::rules::{KUBELET_CLIENT, refusal};
use super::{condition, is_issued, parse};
use crate::controllers::machinery::meta::{name, time};
use crate::controllers::machinery::watches::own;
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct Approver;

impl Reconciler for Approver {
    const NAME: &'static str = "certificate";
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
        let decided = condition(&request, "Approved").is_some() || condition(&request, "Denied").is_some();
        if is_issued(&request) || decided || request.spec.signer_name != KUBELET_CLIENT {
            return Ok(Outcome::DONE);
        }
        let usages = request.spec.usages.clone().unwrap_or_default();
        let Ok(asked) = parse(&request) else { return Ok(Outcome::DONE) };
        if refusal(KUBELET_CLIENT, &asked, &usages).is_some() {
            return Ok(Outcome::DONE);
        }
        let own = request.spec.username.as_deref() == Some(&*asked.common_name);
        let kinds = [
            (
                "selfnodeclient",
                own,
                "Auto approving self kubelet client certificate after SubjectAccessReview.",
            ),
            ("nodeclient", true, "Auto approving kubelet client certificate after SubjectAccessReview."),
        ];
        for (subresource, applies, message) in kinds {
            if applies && may(cx, &request, subresource).await? {
                return approve(cx, &request, message).await;
            }
        }
        Ok(Outcome::DONE)
    }
}

/// Asks whether the requester may have such a certificate.
async fn may(
    cx: &Cx,
    request: &CertificateSigningRequest,
    subresource: &str,
) -> Result<bool, ReconcileError> {
    let spec = &request.spec;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
            "verb": "create", "subresource": subresource, "version": "*"}}});
    let target = Target {
        group: "authorization.k8s.io".to_owned(),
        version: "v1".to_owned(),
        resource: "subjectaccessreviews".to_owned(),
        ..Target::default()
    };
    let mut call = ApiRequest::new(Verb::Create, target);
    call.body = review.to_string().into();
    let answer = cx.client.send(call).await?;
    let answer: Value =
        serde_json::from_slice(&answer.body).map_err(|e| ReconcileError::Other(e.to_string()))?;
    Ok(answer["status"]["allowed"] == Value::Bool(true))
}

async fn approve(
    cx: &Cx,
    request: &CertificateSigningRequest,
    message: &str,
) -> Result<Outcome, ReconcileError> {
    let mut copy = request.clone();
    copy.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: "Approved".to_owned(),
            status: "True".to_owned(),
            reason: Some("AutoApproved".to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(time(cx.now)),
            last_transition_time: None,
        },
    );
    let n = name(&request.metadata);
    let target = Client::target::<CertificateSigningRequest>("", Some(n), Some("approval"));
    let mut call = ApiRequest::new(Verb::Update, target);
    call.body = serde_json::to_vec(&copy).map_err(|e| ReconcileError::Other(e.to_string()))?.into();
    cx.client.send(call).await?;
    Ok(Outcome::DONE)
}
