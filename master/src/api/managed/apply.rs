//! Applying a configuration: what `kubectl apply --server-side` asks for.
//!
//! - [`config`]: reading the configuration. - [`last_applied`]: what client-side apply left behind.

use protocol::apply::managers::{Conflict, conflict_message};
use protocol::apply::{Managed, Operation, Refusal};
use protocol::{ApiError, patch};
use serde_json::{Value, json};

use super::versions::KindVersions;
use super::{Tracking, entries};
use crate::api::kinds;
use crate::api::object::{self, shown_kind, text};
use crate::api::registry::body::Sent;
use crate::api::registry::{Subject, body};

pub mod config;
mod last_applied;

/// The manager whose applies continue what client-side apply began.
const KUBECTL: &str = "kubectl";

/// A failure that upstream has no reason for.
fn failed(message: String) -> ApiError {
    ApiError::new(500, "", message)
}

/// The answer to an apply that others' fields stand against.
fn conflict(conflicts: &[Conflict]) -> ApiError {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|c| {
            let message = format!("conflict with {}", c.manager.shown());
            json!({"reason": "FieldManagerConflict", "message": message, "field": c.field()})
        })
        .collect();
    ApiError::about(409, "Conflict", conflict_message(conflicts), json!({"causes": causes}))
}

impl Tracking<'_> {
    /// Applies a configuration to an object (absent: to make it), and gives its fields to the applier. Takes
    /// and gives objects in the stored version; what is empty is so by the configuration.
    pub fn apply(&self, old: Option<&Value>, config: &Value, force: bool) -> Result<Sent, ApiError> {
        let named = |object: &Value| {
            let (namespace, name) = (object::namespace(object), object::name(object));
            format!("{namespace}/{name}; {}", shown_kind(object))
        };
        let empty = self.versions.empty(&self.version);
        let known = old.map_or(&Value::Null, |old| &old["metadata"]["managedFields"]);
        let mut managed =
            Managed::decode(known).map_err(|e| failed(format!("failed to decode managed fields: {e}")))?;
        let kind = (text(config, &["apiVersion"]), text(config, &["kind"]));
        if kind != (self.version.as_str(), self.kind) {
            // What is no version says nothing.
            let none = text(config, &["apiVersion"]).matches('/').count() > 1;
            let shown = if none { "/, Kind=".to_owned() } else { shown_kind(config) };
            return Err(ApiError::bad_request(format!("invalid object type: {shown}")));
        }
        if config["metadata"]["managedFields"].is_array() {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let mut live =
            old.map_or_else(|| empty.clone(), |o| self.versions.shown(o, &self.version).into_owned());
        entries::take(&mut live);
        let now = object::now();
        let write = self.write(&live, &now, Operation::Apply);
        let refuse = |refusal: Refusal| match refusal {
            Refusal::Config(why) => {
                failed(format!("failed to create typed patch object ({}): {why}", named(config)))
            }
            Refusal::Live(why) => {
                failed(format!("failed to create typed live object ({}): {why}", named(&live)))
            }
            Refusal::First(why) => failed(format!(
                "failed to create manager for existing fields: failed to convert new object ({}) to smd typed: {why}",
                named(&live)
            )),
            Refusal::Conflicts(conflicts) => conflict(&conflicts),
            other => failed(other.to_string()),
        };
        if managed.0.is_empty() {
            managed = write.before_first_apply(&empty).map_err(refuse)?;
        }
        let applied = match write.apply(config, managed.clone(), force) {
            Err(Refusal::Conflicts(conflicts)) if self.name == KUBECTL => {
                let allowed = self.versions.last_applied(&live, &self.version);
                let rest: Vec<Conflict> = match &allowed {
                    None => conflicts,
                    Some(allowed) => conflicts.into_iter().filter(|c| !allowed.has(&c.path)).collect(),
                };
                match rest.is_empty() {
                    true => write.apply(config, managed, true),
                    false => Err(Refusal::Conflicts(rest)),
                }
            }
            result => result,
        };
        let (new, managed) = applied.map_err(refuse)?;
        let mut made = match new {
            None => Sent::from(old.cloned().unwrap_or(live)),
            Some(new) => {
                let new = self.typed(new).map_err(|why| {
                    let kind = shown_kind(config);
                    failed(format!(
                        "failed to convert new object ({}) to proper version: unable to convert unstructured object \
                         to {kind}: {why}",
                        named(config)
                    ))
                })?;
                let group = self.version.split_once('/').map_or("", |(group, _)| group);
                if let Some(why) = kinds::unconvertible(group, self.kind, &new.value) {
                    return Err(failed(format!(
                        "failed to convert to unversioned ({}): {why}",
                        named(config)
                    )));
                }
                new
            }
        };
        if self.name == KUBECTL {
            last_applied::follow(&mut made.value, config);
        }
        entries::set(&mut made.value, managed.encode());
        Ok(made)
    }

    /// A merged object as one of its kind, defaulted, in the stored version.
    fn typed(&self, mut value: Value) -> Result<Sent, String> {
        let Some(definition) = self.versions.definition(&self.version) else {
            return Err(format!("no type information for {}", self.version));
        };
        if let Some(why) = patch::typed::problem(definition, &value) {
            return Err(why);
        }
        patch::typed::fit(definition, &mut value);
        let (_, empties) = protocol::schema::decode_in(definition, &mut value)?;
        Ok(match &self.versions {
            KindVersions::Kind { subject: Subject { custom: Some(custom), .. }, .. } => {
                // Strict validation is not for apply: what is unknown was refused by the schema.
                custom.admit_merged(&mut value)?;
                value.into()
            }
            KindVersions::Scale(_) => value.into(),
            KindVersions::Kind { subject, .. } => body::as_stored(subject, Sent { value, empties }),
        })
    }
}
