//! Checking of request options, with upstream's words.

use protocol::{ApiError, ApiRequest, FieldSelector, Options, PatchKind, Selector, Verb};

use super::body;
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
    // Where nothing is deleted, nobody reads how.
    let deletes = matches!(request.verb, Verb::Delete | Verb::DeleteCollection);
    if deletes && request.target.subresource.is_none() && !request.body.is_empty() {
        // The door has taken the options out; wrong types are told here, in Go's words.
        let said = body::said(&request.body).map_err(ApiError::bad_request)?;
        if let Some(other) = said.kind.filter(|kind| kind != "DeleteOptions") {
            // What does not say of which version it is, is of the one that options have.
            let version = said.api_version.filter(|version| !version.is_empty());
            let version = version.unwrap_or_else(|| "meta.k8s.io/v1".to_owned());
            return Err(ApiError::bad_request(if body::is_meta(&other, &version) {
                format!("converting (v1.{other}) to (v1.DeleteOptions): unknown conversion")
            } else {
                format!(
                    "no kind \"{other}\" is registered for version \"{version}\" in scheme \
                     \"pkg/apis/meta/internalversion/scheme/register.go:27\""
                )
            }));
        }
        let definition = protocol::schema::definition("m.DeleteOptions");
        if let Some(Err(why)) = definition.map(|d| protocol::schema::decode(d, &request.body)) {
            return Err(ApiError::bad_request(why));
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

/// Checks what the options of an eviction say of dependents, as those of a delete.
pub fn check_propagation(options: &Options) -> Result<(), ApiError> {
    let mut errors = Errors::default();
    propagation(options, &mut errors);
    check(errors, "meta.k8s.io", "DeleteOptions", "")
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
    // What cannot be read comes before what does not go together.
    let bad = |e: protocol::selector::SelectorError| ApiError::bad_request(e.0);
    request.options.label_selector.as_deref().map(Selector::parse).transpose().map_err(bad)?;
    request.options.field_selector.as_deref().map(FieldSelector::parse).transpose().map_err(bad)?;
    let mut errors = Errors::default();
    // What deletes a collection may say that it watches, which changes nothing but what it is held to.
    let no = |value: &str| value == "0" || value.eq_ignore_ascii_case("false");
    let says = |(name, value): &(String, String)| name == "watch" && !no(value);
    let watches = match request.verb {
        Verb::Watch => !request.options.watch_by_path,
        _ => request.options.extra.iter().any(says),
    };
    if watches {
        watch_options(&request.options, &mut errors);
    } else {
        list_options(&request.options, &mut errors);
    }
    check(errors, "meta.k8s.io", "ListOptions", "")
}

const ONE_PLACE: &str = "resourceVersionMatch is forbidden when continue is provided";

/// A text option, where it says something.
pub fn said(option: &Option<String>) -> Option<&str> {
    option.as_deref().filter(|text| !text.is_empty())
}

fn list_options(options: &Options, errors: &mut Errors) {
    let path = Path::new("resourceVersionMatch");
    if let Some(matching) = said(&options.resource_version_match) {
        let version = said(&options.resource_version);
        if version.is_none() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if said(&options.continue_token).is_some() {
            errors.forbidden(&path, ONE_PLACE);
        }
        if !["Exact", "NotOlderThan"].contains(&matching) {
            errors.unsupported(&path, matching, &["Exact", "NotOlderThan", ""]);
        }
        if matching == "Exact" && version == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.forbidden(&path, why);
        }
    }
    if options.send_initial_events.is_some() {
        errors.forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
}

fn watch_options(options: &Options, errors: &mut Errors) {
    let path = Path::new("resourceVersionMatch");
    let (mut sends, mut matching) =
        (options.send_initial_events.is_some(), said(&options.resource_version_match));
    // A watch from no version in particular sends what there is, said or not.
    let from_any = matches!(said(&options.resource_version), None | Some("0"));
    if !sends && matching.is_none() && from_any {
        (sends, matching) = (true, Some("NotOlderThan"));
    }
    if sends && matching != Some("NotOlderThan") {
        errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    let Some(matching) = matching else { return };
    if !sends {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.forbidden(&path, why);
    }
    if matching != "NotOlderThan" {
        errors.unsupported(&path, matching, &["NotOlderThan"]);
    }
    if said(&options.continue_token).is_some() {
        errors.forbidden(&path, ONE_PLACE);
    }
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

/// The resourceVersion of an object that is written, which is found out about as late.
pub fn object_revision(text: &str) -> Result<u64, ApiError> {
    unsigned(text).map_err(|why| ApiError::new(500, "", why))
}

fn number(text: &str) -> Result<u64, String> {
    unsigned(text).map_err(|why| format!("resourceVersion: Invalid value: {text:?}: {why}"))
}

fn unsigned(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let refused = |why| format!("strconv.ParseUint: parsing {}: {why}", protocol::go::quote(text));
    // Rust takes a plus where Go does not.
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused("invalid syntax"));
    }
    text.parse().map_err(|_| refused("value out of range"))
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

    #[test]
    fn revisions_are_read_as_go_reads_numbers() {
        for (text, wanted) in [
            ("", Ok(0)),
            ("007", Ok(7)),
            ("+7", Err("strconv.ParseUint: parsing \"+7\": invalid syntax")),
            ("abc", Err("strconv.ParseUint: parsing \"abc\": invalid syntax")),
            (
                "99999999999999999999",
                Err("strconv.ParseUint: parsing \"99999999999999999999\": value out of range"),
            ),
        ] {
            assert_eq!(unsigned(text), wanted.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_is_asked_of_a_list_must_go_together() {
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        // Version, match, continuation, initial events; for a list and for a watch: how many things are wrong.
        for (version, matching, token, sends, listed, watched) in [
            ("", "", "", None, 0, 0),
            ("5", "", "x", None, 0, 0),
            ("", "", "x", None, 0, 1),
            ("5", "Exact", "", None, 0, 2),
            ("0", "Exact", "x", None, 2, 3),
            ("", "Sideways", "", Some(true), 3, 2),
            ("5", "NotOlderThan", "", Some(false), 1, 0),
            ("5", "", "", Some(true), 1, 1),
        ] {
            let options = Options {
                resource_version: text(version),
                resource_version_match: text(matching),
                continue_token: text(token),
                send_initial_events: sends,
                ..Options::default()
            };
            let count = |check: fn(&Options, &mut Errors)| {
                let mut errors = Errors::default();
                check(&options, &mut errors);
                errors.len()
            };
            assert_eq!((count(list_options), count(watch_options)), (listed, watched), "{options:?}");
        }
    }

    #[test]
    fn a_watch_by_its_path_is_asked_for_as_a_list_is() {
        let mut request = ApiRequest::new(Verb::Watch, protocol::Target::default());
        request.options.send_initial_events = Some(true);
        let why = |request: &ApiRequest| check_list(request).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(why(&request).contains("requires setting resourceVersionMatch"));
        request.options.watch_by_path = true;
        assert!(why(&request).contains("sendInitialEvents is forbidden for list"));
    }
}
