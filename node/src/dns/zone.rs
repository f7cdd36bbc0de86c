//! The Kubernetes DNS specification (1.1.0): a name and a type in, records out. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::table::{Kind, Port, Service, Table, Target, undashed};

/// How long clients may keep a record, s.
pub const RECORD_TTL_S: u32 = 30;
/// How long clients may keep that there is none, s. Short: services appear.
pub const NEGATIVE_TTL_S: u32 = 5;
/// The version of the specification, as `dns-version` tells.
const SPECIFICATION: &str = "1.1.0";

/// What the cluster knows of a name.
#[expect(clippy::large_enum_variant, reason = "an answer is taken apart where it is made, and never kept")]
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Records of the wanted type, and others that go along.
    Found {
        /// What was asked for.
        answers: Vec<Record>,
        /// What the answers' targets stand for.
        additionals: Vec<Record>,
    },
    /// The name is another name's alias.
    Alias(Record, Name),
    /// The name exists, without records of that type.
    NoData,
    /// The name does not exist.
    NoName,
    /// The table was not filled yet.
    NotReady,
    /// Not the cluster's to say.
    Elsewhere,
}

/// The cluster's domain.
pub struct Zone {
    domain: Name,
    labels: Vec<String>,
    /// The address of the DNS service itself.
    own: IpAddr,
    verify_pods: bool,
}

impl Zone {
    /// A zone for `domain`, served at `own`. Pod records are answered for any address, unless
    /// `verify_pods`: then only for those that a pod has.
    pub fn new(domain: &str, own: IpAddr, verify_pods: bool) -> Option<Zone> {
        let mut domain = Name::from_ascii(domain.to_ascii_lowercase()).ok().filter(|d| !d.is_root())?;
        domain.set_fqdn(true);
        let labels = labels(&domain)?;
        Some(Zone { domain, labels, own, verify_pods })
    }

    /// The start of authority, for answers without records.
    pub fn authority(&self, ttl_s: u32) -> Record {
        let below = |label: &str| self.below(label).unwrap_or_else(|| self.domain.clone());
        // Tables on different nodes fill in their own time, so no serial could be right on all.
        let soa = SOA::new(below("ns.dns"), below("hostmaster"), 1, 7200, 1800, 86400, NEGATIVE_TTL_S);
        Record::from_rdata(self.domain.clone(), ttl_s, RData::SOA(soa))
    }

    /// Answers a query.
    pub fn answer(&self, table: &Table, name: &Name, kind: RecordType) -> Answer {
        if let Some(address) = reverse(name) {
            return self.pointer(table, name, address, kind);
        }
        if !self.domain.zone_of(name) {
            return Answer::Elsewhere;
        }
        // A label that is no text is no label of ours.
        let Some(labels) = labels(name) else { return Answer::NoName };
        let Some(below) = labels.len().checked_sub(self.labels.len()) else { return Answer::NoName };
        let path: Vec<&str> = labels[..below].iter().rev().map(String::as_str).collect();
        match path.as_slice() {
            [] => match kind {
                RecordType::SOA => found(vec![self.authority(RECORD_TTL_S)]),
                RecordType::NS => match self.below("ns.dns") {
                    Some(server) => Answer::Found {
                        additionals: addresses(&server, RecordType::ANY, &[self.own]),
                        answers: vec![record(name, RData::NS(NS(server)))],
                    },
                    None => Answer::NoData,
                },
                _ => Answer::NoData,
            },
            ["dns-version"] => match kind {
                RecordType::TXT | RecordType::ANY => {
                    found(vec![record(name, RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()])))])
                }
                _ => Answer::NoData,
            },
            ["dns"] | ["svc"] | ["pod"] => Answer::NoData,
            ["dns", "ns"] => found(addresses(name, kind, &[self.own])),
            ["svc" | "pod", ..] if !table.is_ready() => Answer::NotReady,
            ["svc" | "pod", namespace] => {
                if table.has_namespace(namespace) {
                    Answer::NoData
                } else {
                    Answer::NoName
                }
            }
            ["svc", namespace, service, rest @ ..] => match table.service(namespace, service) {
                Some(found) => self.service(table, (namespace, service), found, rest, name, kind),
                None => Answer::NoName,
            },
            ["pod", namespace, label] => {
                let Some(address) = undashed(label) else { return Answer::NoName };
                let known = if self.verify_pods && table.has_listed(Kind::Pod) {
                    table.has_pod(namespace, address)
                } else {
                    !self.verify_pods && table.has_namespace(namespace)
                };
                if known { found(addresses(name, kind, &[address])) } else { Answer::NoName }
            }
            _ => Answer::NoName,
        }
    }

    /// Names at and below a service: itself, `_protocol`, `_port._protocol`, and its endpoints.
    fn service(
        &self,
        table: &Table,
        (namespace, service_name): (&str, &str),
        service: &Service,
        rest: &[&str],
        name: &Name,
        kind: RecordType,
    ) -> Answer {
        if let Target::External(target) = &service.target {
            return if rest.is_empty() { external(name, kind, target) } else { Answer::NoName };
        }
        let place = format!("{service_name}.{namespace}.svc");
        match rest {
            [] => match (&service.target, kind) {
                (_, RecordType::SRV) => {
                    self.servers(table, (namespace, service_name), service, &place, name, |_| true)
                }
                (Target::Virtual(own), _) => found(addresses(name, kind, own)),
                _ => {
                    let all: BTreeSet<IpAddr> = table
                        .endpoints(namespace, service_name)
                        .into_iter()
                        .flat_map(|(_, endpoint)| endpoint.addresses.iter().copied())
                        .collect();
                    found(addresses(name, kind, &all.into_iter().collect::<Vec<_>>()))
                }
            },
            [protocol] if protocol.starts_with('_') => {
                let protocol = &protocol[1..];
                let mut ports = ports(table, namespace, service_name, service);
                if ports.any(|p| p.protocol == protocol && !p.name.is_empty()) {
                    Answer::NoData
                } else {
                    Answer::NoName
                }
            }
            [protocol, port] if protocol.starts_with('_') && port.starts_with('_') => {
                let wanted =
                    |p: &Port| !p.name.is_empty() && p.protocol == protocol[1..] && p.name == port[1..];
                if !ports(table, namespace, service_name, service).any(wanted) {
                    return Answer::NoName;
                }
                match kind {
                    RecordType::SRV | RecordType::ANY => {
                        self.servers(table, (namespace, service_name), service, &place, name, wanted)
                    }
                    _ => Answer::NoData,
                }
            }
            [label] => {
                let mut own = BTreeSet::new();
                for (_, endpoint) in table.endpoints(namespace, service_name) {
                    own.extend(endpoint.addresses.iter().filter(|a| endpoint.label(**a) == *label));
                }
                if own.is_empty() {
                    Answer::NoName
                } else {
                    found(addresses(name, kind, &own.into_iter().collect::<Vec<_>>()))
                }
            }
            _ => Answer::NoName,
        }
    }

    /// SRV records of a service's ports that are `wanted`, with their targets' addresses.
    fn servers(
        &self,
        table: &Table,
        (namespace, service_name): (&str, &str),
        service: &Service,
        place: &str,
        name: &Name,
        wanted: impl Fn(&Port) -> bool,
    ) -> Answer {
        let mut targets: BTreeSet<(u16, String, Vec<IpAddr>)> = BTreeSet::new();
        match &service.target {
            Target::Virtual(own) => {
                for port in service.ports.iter().filter(|p| wanted(p)) {
                    targets.insert((port.number, place.to_owned(), own.clone()));
                }
            }
            _ => {
                for (slice, endpoint) in table.endpoints(namespace, service_name) {
                    for port in slice.ports.iter().filter(|p| wanted(p)) {
                        for address in &endpoint.addresses {
                            let target = format!("{}.{place}", endpoint.label(*address));
                            targets.insert((port.number, target, vec![*address]));
                        }
                    }
                }
            }
        }
        let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        for (port, target, own) in targets {
            let Some(target) = self.below(&target) else { continue };
            for extra in addresses(&target, RecordType::ANY, &own) {
                if !additionals.contains(&extra) {
                    additionals.push(extra);
                }
            }
            answers.push(record(name, RData::SRV(SRV::new(0, weight, port, target))));
        }
        if answers.is_empty() { Answer::NoData } else { Answer::Found { answers, additionals } }
    }

    fn pointer(&self, table: &Table, name: &Name, address: IpAddr, kind: RecordType) -> Answer {
        let names = table.names_of(address);
        if names.is_empty() {
            return Answer::Elsewhere;
        }
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return Answer::NoData;
        }
        let names = names.iter().filter_map(|n| self.below(n));
        found(names.map(|n| record(name, RData::PTR(PTR(n)))).collect())
    }

    fn below(&self, labels: &str) -> Option<Name> {
        Name::from_ascii(labels).ok()?.append_domain(&self.domain).ok()
    }
}

/// The ports that a service's `_port._protocol` names are made of.
fn ports<'t>(
    table: &'t Table,
    namespace: &str,
    name: &str,
    service: &'t Service,
) -> impl Iterator<Item = &'t Port> {
    let headless = matches!(service.target, Target::Headless { .. });
    let slices = headless.then(|| table.slices(namespace, name)).into_iter().flatten();
    service.ports.iter().chain(slices.flat_map(|s| &s.ports))
}

fn external(name: &Name, kind: RecordType, target: &str) -> Answer {
    if let Ok(address) = target.parse::<IpAddr>() {
        return found(addresses(name, kind, &[address]));
    }
    let Ok(mut target) = Name::from_str_relaxed(target) else { return Answer::NoData };
    target.set_fqdn(true);
    let alias = record(name, RData::CNAME(CNAME(target.clone())));
    if kind == RecordType::CNAME { found(vec![alias]) } else { Answer::Alias(alias, target) }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), RECORD_TTL_S, data)
}

fn found(answers: Vec<Record>) -> Answer {
    if answers.is_empty() { Answer::NoData } else { Answer::Found { answers, additionals: Vec::new() } }
}

/// A or AAAA records of those addresses that are of the wanted type.
fn addresses(name: &Name, kind: RecordType, addresses: &[IpAddr]) -> Vec<Record> {
    let wanted = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(v4) if matches!(kind, RecordType::A | RecordType::ANY) => Some(RData::A(A(*v4))),
        IpAddr::V6(v6) if matches!(kind, RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(*v6))),
        _ => None,
    });
    wanted.map(|data| record(name, data)).collect()
}

fn labels(name: &Name) -> Option<Vec<String>> {
    name.iter().map(|l| std::str::from_utf8(l).ok().map(str::to_ascii_lowercase)).collect()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` is about, when it is a whole one.
fn reverse(name: &Name) -> Option<IpAddr> {
    let mut name = name.clone();
    name.set_fqdn(true);
    if !name.iter().next_back().is_some_and(|l| l.eq_ignore_ascii_case(b"arpa")) {
        return None;
    }
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}
