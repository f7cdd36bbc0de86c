//! How the chains of the iptables mode are called. All names begin with [`OURS`], by which they are found again.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// What all our chains begin with.
pub const OURS: &str = "TROUPE-";

/// Marks our jumps in the kernel's own chains.
pub const COMMENT: &str = "troupe services";

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Addresses are replaced here.
    Nat,
    /// Packets are refused here.
    Filter,
}

impl Table {
    /// Both.
    pub const ALL: [Table; 2] = [Table::Nat, Table::Filter];

    /// As iptables calls it.
    pub fn name(self) -> &'static str {
        match self {
            Table::Nat => "nat",
            Table::Filter => "filter",
        }
    }
}

/// The chains that Services share: each has a rule or two of every Service that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shared {
    /// Addresses of Services lead to their chains.
    Services,
    /// Ports of the node lead to Services' chains.
    NodePorts,
    /// Who comes to these addresses and was not let in is dropped.
    Firewall,
    /// Who comes to these addresses finds nobody.
    Unanswered,
    /// The same for ports of the node.
    UnansweredNodePorts,
}

impl Shared {
    /// Every one of them.
    pub const ALL: [Shared; 5] = [
        Shared::Services,
        Shared::NodePorts,
        Shared::Firewall,
        Shared::Unanswered,
        Shared::UnansweredNodePorts,
    ];

    /// Its table.
    pub fn table(self) -> Table {
        match self {
            Shared::Services | Shared::NodePorts => Table::Nat,
            Shared::Firewall | Shared::Unanswered | Shared::UnansweredNodePorts => Table::Filter,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Shared::Services => "TROUPE-SERVICES",
            Shared::NodePorts => "TROUPE-NODE-PORTS",
            Shared::Firewall => "TROUPE-FIREWALL",
            Shared::Unanswered => "TROUPE-UNANSWERED",
            Shared::UnansweredNodePorts => "TROUPE-UNANSWERED-NP",
        }
    }
}

/// A chain that nothing leads to, with a rule, in each table: who flushes the table, or reloads it, takes it too.
pub const CANARY: &str = "TROUPE-CANARY";

/// The chain that marks packets for masquerading.
pub const MARK: &str = "TROUPE-MARK";

/// The chains that belong to one service port, all in the table `nat`. Each leads only to what comes after it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Own {
    /// Who of what arrives at addresses outside the cluster's ranges is let in.
    Sources,
    /// What arrives at such addresses.
    External,
    /// To the endpoints of the whole cluster.
    Cluster,
    /// To the endpoints on this node.
    Local,
    /// To one endpoint.
    Endpoint,
}

impl Own {
    /// Every one of them.
    pub const ALL: [Own; 5] = [Own::Sources, Own::External, Own::Cluster, Own::Local, Own::Endpoint];

    fn letters(self) -> &'static str {
        match self {
            Own::Sources => "SRC",
            Own::External => "EXT",
            Own::Cluster => "SVC",
            Own::Local => "LOC",
            Own::Endpoint => "SEP",
        }
    }

    /// What a chain is, by its name; none where it is no service port's.
    pub fn of(chain: &str) -> Option<Own> {
        let kind = chain.strip_prefix(OURS)?.split_once('-')?.0;
        Own::ALL.into_iter().find(|own| own.letters() == kind)
    }
}

/// The name of a chain about `key`. iptables takes 28 letters, so it is a digest: 64 bits, which a million chains
/// share without a collision but once in 40,000,000 clusters.
pub fn chain(own: Own, key: &str) -> String {
    let mut name = format!("{OURS}{}-", own.letters());
    for byte in Sha256::digest(key).iter().take(8) {
        let _ = write!(name, "{byte:02X}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let a = chain(Own::Cluster, "default/web/tcp/80");
        assert_eq!(a.len(), 27);
        assert!(a.starts_with("TROUPE-SVC-"));
        assert_ne!(a, chain(Own::Cluster, "default/web/tcp/81"));
        assert_ne!(a, chain(Own::Local, "default/web/tcp/80"));
        assert!(Own::ALL.iter().all(|own| Own::of(&chain(*own, "x")) == Some(*own)));
        assert!(Shared::ALL.iter().all(|s| Own::of(s.name()).is_none()));
        assert!(Shared::ALL.iter().all(|s| s.name().len() <= 28 && s.name().starts_with(OURS)));
    }
}
