use super::*;

fn next(schedule: &str, after: &str, zone_name: Option<&str>, expected: &str) {
    let parsed = parse(schedule).unwrap();
    let got = parsed.next(after.parse().unwrap(), &zone(zone_name).unwrap());
    assert_eq!(got.map(|t| t.to_string()).unwrap_or_default(), expected, "{schedule} after {after}");
}

#[test]
fn the_next_time_is_found() {
    let utc = |schedule, after, expected| next(schedule, after, None, expected);
    utc("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    utc("* * * * *", "2026-01-01T00:00:59.5Z", "2026-01-01T00:01:00Z");
    utc("*/15 * * * *", "2026-01-01T00:16:00Z", "2026-01-01T00:30:00Z");
    utc("5/20 * * * *", "2026-01-01T00:26:00Z", "2026-01-01T00:45:00Z");
    utc("0 9-17/4 * * mon-fri", "2026-01-02T17:30:00Z", "2026-01-05T09:00:00Z");
    utc("0 0 31 * *", "2026-02-01T00:00:00Z", "2026-03-31T00:00:00Z");
    utc("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    utc("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z");
    utc("0 0 30 2 *", "2026-01-01T00:00:00Z", "");
    utc("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    utc("@every 90m", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z");
    utc("0 0 1 JAN ?", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
}

#[test]
fn zones_have_their_own_clocks() {
    let berlin = |schedule, after, expected| next(schedule, after, Some("Europe/Berlin"), expected);
    berlin("30 8 * * *", "2026-01-01T00:00:00Z", "2026-01-01T07:30:00Z");
    berlin("30 8 * * *", "2026-07-01T00:00:00Z", "2026-07-01T06:30:00Z");
    // The hour from two to three is left out on this night.
    berlin("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z");
    assert_eq!(zone(Some("Nowhere/Land")).unwrap_err(), "unknown time zone Nowhere/Land");
}

#[test]
fn what_is_wrong_is_said_as_the_library_says_it() {
    for (schedule, expected) in [
        ("99 * * * *", "end of range (99) above maximum (59): 99"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("@never", "unrecognized descriptor: @never"),
        ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
        ("", "empty spec string"),
    ] {
        assert_eq!(parse(schedule).unwrap_err(), expected, "{schedule}");
    }
}
