//! Label selectors as controllers use them: where `protocol`'s refuses a malformed selector, a controller
//! selects nothing with it, because the object exists all the same.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub use protocol::Selector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Compiles a selector; a malformed one selects nothing.
pub fn selector(of: &LabelSelector) -> Selector {
    Selector::from_label_selector(of).unwrap_or_else(|_| Selector::nothing())
}

/// Compiles an optional selector; an absent one selects nothing.
pub fn selector_option(of: Option<&LabelSelector>) -> Selector {
    of.map_or_else(Selector::nothing, selector)
}

/// Whether labels are selected; a missing map counts as an empty one.
pub fn selects(selector: &Selector, labels: Option<&Labels>) -> bool {
    selector.matches_by(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
}

/// A label selector as Go prints it; upstream's messages show it so.
pub fn shown(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let each = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.as_ref().map(|all| all.join(" ")).unwrap_or_default();
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", e.key, e.operator)
    });
    let expressions: String = each.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn selectors_are_shown_as_go_shows_them() {
        assert_eq!(shown(None), "nil");
        let selector = LabelSelector {
            match_labels: Some([("a".to_owned(), "b".to_owned())].into()),
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "k".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec!["x".to_owned(), "y".to_owned()]),
            }]),
        };
        let expected = "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
                        LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}";
        assert_eq!(shown(Some(&selector)), expected);
    }
}
