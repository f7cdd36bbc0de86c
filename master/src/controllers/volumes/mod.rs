//! Persistent volumes and claims: binding them to each other, giving volumes back, and keeping both while
//! they are in use.
//!
//! [`matching`] is the thinking. [`claims`] and [`releases`] are the binder, one for each side; they meet only
//! in the objects, and each write demands the revision that it was decided on. [`protection`] holds the
//! finalizers, [`ephemeral`] makes the claims that pods bring along, [`expansion`] says who is to make a volume larger.

pub mod claims;
pub mod ephemeral;
pub mod expansion;
pub mod matching;
pub mod migration;
pub mod protection;
pub mod releases;

/// The identity of both sides of the binder.
const BINDER: &str = "persistent-volume-binder";
/// The component that the binder's events come from.
const BINDER_COMPONENT: &str = "persistentvolume-controller";
/// Annotation of a claim whose binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of what the binder has bound, not the user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation of volumes that a provisioner made, with its name.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Annotation by which the scheduler says for which node a claim is to be provisioned.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes whose volumes are made by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
