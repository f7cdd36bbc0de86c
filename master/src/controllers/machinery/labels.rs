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
