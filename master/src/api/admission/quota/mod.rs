//! ResourceQuota: a namespace has only so much of everything.
//!
//! What a write costs is put on the quotas in the same transaction as the object, and the transaction demands
//! that the quotas are as they were read: whatever many masters do at the same time, none is overrun. Within
//! one master, writers to a limited namespace take turns ([`Turns`]), so that they don't lose to each other
//! again and again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use protocol::{ApiError, Quantity};
use serde_json::Value;

use super::Write;
use super::config::AdmissionConfig;
use crate::api::kinds::totals::{self, Amounts, amounts};
use crate::api::object::{self, object_mut};
use crate::api::registry::{Subject, seal};
use crate::cache::{Cache, Stored};
use crate::store::{Compare, Op, Txn};

mod claims;
mod limited;
pub mod pods;
pub mod usage;

pub use limited::Limited;

/// Changes of quotas that go with a write.
#[derive(Default)]
pub struct Charge {
    changed: Vec<(Compare, Op)>,
}

impl Charge {
    /// Puts the changes into the write's transaction.
    pub fn add_to(self, txn: &mut Txn) {
        for (compare, op) in self.changed {
            txn.compares.push(compare);
            txn.ops.push(op);
        }
    }
}

/// Whether quotas look at a write at all.
pub fn concerns(config: &AdmissionConfig, write: &Write<'_>) -> bool {
    let namespace = write.subject.namespace;
    if !config.is_on("ResourceQuota") || !handles(write) {
        return false;
    }
    !config.limited.is_empty() || write.snapshot.list("", "resourcequotas", namespace).next().is_some()
}

fn handles(write: &Write<'_>) -> bool {
    if write.subject.namespace.is_empty()
        || write.subject.stored.group == "events.k8s.io"
        || write.is("", "events")
    {
        return false;
    }
    match (write.subresource(), write.creates()) {
        ("", true) => true,
        ("", false) => {
            write.is("", "services")
                || write.is("", "persistentvolumeclaims")
                || write.is(claims::KIND.0, claims::KIND.1)
        }
        ("resize", false) => write.is("", "pods"),
        _ => false,
    }
}

/// What a write costs the quotas of its namespace, or why they don't allow it.
pub fn charge(
    config: &AdmissionConfig,
    cache: &Cache,
    write: &Write<'_>,
    value: &Value,
) -> Result<Charge, ApiError> {
    let mut charge = Charge::default();
    if !concerns(config, write) {
        return Ok(charge);
    }
    let (group, plural) = (write.subject.stored.group, write.subject.stored.plural);
    let forbidden = |why: String| Err(write.forbidden(object::name_so_far(value), &why));
    let view = usage::View::of(cache, write.snapshot);
    let mut interested = Vec::new();
    for stored in write.snapshot.list("", "resourcequotas", write.subject.namespace) {
        let quota = stored.value().map_err(ApiError::internal)?;
        let hard = amounts(&quota["status"]["hard"]);
        let counted: Vec<String> =
            hard.keys().filter(|n| usage::counts(group, plural, n, &view)).cloned().collect();
        if counted.is_empty() || !usage::in_scopes(group, plural, &quota, value) {
            continue;
        }
        let name = object::name(&quota).to_owned();
        if (group, plural) == ("", "pods")
            && let Some(missing) = pods::unsaid(value, &counted)
        {
            return forbidden(format!("failed quota: {name}: {missing}"));
        }
        let used = amounts(&quota["status"]["used"]);
        if counted.iter().any(|n| !used.contains_key(n)) {
            return forbidden(format!("status unknown for quota: {name}, resources: {}", counted.join(",")));
        }
        interested.push((stored, quota, name, hard, used));
    }
    let mut delta = usage::usage(group, plural, value, &view);
    let negative: Vec<&str> =
        delta.iter().filter(|(_, q)| q.is_negative()).map(|(n, _)| n.as_str()).collect();
    if !negative.is_empty() {
        return forbidden(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let limited = limited::consumed(&config.limited, group, plural, &delta);
    let covered = |name: &&str| interested.iter().any(|(_, _, _, hard, _)| hard.contains_key(*name));
    let uncovered: Vec<&str> = limited.into_iter().filter(|name| !covered(name)).collect();
    if !uncovered.is_empty() {
        return forbidden(format!("insufficient quota to consume: {}", uncovered.join(",")));
    }
    if let Some(old) = write.old {
        let before = usage::usage(group, plural, old, &view);
        for (name, amount) in &mut delta {
            let less = *amount - before.get(name).copied().unwrap_or_default();
            *amount = if less.is_negative() { Quantity::default() } else { less };
        }
    }
    delta.retain(|_, amount| !amount.is_zero());
    for (stored, mut quota, name, hard, used) in interested {
        let requested: Amounts =
            delta.iter().filter(|(n, _)| hard.contains_key(*n)).map(|(n, q)| (n.clone(), *q)).collect();
        let mut new = used.clone();
        totals::add(&mut new, &requested);
        let exceeded: Vec<&str> =
            requested.keys().map(String::as_str).filter(|n| new.get(*n) > hard.get(*n)).collect();
        if !exceeded.is_empty() {
            return forbidden(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                shown(&requested, &exceeded),
                shown(&used, &exceeded),
                shown(&hard, &exceeded)
            ));
        }
        if requested.is_empty() {
            continue;
        }
        let map = new.into_iter().map(|(n, q)| (n, Value::from(q.to_string())));
        *object_mut(&mut quota, &["status", "used"]) = map.collect();
        charge.changed.push(rewritten(stored, quota)?);
    }
    Ok(charge)
}

fn shown(amounts: &Amounts, names: &[&str]) -> String {
    let one = |n: &&str| amounts.get(*n).map(|q| format!("{n}={q}"));
    names.iter().filter_map(one).collect::<Vec<_>>().join(",")
}

fn rewritten(stored: &Arc<Stored>, quota: Value) -> Result<(Compare, Op), ApiError> {
    let resource = protocol::resources::find("", "v1", "resourcequotas")
        .ok_or_else(|| ApiError::internal("no table of quotas"))?;
    let subject = Subject::new(resource, &stored.meta.namespace, &stored.meta.name)?;
    let (_, json) = seal(&subject, quota);
    Ok((
        Compare { key: subject.key(), mod_revision: stored.revision },
        Op::Put { key: subject.key(), value: json, lease: None },
    ))
}

/// Whose turn it is to write to a limited namespace.
#[derive(Default)]
pub struct Turns {
    by_namespace: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits for a turn; it ends when what is returned is dropped.
    pub async fn wait(&self, namespace: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.by_namespace.lock();
            match turns.get(namespace).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    // What nobody waits for any more needs no place.
                    turns.retain(|_, turn| turn.strong_count() > 0);
                    let turn = Arc::default();
                    turns.insert(namespace.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests;
