//! `/livez`, `/readyz` and `/healthz`, in upstream's form.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::Check;

mod table;

pub use table::{CHECKS, Part};

/// Which of the three a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All three.
    Everywhere,
    /// `/readyz` alone: being unready is no reason to be restarted.
    Ready,
    /// `/livez` and `/healthz`.
    Alive,
}

impl Scope {
    pub(super) fn belongs(self, root: &str) -> bool {
        match self {
            Scope::Everywhere => true,
            Scope::Ready => root == "readyz",
            Scope::Alive => root != "readyz",
        }
    }
}

/// The paths that are served, for the list of all paths.
pub(super) fn paths() -> impl Iterator<Item = String> {
    ["healthz", "livez", "readyz"].into_iter().flat_map(|root| {
        let here = CHECKS.iter().filter(move |(_, scope, _)| scope.belongs(root));
        std::iter::once(format!("/{root}")).chain(here.map(move |(name, ..)| format!("/{root}/{name}")))
    })
}

/// The answer to a path below one of the three.
pub(super) async fn answer(path: &str, query: &str, checks: &[Check]) -> HttpResponse {
    let (code, text) = report(path, query, checks).await;
    HttpResponse::build(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .content_type("text/plain; charset=utf-8")
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("Cache-Control", "no-cache, private"))
        .body(text)
}

async fn report(path: &str, query: &str, checks: &[Check]) -> (u16, String) {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (name, only) = (parts.next().unwrap_or_default(), parts.next());
    let query = super::path::query(query);
    let excluded: Vec<&str> =
        query.iter().filter(|(n, v)| n == "exclude" && !v.is_empty()).map(|(_, v)| v.as_str()).collect();
    let verbose = query.iter().any(|(name, _)| name == "verbose");
    let here = checks.iter().filter(|check| check.scope.belongs(name));
    if let Some(only) = only {
        let Some(check) = here.into_iter().find(|check| check.name == only) else {
            return (404, "404 page not found\n".to_owned());
        };
        return match (check.look)().await {
            Ok(()) => (200, "ok".to_owned()),
            Err(why) => (500, format!("internal server error: {why}\n")),
        };
    }
    let mut lines = String::new();
    let mut failed = Vec::new();
    let mut unmatched = excluded.clone();
    unmatched.sort_unstable();
    unmatched.dedup();
    for check in here {
        if excluded.contains(&check.name) {
            unmatched.retain(|name| *name != check.name);
            lines.push_str(&format!("[+]{} excluded: ok\n", check.name));
            continue;
        }
        match (check.look)().await {
            Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name)),
            Err(why) => {
                tracing::warn!(check = check.name, why, "health check failed");
                failed.push(check.name);
                lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
            }
        }
    }
    if !unmatched.is_empty() {
        let names: Vec<String> = unmatched.iter().map(|name| format!("{name:?}")).collect();
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(", ")
        ));
    }
    match (failed.is_empty(), verbose) {
        (true, false) => (200, "ok".to_owned()),
        (true, true) => (200, format!("{lines}{name} check passed\n")),
        (false, _) => (500, format!("{lines}{name} check failed\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reports_are_upstreams() {
        let check = |name, scope, well: bool| Check {
            name,
            scope,
            look: Box::new(move || {
                Box::pin(async move { if well { Ok(()) } else { Err("broken".to_owned()) } })
            }),
        };
        let checks = [
            check("ping", Scope::Everywhere, true),
            check("etcd", Scope::Everywhere, false),
            check("informer-sync", Scope::Ready, true),
        ];
        for (path, query, expected) in [
            ("/livez/ping", "", (200, "ok")),
            ("/livez/", "", (404, "404 page not found\n")),
            ("/livez/informer-sync", "", (404, "404 page not found\n")),
            ("/readyz/informer-sync", "", (200, "ok")),
            ("/livez", "exclude=etcd", (200, "ok")),
            ("/livez", "", (500, "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n")),
            (
                "/readyz",
                "exclude=etcd&exclude=nope&exclude=nope&verbose",
                (
                    200,
                    "[+]ping ok\n[+]etcd excluded: ok\n[+]informer-sync ok\nwarn: some health checks cannot be \
                     excluded: no matches for \"nope\"\nreadyz check passed\n",
                ),
            ),
        ] {
            let (code, text) = report(path, query, &checks).await;
            assert_eq!((code, text.as_str()), expected, "{path}?{query}");
        }
    }
}
