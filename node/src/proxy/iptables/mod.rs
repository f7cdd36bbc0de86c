//! The iptables mode: the kernel replaces Services' addresses, by chains of iptables.
//!
//! Much as kube-proxy does it: a chain for each service port picks an endpoint's chain by chance, or by the endpoints'
//! lists of recent clients where there is affinity (of which the kernel keeps a hundred an endpoint). The first packet
//! of each connection passes a list of all Services' addresses; that is the price of this mode.
//!
//! - [`names`]: how chains are called. [`compile`]: one Service's plan to its [`compile::Fragment`].
//! - [`restore`]: all fragments together; what changed, as input of `iptables-restore`.
//!
//! Somebody else may flush the tables (a firewall that is reloaded): a canary chain in each is looked at every now and
//! then, and when its rule is gone everything is written anew.
//!
//! Invariants: only chains that change are written; everything of ours is found by the names of its chains.

pub mod compile;
pub mod names;
pub mod restore;

use std::time::Duration;

use actors::{Actor, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, WrapFuture};

use super::conntrack::{self, Flows};
use super::listeners::Listeners;
use super::mode::{Carry, CarryError, Teller};
use super::nftables;
use super::userspace;
use crate::family::Family;
use crate::keeping::applied_under;
use crate::nft::{self, RulesError};
use restore::{Rules, Transaction};

/// Seconds that another program may hold iptables' lock.
const LOCK_SECONDS: &str = "10";

fn program(family: Family, what: &str) -> String {
    let name = if family == Family::V4 { "iptables" } else { "ip6tables" };
    format!("{name}-{what}")
}

/// What there is in all tables. Asked for in one go: for each table that is asked for by name, the kernel goes through the
/// chains of all of them.
async fn save(family: Family) -> Result<String, RulesError> {
    nft::run(&program(family, "save"), &[], "").await
}

async fn restore(family: Family, runs: &[String]) -> Result<(), RulesError> {
    for run in runs {
        nft::run(&program(family, "restore"), &["--noflush", "-w", LOCK_SECONDS], run).await?;
    }
    Ok(())
}

/// Whether the canary of each table lives. One that cannot be looked at counts as alive: what is wrong then shows with
/// the next change.
async fn canaries_live(families: Vec<Family>) -> bool {
    for family in families {
        let program = if family == Family::V4 { "iptables" } else { "ip6tables" };
        for table in names::Table::ALL {
            let arguments = ["-w", LOCK_SECONDS, "-t", table.name(), "-S", names::CANARY];
            match nft::run(program, &arguments, "").await {
                Ok(listing) if !restore::lives(&listing) => return false,
                Err(RulesError::Refused { .. }) => return false,
                _ => {}
            }
        }
    }
    true
}

/// Keeps the chains.
pub(super) struct IptablesActor {
    teller: Teller,
    rules: Vec<Rules>,
    flows: Flows,
    /// The kernel has what these rules say.
    known: bool,
    look_interval: Duration,
}

impl IptablesActor {
    pub(super) fn new(teller: Teller, look_interval: Duration) -> Self {
        IptablesActor { teller, rules: Vec::new(), flows: Flows::default(), known: false, look_interval }
    }

    /// Looks at the canaries every now and then, for as long as the actor lives.
    fn look(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.look_interval, |actor, ctx| {
            // What is not known is written anew anyway.
            let families = actor.rules.iter().filter(|rules| actor.known && !rules.is_empty());
            let families: Vec<Family> = families.map(Rules::family).collect();
            ctx.run(canaries_live(families), |actor, live, ctx| {
                if !live && actor.known {
                    tracing::warn!("somebody flushed the Services' rules; they are written anew");
                    actor.known = false;
                    actor.teller.ask();
                }
                actor.look(ctx);
            });
        });
    }

    /// Takes what is told, and says what there is to do.
    fn take(&mut self, carry: &Carry) -> Result<(), CarryError> {
        if carry.all {
            self.rules = Family::here().iter().map(|family| Rules::new(*family)).collect();
            self.flows.clear();
        } else if !self.known {
            return Err(CarryError::Fresh);
        }
        for (key, plan) in &carry.plans {
            for rules in &mut self.rules {
                rules.set(key, plan, &carry.facts);
            }
            self.flows.set(key, conntrack::answered(plan, &Listeners::new()));
        }
        Ok(())
    }
}

/// Brings the kernel to what is told; gives the rules back.
async fn bring(rules: &mut [Rules], carry: Carry) -> Result<(), CarryError> {
    let mut causes = carry.causes;
    for rules in rules {
        let family = rules.family();
        let Transaction { runs, keys } = if carry.all {
            let saved = match save(family).await {
                // Without Services of a family, its program need not be there.
                Err(_) if family == Family::V6 && rules.is_empty() => continue,
                saved => saved?,
            };
            rules.take_all(&carry.facts, &saved)
        } else {
            rules.take_changes()
        };
        let causes =
            keys.iter().filter_map(|key| Some((format!("services/{key}").into(), causes.remove(key)?)));
        applied_under("node/proxy", "ApplyRules", causes.collect(), restore(family, &runs)).await?;
    }
    if carry.all {
        // What a run in another mode left; now, so that Services answer all the while.
        nftables::clean_up().await?;
        userspace::clean_up().await?;
    }
    Ok(())
}

impl Actor for IptablesActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.teller.begun();
        self.look(ctx);
    }
}

impl Handler<Carry> for IptablesActor {
    type Result = AtomicResponse<Self, Result<(), CarryError>>;
    fn handle(&mut self, carry: Carry, _: &mut Context<Self>) -> Self::Result {
        let taken = self.take(&carry);
        // Not known until it is done, whatever ends it.
        self.known = false;
        let mut rules = std::mem::take(&mut self.rules);
        let flows = self.flows.due(carry.all);
        let work = async move {
            let result = match taken {
                Ok(()) => bring(&mut rules, carry).await,
                Err(fresh) => Err(fresh),
            };
            if result.is_ok() {
                flows.forget().await;
            }
            (rules, result)
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(|(rules, result), actor: &mut Self, _| {
            actor.rules = rules;
            actor.known = result.is_ok();
            if actor.known {
                actor.flows.forgotten();
            }
            result
        })))
    }
}

/// Removes every chain of ours. Without the program there are none.
pub async fn clean_up() -> Result<(), RulesError> {
    for family in Family::here() {
        let saved = match save(*family).await {
            Err(error) if error.is_missing() => continue,
            // A kernel that has no tables of this family has none of ours either.
            Err(RulesError::Refused { .. }) if *family == Family::V6 => continue,
            saved => saved?,
        };
        restore(*family, &restore::end(&saved)).await?;
    }
    Ok(())
}
