//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may have what certified.

use protocol::ApiError;
use serde_json::{Value, json};

use super::Write;
use crate::api::object::{self, list, text};
use crate::api::pipeline::Inner;
use crate::auth::{Attributes, MASTERS};

const GROUP: &str = "certificates.k8s.io";

/// A request is the caller's, whatever its body says.
pub(super) fn mutate(write: &Write<'_>, value: &mut Value) {
    if !write.is(GROUP, "certificatesigningrequests") || !write.creates() {
        return;
    }
    let caller = &write.request.caller;
    // Who asks is not for them to say.
    let spec = crate::api::object::object_mut(value, &["spec"]);
    spec.remove("uid");
    spec.remove("extra");
    value["spec"]["username"] = caller.user.clone().into();
    value["spec"]["groups"] = json!(caller.groups);
    if !caller.uid.is_empty() {
        value["spec"]["uid"] = caller.uid.clone().into();
    }
    if !caller.extra.is_empty() {
        value["spec"]["extra"] = json!(caller.extra);
    }
}

/// Whether a caller may do something with a signer: by its name, or by its whole domain.
fn may(inner: &Inner, write: &Write<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let attributes = Attributes {
            caller: write.request.caller.clone(),
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        inner.authorizer.decide(&attributes).is_allowed()
    })
}

pub(super) fn validate(inner: &Inner, write: &Write<'_>, value: &Value) -> Result<(), ApiError> {
    if !write.is(GROUP, "certificatesigningrequests") {
        return Ok(());
    }
    let signer = text(value, &["spec", "signerName"]);
    let forbidden = |why: String| Err(write.forbidden(object::name_so_far(value), &why));
    let on = |plugin| inner.config.admission.is_on(plugin);
    match (write.subresource(), write.old) {
        ("approval", Some(_)) if on("CertificateApproval") && !may(inner, write, "approve", signer) => {
            forbidden(format!("user not permitted to approve requests with signerName \"{signer}\""))
        }
        ("status", Some(old))
            if on("CertificateSigning") && signs(value, old) && !may(inner, write, "sign", signer) =>
        {
            forbidden(format!("user not permitted to sign requests with signerName \"{signer}\""))
        }
        ("", None)
            if on("CertificateSubjectRestriction")
                && signer == "kubernetes.io/kube-apiserver-client"
                && asks_for_masters(value) =>
        {
            forbidden(format!("use of {signer} signer with {MASTERS} group is not allowed"))
        }
        _ => Ok(()),
    }
}

/// Whether an update brings a certificate, or says that there will be none.
fn signs(new: &Value, old: &Value) -> bool {
    let failed =
        |v: &Value| list(v, &["status", "conditions"]).iter().any(|c| text(c, &["type"]) == "Failed");
    text(new, &["status", "certificate"]) != text(old, &["status", "certificate"])
        || (failed(new) != failed(old))
}

fn asks_for_masters(request: &Value) -> bool {
    crate::pki::requests::parse(text(request, &["spec", "request"]))
        .is_ok_and(|asked| asked.organizations.iter().any(|o| o == MASTERS))
}
