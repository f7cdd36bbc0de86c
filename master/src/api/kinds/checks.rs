//! What the validation of several kinds has in common: names, choices, numbers, addresses, ports, selectors.
//!
//! Each function adds what it finds to the errors, with upstream's words and at upstream's path.

use protocol::Quantity;
use protocol::schema::{self, internal};
use protocol::selector::{label_value_error, qualified_name_error};
use serde_json::Value;

pub use crate::api::invalid::internal;
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::meta::{self, NameRule, name_errors};
use crate::api::object::{list, text};

mod addresses;

pub use addresses::{
    address_note, address_notes, balancer_notes, cidr, endpoint_ip, ip, parse_cidr, parse_ip, range_note,
    range_notes, strict_cidr, strict_ip,
};

/// "Must not be negative", as upstream says it.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// "Must be positive", as upstream says it.
pub const POSITIVE: &str = "must be greater than zero";
/// "Must not change", as upstream says it.
pub const IMMUTABLE: &str = "field is immutable";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
'93%', regex used for validation is '[0-9]+%')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
'*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
'[A-Za-z_][A-Za-z0-9_]*')";

/// What changed between two values, as lines of their internal structs.
pub fn internal_diff(definition: &str, old: &Value, new: &Value) -> String {
    match schema::definition(definition) {
        Some(definition) => internal::internal(definition, old).diff(&internal::internal(definition, new)),
        None => String::new(),
    }
}

/// The same of some fields alone.
pub fn internal_diff_of(definition: &str, fields: &[&str], old: &Value, new: &Value) -> String {
    match schema::definition(definition) {
        Some(definition) => {
            let part = |value| internal::part(definition, fields, value);
            part(old).diff(&part(new))
        }
        None => String::new(),
    }
}

/// Metadata of what is made from a template: annotations and labels, and nothing else.
pub fn template_metadata(given: &Value, path: &Path, errors: &mut Errors) {
    meta::annotations(&given["annotations"], &path.child("annotations"), errors);
    meta::labels(&given["labels"], &path.child("labels"), errors);
    for field in meta::OF_ONE_OBJECT {
        let said = match &given[*field] {
            Value::Null => errors.is_given_empty(&path.child(field)),
            Value::String(text) => !text.is_empty(),
            Value::Number(number) => number.as_i64() != Some(0) || *field != "generation",
            _ => true,
        };
        if said {
            // The path comes from the Go name here.
            let shown = if *field == "uid" { "uID" } else { field };
            errors.forbidden(&path.child(shown), "cannot be set");
        }
    }
}

/// A label selector with its fields in Go's order.
pub fn shown_selector(value: &Value) -> String {
    if value.is_null() { "null".to_owned() } else { internal("m.LabelSelector", value) }
}

/// A field that must not change.
pub fn immutable(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if new != old {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}

/// A struct that must not change.
pub fn immutable_struct(definition: &str, new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if new != old {
        let shown =
            if new.is_null() { "null".to_owned() } else { errors.shown_struct(path, definition, new) };
        errors.invalid_shown(path, &shown, IMMUTABLE);
    }
}

/// A number that must not be negative.
pub fn non_negative(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.invalid(path, value.clone(), NOT_NEGATIVE);
    }
}

/// A number that must be positive.
pub fn positive(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|n| n <= 0) {
        errors.invalid(path, value.clone(), POSITIVE);
    }
}

/// Several fields of one object that must not be negative, in this order.
pub fn all_non_negative(object: &Value, names: &[&str], path: &Path, errors: &mut Errors) {
    for name in names {
        non_negative(&object[*name], &path.child(name), errors);
    }
}

/// A number within a range.
pub fn in_range(value: &Value, min: i64, max: i64, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|n| !(min..=max).contains(&n)) {
        errors.invalid(path, value.clone(), format!("must be between {min} and {max}, inclusive"));
    }
}

/// A text that must be one of some, where it is there at all.
pub fn choice(value: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(given) = value.as_str()
        && !supported.contains(&given)
    {
        errors.unsupported(path, given, supported);
    }
}

/// A text that must be there and be one of some.
pub fn required_choice(value: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    match value.as_str().unwrap_or_default() {
        "" => errors.required(path, ""),
        given if !supported.contains(&given) => errors.unsupported(path, given, supported),
        _ => {}
    }
}

/// The same, where what is missing is told what it could be.
pub fn required_one_of(value: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    if value.as_str().is_none_or(str::is_empty) {
        let known: Vec<String> = supported.iter().map(|known| go_quote(known)).collect();
        errors.required(path, &format!("valid values: [{}]", known.join(" ")));
    } else {
        choice(value, supported, path, errors);
    }
}

/// A text that must be there.
pub fn required(object: &Value, name: &str, path: &Path, errors: &mut Errors) {
    if text(object, &[name]).is_empty() {
        errors.required(&path.child(name), "");
    }
}

/// A name of some form.
pub fn named(rule: NameRule, value: &str, path: &Path, errors: &mut Errors) {
    for error in name_errors(rule, value, false) {
        errors.invalid(path, value, error);
    }
}

/// A name of some form, where there is one.
pub fn named_if_set(rule: NameRule, object: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let value = text(object, &[name]);
    if !value.is_empty() {
        named(rule, value, &path.child(name), errors);
    }
}

/// A name that must be there and have some form.
pub fn required_name(rule: NameRule, object: &Value, name: &str, path: &Path, errors: &mut Errors) {
    match text(object, &[name]) {
        "" => errors.required(&path.child(name), ""),
        value => named(rule, value, &path.child(name), errors),
    }
}

/// A qualified name, such as a label's key.
pub fn qualified(value: &str, path: &Path, errors: &mut Errors) {
    for error in qualified_name_error(value) {
        errors.invalid(path, value, error);
    }
}

/// A name with a domain before a slash: `acme.io/foo`.
pub fn domain_prefixed_path(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((host, rest)) = value.split_once('/').filter(|(h, r)| !h.is_empty() && !r.is_empty()) else {
        errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    for error in name_errors(NameRule::Subdomain, host, false) {
        errors.invalid(path, host, error);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/%-._~!$&'()*+,;=:".contains(c);
    if !rest.chars().all(plain) {
        errors.invalid(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}

/// A fully qualified domain name: labels joined by dots, two at least.
pub fn fully_qualified(value: &str, segments_min: usize, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let wrong = name_errors(NameRule::Subdomain, value, false);
    if !wrong.is_empty() {
        wrong.into_iter().for_each(|e| errors.invalid(path, value, e));
        return;
    }
    if value.split('.').count() < segments_min {
        let words = if segments_min == 3 { "three" } else { "two" };
        errors.invalid(
            path,
            value,
            format!("should be a domain with at least {words} segments separated by dots"),
        );
    }
}

/// A DNS name that begins with `*.`.
pub fn wildcard(value: &str, path: &Path, errors: &mut Errors) {
    if value.len() > 253 {
        errors.invalid(path, value, "must be no more than 253 characters");
    }
    let fine =
        value.strip_prefix("*.").is_some_and(|rest| name_errors(NameRule::Subdomain, rest, false).is_empty());
    if !fine {
        errors.invalid(path, value, WILDCARD);
    }
}

/// A C identifier.
pub fn c_identifier(value: &str, path: &Path, errors: &mut Errors) {
    let first = value.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        errors.invalid(path, value, C_IDENTIFIER);
    }
}

/// What is wrong with the name of an environment variable.
pub fn env_name_errors(name: &str) -> Option<&'static str> {
    let printable = !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    (!printable).then_some(
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    )
}

/// What is wrong with a key of a config map or secret.
pub fn config_key_errors(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > 253 {
        errors.push("must be no more than 253 characters".to_owned());
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    } else if key == "." {
        errors.push("must not be '.'".to_owned());
    } else if key == ".." {
        errors.push("must not be '..'".to_owned());
    } else if key.starts_with("..") {
        errors.push("must not start with '..'".to_owned());
    }
    errors
}

/// The range of a port number.
pub fn port_number(number: i64, path: &Path, errors: &mut Errors) {
    if !(1..=65535).contains(&number) {
        errors.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

/// What is wrong with a port's name.
pub fn port_name_errors(name: &str) -> Vec<&'static str> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') || name.is_empty() {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen");
    }
    errors
}

/// A port: a number, or a name.
pub fn port(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(name) => {
            for error in port_name_errors(name) {
                errors.invalid(path, name.as_str(), error);
            }
        }
        number => port_number(number.as_i64().unwrap_or(0), path, errors),
    }
}

/// The amount of a quantity.
pub fn amount(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

/// A quantity that must not be negative.
pub fn quantity(value: &Value, path: &Path, errors: &mut Errors) {
    if amount(value).is_some_and(|q| q.is_negative()) {
        errors.invalid(path, value.clone(), NOT_NEGATIVE);
    }
}

/// A quantity that must be positive.
pub fn positive_quantity(value: &Value, path: &Path, errors: &mut Errors) {
    if amount(value).is_some_and(|q| q.is_negative() || q.is_zero()) {
        errors.invalid(path, value.clone(), POSITIVE);
    }
}

/// The number of a percentage.
pub fn percent(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A value that is a number or a percentage, not negative.
pub fn int_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%');
            if digits.is_none_or(|d| d.is_empty() || !d.bytes().all(|b| b.is_ascii_digit())) {
                errors.invalid(path, text.as_str(), PERCENT);
            }
        }
        number => non_negative(number, path, errors),
    }
}

/// A percentage of at most a hundred.
pub fn at_most_all(value: &Value, path: &Path, errors: &mut Errors) {
    if percent(value).is_some_and(|p| p > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// A label selector field.
pub fn label_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    meta::labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    for (i, expression) in list(selector, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let (operator, values) = (text(expression, &["operator"]), list(expression, &["values"]));
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors
                    .required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        qualified(text(expression, &["key"]), &path.child("key"), errors);
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for error in label_value_error(value) {
                errors.invalid(&path.child("values").index(j), value, error);
            }
        }
    }
}

/// Whether a label selector says nothing.
pub fn selects_all(selector: &Value) -> bool {
    selector["matchLabels"].as_object().is_none_or(serde_json::Map::is_empty)
        && list(selector, &["matchExpressions"]).is_empty()
}

/// A node selector.
pub fn node_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    let (terms, path) = (list(selector, &["nodeSelectorTerms"]), path.child("nodeSelectorTerms"));
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, true, &path.index(i), errors);
    }
}

/// One term of a node selector; `strict` where values must be such as labels can have.
pub fn node_term(term: &Value, strict: bool, path: &Path, errors: &mut Errors) {
    for (j, requirement) in list(term, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(j);
        let (operator, values) = (text(requirement, &["operator"]), list(requirement, &["values"]));
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors
                    .required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors.required(
                    &path.child("values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        qualified(text(requirement, &["key"]), &path.child("key"), errors);
        for (k, value) in values.iter().filter_map(Value::as_str).enumerate().filter(|_| strict) {
            for error in label_value_error(value) {
                errors.invalid(&path.child("values").index(k), value, error);
            }
        }
    }
    for (j, requirement) in list(term, &["matchFields"]).iter().enumerate() {
        node_field(requirement, &path.child("matchFields").index(j), errors);
    }
}

fn node_field(requirement: &Value, path: &Path, errors: &mut Errors) {
    let (operator, values) = (text(requirement, &["operator"]), list(requirement, &["values"]));
    if !["In", "NotIn"].contains(&operator) {
        errors.invalid(&path.child("operator"), operator, "not a valid selector operator");
    } else if values.len() != 1 {
        errors.required(
            &path.child("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        );
    }
    if text(requirement, &["key"]) == "metadata.name" {
        for (k, value) in values.iter().filter_map(Value::as_str).enumerate() {
            named(NameRule::Subdomain, value, &path.child("values").index(k), errors);
        }
    } else {
        let key = text(requirement, &["key"]);
        errors.invalid(&path.child("key"), key, "not a valid field selector key");
    }
}

/// A path without `..` in it.
pub fn no_backsteps(value: &str, path: &Path, errors: &mut Errors) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

/// A path that stays below where it begins.
pub fn descending(value: &str, path: &Path, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    no_backsteps(value, path, errors);
}

/// As [`descending`], and no name of its own begins with two dots.
pub fn non_reserved_descending(value: &str, path: &Path, errors: &mut Errors) {
    descending(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid(path, value, "must not start with '..'");
    }
}

/// Conditions of a status, as the meta package has them.
pub fn conditions(conditions: &[Value], path: &Path, errors: &mut Errors) {
    let mut types: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        let kind = text(condition, &["type"]);
        if types.contains(&kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        types.push(kind);
        qualified(kind, &path.child("type"), errors);
        required_or_choice(condition, &path, errors);
        if let Some(generation) = condition["observedGeneration"].as_i64().filter(|g| *g < 0) {
            let path = path.child("observedGeneration");
            errors.invalid(&path, generation, "must be greater than or equal to zero");
        }
        if text(condition, &["lastTransitionTime"]).is_empty() {
            errors.required(&path.child("lastTransitionTime"), "");
        }
        let reason = text(condition, &["reason"]);
        if reason.is_empty() {
            errors.required(&path.child("reason"), "");
        } else {
            let fine = reason.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
                && reason.bytes().all(|b| b.is_ascii_alphanumeric() || b"_,:".contains(&b))
                && reason.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !fine {
                errors.invalid(
                    &path.child("reason"),
                    reason,
                    "a condition reason must start with alphabetic character, optionally followed by a string of \
                     alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                     'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex \
                     used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
                );
            }
            if reason.len() > 1024 {
                errors.too_long(&path.child("reason"), 1024);
            }
        }
        if text(condition, &["message"]).len() > 32 * 1024 {
            errors.too_long(&path.child("message"), 32 * 1024);
        }
    }
}

fn required_or_choice(condition: &Value, path: &Path, errors: &mut Errors) {
    let status = text(condition, &["status"]);
    if !["True", "False", "Unknown"].contains(&status) {
        errors.unsupported(&path.child("status"), status, &["False", "True", "Unknown"]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn what_is_missing_is_told_what_it_could_be() {
        let said = |value: Value| said(|e| required_one_of(&value, &["In", "NotIn"], &Path::new("f"), e));
        assert!(said(json!("In")).is_empty());
        assert!(said(json!(null))[0].ends_with("Required value: valid values: [\"In\" \"NotIn\"]"));
        assert!(said(json!("x"))[0].contains("Unsupported value: \"x\""));
    }

    #[test]
    fn percentages_have_a_form_and_a_limit() {
        assert_eq!(percent(&json!("25%")), Some(25));
        assert_eq!(percent(&json!("25")), None);
        assert_eq!(said(|e| int_or_percent(&json!("10"), &Path::new("f"), e)).len(), 1);
        assert_eq!(said(|e| int_or_percent(&json!(-1), &Path::new("f"), e)).len(), 1);
        assert_eq!(said(|e| at_most_all(&json!("101%"), &Path::new("f"), e)).len(), 1);
    }

    #[test]
    fn controllers_have_a_domain() {
        for (text, wrong) in [("a.io/b", 0), ("golden", 1), ("A/b", 1), ("a.io/b c", 1), ("", 1)] {
            assert_eq!(said(|e| domain_prefixed_path(text, &Path::new("f"), e)).len(), wrong, "{text}");
        }
    }
}
