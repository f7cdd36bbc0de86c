//! The nftables mode: the kernel replaces Services' addresses, by maps in the tables `ip troupe` and `ip6 troupe`.
//!
//! - [`words`]: the names of what Services share, and how the families differ.
//! - [`compile`]: one Service's plan to its [`compile::Fragment`]. [`base`]: what is there without any Service.
//! - [`rules`]: all fragments together; what changed, as one transaction.
//!
//! Invariants: deleting the tables undoes all of it; a change to one endpoint touches a few elements, never the other
//! Services' rules; each transaction is atomic, so traffic never sees half of it.

pub mod base;
pub mod compile;
pub mod rules;
pub mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;

use actors::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, TraceContext, WrapFuture};

use super::ServiceKey;
use super::conntrack::{self, Due, Flows};
use super::iptables;
use super::listeners::Listeners;
use super::mode::{Carry, CarryError, Teller};
use super::userspace;
use crate::family::Family;
use crate::keeping::applied_under;
use crate::nft::commands::removed;
use crate::nft::{self, RulesError};
use rules::{Rules, Transaction};
use words::Words;

/// The tables, and what the kernel has of them.
pub(super) struct Tables {
    families: &'static [Family],
    /// Where programs of this node take connections, where they do.
    proxied: Option<IpAddr>,
    rules: Rules,
    flows: Flows,
    /// The kernel has what these rules say.
    known: bool,
}

/// What is to be done in the kernel.
pub(super) struct Batch {
    transaction: Transaction,
    flows: Due,
    causes: BTreeMap<ServiceKey, TraceContext>,
}

impl Tables {
    pub(super) fn new(families: &'static [Family], proxied: Option<IpAddr>) -> Self {
        Tables { families, proxied, rules: Rules::default(), flows: Flows::default(), known: false }
    }

    /// What brings the kernel to what is told.
    pub(super) fn take(&mut self, carry: Carry, listeners: &Listeners) -> Result<Batch, CarryError> {
        if carry.all {
            self.rules = Rules::default();
            self.flows.clear();
        } else if !self.known {
            return Err(CarryError::Fresh);
        }
        for (key, plan) in &carry.plans {
            self.rules.set(key, plan, &carry.facts, listeners);
            self.flows.set(key, conntrack::answered(plan, listeners));
        }
        let transaction = match carry.all {
            true => self.rules.take_all(&carry.facts, self.families, self.proxied),
            false => self.rules.take_changes(),
        };
        Ok(Batch { transaction, flows: self.flows.due(carry.all), causes: carry.causes })
    }

    /// What became of a batch.
    pub(super) fn done(&mut self, result: &Result<(), RulesError>) {
        self.known = result.is_ok();
        if self.known {
            self.flows.forgotten();
        }
    }
}

impl Batch {
    /// Does it: all of it, or nothing.
    pub(super) async fn run(self) -> Result<(), RulesError> {
        let Batch { transaction, flows, mut causes } = self;
        causes.retain(|key, _| transaction.keys.contains(key));
        let causes =
            causes.into_iter().map(|(key, cause)| (format!("services/{key}").into(), cause)).collect();
        applied_under("node/proxy", "ApplyRules", causes, nft::apply(&transaction.text)).await?;
        flows.forget().await;
        Ok(())
    }
}

/// Keeps the tables.
pub(super) struct NftablesActor {
    tables: Tables,
    teller: Teller,
}

impl NftablesActor {
    pub(super) fn new(teller: Teller) -> Self {
        NftablesActor { tables: Tables::new(Family::here(), None), teller }
    }
}

impl Actor for NftablesActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.teller.begun();
    }
}

impl Handler<Carry> for NftablesActor {
    type Result = AtomicResponse<Self, Result<(), CarryError>>;
    fn handle(&mut self, carry: Carry, _: &mut Context<Self>) -> Self::Result {
        let all = carry.all;
        let batch = self.tables.take(carry, &Listeners::new());
        let work = async move {
            let done = batch?.run().await;
            if all && done.is_ok() {
                // What a run in another mode left; now, so that Services answer all the while.
                iptables::clean_up().await?;
                userspace::clean_up().await?;
            }
            Ok(done)
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(|result, actor: &mut Self, _| {
            let result: Result<Result<(), RulesError>, CarryError> = result;
            let result = result?;
            actor.tables.done(&result);
            Ok(result?)
        })))
    }
}

/// Removes the tables, whoever made them.
pub async fn clean_up() -> Result<(), RulesError> {
    let text: String = Family::here().iter().map(|family| removed(Words::of(*family).table)).collect();
    nft::apply(&text).await
}
