//! Ownership of a workload's replicas through its scale: the scale shows the owners of the replicas as its own,
//! and what a write of the scale does to them is done to the workload's.

use protocol::apply::managers::Owned;
use protocol::apply::{Element, Managed, Set};
use protocol::schema::{Definition, Empties};
use protocol::{ApiError, ApiRequest};
use serde_json::Value;

use super::versions::{KindVersions, SCALE};
use super::{Tracking, agent, entries};
use crate::api::object;
use crate::api::registry::Subject;

/// Where a scale has its replicas, and most workloads too.
const REPLICAS: [&str; 2] = ["spec", "replicas"];

fn path(names: &[&str]) -> Vec<Element> {
    names.iter().map(|name| Element::field(name)).collect()
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
            definition: None,
        };
        ScaleTracking { parent, scale }
    }

    /// Where the workload has its replicas.
    fn replicas(&self) -> Vec<&str> {
        let declared = self.parent.custom.and_then(|custom| custom.scale.as_ref());
        declared.map_or_else(|| REPLICAS.to_vec(), |paths| paths.replicas())
    }

    /// Whether what is written in a version has a scale: of a declared kind some versions may have none.
    fn has_scale(&self, version: &str) -> bool {
        self.parent.custom.is_none_or(|custom| {
            let mut family = custom.family.iter();
            family.any(|kind| kind.api_version() == version && kind.subresource("scale").is_some())
        })
    }

    /// Shows the owners of the replicas on the scale.
    pub fn show(&self, parent: &Value, scale: &mut Value) -> Result<(), ApiError> {
        let mut shown = decode(parent)?;
        let replicas = path(&self.replicas());
        shown.0.retain(|_, owned| owned.fields.has(&replicas) && self.has_scale(&owned.version));
        for owned in shown.0.values_mut() {
            *owned =
                Owned { fields: Set::of(&[&REPLICAS]), version: SCALE.to_owned(), time: owned.time.take() };
        }
        entries::set(scale, shown.encode());
        Ok(())
    }

    /// Follows an update of the scale.
    pub fn update(&self, old: &Value, new: &mut Value) {
        self.scale.update(old, new, &Empties::default());
    }

    /// Applies a configuration to the scale.
    pub fn apply(&self, old: &Value, config: &Value, force: bool) -> Result<Value, ApiError> {
        let made = self.scale.apply(Some(old), config, force)?.value;
        // Upstream's server looks for the scale among the versions of a declared kind, and does not find it.
        if self.parent.custom.is_some() && made["spec"] != old["spec"] {
            let (namespace, name) = (object::namespace(config), object::name(config));
            let why = format!(
                "failed to convert new object ({namespace}/{name}; {SCALE}, Kind=Scale) to proper version: request to \
                 convert CR to an invalid group/version: {SCALE}"
            );
            return Err(ApiError::new(500, "", why));
        }
        Ok(made)
    }

    /// Does to the workload's owners what was done to the scale's.
    pub fn hand_down(&self, scale: &Value, parent: &mut Value) -> Result<(), ApiError> {
        let mut left = decode(scale)?;
        let before = decode(parent)?;
        let names = self.replicas();
        let (theirs, only) = (path(&names), Set::of(&[&names]));
        let mut managed = Managed::default();
        for (manager, owned) in &before.0 {
            let mut owned = owned.clone();
            // Who is not on the scale any more has lost the replicas. Upstream knows updaters by the version
            // that they write, so one that wrote the workload itself always hands them over to the scale.
            if owned.fields.has(&theirs) && self.has_scale(&owned.version) && left.0.remove(manager).is_none()
            {
                owned.fields = owned.fields.difference(&only);
            }
            if !owned.fields.is_empty() {
                managed.0.insert(manager.clone(), owned);
            }
        }
        let version = self.parent.resource.api_version();
        for (manager, owned) in left.0 {
            if owned.fields.has(&path(&REPLICAS)) {
                let time = before.0.get(&manager).and_then(|o| o.time.clone());
                managed.0.insert(manager, Owned { fields: only.clone(), version: version.clone(), time });
            }
        }
        entries::set(parent, managed.encode());
        Ok(())
    }
}

fn decode(object: &Value) -> Result<Managed, ApiError> {
    Managed::decode(&object["metadata"]["managedFields"]).map_err(|e| ApiError::new(500, "", e.to_string()))
}
