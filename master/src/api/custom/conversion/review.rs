//! The conversation with a webhook that converts: `ConversionReview`s, and what an answer must keep to. Pure.

use serde_json::{Map, Value, json};

use crate::api::invalid::{Errors, Path};
use crate::api::meta;
use crate::api::object::{self, text};

/// The versions of reviews that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `apiextensions.k8s.io/v1`.
    V1,
    /// Its predecessor, in which answers do not say what they answer.
    V1Beta1,
}

impl Dialect {
    /// The first of a webhook's versions that is spoken here.
    pub fn chosen(versions: &[Value]) -> Option<Dialect> {
        versions.iter().find_map(|version| match version.as_str() {
            Some("v1") => Some(Dialect::V1),
            Some("v1beta1") => Some(Dialect::V1Beta1),
            _ => None,
        })
    }

    fn version(self) -> &'static str {
        match self {
            Dialect::V1 => "apiextensions.k8s.io/v1",
            Dialect::V1Beta1 => "apiextensions.k8s.io/v1beta1",
        }
    }

    /// Asks for objects in another version.
    pub fn question(self, uid: &str, desired: &str, objects: &[Value]) -> Value {
        json!({
            "kind": "ConversionReview", "apiVersion": self.version(),
            "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
        })
    }

    /// The objects of an answer, in the order of those given, checked and with the metadata that they had.
    pub fn accept(
        self,
        uid: &str,
        desired: &str,
        given: &[Value],
        answer: &mut Value,
    ) -> Result<Vec<Value>, String> {
        let about = given.first().map(object::shown_kind).unwrap_or_default();
        let by = format!("conversion webhook for {about}");
        let made = self.objects(uid, answer).map_err(|why| format!("{by} failed: {why}"))?;
        if made.len() != given.len() {
            return Err(format!("{by} returned {} objects, expected {}", made.len(), given.len()));
        }
        let pairs = given.iter().zip(made).enumerate();
        pairs.map(|(i, (given, made))| checked(&by, i, desired, given, made)).collect()
    }

    fn objects(self, uid: &str, answer: &mut Value) -> Result<Vec<Value>, String> {
        if self == Dialect::V1 {
            let wanted = json!({"apiVersion": self.version(), "kind": "ConversionReview"});
            let (wanted, got) = (object::shown_kind(&wanted), object::shown_kind(answer));
            if wanted != got {
                return Err(format!("expected webhook response of {wanted}, got {got}"));
            }
        }
        let response = &mut answer["response"];
        if !response.is_object() {
            return Err("no response provided".to_owned());
        }
        let given = text(response, &["uid"]);
        if self == Dialect::V1 && given != uid {
            return Err(format!("expected response.uid={uid:?}, got {given:?}"));
        }
        let (status, message) =
            (text(response, &["result", "status"]), text(response, &["result", "message"]));
        match (status, message) {
            ("Success", _) => {}
            (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
            (_, message) => return Err(message.to_owned()),
        }
        match response["convertedObjects"].take() {
            Value::Array(objects) => Ok(objects),
            _ => Ok(Vec::new()),
        }
    }
}

/// An object as it came back, if it is the one that was given: only labels and annotations may be others.
fn checked(by: &str, i: usize, desired: &str, given: &Value, mut made: Value) -> Result<Value, String> {
    let (version, kind) = (text(&made, &["apiVersion"]), text(&made, &["kind"]));
    let wanted = text(given, &["kind"]);
    let what = if version != desired {
        format!("groupVersion (expected {desired}, received {version})")
    } else if kind != wanted {
        format!("kind (expected {wanted}, received {kind})")
    } else {
        same(given, &made).map_err(|why| format!("{by} returned invalid object: {why}"))?;
        restore(given, &mut made).map_err(|why| format!("{by} returned invalid metadata: {why}"))?;
        return Ok(made);
    };
    Err(format!("{by} returned invalid object at index {i}: invalid {what}"))
}

fn same(given: &Value, made: &Value) -> Result<(), String> {
    for (field, shown) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (before, after) = (text(given, &["metadata", field]), text(made, &["metadata", field]));
        if before != after {
            return Err(format!("must have the same {shown}: {before} != {after}"));
        }
    }
    Ok(())
}

/// Gives a converted object the metadata that it had, but for the labels and annotations that came back.
fn restore(given: &Value, made: &mut Value) -> Result<(), String> {
    let answered = match made.get("metadata") {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(map)) => map.clone(),
        Some(other) => {
            return Err(format!(
                "invalid metadata of type {} in converted object",
                protocol::go::type_name(other)
            ));
        }
    };
    let mut metadata = given["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match answered.get(field) {
            None | Some(Value::Null) => drop(metadata.remove(field)),
            Some(Value::Object(texts)) => {
                check_texts(field, metadata.get(field), texts)?;
                metadata.insert(field.to_owned(), Value::Object(texts.clone()));
            }
            Some(other) => {
                let ty = protocol::go::type_name(other);
                return Err(format!("invalid metadata.{field} of type {ty} in converted object"));
            }
        }
    }
    made["metadata"] = Value::Object(metadata);
    Ok(())
}

fn check_texts(field: &str, before: Option<&Value>, texts: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in texts {
        if !value.is_string() {
            let ty = protocol::go::type_name(value);
            return Err(format!("metadata.{field}[{key}] must be a string, but is {ty} in converted object"));
        }
    }
    if before.and_then(Value::as_object).is_some_and(|before| before == texts) {
        return Ok(());
    }
    let mut errors = Errors::default();
    let texts = Value::Object(texts.clone());
    match field {
        "labels" => meta::labels(&texts, &Path::new("metadata.labels"), &mut errors),
        // Upstream's path has no plural here.
        _ => meta::annotations(&texts, &Path::new("metadata.annotation"), &mut errors),
    }
    match errors.messages().as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests;
