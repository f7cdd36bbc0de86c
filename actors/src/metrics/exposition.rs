//! The two forms in which metrics are shown.

/// Text in Prometheus' older format.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
/// Text in OpenMetrics' format.
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// OpenMetrics' text for those who take it, the older format's for all others; with its media type.
pub(crate) fn negotiated(text: String, accept: &str) -> (&'static str, String) {
    if accept.contains("application/openmetrics-text") { (OPEN, text) } else { (PLAIN, plain(&text)) }
}

/// OpenMetrics' text as readers of the older format want it: a counter is declared under the name that its
/// samples have, and there are neither units nor an end. What has no type there are counters whose names end
/// otherwise, which the older format does not mind; its readers would stop at a type that they do not know.
fn plain(text: &str) -> String {
    let mut counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    counters.sort_unstable();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let declared = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match declared.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) if counters.binary_search(&name).is_ok() => {
                out.push_str(&format!("{}{name}_total {rest}\n", &line[..7]));
            }
            Some((name, "unknown")) if line.starts_with("# TYPE ") => {
                out.push_str(&format!("# TYPE {name} counter\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_by_their_samples() {
        let text = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n# HELP g Now.\n# TYPE g gauge\n\
                    # UNIT g seconds\ng 2\n# HELP b unknown\n# TYPE b unknown\nb 3\n# EOF\n";
        let expected = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n# HELP g Now.\n\
                        # TYPE g gauge\ng 2\n# HELP b unknown\n# TYPE b counter\nb 3\n";
        assert_eq!(plain(text), expected);
    }

    #[test]
    fn only_who_asks_for_it_gets_the_newer_format() {
        for (accept, media) in
            [("*/*", PLAIN), ("", PLAIN), ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", OPEN)]
        {
            let (said, text) = negotiated("# EOF\n".to_owned(), accept);
            assert_eq!((said, text.is_empty()), (media, media == PLAIN), "{accept}");
        }
    }
}
