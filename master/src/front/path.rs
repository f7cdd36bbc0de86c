//! Paths and queries to targets, verbs and options. Pure.

use std::borrow::Cow;

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
    // A slash that is encoded is one.
    let path = percent(path, false)?;
    let segments: Vec<&str> = path.strip_prefix('/')?.trim_end_matches('/').split('/').collect();
    let mut rest = &segments[..];
    let mut next = || {
        let (first, more) = rest.split_first()?;
        rest = more;
        Some(*first)
    };
    let (group, version) = match next()? {
        "api" => ("", next()?),
        "apis" => (next().filter(|group| !group.is_empty())?, next()?),
        _ => return None,
    };
    let mut target = Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
    let watch = rest.first() == Some(&"watch");
    if watch {
        rest = &rest[1..];
    }
    // `namespaces/NAME/…` is a namespace's content, unless what follows is a subresource of the namespace.
    if let ["namespaces", namespace, part, ..] = rest
        && !matches!(*part, "status" | "finalize")
    {
        target.namespace = Some((*namespace).to_owned());
        rest = &rest[2..];
    }
    let mut rest = rest.iter();
    let mut part = || rest.next().map(|part| (*part).to_owned());
    target.resource = part()?;
    target.name = part();
    target.subresource = part();
    Some(Named { target, watch, rest: rest.as_slice().join("/") })
}

/// Whether a path is of resources but ends with the prefix of watches, so that nobody can tell what it is about.
pub fn ends_with_watch(path: &str) -> bool {
    let Some(before) = path.trim_matches('/').strip_suffix("/watch") else { return false };
    let parts = before.split('/').count();
    (parts == 2 && before.starts_with("api/")) || (parts == 3 && before.starts_with("apis/"))
}

/// Whether what a path has encoded can be read.
pub fn is_encoded(path: &str) -> bool {
    let mut parts = path.split('%');
    parts.next();
    parts.all(|part| part.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

fn percent(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return Some(Cow::Borrowed(text));
    }
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
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// A query's parameters, decoded, in order; those that are no UTF-8 are left out, and so are those with semicolons, of
/// which nobody can tell whether they part parameters.
pub fn query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent(name, true)?.into_owned(), percent(value, true)?.into_owned()))
        })
        .collect()
}

/// A boolean of a query, as upstream reads it: anything but a clear no.
pub fn truth(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

/// Whether a query asks for a watch.
pub fn watches(query: &[(String, String)]) -> bool {
    query.iter().any(|(name, value)| name == "watch" && truth(value))
}

/// A whole number of a query, in Go's words where it is none.
fn number(value: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    value.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {value:?}: {why}")
    })
}

/// Query parameters as the options of a verb; those that it does not know go to `extra`. Of a parameter that is there
/// twice the first counts.
pub fn options(verb: Verb, query: Vec<(String, String)>) -> Result<Options, String> {
    let lists = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
    let deletes = matches!(verb, Verb::Delete | Verb::DeleteCollection);
    let writes = matches!(verb, Verb::Create | Verb::Update | Verb::Patch);
    let mut options = Options::default();
    let mut dry = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (name, value) in query {
        if name == "export" && verb == Verb::Get && truth(&value) {
            return Err("the export parameter, deprecated since v1.14, is no longer supported".to_owned());
        }
        let known = match name.as_str() {
            "labelSelector"
            | "fieldSelector"
            | "resourceVersionMatch"
            | "limit"
            | "continue"
            | "timeoutSeconds"
            | "allowWatchBookmarks"
            | "sendInitialEvents" => lists,
            "resourceVersion" => lists || deletes || verb == Verb::Get,
            "dryRun" => writes || deletes,
            "fieldManager" | "fieldValidation" | "force" => writes,
            "gracePeriodSeconds" | "propagationPolicy" | "orphanDependents" | "uid" => deletes,
            _ => false,
        };
        if !known {
            options.extra.push((name, value));
            continue;
        }
        if name == "dryRun" {
            dry.push(value);
            continue;
        }
        if !seen.insert(name.clone()) {
            continue;
        }
        let text = || Some(value.clone()).filter(|v| !v.is_empty());
        match name.as_str() {
            "labelSelector" => options.label_selector = text(),
            "fieldSelector" => options.field_selector = text(),
            "resourceVersion" => {
                // A delete's own version is what the object must have.
                if deletes {
                    options.precondition_resource_version = text();
                }
                options.resource_version = text();
            }
            "resourceVersionMatch" => options.resource_version_match = text(),
            "limit" => options.limit = u64::try_from(number(&value)?).unwrap_or(0),
            "continue" => options.continue_token = text(),
            "timeoutSeconds" => options.timeout_seconds = u64::try_from(number(&value)?).ok(),
            "allowWatchBookmarks" => options.allow_watch_bookmarks = truth(&value),
            "sendInitialEvents" => options.send_initial_events = Some(truth(&value)),
            "fieldManager" => options.field_manager = text(),
            "fieldValidation" => options.field_validation = text(),
            "force" => {
                options.force = truth(&value);
                options.extra.push((name, value));
            }
            "gracePeriodSeconds" if value.is_empty() => {}
            "gracePeriodSeconds" => options.grace_period_seconds = Some(number(&value)?),
            "propagationPolicy" => options.propagation_policy = Some(value),
            "orphanDependents" => options.orphan_dependents = Some(truth(&value)),
            "uid" => options.precondition_uid = text(),
            _ => {}
        }
    }
    dry_run(&mut options, dry);
    Ok(options)
}

/// Values that do not all mean something are left for the pipeline to refuse, which knows the kind of the options.
fn dry_run(options: &mut Options, values: Vec<String>) {
    if values.iter().all(|value| value == "All") {
        options.dry_run = !values.is_empty();
    } else {
        options.extra.extend(values.into_iter().map(|value| ("dryRun".to_owned(), value)));
    }
}

/// A DELETE's body (`DeleteOptions`), which says everything where there is one: what the query says of the delete
/// itself does not count then.
pub fn delete_options(options: &mut Options, body: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    options.grace_period_seconds = body["gracePeriodSeconds"].as_i64();
    options.propagation_policy = text(&body["propagationPolicy"]);
    options.orphan_dependents = body["orphanDependents"].as_bool();
    options.precondition_uid = text(&body["preconditions"]["uid"]);
    options.precondition_resource_version = text(&body["preconditions"]["resourceVersion"]);
    let values = body["dryRun"].as_array().into_iter().flatten();
    let values = values.filter_map(|v| v.as_str().map(str::to_owned)).collect();
    options.dry_run = false;
    options.extra.retain(|(name, _)| name != "dryRun");
    dry_run(options, values);
}

/// What a method means for a target.
pub fn verb(method: &str, named: &Named, watch: bool) -> Option<Verb> {
    let on_object = named.target.name.is_some();
    Some(match method {
        "GET" | "HEAD" if named.watch || (watch && !on_object) => Verb::Watch,
        "GET" | "HEAD" if on_object => Verb::Get,
        "GET" | "HEAD" => Verb::List,
        "POST" if !named.watch => Verb::Create,
        _ if named.watch => return None,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" if on_object => Verb::Delete,
        "DELETE" => Verb::DeleteCollection,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_so_in_hex() {
        for (path, fine) in [("/a", true), ("/a%2Fb", true), ("/%zz", false), ("/%", false), ("/%2", false)] {
            assert_eq!(is_encoded(path), fine, "{path}");
        }
    }

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
            ("/api/v1/namespaces/a%2Fconfigmaps", "|v1|a|configmaps|-|-|false|"),
            ("/api/v1/namespaces/a/configmaps/b%2fc", "|v1|a|configmaps|b|c|false|"),
            ("/api/v1/namespaces/a/status/b", "|v1|-|namespaces|a|status|false|b"),
            ("/apis//v1/pods", "none"),
            ("/healthz", "none"),
        ] {
            assert_eq!(at(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_become_options() {
        let of = |verb, text: &str| options(verb, query(text));
        let exec = of(Verb::Create, "dryRun=All&limit=x&command=sh&command=-c").unwrap();
        assert!(exec.dry_run);
        let extra: Vec<&str> = exec.extra.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(extra, ["x", "sh", "-c"], "what a create does not know is nobody's mistake");
        let list = of(Verb::List, "labelSelector=a%3Db%2Cc&limit=5&limit=x&gracePeriodSeconds=x").unwrap();
        assert_eq!((list.label_selector.as_deref(), list.limit), (Some("a=b,c"), 5));
        let delete = of(Verb::Delete, "fieldManager=%09&propagationPolicy=&uid=u&resourceVersion=5").unwrap();
        assert_eq!((delete.field_manager, delete.propagation_policy.as_deref()), (None, Some("")));
        assert_eq!(delete.precondition_uid.as_deref(), Some("u"));
        assert_eq!(delete.precondition_resource_version.as_deref(), Some("5"));
        for (verb, text, why) in [
            (Verb::List, "limit=x", "parsing \"x\": invalid syntax"),
            (Verb::Get, "export=1", "is no longer supported"),
            (Verb::Watch, "timeoutSeconds=", "parsing \"\": invalid syntax"),
            (Verb::Delete, "gracePeriodSeconds=99999999999999999999", "value out of range"),
        ] {
            assert!(of(verb, text).unwrap_err().ends_with(why), "{text}");
        }
    }

    #[test]
    fn what_a_query_leaves_open_does_not_count() {
        assert_eq!(query("a=1;b=2&c=3"), [("c".to_owned(), "3".to_owned())]);
        let none = options(Verb::Delete, query("gracePeriodSeconds=")).unwrap();
        assert_eq!(none.grace_period_seconds, None);
    }

    #[test]
    fn a_watch_is_of_something() {
        for (path, open) in [
            ("/api/v1/watch", true),
            ("/apis/apps/v1/watch/", true),
            ("/api/v1/watch/pods", false),
            ("/apis/apps/watch", false),
            ("/watch", false),
        ] {
            assert_eq!(ends_with_watch(path), open, "{path}");
        }
    }

    #[test]
    fn watches_are_asked_for_by_anything_but_a_clear_no() {
        for (text, asked) in
            [("watch", true), ("watch=x", true), ("watch=0", false), ("watch=FALSE", false), ("a=b", false)]
        {
            assert_eq!(watches(&query(text)), asked, "{text}");
        }
        assert!(options(Verb::Get, query("export=false")).is_ok());
    }

    #[test]
    fn all_values_of_a_dry_run_must_mean_something() {
        let mixed = options(Verb::Create, query("dryRun=All&dryRun=x")).unwrap();
        let values: Vec<&str> = mixed.extra.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!((mixed.dry_run, values), (false, vec!["All", "x"]));
    }

    #[test]
    fn a_body_of_a_delete_says_everything() {
        let mut given = options(Verb::Delete, query("dryRun=All&propagationPolicy=Orphan&uid=u")).unwrap();
        delete_options(&mut given, &serde_json::json!({"gracePeriodSeconds": 0}));
        assert_eq!((given.dry_run, given.propagation_policy, given.precondition_uid), (false, None, None));
        assert_eq!(given.grace_period_seconds, Some(0));
    }
}
