//! Pages about the process for people and scrapers: `/statusz`, `/flagz`, `/metrics/slis`.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use actix_web::HttpResponse;
use actors::time::Instant;
use protocol::KUBERNETES_VERSION;

use super::Check;

const TEXT: &str = "text/plain; charset=utf-8";
const DEBUGGING: &str = "This page is for debugging; programs should not parse it.";

/// When this process began, by both clocks.
static BEGAN: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (actors::time::now(), Instant::now()));

/// Notes the time, for [`status`]. Called once, when the server starts.
pub(super) fn begin() {
    LazyLock::force(&BEGAN);
}

/// `/statusz`: how long it runs, what it is, and what it serves.
pub(super) fn status(paths: &[String]) -> HttpResponse {
    let (began, at) = *BEGAN;
    let started = time::OffsetDateTime::from(began);
    let up = at.elapsed();
    let text = format!(
        "\nkube-apiserver statusz\n{DEBUGGING}\n\nStarted: {started}\nUp: {}\nBinary version: {}\nEmulation \
         version: {}\n\nPaths: {}\n",
        spelled(up),
        KUBERNETES_VERSION.trim_start_matches('v'),
        protocol::kubernetes_minor(),
        paths.join(" "),
    );
    HttpResponse::Ok().content_type(TEXT).body(text)
}

fn spelled(up: Duration) -> String {
    let seconds = up.as_secs();
    format!("{} hr {:02} min {:02} sec", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `/flagz`: what the process was told. Values that may be secret are not shown.
pub(super) fn flags(given: impl Iterator<Item = String>) -> HttpResponse {
    let mut text = format!("\nkube-apiserver flags\n{DEBUGGING}\n\n");
    for (name, value) in pairs(given) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name}={value}");
    }
    HttpResponse::Ok().content_type(TEXT).body(text)
}

fn pairs(given: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for word in given {
        match word.strip_prefix("--") {
            Some(flag) => {
                let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
                pairs.push((name.to_owned(), value.to_owned()));
            }
            None => {
                if let Some((_, value)) = pairs.last_mut().filter(|(_, value)| value.is_empty()) {
                    *value = word;
                }
            }
        }
    }
    for (name, value) in &mut pairs {
        if ["token", "password", "secret"].iter().any(|word| name.contains(word)) {
            *value = "<hidden>".to_owned();
        } else if value.is_empty() {
            *value = "true".to_owned();
        }
    }
    pairs.sort();
    pairs
}

/// The answer to a path that ends before it says what it is about.
pub(super) fn no_kind(url: &str) -> HttpResponse {
    let why = format!("failed to create RequestInfo: unable to determine kind and namespace from url, {url}");
    HttpResponse::InternalServerError()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(format!("Internal Server Error: {url:?}: {why}\n"))
}

/// `/metrics/slis`: whether each health check is well now.
pub(super) async fn health(checks: &[Check]) -> HttpResponse {
    let mut text = "# HELP kubernetes_healthcheck [STABLE] Result of one health check: 1 is well.\n\
                    # TYPE kubernetes_healthcheck gauge\n"
        .to_owned();
    let mut checks: Vec<&Check> = checks.iter().collect();
    checks.sort_by_key(|check| check.name);
    for check in checks {
        let well = u8::from((check.look)().await.is_ok());
        for root in ["healthz", "livez", "readyz"].into_iter().filter(|root| check.scope.belongs(root)) {
            let _ =
                writeln!(text, "kubernetes_healthcheck{{name=\"{}\",type=\"{root}\"}} {well}", check.name);
        }
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_shown_and_secrets_are_not() {
        let given = ["serve", "--state-dir", "/x", "--verbose", "--token=abc", "--port=1"];
        let shown: Vec<String> =
            pairs(given.iter().map(ToString::to_string)).iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(shown, ["port=1", "state-dir=/x", "token=<hidden>", "verbose=true"]);
    }

    #[test]
    fn times_and_versions_are_spelled() {
        assert_eq!(spelled(Duration::from_secs(3_725)), "1 hr 02 min 05 sec");
        assert_eq!(protocol::kubernetes_minor(), "1.36");
    }
}
