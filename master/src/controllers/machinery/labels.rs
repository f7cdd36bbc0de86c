//! Label selectors as objects carry them (`metav1.LabelSelector` and plain maps), compiled once and matched
//! often. Selectors written as text (query parameters) are the API's business, not this module's.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A compiled selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Matches nothing at all, whatever `terms` says: an absent selector, or a malformed one.
    nothing: bool,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: String,
    op: Op,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

impl Selector {
    /// Matches no object.
    pub fn nothing() -> Self {
        Selector { nothing: true, terms: Vec::new() }
    }

    /// Matches every object.
    pub fn everything() -> Self {
        Selector::default()
    }

    /// Compiles a `LabelSelector`. An empty one matches everything; one with an unknown operator nothing.
    pub fn of(selector: &LabelSelector) -> Self {
        let mut compiled = Self::of_map(selector.match_labels.iter().flatten());
        for e in selector.match_expressions.iter().flatten() {
            let values = e.values.as_deref().unwrap_or_default();
            if !compiled.push(&e.key, &e.operator, values) {
                return Selector::nothing();
            }
        }
        compiled
    }

    /// Compiles an optional `LabelSelector`; an absent one matches nothing.
    pub fn of_option(selector: Option<&LabelSelector>) -> Self {
        selector.map_or_else(Selector::nothing, Selector::of)
    }

    /// Every pair must be present.
    pub fn of_map<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let terms = pairs.into_iter().map(|(k, v)| Term { key: k.clone(), op: Op::In(vec![v.clone()]) }).collect();
        Selector { nothing: false, terms }
    }

    /// Adds a requirement by its operator's name (node selectors' `Gt` and `Lt` included); false when the
    /// operator is unknown or its values make no sense.
    pub fn push(&mut self, key: &str, operator: &str, values: &[String]) -> bool {
        let op = match operator {
            "In" => Op::In(values.to_vec()),
            "NotIn" => Op::NotIn(values.to_vec()),
            "Exists" => Op::Exists,
            "DoesNotExist" => Op::DoesNotExist,
            "Gt" | "Lt" => match values {
                [v] => match v.parse() {
                    Ok(n) if operator == "Gt" => Op::Gt(n),
                    Ok(n) => Op::Lt(n),
                    Err(_) => return false,
                },
                _ => return false,
            },
            _ => return false,
        };
        self.terms.push(Term { key: key.to_owned(), op });
        true
    }

    /// Whether no requirement is stated and everything matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.terms.is_empty()
    }

    /// Whether an object with `labels` is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object is selected; a missing label map counts as an empty one.
    pub fn matches_option(&self, labels: Option<&Labels>) -> bool {
        self.matches_by(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }

    /// Whether an object is selected, its labels given by a lookup.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self.terms.iter().all(|term| {
                let value = label(&term.key);
                match &term.op {
                    Op::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
                    Op::NotIn(values) => !value.is_some_and(|v| values.iter().any(|w| w == v)),
                    Op::Exists => value.is_some(),
                    Op::DoesNotExist => value.is_none(),
                    Op::Gt(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *n),
                    Op::Lt(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *n),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: serde_json::Value, labels: &[(&str, &str)], expected: bool) {
        let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(Selector::of(&parsed).matches(&labels), expected, "{selector} on {labels:?}");
    }

    #[test]
    fn selectors_match_as_upstream() {
        use serde_json::json;
        check(json!({}), &[], true);
        check(json!({"matchLabels": {"a": "1"}}), &[("a", "1"), ("b", "2")], true);
        check(json!({"matchLabels": {"a": "1"}}), &[("a", "2")], false);
        let expr = |op: &str, v: &[&str]| json!({"matchExpressions": [{"key": "a", "operator": op, "values": v}]});
        check(expr("In", &["1", "2"]), &[("a", "2")], true);
        check(expr("In", &["1", "2"]), &[], false);
        check(expr("NotIn", &["1"]), &[], true);
        check(expr("NotIn", &["1"]), &[("a", "1")], false);
        check(expr("Exists", &[]), &[("a", "")], true);
        check(expr("DoesNotExist", &[]), &[("a", "")], false);
        check(expr("Near", &[]), &[("a", "")], false);
    }

    #[test]
    fn an_absent_selector_matches_nothing() {
        assert!(!Selector::of_option(None).matches(&Labels::new()));
    }

    #[test]
    fn numbers_compare() {
        let mut s = Selector::everything();
        assert!(s.push("cpu", "Gt", &["4".to_owned()]));
        assert!(!s.push("cpu", "Gt", &["x".to_owned()]));
        let labels = |v: &str| Labels::from([("cpu".to_owned(), v.to_owned())]);
        assert!(s.matches(&labels("8")) && !s.matches(&labels("4")) && !s.matches(&labels("many")));
    }
}
