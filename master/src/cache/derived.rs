//! What is computed from all objects of some kinds, once per change of them: the catalog of served kinds,
//! compiled policies, documents.
//!
//! A value belongs to a state of its kinds and is made when somebody first asks for it after a change. Nothing
//! runs, and nothing is held, for values that nobody asks for.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Cache, Snapshot};

/// A value computed from the objects of some kinds.
pub trait Derived: Send + Sync + Sized + 'static {
    /// Group and plural of the kinds that it is computed from.
    const KINDS: &'static [(&'static str, &'static str)];

    /// Computes it; what did not change since `before` may be taken over.
    fn derive(before: Option<&Self>, snapshot: &Snapshot) -> Self;
}

/// A value of any type.
struct Dated {
    /// The revision of its kinds' last change.
    revision: u64,
    /// The last snapshot's revision that it was found good for: between writes nobody has to look for its kinds.
    shown: AtomicU64,
    value: Arc<dyn Any + Send + Sync>,
}

/// The values, by type.
#[derive(Default)]
pub(super) struct Memo {
    values: RwLock<HashMap<TypeId, Dated>>,
    /// Held while a value is made, so that no two threads make the same one.
    making: Mutex<()>,
}

impl Memo {
    /// The value, whatever it belongs to.
    fn last<D: Derived>(&self) -> Option<Arc<D>> {
        self.values.read().get(&TypeId::of::<D>())?.value.clone().downcast().ok()
    }

    /// The value, if it belongs to a snapshot or to a newer one.
    fn good<D: Derived>(&self, snapshot: &Snapshot) -> Option<Arc<D>> {
        let values = self.values.read();
        let dated = values.get(&TypeId::of::<D>())?;
        if dated.shown.load(Ordering::Relaxed) != snapshot.revision() {
            if dated.revision < changed::<D>(snapshot) {
                return None;
            }
            dated.shown.store(snapshot.revision(), Ordering::Relaxed);
        }
        dated.value.clone().downcast().ok()
    }
}

/// The revision of the last change of a value's kinds.
fn changed<D: Derived>(snapshot: &Snapshot) -> u64 {
    D::KINDS.iter().map(|(group, plural)| snapshot.kind_revision(group, plural)).max().unwrap_or(0)
}

impl Cache {
    /// The value that belongs to the newest snapshot.
    pub fn derived<D: Derived>(&self) -> Arc<D> {
        self.derived_at(&self.snapshot())
    }

    /// The value that belongs to a snapshot, or to a newer one.
    pub fn derived_at<D: Derived>(&self, snapshot: &Snapshot) -> Arc<D> {
        let memo = &self.shared.memo;
        if let Some(known) = memo.good(snapshot) {
            return known;
        }
        let _making = memo.making.lock();
        if let Some(known) = memo.good(snapshot) {
            return known;
        }
        let made = Arc::new(D::derive(memo.last::<D>().as_deref(), snapshot));
        let dated = Dated {
            revision: changed::<D>(snapshot),
            shown: AtomicU64::new(snapshot.revision()),
            value: made.clone(),
        };
        memo.values.write().insert(TypeId::of::<D>(), dated);
        made
    }
}
