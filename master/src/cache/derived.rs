//! What is computed from all objects of some kinds, once per change of them: the catalog of served kinds,
//! compiled policies, documents.
//!
//! A value belongs to a state of its kinds and is made when somebody first asks for it after a change. Nothing
//! runs, and nothing is held, for values that nobody asks for.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{Cache, Snapshot};

/// A value computed from the objects of some kinds.
pub trait Derived: Send + Sync + Sized + 'static {
    /// Group and plural of the kinds that it is computed from.
    const KINDS: &'static [(&'static str, &'static str)];

    /// Computes it; what did not change since `before` may be taken over.
    fn derive(before: Option<&Self>, snapshot: &Snapshot) -> Self;
}

/// A value of any type, and the revision of its kinds' last change.
type Dated = (u64, Arc<dyn Any + Send + Sync>);

/// The values, by type, each with the revision of its kinds' last change.
#[derive(Default)]
pub(super) struct Memo {
    values: RwLock<HashMap<TypeId, Dated>>,
    /// Held while a value is made, so that no two threads make the same one.
    making: Mutex<()>,
}

impl Memo {
    fn get<D: Derived>(&self) -> Option<(u64, Arc<D>)> {
        let (revision, value) = self.values.read().get(&TypeId::of::<D>()).cloned()?;
        Some((revision, value.downcast().ok()?))
    }
}

impl Cache {
    /// The value that belongs to the newest snapshot.
    pub fn derived<D: Derived>(&self) -> Arc<D> {
        self.derived_at(&self.snapshot())
    }

    /// The value that belongs to a snapshot, or to a newer one.
    pub fn derived_at<D: Derived>(&self, snapshot: &Snapshot) -> Arc<D> {
        let wanted = D::KINDS.iter().map(|(g, r)| snapshot.kind_revision(g, r)).max().unwrap_or(0);
        let memo = &self.shared.memo;
        let good = |found: Option<(u64, Arc<D>)>| found.filter(|(at, _)| *at >= wanted).map(|(_, d)| d);
        if let Some(known) = good(memo.get()) {
            return known;
        }
        let _making = memo.making.lock();
        let before = memo.get::<D>();
        if let Some(known) = good(before.clone()) {
            return known;
        }
        let made = Arc::new(D::derive(before.as_ref().map(|(_, d)| &**d), snapshot));
        memo.values.write().insert(TypeId::of::<D>(), (wanted, made.clone()));
        made
    }
}
