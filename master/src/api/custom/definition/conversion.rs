//! How a definition says that versions are converted.

use serde_json::{Value, json};

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::webhooks;
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{list, text};

/// Checks a conversion. Before the definition is established the authorities may yet be wrong.
pub fn validate(conversion: &Value, established: bool, path: &Path, errors: &mut Errors) {
    let strategy = text(conversion, &["strategy"]);
    if strategy.is_empty() {
        errors.required(&path.child("strategy"), "");
    } else if !["None", "Webhook"].contains(&strategy) {
        errors.unsupported(&path.child("strategy"), strategy, &["None", "Webhook"]);
    }
    let webhook = &conversion["webhook"];
    let config_path = path.child("webhookClientConfig");
    let versions_path = path.child("conversionReviewVersions");
    let versions = list(webhook, &["conversionReviewVersions"]);
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if webhook["clientConfig"].is_object() {
            errors.forbidden(&config_path, why);
        }
        if !versions.is_empty() {
            errors.forbidden(&versions_path, why);
        }
        return;
    }
    match &webhook["clientConfig"] {
        config @ Value::Object(_) => {
            webhooks::client(config, &config_path, errors);
            if established {
                webhooks::bundle(config, &config_path.child("caBundle"), errors);
            }
        }
        _ => errors.required(&config_path, "required when strategy is set to Webhook"),
    }
    if versions.is_empty() {
        errors.required(&versions_path, "");
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        let name = version.as_str().unwrap_or_default();
        if versions[..i].contains(version) {
            errors.invalid(&versions_path.index(i), name, "duplicate version");
            continue;
        }
        for why in name_errors(NameRule::Label1035, name, false) {
            errors.invalid(&versions_path.index(i), name, why);
        }
    }
    if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
        errors.invalid(&versions_path, json!(versions), "must include at least one of v1, v1beta1");
    }
}
