//! `/healthz`, `/livez`, `/readyz`.

use crate::cache::Cache;

/// What is checked, and whether the server takes requests without it.
const CHECKS: [&str; 4] = ["ping", "log", "etcd", "informer-sync"];

/// Answers a health path: the status code and the page. `None` for a check that does not exist.
pub fn page(path: &str, query: &[(String, String)], cache: &Cache) -> Option<(u16, String)> {
    let mut parts = path.trim_matches('/').split('/');
    let kind = parts.next().unwrap_or_default();
    let one = parts.next();
    let good = |check: &str| !matches!(check, "etcd" | "informer-sync") || cache.revision() > 0;
    if let Some(one) = one {
        CHECKS.contains(&one).then_some(())?;
        return Some(if good(one) {
            (200, "ok".to_owned())
        } else {
            (500, "internal server error: not ready".to_owned())
        });
    }
    let excluded: Vec<&str> = query.iter().filter(|(k, _)| k == "exclude").map(|(_, v)| v.as_str()).collect();
    let verbose = query.iter().any(|(k, _)| k == "verbose");
    let mut failed = false;
    let mut page = String::new();
    for check in CHECKS.iter().filter(|c| kind == "readyz" || **c != "informer-sync") {
        if excluded.contains(check) {
            page.push_str(&format!("[+]{check} excluded: ok\n"));
        } else if good(check) {
            page.push_str(&format!("[+]{check} ok\n"));
        } else {
            failed = true;
            page.push_str(&format!("[-]{check} failed: reason withheld\n"));
        }
    }
    let unknown: Vec<String> =
        excluded.iter().filter(|e| !CHECKS.contains(e)).map(|e| format!("{e:?}")).collect();
    if !unknown.is_empty() {
        page.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        ));
    }
    if failed {
        page.push_str(&format!("{kind} check failed\n"));
        return Some((500, page));
    }
    if !verbose {
        return Some((200, "ok".to_owned()));
    }
    page.push_str(&format!("{kind} check passed\n"));
    Some((200, page))
}
