//! What a claim asks for, read once for all nodes.

use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceClass, DeviceSelector, DeviceToleration, ResourceClaim,
};

use super::constraints::Constraint;
use super::selectors::{Compiler, Selectors};
use super::slices::{Offered, device_reaches};
use super::taken::Amounts;
use super::{Budget, Trouble};
use crate::cache::Snapshot;
use crate::controllers::machinery::meta::{name, namespace};

/// How many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// So many.
    Exactly(usize),
    /// Every one that there is.
    All,
}

/// One request, or one alternative of one.
#[derive(Clone, Debug)]
pub(super) struct Request {
    name: String,
    /// The request that it is an alternative of.
    parent: Option<String>,
    /// Its class.
    pub class: Arc<DeviceClass>,
    /// How many devices.
    pub count: Count,
    /// Whether the devices may be others' too, for a look.
    pub admin: bool,
    /// What it tolerates of devices.
    pub tolerations: Vec<DeviceToleration>,
    /// What it takes of devices that are shared.
    pub capacity: Option<Amounts>,
    by_class: Selectors,
    by_request: Selectors,
}

/// What is said of a request and of an alternative alike.
struct Said<'a> {
    name: &'a str,
    parent: Option<&'a str>,
    class: &'a str,
    mode: Option<&'a str>,
    count: Option<i64>,
    admin: bool,
    selectors: Option<&'a [DeviceSelector]>,
    tolerations: Option<&'a [DeviceToleration]>,
    capacity: Option<&'a CapacityRequirements>,
}

/// A claim that devices have to be found for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The claim.
    pub claim: Arc<ResourceClaim>,
    /// Its requests, each with its alternatives.
    pub requests: Vec<Vec<Request>>,
    /// What its devices must have in common.
    pub constraints: Vec<Constraint>,
}

/// A claim as errors name it.
pub(super) fn shown(claim: &ResourceClaim) -> String {
    format!("{}/{}", namespace(&claim.metadata), name(&claim.metadata))
}

impl Request {
    /// The request's name, or that of the request that it is an alternative of.
    pub fn base_name(&self) -> &str {
        self.parent.as_deref().unwrap_or(&self.name)
    }

    /// Its own name.
    pub fn own_name(&self) -> &str {
        &self.name
    }

    /// Its name with that of the request that it is an alternative of.
    pub fn full_name(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{parent}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether it is one of several alternatives.
    pub fn is_alternative(&self) -> bool {
        self.parent.is_some()
    }

    /// Whether a device is such a one as is asked for, whoever has it.
    pub fn selects(&self, node: &Node, offered: &Offered, budget: &mut Budget) -> Result<bool, Trouble> {
        let (driver, device) = (&offered.slice.spec.driver, offered.device());
        if !self.by_class.select(driver, device, budget)?
            || !self.by_request.select(driver, device, budget)?
        {
            return Ok(false);
        }
        Ok(offered.slice.spec.per_device_node_selection != Some(true) || device_reaches(node, device))
    }
}

impl Wanted {
    /// Reads a claim. The error is why no node would do.
    pub fn of(
        snapshot: &Snapshot,
        claim: &Arc<ResourceClaim>,
        compiler: &mut Compiler,
    ) -> Result<Self, String> {
        let devices = claim.spec.devices.as_ref();
        let mut requests = Vec::new();
        for request in devices.iter().flat_map(|d| d.requests.iter().flatten()) {
            let mut said = Vec::new();
            if let Some(e) = &request.exactly {
                said.push(Said {
                    name: &request.name,
                    parent: None,
                    class: &e.device_class_name,
                    mode: e.allocation_mode.as_deref(),
                    count: e.count,
                    admin: e.admin_access == Some(true),
                    selectors: e.selectors.as_deref(),
                    tolerations: e.tolerations.as_deref(),
                    capacity: e.capacity.as_ref(),
                });
            }
            let alternatives = request.first_available.iter().flatten().filter(|_| request.exactly.is_none());
            said.extend(alternatives.map(|a| Said {
                name: &a.name,
                parent: Some(&request.name),
                class: &a.device_class_name,
                mode: a.allocation_mode.as_deref(),
                count: a.count,
                admin: false,
                selectors: a.selectors.as_deref(),
                tolerations: a.tolerations.as_deref(),
                capacity: a.capacity.as_ref(),
            }));
            if said.is_empty() {
                let (claim, request) = (shown(claim), &request.name);
                return Err(format!("resource claim {claim}, request {request}: unknown request type"));
            }
            let read = said.into_iter().map(|said| said.read(snapshot, claim, compiler));
            requests.push(read.collect::<Result<Vec<_>, _>>()?);
        }
        let said = devices.iter().flat_map(|d| d.constraints.iter().flatten()).enumerate();
        let constraints = said.map(|(i, c)| {
            Constraint::of(c).ok_or_else(|| {
                format!(
                    "claim {}, constraint #{i}: empty constraint (unsupported constraint type?)",
                    shown(claim)
                )
            })
        });
        let constraints = constraints.collect::<Result<Vec<_>, _>>()?;
        Ok(Wanted { claim: claim.clone(), requests, constraints })
    }
}

impl Said<'_> {
    fn read(
        self,
        snapshot: &Snapshot,
        claim: &ResourceClaim,
        compiler: &mut Compiler,
    ) -> Result<Request, String> {
        let full = self.parent.map_or_else(|| self.name.to_owned(), |p| format!("{p}/{}", self.name));
        let class = snapshot.get(DeviceClass::GROUP, DeviceClass::URL_PATH_SEGMENT, "", self.class);
        let class = class.and_then(|s| s.typed::<DeviceClass>().ok());
        let class =
            class.ok_or_else(|| format!("request {full}: device class {} does not exist", self.class))?;
        let count = match self.mode.unwrap_or("ExactCount") {
            "ExactCount" => Count::Exactly(usize::try_from(self.count.unwrap_or(1)).unwrap_or(usize::MAX)),
            "All" => Count::All,
            other => {
                return Err(format!(
                    "claim {}, request {}: unsupported count mode {other}",
                    shown(claim),
                    self.name
                ));
            }
        };
        let amounts = self.capacity.and_then(|c| c.requests.as_ref()).filter(|r| !r.is_empty());
        let amounts = amounts.map(|r| {
            r.iter().map(|(name, q)| (name.clone(), q.0.parse().unwrap_or_default())).collect::<Amounts>()
        });
        Ok(Request {
            name: self.name.to_owned(),
            parent: self.parent.map(str::to_owned),
            by_class: compiler
                .selectors(format!("class {}", name(&class.metadata)), class.spec.selectors.as_deref()),
            by_request: compiler.selectors(format!("claim {}", shown(claim)), self.selectors),
            class,
            count,
            admin: self.admin,
            tolerations: self.tolerations.unwrap_or_default().to_vec(),
            capacity: amounts,
        })
    }
}
