//! CertificateSigningRequest.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::checks;
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{copy_field, list, list_mut, now, text};

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Conditions that are decisions.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const LIFETIME_SECONDS_MIN: i64 = 600;

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

pub(super) fn signing_request() -> Strategy {
    Strategy {
        names: NameRule::Any,
        prepare_create: |object| object["status"] = json!({}),
        prepare_update: |new, old| {
            copy_field(old, new, "spec");
            copy_field(old, new, "status");
        },
        validate: |object, errors| {
            let request = &object["spec"];
            if let Some(wrong) = request_error(text(request, &["request"])) {
                let given = errors.is_given_empty(&spec("request"));
                errors.invalid_shown(&spec("request"), &shown_bytes(request, given), wrong);
            }
            usages(list(request, &["usages"]), errors);
            signer(text(request, &["signerName"]), &spec("signerName"), errors);
            if let Some(seconds) = request["expirationSeconds"].as_i64()
                && seconds < LIFETIME_SECONDS_MIN
            {
                let detail = "may not specify a duration less than 600 seconds (10 minutes)";
                errors.invalid(&spec("expirationSeconds"), seconds, detail);
            }
            conditions(object, errors);
            certificate(object, errors);
        },
        validate_update: kept,
        prepare_status: |new, old| {
            keep_decisions(new, old);
            stamp_conditions(new, old);
        },
        prepare_approval: stamp_conditions,
        validate_status: |new, old, errors| {
            conditions(new, errors);
            certificate(new, errors);
            kept(new, old, errors);
            approvals_kept(new, old, errors);
            let (now, before) = (certificate_of(new), certificate_of(old));
            if !before.is_empty() && now != before {
                let why = "updates may not modify existing certificate content";
                errors.forbidden(&Path::new("status.certificate"), why);
            }
        },
        validate_approval: |new, old, errors| {
            conditions(new, errors);
            certificate(new, errors);
            kept(new, old, errors);
        },
        ..base()
    }
}

/// The conditions of a kind.
fn of_kind<'o>(object: &'o Value, kind: &str) -> Vec<&'o Value> {
    list(object, &["status", "conditions"]).iter().filter(|c| c["type"] == kind).collect()
}

/// What was decided stays so.
fn kept(new: &Value, old: &Value, errors: &mut Errors) {
    for kind in ["Approved", "Denied", "Failed"] {
        if of_kind(new, kind).len() < of_kind(old, kind).len() {
            let why = format!("updates may not remove a condition of type \"{kind}\"");
            errors.forbidden(&Path::new("status.conditions"), why);
        }
    }
}

/// What was decided is as it was, for who writes the status, as long as there is as much of it.
fn keep_decisions(new: &mut Value, old: &Value) {
    for kind in DECISIONS {
        let before = of_kind(old, kind);
        if of_kind(new, kind).len() != before.len() {
            continue;
        }
        let now = list_mut(new, &["status", "conditions"]).iter_mut().filter(|c| c["type"] == kind);
        now.zip(before).for_each(|(now, before)| now.clone_from(before));
    }
}

/// Who may write the status may not decide for that.
fn approvals_kept(new: &Value, old: &Value, errors: &mut Errors) {
    for kind in DECISIONS {
        let (now, before) = (of_kind(new, kind), of_kind(old, kind));
        let what = match now.len().cmp(&before.len()) {
            Ordering::Greater => "add",
            Ordering::Equal if now != before => "modify",
            _ => continue,
        };
        let why = format!("updates may not {what} a condition of type \"{kind}\"");
        errors.forbidden(&Path::new("status.conditions"), why);
    }
}

fn certificate_of(object: &Value) -> &str {
    text(object, &["status", "certificate"])
}

/// Checks what was issued.
fn certificate(object: &Value, errors: &mut Errors) {
    let given = certificate_of(object);
    if given.is_empty() {
        return;
    }
    if let Err(why) = certificates(&STANDARD.decode(given).unwrap_or_default()) {
        errors.invalid(&Path::new("status.certificate"), "<certificate data>", why);
    }
}

fn certificates(bytes: &[u8]) -> Result<(), String> {
    let mut found = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(bytes).map_while(Result::ok) {
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.parse_x509().is_err() {
            return Err("x509: malformed certificate".to_owned());
        }
        found += 1;
    }
    if found == 0 { Err("must contain at least one CERTIFICATE PEM block".to_owned()) } else { Ok(()) }
}

/// Conditions without times are of now; one whose status is as before keeps its time.
fn stamp_conditions(new: &mut Value, old: &Value) {
    let before = list(old, &["status", "conditions"]);
    for condition in list_mut(new, &["status", "conditions"]) {
        let unset = |condition: &Value, name: &str| text(condition, &[name]).is_empty();
        if unset(condition, "lastUpdateTime") {
            condition["lastUpdateTime"] = now().into();
        }
        if unset(condition, "lastTransitionTime") {
            let same = before
                .iter()
                .find(|c| c["type"] == condition["type"] && c["status"] == condition["status"])
                .map(|c| text(c, &["lastTransitionTime"]).to_owned())
                .filter(|time| !time.is_empty());
            condition["lastTransitionTime"] = same.unwrap_or_else(now).into();
        }
    }
}

/// Bytes that are none are a text where they were given as one.
fn shown_bytes(request: &Value, given: bool) -> String {
    if text(request, &["request"]).is_empty() && !given {
        "null".to_owned()
    } else {
        request["request"].to_string()
    }
}

fn request_error(encoded: &str) -> Option<String> {
    common_name(encoded).err()
}

/// Whose certificate a request asks for.
pub fn common_name(encoded: &str) -> Result<String, String> {
    use x509_parser::prelude::FromDer;
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let pem = match x509_parser::pem::parse_x509_pem(&bytes) {
        Ok((_, pem)) if pem.label == "CERTIFICATE REQUEST" => pem,
        _ => return Err("PEM block type must be CERTIFICATE REQUEST".to_owned()),
    };
    let request = x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents);
    let (_, request) =
        request.map_err(|_| "asn1: structure error: malformed certificate request".to_owned())?;
    let subject = &request.certification_request_info.subject;
    let name = subject.iter_common_name().last().and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_owned())
}

fn usages(usages: &[Value], errors: &mut Errors) {
    let path = spec("usages");
    if usages.is_empty() {
        errors.required(&path, "");
    }
    for (i, usage) in usages.iter().enumerate() {
        checks::choice(usage, USAGES, &path.index(i), errors);
        if usages[..i].contains(usage) {
            errors.duplicate(&path.index(i), usage.clone());
        }
    }
}

/// The longest domain of a signer.
const DOMAIN_MAX: usize = 253;
/// The longest name of one: its domain, and a name with a namespace before it.
const SIGNER_MAX: usize = DOMAIN_MAX + 1 + DOMAIN_MAX + 1 + 63;

fn signer(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name == "kubernetes.io/legacy-unknown" {
        errors.invalid(path, name, "the legacy signerName is not allowed via this API version");
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        errors.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    if domain.len() > DOMAIN_MAX {
        errors.too_long(path, DOMAIN_MAX);
    }
    // Of each half, the first part that is wrong is told of.
    for (half, rule, parts) in
        [(domain, NameRule::Label, domain.split('.')), (rest, NameRule::Subdomain, rest.split('.'))]
    {
        let wrong = |part: &&str| !name_errors(rule, part, false).is_empty();
        if let Some(part) = parts.clone().find(wrong) {
            for why in name_errors(rule, part, false) {
                errors.invalid(path, half, format!("validating label {}: {why}", go_quote(part)));
            }
        }
        if matches!(rule, NameRule::Label) && !domain.contains('.') {
            errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
        }
    }
    if name.len() > SIGNER_MAX {
        errors.too_long(path, SIGNER_MAX);
    }
}

fn conditions(object: &Value, errors: &mut Errors) {
    let all = Path::new("status.conditions");
    let conditions = list(object, &["status", "conditions"]);
    let mut kinds: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = all.index(i);
        let kind = text(condition, &["type"]);
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        }
        let status = text(condition, &["status"]);
        match kind {
            "Approved" | "Denied" | "Failed" => match status {
                "" => errors.required(&path.child("status"), ""),
                "True" => {}
                other => errors.unsupported(&path.child("status"), other, &["True"]),
            },
            _ => checks::required_choice(
                &condition["status"],
                &["False", "True", "Unknown"],
                &path.child("status"),
                errors,
            ),
        }
        // Each that follows one of the other kind is told.
        let opposite = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !opposite.is_empty() && kinds.contains(&opposite) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&all, kind, why);
        }
        if kinds.contains(&kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        kinds.push(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_halves_of_a_signer_is_told_of_the_parts() {
        let messages = |name: &str| {
            let mut errors = Errors::default();
            signer(name, &Path::new("s"), &mut errors);
            errors.messages()
        };
        assert!(messages("example.com/a.b-c").is_empty());
        let upper = messages("A.com/x");
        assert_eq!(upper.len(), 1);
        assert!(
            upper[0].starts_with(
                "s: Invalid value: \"A.com\": validating label \"A\": a lowercase RFC 1123 label"
            )
        );
        let long = messages(&format!("example.com/{}", "x".repeat(600)));
        assert!(long[0].contains("must be no more than 253"));
        assert_eq!(long[1], "s: Too long: may not be more than 571 bytes");
        assert!(messages("com/x")[0].ends_with("at least two segments separated by dots"));
    }
}
