//! The forms that names, label keys and label values may have, with upstream's explanations.

const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn alphanumeric_ends(text: &str, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    end(bytes.first()) && end(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || inner(*b))
}

/// A DNS label: lower case letters, digits and `-`, at most 63 characters.
pub fn is_dns1123_label(text: &str) -> bool {
    text.len() <= 63
        && alphanumeric_ends(text, |b| b == b'-')
        && !text.bytes().any(|b| b.is_ascii_uppercase())
}

/// DNS labels joined by dots, at most 253 characters.
pub fn is_dns1123_subdomain(text: &str) -> bool {
    text.len() <= 253 && are_labels(text)
}

/// Whether a text is DNS labels joined by dots, however long.
fn are_labels(text: &str) -> bool {
    let label = |l: &str| alphanumeric_ends(l, |b| b == b'-') && !l.bytes().any(|b| b.is_ascii_uppercase());
    text.split('.').all(label)
}

/// Everything that is wrong with a label key, an annotation key or a taint's name; empty when it is fine.
pub fn qualified_name_error(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                 with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                 validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix \
                 and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => (Some(prefix), name),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            errors.push("prefix part must be non-empty".to_owned());
        } else {
            if prefix.len() > 253 {
                errors.push("prefix part must be no more than 253 bytes".to_owned());
            }
            if !are_labels(prefix) {
                errors.push(format!("prefix part {SUBDOMAIN}"));
            }
        }
    }
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push("name part must be no more than 63 bytes".to_owned());
    }
    if !alphanumeric_ends(name, |b| matches!(b, b'-' | b'_' | b'.')) {
        errors.push(QUALIFIED.to_owned());
    }
    errors
}

/// Everything that is wrong with a label's value; empty when it is fine.
pub fn label_value_error(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push("must be no more than 63 bytes".to_owned());
    }
    if !text.is_empty() && !alphanumeric_ends(text, |b| matches!(b, b'-' | b'_' | b'.')) {
        errors.push(VALUE.to_owned());
    }
    errors
}
