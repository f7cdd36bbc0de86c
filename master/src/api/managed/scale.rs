//! Ownership of a workload's replicas through its scale: the scale shows the owners of the replicas as its own,
//! and what a write of the scale does to them is done to the workload's.

use protocol::apply::managers::Owned;
use protocol::apply::{Element, Managed, Set};
use protocol::schema::Definition;
use protocol::{ApiError, ApiRequest};
use serde_json::Value;

use super::versions::{KindVersions, SCALE};
use super::{Tracking, agent, entries};
use crate::api::registry::Subject;

/// Where a workload keeps its replicas.
fn replicas() -> Vec<Element> {
    vec![Element::field("spec"), Element::field("replicas")]
}

fn only_replicas() -> Set {
    let mut set = Set::new();
    set.insert(replicas());
    set
}

/// Who writes the scale of what.
pub struct ScaleTracking<'a> {
    parent: Subject<'a>,
    scale: Tracking<'a>,
}

impl<'a> ScaleTracking<'a> {
    /// A write of the scale of an object.
    pub fn of(request: &'a ApiRequest, parent: Subject<'a>, definition: &'static Definition) -> Self {
        let scale = Tracking {
            versions: KindVersions::Scale(definition),
            version: SCALE.to_owned(),
            kind: "Scale",
            subresource: "scale",
            name: agent::manager(request),
        };
        ScaleTracking { parent, scale }
    }

    /// Shows the owners of the replicas on the scale.
    pub fn show(&self, parent: &Value, scale: &mut Value) -> Result<(), ApiError> {
        let mut shown = decode(parent)?;
        shown.0.retain(|_, owned| owned.fields.has(&replicas()));
        for owned in shown.0.values_mut() {
            *owned = Owned { fields: only_replicas(), version: SCALE.to_owned(), time: owned.time.take() };
        }
        entries::set(scale, shown.encode());
        Ok(())
    }

    /// Follows an update of the scale.
    pub fn update(&self, old: &Value, new: &mut Value) {
        self.scale.update(old, new);
    }

    /// Applies a configuration to the scale.
    pub fn apply(&self, old: &Value, config: &Value, force: bool) -> Result<Value, ApiError> {
        self.scale.apply(Some(old), config, force)
    }

    /// Does to the workload's owners what was done to the scale's.
    pub fn hand_down(&self, scale: &Value, parent: &mut Value) -> Result<(), ApiError> {
        let mut left = decode(scale)?;
        let before = decode(parent)?;
        let mut managed = Managed::default();
        for (manager, owned) in &before.0 {
            let mut owned = owned.clone();
            // Who is not on the scale any more has lost the replicas. Upstream knows updaters by the version
            // that they write, so one that wrote the workload itself always hands them over to the scale.
            if owned.fields.has(&replicas()) && left.0.remove(manager).is_none() {
                owned.fields = owned.fields.difference(&only_replicas());
            }
            if !owned.fields.is_empty() {
                managed.0.insert(manager.clone(), owned);
            }
        }
        let version = self.parent.resource.api_version();
        for (manager, owned) in left.0 {
            if owned.fields.has(&replicas()) {
                let time = before.0.get(&manager).and_then(|o| o.time.clone());
                managed.0.insert(manager, Owned { fields: only_replicas(), version: version.clone(), time });
            }
        }
        entries::set(parent, managed.encode());
        Ok(())
    }
}

fn decode(object: &Value) -> Result<Managed, ApiError> {
    Managed::decode(&object["metadata"]["managedFields"]).map_err(|e| ApiError::new(500, "", e.to_string()))
}
