//! A path, a method and a query to a request: what it is about and what is wanted.

use protocol::{ApiError, Options, Target, Verb};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A resource.
    Resource {
        /// Which.
        target: Target,
        /// What follows the subresource (a proxied path), without the leading slash.
        rest: String,
        /// The path's old form that asks for a watch.
        watch: bool,
    },
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group(String),
    /// `/api/<version>` or `/apis/<group>/<version>`.
    Resources(String, String),
    /// Anything else.
    Other,
}

/// Reads a path (decoded segment by segment).
pub fn place(path: &str) -> Place {
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(|s| decode(s, false)).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["api"] => Place::CoreVersions,
        ["apis"] => Place::Groups,
        ["apis", group] => Place::Group((*group).to_owned()),
        ["api", version] => Place::Resources(String::new(), (*version).to_owned()),
        ["apis", group, version] => Place::Resources((*group).to_owned(), (*version).to_owned()),
        ["api", version, rest @ ..] => resource("", version, rest),
        ["apis", group, version, rest @ ..] => resource(group, version, rest),
        _ => Place::Other,
    }
}

fn resource(group: &str, version: &str, rest: &[&str]) -> Place {
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let mut target = Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
    let after: &[&str] = match rest {
        // Subresources of the namespace itself.
        ["namespaces", name, sub @ ("status" | "finalize")] => {
            target.resource = "namespaces".to_owned();
            target.name = Some((*name).to_owned());
            target.namespace = Some((*name).to_owned());
            target.subresource = Some((*sub).to_owned());
            &[]
        }
        ["namespaces", namespace, resource, after @ ..] => {
            target.namespace = Some((*namespace).to_owned());
            target.resource = (*resource).to_owned();
            after
        }
        [resource, after @ ..] => {
            target.resource = (*resource).to_owned();
            if *resource == "namespaces" {
                target.namespace = after.first().map(|n| (*n).to_owned());
            }
            after
        }
        [] => &[],
    };
    if let [name, ..] = after {
        target.name = Some((*name).to_owned());
    }
    if let [_, sub, ..] = after {
        target.subresource = Some((*sub).to_owned());
    }
    let rest = after.get(2..).map(|r| r.join("/")).unwrap_or_default();
    Place::Resource { target, rest, watch }
}

/// Decodes a percent-encoded text; `plus` means a space in queries.
pub fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |b: u8| char::from(b).to_digit(16);
        match bytes[i] {
            b'%' if i + 2 < bytes.len() && hex(bytes[i + 1]).is_some() && hex(bytes[i + 2]).is_some() => {
                let value = hex(bytes[i + 1]).unwrap_or(0) * 16 + hex(bytes[i + 2]).unwrap_or(0);
                out.push(value as u8);
                i += 3;
            }
            b'+' if plus => {
                out.push(b' ');
                i += 1;
            }
            other => {
                out.push(other);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A query's parameters, decoded, in order.
pub fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        })
        .collect()
}

/// What a method means for a target; `None` where nothing does it.
pub fn verb(method: &str, target: &Target, watch: bool) -> Option<Verb> {
    Some(match (method, target.name.is_some()) {
        ("GET", _) if watch && target.subresource.is_none() => Verb::Watch,
        ("GET", true) => Verb::Get,
        ("GET", false) => Verb::List,
        ("POST", _) => Verb::Create,
        ("PUT", true) => Verb::Update,
        ("PATCH", true) => Verb::Patch,
        ("DELETE", true) => Verb::Delete,
        ("DELETE", false) => Verb::DeleteCollection,
        _ => return None,
    })
}

/// Reads the options from a query. `kind` names them in messages.
pub fn options(query: &[(String, String)], verb: Option<Verb>) -> Result<Options, ApiError> {
    let mut options = Options::default();
    let mut dry_run: Vec<String> = Vec::new();
    // Of a parameter that is given twice, the first counts.
    let mut seen: Vec<&str> = Vec::new();
    for (key, value) in query {
        if key == "dryRun" {
            dry_run.push(value.clone());
            continue;
        }
        let known = PARAMETERS.iter().find(|p| **p == key.as_str());
        match known {
            Some(name) if seen.contains(name) => continue,
            Some(name) => seen.push(name),
            None => {
                options.extra.push((key.clone(), value.clone()));
                continue;
            }
        }
        let text = || Some(value.clone());
        match key.as_str() {
            "labelSelector" => options.label_selector = text(),
            "fieldSelector" => options.field_selector = text(),
            "resourceVersion" => options.resource_version = text(),
            "resourceVersionMatch" => options.resource_version_match = text(),
            "limit" => options.limit = u64::try_from(integer(value)?).unwrap_or(0),
            "continue" => options.continue_token = text(),
            "timeoutSeconds" => options.timeout_seconds = u64::try_from(integer(value)?).ok(),
            "allowWatchBookmarks" => options.allow_watch_bookmarks = boolean(value),
            "sendInitialEvents" => options.send_initial_events = Some(boolean(value)),
            "fieldManager" => options.field_manager = text(),
            "fieldValidation" => options.field_validation = text(),
            "force" => options.force = boolean(value),
            "gracePeriodSeconds" => options.grace_period_seconds = Some(integer(value)?),
            "propagationPolicy" => options.propagation_policy = text(),
            "orphanDependents" => options.orphan_dependents = Some(boolean(value)),
            "timeout" => duration(value)?,
            _ => {}
        }
    }
    if !dry_run.is_empty() {
        if dry_run.iter().any(|d| d != "All") {
            let kind = match verb {
                Some(Verb::Create) => "CreateOptions",
                Some(Verb::Update) => "UpdateOptions",
                Some(Verb::Patch) => "PatchOptions",
                _ => "DeleteOptions",
            };
            return Err(crate::api::pipeline::bad_dry_run(kind, &dry_run));
        }
        options.dry_run = true;
    }
    Ok(options)
}

const PARAMETERS: [&str; 16] = [
    "labelSelector",
    "fieldSelector",
    "resourceVersion",
    "resourceVersionMatch",
    "limit",
    "continue",
    "timeoutSeconds",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "fieldManager",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "propagationPolicy",
    "orphanDependents",
    "timeout",
];

/// Booleans are true unless they say no.
pub fn boolean(value: &str) -> bool {
    !matches!(value, "false" | "0" | "False" | "FALSE" | "f" | "F")
}

fn integer(value: &str) -> Result<i64, ApiError> {
    if value.is_empty() {
        return Ok(0);
    }
    value.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::bad_request(format!("strconv.ParseInt: parsing {value:?}: {why}"))
    })
}

/// Checks a Go duration such as `5s` or `1m30s`.
fn duration(value: &str) -> Result<(), ApiError> {
    let bad = |why: String| {
        Err(ApiError::bad_request(format!("invalid timeout specified in the request URL - time: {why}")))
    };
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    if value.is_empty() || value == "0" {
        return Ok(());
    }
    let mut rest = value.strip_prefix(['-', '+']).unwrap_or(value);
    while !rest.is_empty() {
        let end = rest.find(|c| !digits(c)).unwrap_or(rest.len());
        if end == 0 {
            return bad(format!("invalid duration {value:?}"));
        }
        rest = &rest[end..];
        let unit = &rest[..rest.find(digits).unwrap_or(rest.len())];
        if unit.is_empty() {
            return bad(format!("missing unit in duration {value:?}"));
        }
        if !["ns", "us", "µs", "ms", "s", "m", "h"].contains(&unit) {
            return bad(format!("unknown unit {unit:?} in duration {value:?}"));
        }
        rest = &rest[unit.len()..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> (String, String) {
        let Place::Resource { target: t, rest, watch } = place(path) else {
            return (format!("{:?}", place(path)), String::new());
        };
        let part = |o: Option<String>| o.unwrap_or("-".to_owned());
        let shown = format!(
            "{}/{} {} {} {} {}",
            t.group,
            t.version,
            part(t.namespace),
            t.resource,
            part(t.name),
            part(t.subresource)
        );
        (if watch { format!("watch {shown}") } else { shown }, rest)
    }

    #[test]
    fn paths_lead_to_their_targets() {
        for (path, expected) in [
            ("/api/v1/pods", "/v1 - pods - -"),
            ("/api/v1/namespaces/a/pods/b/log", "/v1 a pods b log"),
            ("/api/v1/namespaces", "/v1 - namespaces - -"),
            ("/api/v1/namespaces/a", "/v1 a namespaces a -"),
            ("/api/v1/namespaces/a/status", "/v1 a namespaces a status"),
            ("/apis/apps/v1/namespaces/a/deployments/d/scale", "apps/v1 a deployments d scale"),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "rbac.authorization.k8s.io/v1 - clusterroles system:node -",
            ),
            ("/api/v1/watch/namespaces/a/pods", "watch /v1 a pods - -"),
            ("/api/v1/nodes/n/proxy/logs/x", "/v1 - nodes n proxy"),
        ] {
            assert_eq!(target(path).0, expected, "{path}");
        }
        assert_eq!(target("/api/v1/nodes/n/proxy/logs/x").1, "logs/x");
        assert_eq!(place("/apis/apps/v1"), Place::Resources("apps".into(), "v1".into()));
        assert_eq!(place("/healthz"), Place::Other);
    }

    #[test]
    fn queries_are_decoded_and_checked() {
        let read = |q: &str| options(&query(q), None);
        assert_eq!(
            read("labelSelector=app%3Dweb&limit=5").map(|o| (o.label_selector, o.limit)),
            Ok((Some("app=web".into()), 5))
        );
        assert_eq!(read("limit=-1").map(|o| o.limit), Ok(0));
        assert!(
            read("timeoutSeconds=abc")
                .is_err_and(|e| e.to_string() == "strconv.ParseInt: parsing \"abc\": invalid syntax")
        );
        assert!(
            read("timeout=bad").is_err_and(|e| e.to_string().ends_with("time: invalid duration \"bad\""))
        );
        assert!(read("dryRun=Some").is_err());
        assert_eq!(decode("a%2", false), "a%2");
    }
}
