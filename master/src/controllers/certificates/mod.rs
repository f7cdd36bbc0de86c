//! Certificate signing requests: nodes' own are approved, approved ones are signed, and old ones deleted.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

pub mod approving;
pub mod cleaner;
pub mod rules;
pub mod signing;

/// The identity of all of them.
const ACCOUNT: &str = "certificate-controller";

/// A condition of a request.
fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    request.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Whether a request has its certificate.
fn is_issued(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty())
}

/// The request itself, as it was sent.
fn parse(request: &CertificateSigningRequest) -> Result<crate::pki::requests::Asked, crate::pki::PkiError> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    crate::pki::requests::parse(&STANDARD.encode(&request.spec.request.0))
}
