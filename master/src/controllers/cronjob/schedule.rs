//! Schedules in cron's language: reading them, and finding the next time. Pure.
//!
//! The language is that of the library that upstream uses: five fields, names of months and days, `?`, steps,
//! and words like `@hourly` and `@every 5m`. What is wrong is said in its words.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At times that five fields describe.
    Fields(Fields),
    /// Always after the same pause.
    Every(SignedDuration),
}

/// Sets of minutes, hours, days of the month, months and days of the week, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of days must match; otherwise either is enough.
    both_days: bool,
}

struct Bounds {
    min: i64,
    max: i64,
    names: &'static [&'static str],
    /// The number of the first name.
    first: i64,
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[], first: 0 };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[], first: 0 };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[], first: 0 };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    first: 1,
};
const WEEKDAYS: Bounds =
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"], first: 0 };

/// A time that does not come within so many years never comes.
const YEARS_MAX: i16 = 5;

/// Reads a schedule; the error is what upstream's library says.
pub fn parse(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    };
    let (minutes, _) = field(minutes, &MINUTES)?;
    let (hours, _) = field(hours, &HOURS)?;
    let (days, any_day) = field(days, &DAYS)?;
    let (months, _) = field(months, &MONTHS)?;
    let (weekdays, any_weekday) = field(weekdays, &WEEKDAYS)?;
    Ok(Schedule::Fields(Fields { minutes, hours, days, months, weekdays, both_days: any_day || any_weekday }))
}

fn descriptor(text: &str) -> Result<Schedule, String> {
    let at = |fields| parse(fields);
    match text {
        "@yearly" | "@annually" => at("0 0 1 1 *"),
        "@monthly" => at("0 0 1 * *"),
        "@weekly" => at("0 0 * * 0"),
        "@daily" | "@midnight" => at("0 0 * * *"),
        "@hourly" => at("0 * * * *"),
        _ => match text.strip_prefix("@every ") {
            Some(pause) => {
                let pause = go_duration(pause)
                    .map_err(|why| format!("failed to parse duration {text}: time: {why}"))?;
                // Whole seconds, at least one.
                Ok(Schedule::Every(SignedDuration::from_secs(pause.as_secs().max(1))))
            }
            None => Err(format!("unrecognized descriptor: {text}")),
        },
    }
}

/// A duration as Go writes it: `1h30m`, `1.5s`.
fn go_duration(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = &rest[..end];
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                "" => return Err(format!("missing unit in duration {text:?}")),
                other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
            };
        rest = &rest[end..];
    }
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    SignedDuration::try_from_secs_f64(sign * seconds).map_err(|_| invalid())
}

/// A field's set, and whether it is a star.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (mut bits, mut star) = (0, false);
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (more, is_star) = range(part, bounds)?;
        bits |= more;
        star |= is_star;
    }
    Ok((bits, star))
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let single = ends.len() == 1;
    let mut star = false;
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        star = true;
        (bounds.min, bounds.max)
    } else {
        let start = number_or_name(ends[0], bounds)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, number_or_name(end, bounds)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            // `N/step` is from N on.
            if single {
                end = bounds.max;
            }
            if step > 1 {
                star = false;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < bounds.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {text}", bounds.min));
    }
    if end > bounds.max {
        return Err(format!("end of range ({end}) above maximum ({}): {text}", bounds.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let bits = (start..=end).step_by(step).fold(0, |bits, n| bits | 1u64 << n);
    Ok((bits, star))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<i64, String> {
    let lower = text.to_lowercase();
    match (bounds.first..).zip(bounds.names).find(|(_, name)| **name == lower) {
        Some((n, _)) => Ok(n),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        ));
    }
    let value: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: value out of range")
    })?;
    if value < 0 { Err(format!("negative number ({value}) not allowed: {text}")) } else { Ok(value) }
}

fn has(bits: u64, n: i8) -> bool {
    u32::try_from(n).is_ok_and(|n| bits & (1u64 << n) != 0)
}

impl Schedule {
    /// The first time after `after`; `None` where there is none within years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*pause).ok()
            }
            Schedule::Fields(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = after.to_zoned(zone.clone());
        let year_max = at.year().checked_add(YEARS_MAX)?;
        // The next whole minute. Minutes and hours pass as time does, days and months as the calendar says.
        let into = i64::from(at.second());
        at = at.checked_add(SignedDuration::from_secs(60 - into)).ok()?;
        at = at.with().subsec_nanosecond(0).build().ok()?;
        loop {
            if at.year() > year_max {
                return None;
            }
            if !has(self.months, at.month()) {
                at = midnight(at.date().first_of_month().checked_add(Span::new().months(1)).ok()?, zone)?;
            } else if !self.has_day(at.date()) {
                at = midnight(at.date().tomorrow().ok()?, zone)?;
            } else if !has(self.hours, at.hour()) {
                let left = 60 - i64::from(at.minute());
                at = at.checked_add(SignedDuration::from_mins(left)).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
    }

    fn has_day(&self, date: Date) -> bool {
        let of_month = has(self.days, date.day());
        let of_week = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.both_days { of_month && of_week } else { of_month || of_week }
    }
}

/// The first moment of a day, which is not midnight everywhere.
fn midnight(date: Date, zone: &TimeZone) -> Option<Zoned> {
    zone.to_ambiguous_zoned(date.to_datetime(Time::midnight())).compatible().ok()
}

/// The zone that a schedule begins with, and the rest. Upstream's library knows that form.
pub fn zone_within(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="))?;
    let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((zone, rest.trim()))
}

/// The zone of a name; UTC for none.
pub fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None => Ok(TimeZone::UTC),
        Some("UTC") => Ok(TimeZone::UTC),
        // Names are files upstream: their case counts.
        Some(name) => TimeZone::get(name)
            .ok()
            .filter(|zone| zone.iana_name().is_none_or(|known| known == name))
            .ok_or_else(|| format!("unknown time zone {name}")),
    }
}

#[cfg(test)]
mod tests;
