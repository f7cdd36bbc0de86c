//! Checking of request options, with upstream's words.

use protocol::{ApiError, ApiRequest, Options, PatchKind, Verb};

use crate::api::invalid::{Errors, Path, check};

const FIELD_MANAGER_BYTES_MAX: usize = 128;

/// Checks the options of a write.
pub fn check_write(request: &ApiRequest) -> Result<(), ApiError> {
    let options = &request.options;
    let kind = match request.verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        _ => "DeleteOptions",
    };
    let dry: Vec<String> =
        options.extra.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.clone()).collect();
    if matches!(request.verb, Verb::Delete | Verb::DeleteCollection) && !request.body.is_empty() {
        // The door has taken the options out; wrong types are told here, in Go's words.
        let definition = protocol::schema::definition("m.DeleteOptions");
        if let Some(Err(why)) = definition.map(|d| protocol::schema::decode(d, &request.body)) {
            return Err(ApiError::bad_request(why));
        }
        let given: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if let Some(other) = given["kind"].as_str().filter(|k| !k.is_empty() && *k != "DeleteOptions") {
            return Err(ApiError::bad_request(format!(
                "no kind \"{other}\" is registered for version \"{}\" in scheme \
                 \"pkg/apis/meta/internalversion/scheme/register.go:27\"",
                given["apiVersion"].as_str().unwrap_or_default()
            )));
        }
    }
    let mut errors = Errors::default();
    let given = |name: &str| options.extra.iter().any(|(k, _)| k == name);
    if request.verb == Verb::Patch {
        let apply = request.patch == Some(PatchKind::Apply);
        if apply && options.field_manager.as_deref().unwrap_or_default().is_empty() {
            errors.required(&Path::new("fieldManager"), "is required for apply patch");
        }
        // To say no is too much already.
        if !apply && (options.force || given("force")) {
            errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        }
    }
    if matches!(request.verb, Verb::Delete | Verb::DeleteCollection) {
        propagation(options, &mut errors);
    }
    field_manager(options.field_manager.as_deref().unwrap_or_default(), &mut errors);
    if !dry.is_empty() {
        errors.unsupported(&Path::new("dryRun"), dry, &["All"]);
    }
    if let Some(validation) = options.field_validation.as_deref()
        && !["", "Ignore", "Warn", "Strict"].contains(&validation)
    {
        errors.unsupported(&Path::new("fieldValidation"), validation, &["", "Ignore", "Strict", "Warn"]);
    }
    check(errors, "meta.k8s.io", kind, "")
}

/// Checks what a delete says of dependents.
fn propagation(options: &Options, errors: &mut Errors) {
    let Some(policy) = options.propagation_policy.as_deref() else { return };
    let path = Path::new("propagationPolicy");
    if options.orphan_dependents.is_some() {
        errors.invalid(&path, policy, "orphanDependents and deletionPropagation cannot be both set");
    }
    if !["Foreground", "Background", "Orphan"].contains(&policy) {
        errors.unsupported(&path, policy, &["Foreground", "Background", "Orphan", "nil"]);
    }
}

fn field_manager(manager: &str, errors: &mut Errors) {
    let path = Path::new("fieldManager");
    if manager.len() > FIELD_MANAGER_BYTES_MAX {
        errors.too_long(&path, FIELD_MANAGER_BYTES_MAX);
    }
    for (i, bad) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let message = format!("invalid character U+{:04X} (at position {i})", u32::from(bad));
        errors.invalid(&path, manager, message);
    }
}

/// Checks the options of a list or watch.
pub fn check_list(request: &ApiRequest) -> Result<(), ApiError> {
    let options = &request.options;
    let mut errors = Errors::default();
    let path = Path::new("resourceVersionMatch");
    let (version, matching) =
        (options.resource_version.as_deref().unwrap_or_default(), options.resource_version_match.as_deref());
    let watching = request.verb == Verb::Watch;
    if options.send_initial_events.is_some() {
        if !watching {
            errors.forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
        } else {
            if matching != Some("NotOlderThan") {
                errors.forbidden(
                    &path,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
        }
    } else if let Some(matching) = matching.filter(|m| !m.is_empty()) {
        if watching {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        } else {
            if version.is_empty() {
                errors
                    .forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if options.continue_token.as_deref().is_some_and(|c| !c.is_empty()) {
                errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
            }
            match matching {
                "Exact" if version == "0" => {
                    errors.forbidden(
                        &path,
                        "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                    );
                }
                "Exact" | "NotOlderThan" => {}
                other => errors.unsupported(&path, other, &["Exact", "NotOlderThan", ""]),
            }
        }
    }
    if watching && options.continue_token.as_deref().is_some_and(|c| !c.is_empty()) {
        errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
    }
    check(errors, "meta.k8s.io", "ListOptions", "")
}

/// A list's resourceVersion as a number.
pub fn revision(text: &str) -> Result<u64, ApiError> {
    number(text).map_err(|why| ApiError::bad_request(format!("invalid resource version: {why}")))
}

/// The resourceVersion of a get or a watch as a number. Upstream finds out deep in its storage that it is none,
/// and calls that its own fault.
pub fn storage_revision(text: &str) -> Result<u64, ApiError> {
    number(text).map_err(|why| ApiError::new(500, "", why))
}

fn number(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_and_policies_have_a_form() {
        let mut errors = Errors::default();
        field_manager("a\u{1}\u{2}", &mut errors);
        field_manager(&"ä".repeat(65), &mut errors);
        let given = Options {
            propagation_policy: Some("Sideways".to_owned()),
            orphan_dependents: Some(true),
            ..Options::default()
        };
        propagation(&given, &mut errors);
        assert_eq!(
            errors.messages(),
            [
                "fieldManager: Invalid value: \"a\\x01\\x02\": invalid character U+0001 (at position 1)",
                "fieldManager: Invalid value: \"a\\x01\\x02\": invalid character U+0002 (at position 2)",
                "fieldManager: Too long: may not be more than 128 bytes",
                "propagationPolicy: Invalid value: \"Sideways\": orphanDependents and deletionPropagation cannot be both set",
                "propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \
                 \"Orphan\", \"nil\"",
            ]
        );
    }
}
