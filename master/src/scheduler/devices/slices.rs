//! What drivers offer: slices, joined to pools, as far as a node reaches them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, NodeSelector};
use k8s_openapi::api::resource::v1::{Device, ResourceSlice, ResourceSliceSpec};
use protocol::Quantity;

use super::DeviceId;
use crate::cache::Snapshot;
use crate::controllers::machinery::meta::name;
use crate::scheduler::pod::node_terms;

/// Every slice of the cluster, in order of where it can be.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    all: Vec<Arc<ResourceSlice>>,
    /// Those of one node.
    local: HashMap<String, Vec<Arc<ResourceSlice>>>,
    /// Those that several nodes may reach, and those with what a pool's devices share.
    shared: Vec<Arc<ResourceSlice>>,
}

/// A device with the slice that it is in.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The slice.
    pub slice: Arc<ResourceSlice>,
    index: usize,
}

/// What a pool is good for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is whole.
    Usable,
    /// Its driver is writing it.
    Incomplete,
    /// It contradicts itself.
    Invalid,
}

/// What several devices of a pool use of one another, by set and name.
pub type Counters = BTreeMap<(String, String), Quantity>;

/// Devices that belong together.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Whose it is.
    pub driver: String,
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub state: State,
    /// Its devices, as far as the node reaches their slices.
    pub devices: Vec<Offered>,
    /// Its other devices.
    pub elsewhere: Vec<Offered>,
    /// What they share.
    pub counters: Counters,
}

impl Offered {
    /// The device.
    pub fn device(&self) -> &Device {
        // Made by `offered`, over what is there.
        &self.slice.spec.devices.as_deref().unwrap_or_default()[self.index]
    }

    /// What it is called.
    pub fn id(&self) -> DeviceId {
        let spec = &self.slice.spec;
        DeviceId {
            driver: spec.driver.clone(),
            pool: spec.pool.name.clone(),
            device: self.device().name.clone(),
        }
    }

    /// Whether several claims may have it at a time.
    pub fn is_shared(&self) -> bool {
        self.device().allow_multiple_allocations == Some(true)
    }
}

fn offered(slice: &Arc<ResourceSlice>) -> impl Iterator<Item = Offered> + use<'_> {
    let count = slice.spec.devices.as_ref().map_or(0, Vec::len);
    (0..count).map(|index| Offered { slice: slice.clone(), index })
}

/// Whether something for one node, for all or for some is for this one.
pub fn reaches(node: &Node, one: Option<&str>, all: Option<bool>, some: Option<&NodeSelector>) -> bool {
    if let Some(one) = one.filter(|n| !n.is_empty()) {
        return name(&node.metadata) == one;
    }
    if all == Some(true) {
        return true;
    }
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
    some.is_some_and(|s| node_terms(s).iter().any(|t| t.matches(name(&node.metadata), label)))
}

/// Whether a device of a slice that leaves it to them is for a node.
pub fn device_reaches(node: &Node, device: &Device) -> bool {
    reaches(node, device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref())
}

fn has_counters(spec: &ResourceSliceSpec) -> bool {
    spec.shared_counters.as_ref().is_some_and(|c| !c.is_empty())
}

fn slice_reaches(node: &Node, spec: &ResourceSliceSpec) -> bool {
    if has_counters(spec) {
        return true;
    }
    if spec.per_device_node_selection == Some(true) {
        return spec.devices.iter().flatten().any(|d| device_reaches(node, d));
    }
    reaches(node, spec.node_name.as_deref(), spec.all_nodes, spec.node_selector.as_ref())
}

impl Slices {
    /// Those of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let stored = snapshot.list(ResourceSlice::GROUP, ResourceSlice::URL_PATH_SEGMENT, "");
        Slices::from_list(stored.filter_map(|s| s.typed().ok()))
    }

    /// These.
    pub fn from_list(slices: impl IntoIterator<Item = Arc<ResourceSlice>>) -> Self {
        let mut out = Slices::default();
        for slice in slices {
            match slice.spec.node_name.as_deref().filter(|n| !n.is_empty() && !has_counters(&slice.spec)) {
                Some(node) => out.local.entry(node.to_owned()).or_default().push(slice.clone()),
                None => out.shared.push(slice.clone()),
            }
            out.all.push(slice);
        }
        out
    }

    /// The pools that a node reaches, in the order in which they are drawn on.
    pub fn pools(&self, node: &Node) -> Vec<Pool> {
        let mut found: BTreeMap<(&str, &str), Vec<&Arc<ResourceSlice>>> = BTreeMap::new();
        let local = self.local.get(name(&node.metadata)).into_iter().flatten();
        for slice in local.chain(&self.shared).filter(|s| slice_reaches(node, &s.spec)) {
            let pool = &slice.spec.pool;
            let of = found.entry((&slice.spec.driver, &pool.name)).or_default();
            match of.first().map(|s| s.spec.pool.generation.cmp(&pool.generation)) {
                Some(std::cmp::Ordering::Greater) => {}
                Some(std::cmp::Ordering::Less) => *of = vec![slice],
                _ => of.push(slice),
            }
        }
        let mut pools: Vec<Pool> = found.into_iter().filter_map(|(id, s)| self.pool(id, s)).collect();
        // Those that need preparation come last; among equals the order stays.
        pools.sort_by_key(|p| p.devices.iter().any(|d| d.device().binding_conditions.is_some()));
        pools
    }

    /// A pool of those of its slices that a node reaches; `None` where a newer one is about to replace it.
    fn pool(&self, (driver, pool): (&str, &str), mut reached: Vec<&Arc<ResourceSlice>>) -> Option<Pool> {
        let first = &reached.first()?.spec.pool;
        let (generation, count) = (first.generation, first.resource_slice_count);
        let mut out = Pool {
            driver: driver.to_owned(),
            name: pool.to_owned(),
            state: State::Usable,
            devices: Vec::new(),
            elsewhere: Vec::new(),
            counters: Counters::new(),
        };
        let mut rest = Vec::new();
        if reached.len() as i64 != count {
            let same = |s: &&Arc<ResourceSlice>| s.spec.driver == driver && s.spec.pool.name == pool;
            let all: Vec<_> = self.all.iter().filter(same).collect();
            if all.iter().any(|s| s.spec.pool.generation > generation) {
                return None;
            }
            let all: Vec<_> = all.into_iter().filter(|s| s.spec.pool.generation == generation).collect();
            if all.len() as i64 != count {
                out.state = State::Incomplete;
                return Some(out);
            }
            rest = all.into_iter().filter(|s| !reached.iter().any(|r| Arc::ptr_eq(r, s))).collect();
        }
        reached.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let devices = reached.iter().filter(|s| !has_counters(&s.spec));
        out.devices = devices.flat_map(|s| offered(s)).collect();
        out.elsewhere = rest.iter().flat_map(|s| offered(s)).collect();
        if !out.join_counters(&reached) || !out.is_sound() {
            out.state = State::Invalid;
        }
        Some(out)
    }
}

impl Pool {
    /// Collects what devices share; false where a set is there twice.
    fn join_counters(&mut self, slices: &[&Arc<ResourceSlice>]) -> bool {
        let mut sets = HashSet::new();
        for set in slices.iter().flat_map(|s| s.spec.shared_counters.iter().flatten()) {
            if !sets.insert(&set.name) {
                return false;
            }
            for (counter, amount) in &set.counters {
                let amount = amount.value.0.parse().unwrap_or_default();
                self.counters.insert((set.name.clone(), counter.clone()), amount);
            }
        }
        true
    }

    /// Whether its devices have names of their own and share only what there is.
    fn is_sound(&self) -> bool {
        let mut names = HashSet::new();
        let unique = self.devices.iter().all(|d| names.insert(&d.device().name));
        let known = |d: &Offered| {
            d.device().consumes_counters.iter().flatten().all(|of| {
                of.counters.keys().all(|c| self.counters.contains_key(&(of.counter_set.clone(), c.clone())))
                    && self.counters.keys().any(|(set, _)| *set == of.counter_set)
            })
        };
        unique && self.devices.iter().chain(&self.elsewhere).all(known)
    }
}
