//! The query parameters of exec, attach and log.

use protocol::ApiError;
use protocol::streams::{LogRequest, LogStream, Stdio};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Query parameters, decoded, in order.
pub(super) struct Query<'a>(pub &'a [(String, String)]);

impl Query<'_> {
    /// The first value; absent and empty are the same.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }

    /// As upstream reads booleans: given at all is true, unless it says `false` or `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .is_some_and(|(_, v)| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.first(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        })?;
        Ok(Some(number))
    }
}

/// Which streams the client wants; a terminal has no separate stderr.
pub(super) fn stdio(query: &Query<'_>) -> Result<Stdio, ApiError> {
    let tty = query.flag("tty");
    let stdio = Stdio {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr") && !tty,
        tty,
    };
    if !stdio.stdin && !stdio.stdout && !stdio.stderr {
        return Err(ApiError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(stdio)
}

/// What to read of a pod's log; the target is filled in by the caller. `now` is for `sinceSeconds`.
pub(super) fn log(query: &Query<'_>, pod: &str, now: OffsetDateTime) -> Result<LogRequest, ApiError> {
    let since_seconds = query.number("sinceSeconds")?;
    let since_time = match query.first("sinceTime") {
        None => None,
        Some(text) => Some(OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            ApiError::bad_request(format!(
                "parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\""
            ))
        })?),
    };
    let invalid = |field, reason, why| invalid(pod, field, reason, why);
    let (tail, limit) = (query.number("tailLines")?, query.number("limitBytes")?);
    let stream = match query.first("stream") {
        None | Some("All") => LogStream::All,
        Some("Stdout") => LogStream::Stdout,
        Some("Stderr") => LogStream::Stderr,
        Some(other) => {
            return Err(invalid(
                "stream",
                "FieldValueNotSupported",
                format!("Unsupported value: \"{other}\": supported values: \"All\", \"Stderr\", \"Stdout\""),
            ));
        }
    };
    let bad = |field, value: i64, why| {
        invalid(field, "FieldValueInvalid", format!("Invalid value: {value}: {why}"))
    };
    match (tail, limit, since_seconds) {
        (Some(tail), ..) if tail < 0 => {
            return Err(bad("tailLines", tail, "must be greater than or equal to 0"));
        }
        (_, Some(limit), _) if limit < 1 => return Err(bad("limitBytes", limit, "must be greater than 0")),
        (_, _, Some(_)) if since_time.is_some() => {
            let why = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
            return Err(invalid("[]", "FieldValueForbidden", why.to_owned()));
        }
        (_, _, Some(seconds)) if seconds < 1 => {
            return Err(bad("sinceSeconds", seconds, "must be greater than 0"));
        }
        _ => {}
    }
    let nanos = |time: OffsetDateTime| {
        i64::try_from(time.unix_timestamp_nanos()).unwrap_or(if time.year() < 1970 { 0 } else { i64::MAX })
    };
    let since_unix_nanos = match since_seconds {
        Some(seconds) => Some(nanos(now).saturating_sub(seconds.saturating_mul(1_000_000_000))),
        None => since_time.map(nanos),
    };
    Ok(LogRequest {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        since_unix_nanos,
        tail_lines: tail.and_then(|n| u64::try_from(n).ok()),
        limit_bytes: limit.and_then(|n| u64::try_from(n).ok()),
        stream,
        ..LogRequest::default()
    })
}

fn invalid(pod: &str, field: &str, reason: &str, why: String) -> ApiError {
    ApiError::about(
        422,
        "Invalid",
        format!("PodLogOptions \"{pod}\" is invalid: {field}: {why}"),
        json!({"kind": "PodLogOptions", "name": pod, "causes": [{"reason": reason, "message": why, "field": field}]}),
    )
}
