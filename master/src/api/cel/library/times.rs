//! Functions on times and durations.

use time::{Duration, OffsetDateTime, UtcOffset};

use super::{Outcome, Value, error};
use crate::api::cel::time::{parse_duration, parse_time};

/// A time as text.
pub fn print(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    if at.nanosecond() == 0 {
        return protocol::schema::decode::print_time(at);
    }
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// A duration in seconds, as the language prints it.
pub fn seconds(nanos: i64) -> String {
    let whole = nanos as f64 / 1e9;
    format!("{whole}s")
}

/// Calls a function on times; `None` for functions of others.
pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(match (name, args) {
        ("duration", [Value::Duration(n)]) => Ok(Value::Duration(*n)),
        ("duration", [Value::Int(n)]) => match n.checked_mul(1_000_000_000) {
            Some(n) => Ok(Value::Duration(n)),
            None => error("duration overflow"),
        },
        ("duration", [Value::String(s)]) => match parse_duration(s) {
            Some(n) => Ok(Value::Duration(n)),
            None => super::numbers::unconverted("google.protobuf.Duration"),
        },
        ("timestamp", [Value::Timestamp(t)]) => Ok(Value::Timestamp(*t)),
        ("timestamp", [Value::Int(n)]) => match OffsetDateTime::from_unix_timestamp(*n) {
            Ok(t) => Ok(Value::Timestamp(t)),
            Err(_) => error("range error converting to timestamp"),
        },
        ("timestamp", [Value::String(s)]) => match parse_time(s) {
            Some(t) => Ok(Value::Timestamp(t)),
            None => super::numbers::unconverted("google.protobuf.Timestamp"),
        },
        (_, [Value::Timestamp(t), zone @ ..]) if name.starts_with("get") => part(name, *t, zone),
        (_, [Value::Duration(n)]) if name.starts_with("get") => {
            let d = Duration::nanoseconds(*n);
            match name {
                "getHours" => Ok(Value::Int(d.whole_hours())),
                "getMinutes" => Ok(Value::Int(d.whole_minutes())),
                "getSeconds" => Ok(Value::Int(d.whole_seconds())),
                "getMilliseconds" => Ok(Value::Int(n / 1_000_000)),
                _ => error("no such overload"),
            }
        }
        _ => return None,
    })
}

/// The offset of a zone at a time, by its name or as itself.
fn offset(zone: &str, at: OffsetDateTime) -> Option<UtcOffset> {
    if matches!(zone, "UTC" | "") {
        return Some(UtcOffset::UTC);
    }
    if !zone.contains(':') {
        let named = jiff::tz::TimeZone::get(zone).ok()?;
        let at = jiff::Timestamp::from_second(at.unix_timestamp()).ok()?;
        return UtcOffset::from_whole_seconds(named.to_offset(at).seconds()).ok();
    }
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

fn part<'a>(name: &str, at: OffsetDateTime, zone: &[Value<'a>]) -> Outcome<'a> {
    let at = match zone {
        [] => at.to_offset(UtcOffset::UTC),
        [Value::String(zone)] => match offset(zone, at) {
            Some(offset) => at.to_offset(offset),
            None => return error(format!("unknown time zone {zone}")),
        },
        _ => return error("no such overload"),
    };
    Ok(Value::Int(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(u8::from(at.month())) - 1,
        "getDayOfYear" => i64::from(at.ordinal()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfWeek" => i64::from(at.weekday().number_days_from_sunday()),
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return error("no such overload"),
    }))
}
