use k8s_openapi::api::networking::v1::Ingress;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ingress::claims::{Path, key};

/// An Ingress of these rules: host, kind of path, path, Service.
fn ingress(name: &str, second: u8, default: Option<&str>, rules: &[(&str, &str, &str, &str)]) -> Claims {
    let backend = |service: &str| json!({"service": {"name": service, "port": {"number": 80}}});
    let rule = |(host, kind, path, service): &(&str, &str, &str, &str)| json!({"host": host, "http": {"paths": [{"pathType": kind, "path": path, "backend": backend(service)}]}});
    let mut value = json!({
        "metadata": {"namespace": "a", "name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
        "spec": {"rules": rules.iter().map(rule).collect::<Vec<Value>>()}});
    if let Some(service) = default {
        value["spec"]["defaultBackend"] = backend(service);
    }
    let ingress: Ingress = serde_json::from_value(value).unwrap();
    Claims::of(&ingress)
}

fn routes(all: impl IntoIterator<Item = Claims>) -> Routes {
    let mut routes = Routes::default();
    for claims in all {
        routes.set(&claims.rank.ingress.clone(), Some(Arc::new(claims)));
    }
    routes
}

fn service(goal: &Goal) -> String {
    match goal {
        Goal::Service(target) => target.service.trim_start_matches("a/").to_owned(),
        Goal::Resource(what) => what.clone(),
    }
}

fn check(routes: &Routes, table: &[(&str, &str, &str)]) {
    for (host, path, wanted) in table {
        let found = routes.find(host, path).map(|route| service(&route.goal)).unwrap_or_default();
        assert_eq!(found, *wanted, "{host}{path}");
    }
}

#[test]
fn kinds_of_paths() {
    let routes = routes([ingress(
        "i",
        0,
        None,
        &[
            ("h", "Exact", "/exact", "exact"),
            ("h", "Exact", "/slash/", "slash"),
            ("h", "Prefix", "/aaa/bbb", "prefix"),
            ("h", "Prefix", "/trailing/", "trailing"),
            ("h", "ImplementationSpecific", "/any", "any"),
        ],
    )]);
    check(
        &routes,
        &[
            ("h", "/exact", "exact"),
            ("h", "/exact/", ""),
            ("h", "/EXACT", ""),
            ("h", "/exact/more", ""),
            ("h", "/slash/", "slash"),
            ("h", "/slash", ""),
            ("h", "/aaa/bbb", "prefix"),
            ("h", "/aaa/bbb/", "prefix"),
            ("h", "/aaa/bbb/ccc", "prefix"),
            // Elements are whole.
            ("h", "/aaa/bbbccc", ""),
            ("h", "/aaa", ""),
            ("h", "/trailing", "trailing"),
            ("h", "/trailing/x", "trailing"),
            ("h", "/any/x", "any"),
            ("h", "/", ""),
            ("h", "", ""),
            ("h", "*", ""),
            ("other", "/exact", ""),
        ],
    );
}

#[test]
fn the_longest_path_wins_and_the_exact_one_of_two() {
    let routes = routes([ingress(
        "i",
        0,
        None,
        &[
            ("h", "Prefix", "/", "root"),
            ("h", "Prefix", "/a", "a"),
            ("h", "Prefix", "/a/b/", "b"),
            ("h", "Exact", "/a/b", "exact"),
            ("h", "Exact", "/", "home"),
        ],
    )]);
    check(
        &routes,
        &[
            ("h", "/", "home"),
            ("h", "/x", "root"),
            ("h", "/a/x", "a"),
            ("h", "/a/b", "exact"),
            ("h", "/a/b/", "b"),
            ("h", "/a/b/c/d", "b"),
            // Empty elements are elements.
            ("h", "/a//b", "a"),
            ("h", "//a", "root"),
        ],
    );
}

#[test]
fn hosts_and_what_is_fallen_back_to() {
    let one = ingress(
        "one",
        0,
        Some("one-default"),
        &[("a.example.com", "Prefix", "/p", "particular"), ("*.example.com", "Prefix", "/w", "wild")],
    );
    let all = ingress("all", 1, Some("everything"), &[]);
    let plain = ingress("plain", 2, None, &[("", "Prefix", "/any", "any")]);
    let mut routes = routes([one, all, plain]);
    check(
        &routes,
        &[
            ("a.example.com", "/p", "particular"),
            // Where the most particular host has no path, the next one may.
            ("a.example.com", "/w", "wild"),
            ("a.example.com", "/any", "any"),
            ("b.example.com", "/w", "wild"),
            ("x.y.example.com", "/w", "everything"),
            // The default of an Ingress with hosts is for them.
            ("a.example.com", "/else", "one-default"),
            ("b.example.com", "/p", "one-default"),
            ("elsewhere", "/p", "everything"),
            ("elsewhere", "/any/x", "any"),
        ],
    );
    routes.set(&key("a", "all"), None);
    check(&routes, &[("elsewhere", "/p", ""), ("elsewhere", "/any", "any")]);
}

#[test]
fn of_two_that_ask_for_the_same_the_oldest_has_it() {
    let rule = |to: &'static str| [("h", "Prefix", "/", to)];
    let mut routes = routes([
        ingress("young", 9, None, &rule("young")),
        ingress("old", 1, None, &rule("old")),
        ingress("also-young", 9, None, &rule("also-young")),
    ]);
    check(&routes, &[("h", "/", "old")]);
    routes.set(&key("a", "old"), None);
    check(&routes, &[("h", "/", "also-young")]);
    // An Ingress that changes its hosts leaves nothing behind.
    routes.set(
        &key("a", "also-young"),
        Some(Arc::new(ingress("also-young", 9, None, &[("g", "Prefix", "/", "moved")]))),
    );
    check(&routes, &[("h", "/", "young"), ("g", "/", "moved")]);
}

/// The rules as the API's documentation words them, one after the other, without any index.
fn naive(all: &[Claims], host: &str, path: &str) -> Option<String> {
    let elements = |path: &str| path.trim_end_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
    let matches = |claim: &Path| match claim.kind {
        PathKind::Exact => *claim.text == *path,
        PathKind::Prefix => elements(path).starts_with(&elements(&claim.text)),
    };
    let hosts = |claimed: &Host| match claimed {
        Host::Exact(name) => (**name == *host).then_some(0),
        Host::Below(name) => {
            host.split_once('.').is_some_and(|(l, rest)| !l.is_empty() && *rest == **name).then_some(1)
        }
        Host::Any => Some(2),
    };
    let mut found = Vec::new();
    for claims in all {
        for (claimed, path) in &claims.paths {
            if let Some(level) = hosts(claimed).filter(|_| matches(path)) {
                let shorter = usize::MAX - path.text.trim_end_matches('/').len();
                let exact = u8::from(path.kind != PathKind::Exact);
                // An exact path that matches is the whole path, and no prefix is longer.
                let order = if exact == 0 { (0, 0) } else { (1, shorter) };
                found.push((level, order, claims.rank.clone(), service(&path.goal)));
            }
        }
    }
    // The first written of one Ingress wins among equals: a stable sort by all but the Service.
    found.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
    let by_path = found.into_iter().next().map(|(.., to)| to);
    by_path.or_else(|| {
        let mut rest: Vec<_> = all
            .iter()
            .flat_map(|c| {
                c.otherwise.iter().filter_map(|(h, goal)| Some((hosts(h)?, c.rank.clone(), service(goal))))
            })
            .collect();
        rest.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        rest.into_iter().next().map(|(.., to)| to)
    })
}

fn a_host() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a.x", "b.x", "*.x", "a.b.x", "", "x", "*.b.x"])
}

fn a_path() -> impl Strategy<Value = String> {
    let element = prop::sample::select(vec!["a", "b", "ab", ""]);
    prop::collection::vec(element, 0..4).prop_map(|elements| format!("/{}", elements.join("/")))
}

type Rule = (&'static str, &'static str, String, String);

fn a_rule() -> impl Strategy<Value = Rule> {
    let kind = prop::sample::select(vec!["Exact", "Prefix", "ImplementationSpecific"]);
    (a_host(), kind, a_path(), "[a-z]{3}")
}

type Edit = (u8, u8, Option<String>, Option<Vec<Rule>>);

fn an_edit() -> impl Strategy<Value = Edit> {
    let rules = prop::option::weighted(0.8, prop::collection::vec(a_rule(), 0..5));
    (0..5u8, 0..3u8, prop::option::of("[a-z]{3}"), rules)
}

proptest! {
    #[test]
    fn it_finds_what_the_rules_say(
        edits in prop::collection::vec(an_edit(), 1..12),
        asked in prop::collection::vec((a_host(), a_path()), 1..20),
    ) {
        let mut routes = Routes::default();
        let mut all: std::collections::BTreeMap<u8, Claims> = Default::default();
        for (name, second, default, rules) in &edits {
            let claims = rules.as_ref().map(|rules| {
                let rules: Vec<_> = rules.iter().map(|(h, k, p, s)| (*h, *k, p.as_str(), s.as_str())).collect();
                ingress(&name.to_string(), *second, default.as_deref(), &rules)
            });
            routes.set(&key("a", &name.to_string()), claims.clone().map(Arc::new));
            match claims {
                Some(claims) => all.insert(*name, claims),
                None => all.remove(name),
            };
        }
        let all: Vec<Claims> = all.into_values().collect();
        for (host, path) in &asked {
            let found = routes.find(host, path).map(|route| service(&route.goal));
            prop_assert_eq!(found, naive(&all, host, path), "{}{}", host, path);
        }
    }
}
