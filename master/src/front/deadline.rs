//! How long a request may take: the `timeout` parameter, in Go's words.

use std::time::Duration;

use protocol::ApiError;

/// What a request gets that asks for nothing, and the most that it can ask for.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The time that a request has, by its `timeout` parameter.
///
/// # Errors
/// When the parameter is no duration.
pub fn of(query: &[(String, String)]) -> Result<Duration, ApiError> {
    let Some((_, text)) = query.iter().find(|(name, value)| name == "timeout" && !value.is_empty()) else {
        return Ok(TIMEOUT_MAX);
    };
    let asked = duration(text).map_err(|why| {
        ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}"))
    })?;
    // None at all is no limit of the client's, and neither is less.
    Ok(if asked.is_zero() { TIMEOUT_MAX } else { asked.min(TIMEOUT_MAX) })
}

/// The answer to a request that took longer.
pub fn exceeded() -> ApiError {
    let message = "Timeout: request did not complete within requested timeout - context deadline exceeded";
    ApiError::about(504, "Timeout", message, serde_json::json!({}))
}

/// Reads `1h2m3.5s` as Go does. Negative ones count as none.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let factor = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        seconds += number.parse::<f64>().map_err(|_| invalid())? * factor;
        rest = tail;
    }
    if negative || seconds == 0.0 {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds.max(1e-9)).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("5s", Ok(5_000)),
            ("0m30s", Ok(30_000)),
            ("1m30s", Ok(60_000)),
            ("1.5s", Ok(1_500)),
            ("0", Ok(60_000)),
            ("2h", Ok(60_000)),
            ("bad", Err("time: invalid duration \"bad\"")),
            ("1x", Err("time: unknown unit \"x\" in duration \"1x\"")),
            ("1", Err("time: missing unit in duration \"1\"")),
            ("s", Err("time: invalid duration \"s\"")),
        ] {
            let got = of(&[("timeout".to_owned(), text.to_owned())]).map(|d| d.as_millis());
            let wanted = expected.map_err(|why| {
                ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}"))
            });
            assert_eq!(got, wanted, "{text}");
        }
        assert_eq!(of(&[]), Ok(TIMEOUT_MAX));
    }
}
