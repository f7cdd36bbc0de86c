//! The scale of a declared kind's objects.

use protocol::{ApiError, go};
use serde_json::{Map, Value, json};

use crate::api::invalid::{Errors, Path};
use crate::api::object::{self, text};

/// Where in an object the numbers of its scale are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    spec: String,
    status: String,
    selector: String,
}

/// The names of a path like `.spec.replicas`.
fn names(path: &str) -> Vec<&str> {
    path.split('.').filter(|n| !n.is_empty()).collect()
}

/// The value at a path, which must be of a type if it is there.
fn lookup<'v>(object: &'v Value, path: &str, wanted: &str) -> Result<Option<&'v Value>, String> {
    let wrong = |upto: &[&str], value: &Value, wanted: &str| {
        let (shown, is) = (go::text(value), go::type_name(value));
        format!(".{} accessor error: {shown} is of the type {is}, expected {wanted}", upto.join("."))
    };
    let names = names(path);
    let mut at = object;
    for (i, name) in names.iter().enumerate() {
        let Some(map) = at.as_object() else {
            return if at.is_null() {
                Ok(None)
            } else {
                Err(wrong(&names[..=i], at, "map[string]interface{}"))
            };
        };
        match map.get(*name) {
            Some(value) => at = value,
            None => return Ok(None),
        }
    }
    if go::type_name(at) == wanted { Ok(Some(at)) } else { Err(wrong(&names, at, wanted)) }
}

fn count(object: &Value, path: &str, errors: &mut Errors) {
    let at = Path::new(path);
    match lookup(object, path, "int64") {
        Err(why) => errors.invalid(&at, 0, why),
        Ok(value) => {
            let count = value.and_then(Value::as_i64).unwrap_or(0);
            if count < 0 {
                errors.invalid(&at, count, "should be a non-negative integer");
            } else if count > i64::from(i32::MAX) {
                errors.invalid(&at, count, format!("should be less than or equal to {}", i32::MAX));
            }
        }
    }
}

impl ScalePaths {
    /// The paths that a version declares.
    pub fn of(scale: &Value) -> Option<Self> {
        let path = |name: &str| text(scale, &[name]).to_owned();
        scale.is_object().then(|| ScalePaths {
            spec: path("specReplicasPath"),
            status: path("statusReplicasPath"),
            selector: path("labelSelectorPath"),
        })
    }

    /// The scale of an object that may have no number of replicas yet.
    pub fn read_or_empty(&self, object: &Value) -> Value {
        let mut meta = Map::new();
        for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = object["metadata"].get(name) {
                meta.insert(name.to_owned(), value.clone());
            }
        }
        let mut spec = json!({});
        if let Some(replicas) = object::at(object, &names(&self.spec)).as_i64().filter(|r| *r != 0) {
            spec["replicas"] = replicas.into();
        }
        let mut status = json!({"replicas": object::at(object, &names(&self.status)).as_i64().unwrap_or(0)});
        let selector = object::at(object, &names(&self.selector)).as_str().filter(|s| !s.is_empty());
        if let Some(selector) = selector.filter(|_| !self.selector.is_empty()) {
            status["selector"] = selector.into();
        }
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status})
    }

    /// Checks the numbers of an object that its scale is made of; of a status written by itself only those in it.
    pub fn validate(&self, object: &Value, status_only: bool, errors: &mut Errors) {
        if !status_only {
            count(object, &self.spec, errors);
        }
        count(object, &self.status, errors);
        if !self.selector.is_empty()
            && let Err(why) = lookup(object, &self.selector, "string")
        {
            errors.invalid(&Path::new(&self.selector), "", why);
        }
    }

    /// The scale of an object.
    pub fn read(&self, object: &Value) -> Result<Value, ApiError> {
        if object::at(object, &names(&self.spec)).is_null() {
            return Err(ApiError::internal(format!(
                "the spec replicas field {:?} does not exist",
                self.spec
            )));
        }
        Ok(self.read_or_empty(object))
    }

    /// Where the number of replicas is.
    pub fn replicas(&self) -> Vec<&str> {
        names(&self.spec)
    }

    /// The object with another number of replicas.
    pub fn write(&self, object: &mut Value, replicas: i64) {
        let names = names(&self.spec);
        if let Some((last, parents)) = names.split_last() {
            object::object_mut(object, parents).insert((*last).to_owned(), replicas.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_made_of_counts() {
        let paths = ScalePaths::of(&json!({"specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}));
        let paths = paths.expect("a scale");
        for (object, wanted) in [
            (json!({}), vec![]),
            (json!({"spec": {"replicas": 3}, "status": {"selector": "a=b"}}), vec![]),
            (
                json!({"spec": {"replicas": -1}}),
                vec![".spec.replicas: Invalid value: -1: should be a non-negative integer"],
            ),
            (
                json!({"spec": {"replicas": "x"}}),
                vec![
                    ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: x is of the type string, expected int64",
                ],
            ),
            (
                json!({"status": {"replicas": 3_000_000_000_i64}}),
                vec![
                    ".status.replicas: Invalid value: 3000000000: should be less than or equal to 2147483647",
                ],
            ),
        ] {
            let mut errors = Errors::default();
            paths.validate(&object, false, &mut errors);
            assert_eq!(errors.messages(), wanted, "{object}");
        }
    }
}
