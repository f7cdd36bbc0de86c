//! The scale of a declared kind's objects.

use protocol::ApiError;
use serde_json::{Map, Value, json};

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
