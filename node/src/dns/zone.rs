//! The names of the cluster, by the Kubernetes DNS specification (version 1.1.0).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// How long clients may keep an answer, in seconds.
const TTL: u32 = 5;
/// The version of the specification, as the name `dns-version` tells it.
const SCHEMA_VERSION: &str = "1.1.0";

/// What the zone says about a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Records, with further ones that the client will want next.
    Found(Vec<Record>, Vec<Record>),
    /// The name exists, but not with that type.
    NoData,
    /// The name does not exist.
    NoName,
    /// An alias that leads out of the zone; the target is to be asked upstream.
    Alias(Record, Name),
    /// Not a name of the cluster.
    NotOurs,
}

type Key = (String, String);

/// All names of the cluster.
#[derive(Debug, Default)]
pub struct Zone {
    domain: Vec<String>,
    /// Addresses for which a missing reverse name is our "no", not somebody else's.
    reverse: Vec<Ipv4Net>,
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, BTreeMap<String, EndpointSlice>>,
    /// How many services each namespace has.
    namespaces: BTreeMap<String, usize>,
    /// Reverse names.
    names: BTreeMap<IpAddr, BTreeMap<Key, Vec<String>>>,
    serial: u32,
}

fn key(namespace: &Option<String>, name: &Option<String>) -> Key {
    (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
}

/// One address behind a headless service.
struct Member {
    ip: IpAddr,
    host: String,
}

impl Zone {
    /// An empty zone. `domain` is the cluster's (`cluster.local`); `reverse` the ranges of services and pods.
    pub fn new(domain: &str, reverse: Vec<Ipv4Net>) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase().split('.').map(str::to_owned).collect();
        Zone { domain, reverse, serial: 1, ..Zone::default() }
    }

    /// Takes a service in, or out when `gone`.
    pub fn service(&mut self, service: Service, gone: bool) {
        let key = key(&service.metadata.namespace, &service.metadata.name);
        let namespace = key.0.clone();
        let before =
            if gone { self.services.remove(&key) } else { self.services.insert(key.clone(), service) };
        match (before.is_some(), gone) {
            (false, false) => *self.namespaces.entry(namespace).or_default() += 1,
            (true, true) => {
                if let Some(count) = self.namespaces.get_mut(&namespace) {
                    *count -= 1;
                    if *count == 0 {
                        self.namespaces.remove(&namespace);
                    }
                }
            }
            _ => {}
        }
        self.index(&key);
    }

    /// Takes an endpoint slice in, or out when `gone`.
    pub fn slice(&mut self, slice: EndpointSlice, gone: bool) {
        let label = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name")).cloned();
        let Some(service) = label else { return };
        let key = key(&slice.metadata.namespace, &Some(service));
        let name = slice.metadata.name.clone().unwrap_or_default();
        let slices = self.slices.entry(key.clone()).or_default();
        if gone {
            slices.remove(&name);
        } else {
            slices.insert(name, slice);
        }
        if slices.is_empty() {
            self.slices.remove(&key);
        }
        self.index(&key);
    }

    /// Services that were not told since `seen` began are gone: the end of a new list.
    pub fn retain_services(&mut self, seen: &BTreeSet<Key>) {
        let gone: Vec<Service> =
            self.services.iter().filter(|(k, _)| !seen.contains(*k)).map(|(_, s)| s.clone()).collect();
        for service in gone {
            self.service(service, true);
        }
    }

    /// The same for slices, by namespace and slice name.
    pub fn retain_slices(&mut self, seen: &BTreeSet<Key>) {
        let all = self.slices.values().flat_map(|s| s.values());
        let gone: Vec<EndpointSlice> =
            all.filter(|s| !seen.contains(&key(&s.metadata.namespace, &s.metadata.name))).cloned().collect();
        for slice in gone {
            self.slice(slice, true);
        }
    }

    /// Brings a service's reverse names up to date.
    fn index(&mut self, key: &Key) {
        self.serial = self.serial.wrapping_add(1);
        self.names.retain(|_, of| {
            of.remove(key);
            !of.is_empty()
        });
        let Some(service) = self.services.get(key) else { return };
        let base = vec![key.1.clone(), key.0.clone(), "svc".to_owned()];
        let mut names: Vec<(IpAddr, Vec<String>)> = Vec::new();
        if is_headless(service) {
            for member in self.members(key, None) {
                let mut name = vec![member.host];
                name.extend(base.clone());
                names.push((member.ip, name));
            }
        } else {
            names.extend(cluster_ips(service).into_iter().map(|ip| (ip, base.clone())));
        }
        for (ip, name) in names {
            self.names.entry(ip).or_default().insert(key.clone(), name);
        }
    }

    /// Answers a question about a name in lower case.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let labels: Vec<String> =
            name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
        if let Some(ip) = reverse_address(&labels) {
            return self.reverse_name(name, ip, kind);
        }
        let Some(split) = labels.len().checked_sub(self.domain.len()) else { return Answer::NotOurs };
        if labels[split..] != self.domain[..] {
            return Answer::NotOurs;
        }
        let inner: Vec<&str> = labels[..split].iter().map(String::as_str).collect();
        match inner.as_slice() {
            [] => self.apex(name, kind),
            ["dns-version"] => match kind {
                RecordType::TXT => found(name, vec![RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]))]),
                _ => Answer::NoData,
            },
            ["svc"] | ["pod"] => Answer::NoData,
            [namespace, "svc"] => self.namespace(namespace),
            [service, namespace, "svc"] => self.service_name(name, namespace, service, kind),
            [host, service, namespace, "svc"] => self.member_name(name, namespace, service, host, kind),
            [port, protocol, service, namespace, "svc"]
                if port.starts_with('_') && protocol.starts_with('_') =>
            {
                self.port_name(name, namespace, service, &port[1..], &protocol[1..], kind)
            }
            [namespace, "pod"] => self.namespace(namespace),
            [host, namespace, "pod"] => match (dashed(host), self.namespaces.contains_key(*namespace)) {
                (Some(ip), _) if self.reverse.iter().any(|net| net.contains(&ip)) => {
                    addresses(name, kind, &[IpAddr::V4(ip)])
                }
                _ => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    /// The record that tells how long a "no" may be remembered.
    pub fn soa(&self) -> Record {
        let apex = self.absolute(&[]);
        let server = self.absolute(&["ns", "dns"]);
        let mailbox = self.absolute(&["hostmaster"]);
        let soa = SOA::new(server, mailbox, self.serial, 7200, 1800, 86400, TTL);
        Record::from_rdata(apex, TTL, RData::SOA(soa))
    }

    fn absolute(&self, labels: &[&str]) -> Name {
        let all = labels.iter().copied().chain(self.domain.iter().map(String::as_str));
        let mut name = Name::from_labels(all.map(str::as_bytes)).unwrap_or_else(|_| Name::root());
        name.set_fqdn(true);
        name
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA => Answer::Found(vec![self.soa()], Vec::new()),
            RecordType::NS => found(name, vec![RData::NS(NS(self.absolute(&["ns", "dns"])))]),
            _ => Answer::NoData,
        }
    }

    fn namespace(&self, namespace: &str) -> Answer {
        if self.namespaces.contains_key(namespace) { Answer::NoData } else { Answer::NoName }
    }

    fn service_name(&self, name: &Name, namespace: &str, service: &str, kind: RecordType) -> Answer {
        let key = (namespace.to_owned(), service.to_owned());
        let Some(service) = self.services.get(&key) else { return Answer::NoName };
        if let Some(target) = external_name(service) {
            let alias = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
            return match kind {
                RecordType::CNAME => Answer::Found(vec![alias], Vec::new()),
                _ => Answer::Alias(alias, target),
            };
        }
        if kind == RecordType::SRV {
            // Without a port's name: every port.
            return self.ports(name, &key, service, |_, _| true);
        }
        let ips = if is_headless(service) {
            self.members(&key, None).into_iter().map(|m| m.ip).collect()
        } else {
            cluster_ips(service)
        };
        addresses(name, kind, &ips)
    }

    fn member_name(
        &self,
        name: &Name,
        namespace: &str,
        service: &str,
        host: &str,
        kind: RecordType,
    ) -> Answer {
        let key = (namespace.to_owned(), service.to_owned());
        let Some(found) = self.services.get(&key) else { return Answer::NoName };
        // `_tcp.web.default.svc` exists as soon as something below it does.
        if let Some(protocol) = host.strip_prefix('_') {
            let mut ports = found.spec.iter().flat_map(|s| s.ports.iter().flatten());
            let any = ports.any(|p| p.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol));
            return if any { Answer::NoData } else { Answer::NoName };
        }
        if !is_headless(found) {
            return Answer::NoName;
        }
        let ips: Vec<IpAddr> = self.members(&key, Some(host)).into_iter().map(|m| m.ip).collect();
        if ips.is_empty() { Answer::NoName } else { addresses(name, kind, &ips) }
    }

    fn port_name(
        &self,
        name: &Name,
        namespace: &str,
        service: &str,
        port: &str,
        protocol: &str,
        kind: RecordType,
    ) -> Answer {
        let key = (namespace.to_owned(), service.to_owned());
        let Some(service) = self.services.get(&key) else { return Answer::NoName };
        let answer =
            self.ports(name, &key, service, |p, proto| p == port && proto.eq_ignore_ascii_case(protocol));
        match answer {
            Answer::Found(..) if kind != RecordType::SRV => Answer::NoData,
            Answer::NoData => Answer::NoName,
            answer => answer,
        }
    }

    /// SRV records of the wanted ports, and the addresses of their targets.
    fn ports(
        &self,
        name: &Name,
        key: &Key,
        service: &Service,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Answer {
        let (mut records, mut extra) = (Vec::new(), Vec::new());
        let mut push = |port: u16, weight: u16, target: Name, ips: &[IpAddr]| {
            records.push(Record::from_rdata(
                name.clone(),
                TTL,
                RData::SRV(SRV::new(0, weight, port, target.clone())),
            ));
            extra.extend(ips.iter().map(|ip| Record::from_rdata(target.clone(), TTL, address(*ip))));
        };
        if is_headless(service) {
            for slice in self.slices.get(key).into_iter().flat_map(|s| s.values()) {
                for port in slice.ports.iter().flatten() {
                    let (label, protocol) =
                        (port.name.as_deref().unwrap_or_default(), port.protocol.as_deref());
                    let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) else { continue };
                    if !wanted(label, protocol.unwrap_or("TCP")) {
                        continue;
                    }
                    for member in members_of(slice) {
                        let target = self.absolute(&[&member.host, &key.1, &key.0, "svc"]);
                        push(number, 100, target, &[member.ip]);
                    }
                }
            }
        } else {
            let ips = cluster_ips(service);
            let target = self.absolute(&[&key.1, &key.0, "svc"]);
            for port in service.spec.iter().flat_map(|s| s.ports.iter().flatten()) {
                let label = port.name.as_deref().unwrap_or_default();
                let Ok(number) = u16::try_from(port.port) else { continue };
                if wanted(label, port.protocol.as_deref().unwrap_or("TCP")) {
                    push(number, 100, target.clone(), &ips);
                }
            }
        }
        extra.dedup();
        if records.is_empty() { Answer::NoData } else { Answer::Found(records, extra) }
    }

    fn members(&self, key: &Key, host: Option<&str>) -> Vec<Member> {
        let slices = self.slices.get(key).into_iter().flat_map(|s| s.values());
        let mut members: Vec<Member> = slices.flat_map(members_of).collect();
        members.retain(|m| host.is_none_or(|h| m.host == h));
        members.sort_by_key(|m| m.ip);
        members.dedup_by_key(|m| m.ip);
        members
    }

    fn reverse_name(&self, name: &Name, ip: IpAddr, kind: RecordType) -> Answer {
        let Some(of) = self.names.get(&ip) else {
            let ours = matches!(ip, IpAddr::V4(ip) if self.reverse.iter().any(|net| net.contains(&ip)));
            return if ours { Answer::NoName } else { Answer::NotOurs };
        };
        if kind != RecordType::PTR {
            return Answer::NoData;
        }
        let target = |labels: &Vec<String>| {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            RData::PTR(PTR(self.absolute(&labels)))
        };
        found(name, of.values().map(target).collect())
    }
}

fn found(name: &Name, data: Vec<RData>) -> Answer {
    Answer::Found(data.into_iter().map(|d| Record::from_rdata(name.clone(), TTL, d)).collect(), Vec::new())
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn addresses(name: &Name, kind: RecordType, ips: &[IpAddr]) -> Answer {
    let wanted = |ip: &&IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    let data: Vec<RData> = ips.iter().filter(wanted).map(|ip| address(*ip)).collect();
    // A headless service with nobody behind it has a name without addresses: upstream says that the name
    // does not exist, which makes clients look again sooner than an empty answer would.
    match (data.is_empty(), ips.is_empty()) {
        (false, _) => found(name, data),
        (true, true) => Answer::NoName,
        (true, false) => Answer::NoData,
    }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"))
}

fn external_name(service: &Service) -> Option<Name> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() != Some("ExternalName") {
        return None;
    }
    let mut name = Name::from_utf8(spec.external_name.as_deref()?).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let listed = spec.cluster_ips.as_ref().filter(|ips| !ips.is_empty());
    let ips: Vec<&String> =
        listed.map_or_else(|| spec.cluster_ip.iter().collect(), |ips| ips.iter().collect());
    ips.into_iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn members_of(slice: &EndpointSlice) -> Vec<Member> {
    let ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
        e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
    };
    let endpoints = slice.endpoints.iter().flatten().filter(ready);
    endpoints
        .flat_map(|e| {
            let host = e.hostname.clone().filter(|h| !h.is_empty());
            e.addresses.iter().filter_map(move |a| {
                let ip: IpAddr = a.parse().ok()?;
                // An endpoint without a host name is called by its address.
                let host = host.clone().unwrap_or_else(|| a.replace(['.', ':'], "-"));
                Some(Member { ip, host })
            })
        })
        .collect()
}

/// `10-0-0-1` as an address.
fn dashed(host: &str) -> Option<Ipv4Addr> {
    host.replace('-', ".").parse().ok()
}

/// The address in a name under `in-addr.arpa`.
fn reverse_address(labels: &[String]) -> Option<IpAddr> {
    let [d, c, b, a, in_addr, arpa] = labels else { return None };
    if in_addr != "in-addr" || arpa != "arpa" {
        return None;
    }
    format!("{a}.{b}.{c}.{d}").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

#[cfg(test)]
mod tests;
