//! Label and field selectors: parsing with upstream's messages, and matching.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

mod fields;
mod labels;
mod names;

pub use fields::{FieldRequirement, FieldSelector};
pub use names::{is_dns1123_label, is_dns1123_subdomain, label_value_error, qualified_name_error};

/// Why a selector is not understood, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How a label's value is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label has this value.
    Equals(String),
    /// The label is absent or has another value.
    NotEquals(String),
    /// The label has one of these values.
    In(Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(Vec<String>),
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer above this one.
    Greater(i64),
    /// The label is an integer below this one.
    Less(i64),
}

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Condition on its value.
    pub operator: Operator,
}

/// A label selector: all requirements hold. The default one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The conditions.
    pub requirements: Vec<Requirement>,
    /// Selects nothing at all (what an absent selector of an object means).
    nothing: bool,
}

impl Requirement {
    /// Whether the labels, looked up by `get`, satisfy the condition.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        let value = get(&self.key);
        match &self.operator {
            Operator::Equals(wanted) => value == Some(wanted),
            Operator::NotEquals(other) => value != Some(other),
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Greater(limit) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *limit),
            Operator::Less(limit) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *limit),
        }
    }
}

impl Selector {
    /// A selector that matches no object.
    pub fn nothing() -> Self {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// Parses the text form (`app=web,tier in (a,b),!old`).
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        labels::parse(text)
    }

    /// Every one of these labels must be there with this value.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(k, v): (&String, &String)| Requirement {
            key: k.clone(),
            operator: Operator::Equals(v.clone()),
        };
        Selector { requirements: labels.iter().map(requirement).collect(), nothing: false }
    }

    /// The selector of an object's `LabelSelector` field. An empty one selects everything.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut made = selector.match_labels.as_ref().map(Selector::from_map).unwrap_or_default();
        for expression in selector.match_expressions.iter().flatten() {
            let values = || expression.values.clone().unwrap_or_default();
            let operator = match expression.operator.as_str() {
                "In" => Operator::In(values()),
                "NotIn" => Operator::NotIn(values()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!("\"{other}\" is not a valid label selector operator")));
                }
            };
            made.requirements.push(Requirement { key: expression.key.clone(), operator });
        }
        // As it is written out; what it selects does not depend on it.
        made.requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(made)
    }

    /// The selector of an optional field: an absent one selects nothing.
    pub fn from_optional(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        selector.map_or_else(|| Ok(Selector::nothing()), Selector::from_label_selector)
    }

    /// Whether it has no condition at all.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether it can match no object.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether a set of labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Whether labels, looked up by `get`, are selected.
    pub fn matches_by<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(&get))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let set = |values: &[String]| {
            let mut values = values.to_vec();
            values.sort();
            values.join(",")
        };
        match &self.operator {
            Operator::Equals(value) => write!(f, "{key}={value}"),
            Operator::NotEquals(value) => write!(f, "{key}!={value}"),
            Operator::In(values) => write!(f, "{key} in ({})", set(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", set(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Greater(limit) => write!(f, "{key}>{limit}"),
            Operator::Less(limit) => write!(f, "{key}<{limit}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
