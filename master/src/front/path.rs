//! Paths and queries to targets, verbs and options. Pure.

use protocol::{Options, Target, Verb};
use serde_json::Value;

/// What a path under `/api` or `/apis` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The target.
    pub target: Target,
    /// The old `/watch/` prefix was used.
    pub watch: bool,
    /// What follows a `proxy` subresource.
    pub rest: String,
}

/// Takes a resource path apart; `None` when it is not of that form (discovery, or nothing at all).
pub fn parse(path: &str) -> Option<Named> {
    let mut segments = path.strip_prefix('/')?.split('/').map(decode).collect::<Option<Vec<_>>>()?;
    if segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    let mut segments = segments.into_iter();
    let (group, version) = match segments.next()?.as_str() {
        "api" => (String::new(), segments.next()?),
        "apis" => (segments.next()?, segments.next()?),
        _ => return None,
    };
    let mut rest: Vec<String> = segments.collect();
    let watch = rest.first().is_some_and(|s| s == "watch");
    if watch {
        rest.remove(0);
    }
    let mut target = Target { group, version, ..Target::default() };
    // `namespaces/NAME/…` is a namespace's content, unless what follows is a subresource of the namespace.
    let inside =
        rest.len() >= 3 && rest[0] == "namespaces" && !matches!(rest[2].as_str(), "status" | "finalize");
    if inside || (rest.len() > 3 && rest[0] == "namespaces") {
        target.namespace = Some(rest[1].clone());
        rest.drain(..2);
    }
    let mut rest = rest.into_iter();
    target.resource = rest.next()?;
    target.name = rest.next();
    target.subresource = rest.next();
    Some(Named { target, watch, rest: rest.collect::<Vec<_>>().join("/") })
}

fn decode(segment: &str) -> Option<String> {
    percent(segment, false)
}

fn percent(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// A query's parameters, decoded, in order; those that are no UTF-8 are left out.
pub fn query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent(name, true)?, percent(value, true)?))
        })
        .collect()
}

/// A boolean of a query, as upstream reads it: anything but a clear no.
pub fn truth(value: &str) -> bool {
    !matches!(value, "0" | "false" | "False" | "FALSE" | "f" | "F")
}

/// Query parameters as options; the ones that no verb knows go to `extra`.
pub fn options(query: Vec<(String, String)>) -> Result<(Options, bool), String> {
    let mut options = Options::default();
    let mut watch = false;
    for (name, value) in query {
        let text = || Some(value.clone()).filter(|v| !v.is_empty());
        let number = |value: &str| -> Result<i64, String> {
            value.parse().map_err(|_| format!("strconv.ParseInt: parsing \"{value}\": invalid syntax"))
        };
        match name.as_str() {
            "labelSelector" => options.label_selector = text(),
            "fieldSelector" => options.field_selector = text(),
            "resourceVersion" => options.resource_version = text(),
            "resourceVersionMatch" => options.resource_version_match = text(),
            "limit" => options.limit = u64::try_from(number(&value)?).unwrap_or(0),
            "continue" => options.continue_token = text(),
            "timeoutSeconds" if !value.is_empty() => {
                options.timeout_seconds = u64::try_from(number(&value)?).ok()
            }
            "allowWatchBookmarks" => options.allow_watch_bookmarks = truth(&value),
            "sendInitialEvents" => options.send_initial_events = Some(truth(&value)),
            "watch" => watch = truth(&value),
            "dryRun" => dry_run(&mut options, &[value]),
            "fieldManager" => options.field_manager = text(),
            "fieldValidation" => options.field_validation = text(),
            "force" => {
                options.force = truth(&value);
                options.extra.push((name, value));
            }
            "gracePeriodSeconds" => {
                options.grace_period_seconds = Some(number(&value)?);
            }
            "propagationPolicy" => options.propagation_policy = text(),
            "orphanDependents" => options.orphan_dependents = Some(truth(&value)),
            _ => options.extra.push((name, value)),
        }
    }
    Ok((options, watch))
}

/// A value that means nothing is left for the pipeline to refuse, which knows the kind of the options.
fn dry_run(options: &mut Options, values: &[String]) {
    for value in values {
        match value.as_str() {
            "All" => options.dry_run = true,
            other => options.extra.push(("dryRun".to_owned(), other.to_owned())),
        }
    }
}

/// A DELETE's body (`DeleteOptions`) on top of its query.
pub fn delete_options(options: &mut Options, body: &Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(seconds) = body["gracePeriodSeconds"].as_i64() {
        options.grace_period_seconds = Some(seconds);
    }
    options.propagation_policy = text(&body["propagationPolicy"]).or(options.propagation_policy.take());
    options.orphan_dependents = body["orphanDependents"].as_bool().or(options.orphan_dependents);
    options.precondition_uid = text(&body["preconditions"]["uid"]);
    options.precondition_resource_version = text(&body["preconditions"]["resourceVersion"]);
    let values: Vec<String> = body["dryRun"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect();
    dry_run(options, &values);
    Ok(())
}

/// What a method means for a target.
pub fn verb(method: &str, named: &Named, watch: bool) -> Option<Verb> {
    let on_object = named.target.name.is_some();
    Some(match method {
        "GET" | "HEAD" if named.watch || (watch && named.target.subresource.is_none()) => Verb::Watch,
        "GET" | "HEAD" if on_object => Verb::Get,
        "GET" | "HEAD" => Verb::List,
        "POST" => Verb::Create,
        "PUT" if on_object => Verb::Update,
        "PATCH" if on_object => Verb::Patch,
        "DELETE" if on_object => Verb::Delete,
        "DELETE" => Verb::DeleteCollection,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> String {
        match parse(path) {
            None => "none".to_owned(),
            Some(Named { target: t, watch, rest }) => format!(
                "{}|{}|{}|{}|{}|{}|{watch}|{rest}",
                t.group,
                t.version,
                t.namespace.as_deref().unwrap_or("-"),
                t.resource,
                t.name.as_deref().unwrap_or("-"),
                t.subresource.as_deref().unwrap_or("-"),
            ),
        }
    }

    #[test]
    fn paths_name_targets() {
        for (path, expected) in [
            ("/api", "none"),
            ("/api/v1", "none"),
            ("/apis/apps/v1", "none"),
            ("/api/v1/pods", "|v1|-|pods|-|-|false|"),
            ("/api/v1/namespaces", "|v1|-|namespaces|-|-|false|"),
            ("/api/v1/namespaces/a", "|v1|-|namespaces|a|-|false|"),
            ("/api/v1/namespaces/a/status", "|v1|-|namespaces|a|status|false|"),
            ("/api/v1/namespaces/a/finalize", "|v1|-|namespaces|a|finalize|false|"),
            ("/api/v1/namespaces/a/pods", "|v1|a|pods|-|-|false|"),
            ("/api/v1/namespaces/a/pods/b/log", "|v1|a|pods|b|log|false|"),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", "apps|v1|a|deployments|b|scale|false|"),
            ("/api/v1/watch/namespaces/a/pods/b", "|v1|a|pods|b|-|true|"),
            ("/api/v1/namespaces/a/services/b/proxy/c/d", "|v1|a|services|b|proxy|false|c/d"),
            ("/api/v1/namespaces/a/configmaps/x%3Ay", "|v1|a|configmaps|x:y|-|false|"),
            ("/healthz", "none"),
        ] {
            assert_eq!(at(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_become_options() {
        let (options, watch) =
            options(query("watch=1&labelSelector=a%3Db%2Cc&limit=5&dryRun=All&command=sh&command=-c"))
                .unwrap();
        assert!(watch && options.dry_run);
        assert_eq!(options.label_selector.as_deref(), Some("a=b,c"));
        assert_eq!(options.limit, 5);
        assert_eq!(options.extra, [("command".into(), "sh".into()), ("command".into(), "-c".into())]);
        assert!(super::options(query("limit=x")).is_err());
    }
}
