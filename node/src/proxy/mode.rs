//! The modes: how plans are carried out, and what is said to whoever does it.
//!
//! Each mode is an actor that takes [`Carry`]. It remembers what it brought the node to; rebuilt, it knows nothing of
//! that and asks for everything [`Again`].

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use actors::{Actor, AskError, Context, Handler, Props, Recipient, RestartPolicy, TraceContext, message};
use serde::{Deserialize, Serialize};

use super::ServiceKey;
use super::facts::NodeFacts;
use super::handle::ProxyConfig;
use super::iptables::IptablesActor;
use super::nftables::NftablesActor;
use super::plan::ServicePlan;
use super::userspace::UserspaceActor;
use crate::network::netlink::NetlinkFailure;
use crate::nft::RulesError;

/// How Services' addresses lead to their endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// By the kernel, with maps of nftables: what a change costs does not grow with the cluster.
    #[default]
    Nftables,
    /// By the kernel, with chains of iptables, for kernels without nftables' maps. It remembers a hundred clients an endpoint
    /// for affinity: more is a parameter of the kernel's module (xt_recent ip_list_tot), which nobody can change while it
    /// is loaded.
    Iptables,
    /// By programs of this node, which take TCP connections and UDP packets and hand them on; SCTP is left to the
    /// kernel.
    Userspace,
}

/// What is to be so from now on.
pub struct Carry {
    /// What the node is.
    pub facts: Arc<NodeFacts>,
    /// These are all plans there are: whatever else is left of any Service goes.
    pub all: bool,
    /// Plans that changed; one without ports means that nothing is left of its Service.
    pub plans: Vec<(ServiceKey, ServicePlan)>,
    /// Who changed them.
    pub causes: BTreeMap<ServiceKey, TraceContext>,
}
message!(Carry => Result<(), CarryError>);

/// A mode was rebuilt: it is to be told everything again.
pub struct Again;
message!(Again => (), |_m| Some("services".into()), coalesce);

/// Why plans were not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// Changes mean nothing to who does not know what they change.
    #[error("the mode was rebuilt and is to be told everything")]
    Fresh,
    /// The kernel does not have the rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The address at which programs take connections.
    #[error(transparent)]
    Address(#[from] NetlinkFailure),
    /// A port at which programs take connections.
    #[error("no socket for {key} at {ip}: {source}; are file descriptors short (ulimit -n)?")]
    Socket {
        /// The service port.
        key: String,
        /// At which address.
        ip: std::net::IpAddr,
        /// Why.
        source: std::io::Error,
    },
    /// It was given up, or takes too long.
    #[error("the mode does not answer: {0}")]
    Unanswered(#[from] AskError),
}

/// Whom a mode asks to be told everything again.
pub(super) struct Teller {
    to: Recipient<Again>,
    /// The first life is told everything anyway.
    reborn: bool,
}

impl Teller {
    /// At a mode's start: asks where it was rebuilt.
    pub(super) fn begun(&self) {
        if self.reborn {
            self.ask();
        }
    }

    /// Asks.
    pub(super) fn ask(&self) {
        // Where there is no room, changes come soon, and are answered that all is wanted.
        let _ = self.to.try_tell(Again);
    }
}

/// Starts a mode's actor as a child.
pub(super) fn start<A>(
    config: &ProxyConfig,
    again: &Recipient<Again>,
    ctx: &mut Context<A>,
) -> Recipient<Carry>
where
    A: Actor<Context = Context<A>>,
{
    let (scheduler, look_interval) = (config.scheduler, config.look_interval);
    match config.mode {
        ProxyMode::Nftables => child("node/proxy/nftables", again, ctx, NftablesActor::new),
        ProxyMode::Iptables => {
            child("node/proxy/iptables", again, ctx, move |teller| IptablesActor::new(teller, look_interval))
        }
        ProxyMode::Userspace => {
            child("node/proxy/userspace", again, ctx, move |teller| UserspaceActor::new(scheduler, teller))
        }
    }
}

fn child<A, M>(
    class: &'static str,
    again: &Recipient<Again>,
    ctx: &mut Context<A>,
    make: impl Fn(Teller) -> M + Send + 'static,
) -> Recipient<Carry>
where
    A: Actor<Context = Context<A>>,
    M: Actor<Context = Context<M>> + Handler<Carry>,
{
    let again = again.clone();
    let reborn = Cell::new(false);
    let props = Props::new(class, move || make(Teller { to: again.clone(), reborn: reborn.replace(true) }));
    ctx.spawn_child(props.capacity(8).restart(RestartPolicy::Permanent)).recipient()
}
