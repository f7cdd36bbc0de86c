//! Where a webhook is: a URL, or a Service.

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::text;

/// Checks a client configuration.
pub fn validate_config(config: &Value, path: &Path, errors: &mut Errors) {
    match (&config["url"], &config["service"]) {
        (Value::Null, Value::Null) | (Value::String(_), Value::Object(_)) => {
            errors.required(path, "exactly one of url or service is required");
        }
        (Value::String(url), _) => validate_url(url, &path.child("url"), errors),
        (_, service) => validate_service(service, &path.child("service"), errors),
    }
}

fn validate_url(url: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some((scheme, rest)) = url.split_once("://") else {
        let why = format!("\"https\" is the only allowed URL scheme{FORM}");
        errors.invalid(path, url, why);
        errors.invalid(path, "", format!("host must be specified{FORM}"));
        return;
    };
    if scheme != "https" {
        errors.invalid(path, scheme, format!("\"https\" is the only allowed URL scheme{FORM}"));
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    let (authority, _) = before.split_once('/').unwrap_or((before, ""));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn validate_service(service: &Value, path: &Path, errors: &mut Errors) {
    for (field, what) in
        [("name", "service name is required"), ("namespace", "service namespace is required")]
    {
        if text(service, &[field]).is_empty() {
            errors.required(&path.child(field), what);
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.invalid(&path.child("port"), port, why);
    }
    let Some(given) = service["path"].as_str() else { return };
    let at = path.child("path");
    if given == "/" {
        return;
    }
    if given == "//" {
        errors.invalid(&at, given, "segment[0] may not be empty");
        return;
    }
    if !given.starts_with('/') {
        errors.invalid(&at, given, "must start with a '/'");
    }
    let trimmed = given.strip_suffix('/').unwrap_or(given);
    for (i, segment) in trimmed.split('/').skip(1).enumerate() {
        if segment.is_empty() {
            errors.invalid(&at, given, format!("segment[{i}] may not be empty"));
            continue;
        }
        for why in name_errors(NameRule::Subdomain, segment, false) {
            errors.invalid(&at, given, format!("segment[{i}]: {why}"));
        }
    }
}
