use super::chains::spelt;
use super::*;
use crate::policy::rules::{Direction, Line, Peers, Ports, Protocol};

/// What a kernel would have after transactions; it refuses what a kernel would refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Model {
    sets: BTreeMap<String, (String, BTreeMap<String, String>)>,
    chains: BTreeMap<String, Vec<String>>,
}

impl Model {
    /// Takes a transaction.
    pub(in crate::policy) fn take(&mut self, text: &str) {
        for line in text.lines() {
            self.command(line);
        }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[1] == "table" {
            if words[0] == "delete" {
                *self = Model::default();
            }
            return;
        }
        assert_eq!(words[2..4].join(" "), TABLE, "{line}");
        let name = words[4].to_owned();
        let rest = words[5..].join(" ");
        let braced = rest.trim_start_matches("{ ").trim_end_matches(" }").to_owned();
        match (words[0], words[1]) {
            ("add", "set" | "map") => {
                assert!(self.sets.insert(name, (braced, BTreeMap::new())).is_none(), "twice: {line}");
            }
            ("delete", "set" | "map") => {
                let used =
                    self.chains.values().flatten().any(|r| r.split(' ').any(|w| w == format!("@{name}")));
                assert!(!used, "in use: {line}");
                assert!(self.sets.remove(&name).is_some(), "not there: {line}");
            }
            ("add", "chain") => assert!(self.chains.insert(name, Vec::new()).is_none(), "twice: {line}"),
            ("flush", "chain") => self.chains.get_mut(&name).expect(line).clear(),
            ("delete", "chain") => {
                let targets =
                    self.chains.values().flatten().chain(self.sets.values().flat_map(|s| s.1.values()));
                let used = targets.filter_map(|t| t.rsplit(' ').next()).any(|target| target == name);
                assert!(!used, "in use: {line}");
                assert!(self.chains.remove(&name).is_some_and(|rules| rules.is_empty()), "has rules: {line}");
            }
            ("add", "rule") => {
                for set in rest.split(' ').filter_map(|w| w.strip_prefix('@')) {
                    assert!(self.sets.contains_key(set), "no such set: {line}");
                }
                if let Some(target) = rest.strip_prefix("jump ") {
                    assert!(self.chains.contains_key(target), "no such chain: {line}");
                }
                self.chains.get_mut(&name).expect(line).push(rest);
            }
            ("add", "element") => {
                for element in braced.split(", ") {
                    let (key, value) = element.split_once(" : ").unwrap_or((element, ""));
                    if let Some(target) = value.strip_prefix("goto ") {
                        assert!(self.chains.contains_key(target), "no such chain: {line}");
                    }
                    let elements = &mut self.sets.get_mut(&name).expect(line).1;
                    assert!(elements.insert(key.to_owned(), value.to_owned()).is_none(), "twice: {line}");
                }
            }
            ("delete", "element") => {
                for key in braced.split(", ") {
                    let elements = &mut self.sets.get_mut(&name).expect(line).1;
                    assert!(elements.remove(key).is_some(), "not there: {line}");
                }
            }
            _ => panic!("not understood: {line}"),
        }
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 244, 0, last])
}

#[test]
fn one_address_is_one_element() {
    let mut table = Table::new(&[Family::V4]);
    let set = SetName::Pods("0a".into());
    table.add_set(&set);
    (1..200).for_each(|n| table.set_element(&set, address(n).into(), true));
    table.take_all("troupe0");
    table.set_element(&set, address(7).into(), false);
    table.set_element(&set, address(201).into(), true);
    assert_eq!(
        table.take_changes(),
        "delete element inet troupe-policy pods/0a { 10.244.0.7 }\n\
         add element inet troupe-policy pods/0a { 10.244.0.201 }\n"
    );
    // What comes and goes between two transactions leaves no trace.
    table.set_element(&set, address(7).into(), true);
    table.set_element(&set, address(7).into(), false);
    table.remove_set(&set);
    table.add_set(&set);
    (1..202).filter(|n| *n != 7 && *n != 200).for_each(|n| table.set_element(&set, address(n).into(), true));
    assert_eq!(table.take_changes(), "");
}

#[test]
fn rules_are_spelt() {
    let check = |direction: Direction, peers: Peers, ports: Ports, expected: &str| {
        let found = spelt(direction, &Line { peers, ports }, &Family::ALL);
        assert_eq!(found.join("\n"), expected);
    };
    let (a, b) = (address(0), address(63));
    check(Direction::Ingress, Peers::Any, Ports::Any, "accept");
    check(
        Direction::Ingress,
        Peers::Addresses(vec![(a, b), (address(80), address(80))]),
        Ports::Numbers(Protocol::Tcp, vec![(80, 80), (8000, 9000)]),
        "ip saddr { 10.244.0.0-10.244.0.63, 10.244.0.80 } tcp dport { 80, 8000-9000 } accept",
    );
    let pods = crate::policy::rules::PodPeers { id: "0a".into(), any: Vec::new() };
    check(
        Direction::Egress,
        Peers::Pods(pods),
        Ports::Named(Protocol::Udp, "dns".into()),
        "ip daddr @pods/0a ip daddr . udp dport @ports/udp/dns accept\n\
         ip6 daddr @ip6-pods/0a ip6 daddr . udp dport @ip6-ports/udp/dns accept",
    );
    check(Direction::Egress, Peers::Any, Ports::Protocol(Protocol::Sctp), "meta l4proto sctp accept");
    let block = |text: &str| IpAddr::V6(text.parse().unwrap());
    check(
        Direction::Ingress,
        Peers::Addresses(vec![(a, a), (block("fd00::"), block("fd00::ff"))]),
        Ports::Any,
        "ip saddr { 10.244.0.0 } accept\nip6 saddr { fd00::-fd00::ff } accept",
    );
}

#[test]
fn addresses_of_ipv6_lie_in_sets_of_their_own() {
    let mut table = Table::new(&Family::ALL);
    let whole = table.take_all("troupe0");
    assert!(
        whole.contains("add map inet troupe-policy ip6-isolated-egress { type ipv6_addr : verdict; }"),
        "{whole}"
    );
    assert!(!whole.contains("meta nfproto ipv6"), "{whole}");
    let v6: IpAddr = "fd00::7".parse().unwrap();
    let set = SetName::Ports(Protocol::Tcp, "web".into());
    table.add_set(&set);
    table.set_element(&set, Element { address: v6, port: 80 }, true);
    table.set_chain(ChainName::Pod(Direction::Egress, v6), Some(Chain::Asks(vec![])));
    table.set_element(&SetName::Isolated(Direction::Egress), v6.into(), true);
    assert_eq!(
        table.take_changes(),
        "add set inet troupe-policy ports/tcp/web { type ipv4_addr . inet_service; }\n\
         add set inet troupe-policy ip6-ports/tcp/web { type ipv6_addr . inet_service; }\n\
         add chain inet troupe-policy egress/fd00--7\n\
         add rule inet troupe-policy egress/fd00--7 counter drop\n\
         add element inet troupe-policy ip6-isolated-egress { fd00::7 : goto egress/fd00--7 }\n\
         add element inet troupe-policy ip6-ports/tcp/web { fd00::7 . 80 }\n"
    );
}
