//! The form of cron schedules, with the words of the parser that upstream uses.

/// A field of a schedule: its least and greatest number, and names that stand for numbers.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds { min: 1, max: 12, names: MONTHS },
    Bounds { min: 0, max: 6, names: DAYS },
];

/// What is wrong with a schedule.
pub fn schedule_error(schedule: &str) -> Option<String> {
    if schedule.is_empty() {
        return Some("empty spec string".to_owned());
    }
    if schedule.starts_with('@') {
        return descriptor_error(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let found = fields.len();
        return Some(format!("expected exactly 5 fields, found {found}: [{}]", fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).find_map(|(field, bounds)| {
        field.split(',').filter(|part| !part.is_empty()).find_map(|part| range_error(part, bounds))
    })
}

/// Whether the time zone database has a zone of that name.
pub fn is_time_zone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok()
}

fn descriptor_error(descriptor: &str) -> Option<String> {
    let known = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if known.contains(&descriptor) {
        return None;
    }
    let Some(duration) = descriptor.strip_prefix("@every ") else {
        return Some(format!("unrecognized descriptor: {descriptor}"));
    };
    let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
    let digit = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = duration.trim_start_matches(['-', '+']);
    let mut fine = !rest.is_empty();
    while fine && !rest.is_empty() {
        let after = rest.trim_start_matches(digit);
        let end = after.find(digit).unwrap_or(after.len());
        fine = after.len() < rest.len() && units.contains(&&after[..end]);
        rest = &after[end..];
    }
    if fine {
        return None;
    }
    Some(format!(
        "failed to parse duration {descriptor}: time: invalid duration {}",
        crate::api::invalid::go_quote(duration)
    ))
}

fn number(text: &str, names: &[&str], first: u32) -> Result<u32, String> {
    if let Some(at) = names.iter().position(|n| n.eq_ignore_ascii_case(text)) {
        return Ok(first + u32::try_from(at).unwrap_or(0));
    }
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => {
            let quoted = crate::api::invalid::go_quote(text);
            Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"))
        }
    }
}

fn range_error(text: &str, bounds: &Bounds) -> Option<String> {
    let (range, steps) = match text.split_once('/') {
        Some((_, step)) if step.contains('/') => return Some(format!("too many slashes: {text}")),
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let read = |text: &str| number(text, bounds.names, bounds.min);
    let (start, mut end) = if range == "*" || range == "?" {
        (bounds.min, bounds.max)
    } else {
        let mut parts = range.split('-');
        let (low, high, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let start = match read(low) {
            Ok(start) => start,
            Err(wrong) => return Some(wrong),
        };
        let end = match high.map(read) {
            None => start,
            Some(Ok(end)) => end,
            Some(Err(wrong)) => return Some(wrong),
        };
        if more.is_some() {
            return Some(format!("too many hyphens: {text}"));
        }
        (start, end)
    };
    if let Some(step) = steps {
        match number(step, &[], 0) {
            Ok(0) => return Some(format!("step of range should be a positive number: {text}")),
            Ok(_) => {}
            Err(wrong) => return Some(wrong),
        }
        if !range.contains('-') {
            end = bounds.max;
        }
    }
    if start < bounds.min {
        return Some(format!("beginning of range ({start}) below minimum ({}): {text}", bounds.min));
    }
    if end > bounds.max {
        return Some(format!("end of range ({end}) above maximum ({}): {text}", bounds.max));
    }
    if start > end {
        return Some(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_upstream_reads_them() {
        for (schedule, wrong) in [
            ("*/5 * * * *", None),
            ("0 0 1 jan mon-fri", None),
            ("@daily", None),
            ("@every 1h30m", None),
            ("61 * * * *", Some("end of range (61) above maximum (59): 61")),
            ("* * 0 * *", Some("beginning of range (0) below minimum (1): 0")),
            ("5-1 * * * *", Some("beginning of range (5) beyond end of range (1): 5-1")),
            ("*/0 * * * *", Some("step of range should be a positive number: */0")),
            ("* * *", Some("expected exactly 5 fields, found 3: [* * *]")),
            ("@often", Some("unrecognized descriptor: @often")),
            ("x * * * *", Some("failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax")),
        ] {
            assert_eq!(schedule_error(schedule).as_deref(), wrong, "{schedule}");
        }
    }
}
