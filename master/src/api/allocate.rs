//! Service addresses and node ports: chosen, and claimed in the same transaction as the Service.
//!
//! An address is claimed by an `IPAddress` object, as upstream does; a port by a record of our own. The
//! transaction demands that the claims are absent, so two Services never get the same one, and a crash
//! leaves either both the Service and its claims or neither. No allocator state exists anywhere else.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use protocol::{ApiError, Resource, resources};
use rand::Rng;
use serde_json::{Value, json};

use self::ports::{Drawn, node_port_path, port_key};
use super::invalid::{Errors, Path, check, go_quote};
use super::kinds::checks;
use super::meta::{NameRule, name_errors};
use super::object::{self, list, list_mut, object_mut, text};
use super::pipeline::Inner;
use crate::cache::Snapshot;
use crate::store::{self, Compare, Op, Txn};

mod families;
mod ports;

/// How many random choices are tried before the range is searched in order.
const DRAWS_MAX: usize = 64;
/// The lowest addresses are left to Services that ask for one, such as the cluster's DNS.
const RESERVED_LOW: u128 = 256;

/// The addresses and ports that a Service needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Claims {
    addresses: BTreeSet<String>,
    ports: BTreeSet<u16>,
}

impl Claims {
    fn of(service: &Value) -> Claims {
        let mut claims = Claims::default();
        if text(service, &["spec", "type"]) == "ExternalName" {
            return claims;
        }
        let listed = list(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
        let ips = listed.chain([text(service, &["spec", "clusterIP"])]);
        // One address is claimed once, however it is spelt.
        let canonical =
            |ip: &str| ip.parse().map_or_else(|_| ip.to_owned(), |address: IpAddr| address.to_string());
        claims.addresses.extend(ips.filter(|ip| !ip.is_empty() && *ip != "None").map(canonical));
        let numbers = list(service, &["spec", "ports"]).iter().filter_map(|p| p["nodePort"].as_i64());
        claims.ports.extend(numbers.filter_map(|n| u16::try_from(n).ok()).filter(|n| *n != 0));
        let health = service["spec"]["healthCheckNodePort"].as_i64();
        claims.ports.extend(health.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0));
        claims
    }
}

/// What a write claims and gives back, to be added to its transaction.
#[derive(Default)]
pub struct Allocation {
    compares: Vec<Compare>,
    ops: Vec<Op>,
    /// Chosen here, not asked for: another choice is possible.
    chosen_addresses: usize,
    chosen_ports: Vec<usize>,
    chosen_health_port: bool,
}

impl Allocation {
    /// Adds the claims to the transaction that writes the Service.
    pub fn add_to(&self, txn: &mut Txn) {
        txn.compares.extend(self.compares.iter().cloned());
        txn.ops.extend(self.ops.iter().cloned());
    }

    /// Takes the choices back out of the object, after somebody else was faster. What the client asked for
    /// by itself stays, and is refused at the next attempt.
    pub fn undo(&self, service: &mut Value) {
        let given = list(service, &["spec", "clusterIPs"]).len().saturating_sub(self.chosen_addresses);
        if self.chosen_addresses > 0
            && let Some(spec) = object::existing_mut(service, &["spec"])
        {
            if given == 0 {
                spec.remove("clusterIP");
                spec.remove("clusterIPs");
            } else if let Some(ips) = spec.get_mut("clusterIPs").and_then(Value::as_array_mut) {
                ips.truncate(given);
            }
        }
        if self.chosen_health_port
            && let Some(spec) = object::existing_mut(service, &["spec"])
        {
            spec.remove("healthCheckNodePort");
        }
        for at in &self.chosen_ports {
            if let Some(port) =
                list_mut(service, &["spec", "ports"]).get_mut(*at).and_then(Value::as_object_mut)
            {
                port.remove("nodePort");
            }
        }
    }
}

fn address_key(ip: &str) -> String {
    store::key("networking.k8s.io", "ipaddresses", "", ip)
}

/// The addresses of a range as numbers, from its first host address on; the last one is left out where it is the
/// broadcast's.
fn range(cidr: IpNet) -> (u128, u128) {
    match cidr {
        IpNet::V4(cidr) => {
            (u128::from(u32::from(cidr.network())) + 1, u128::from(u32::from(cidr.broadcast())) - 1)
        }
        IpNet::V6(cidr) => (u128::from(cidr.network()) + 1, u128::from(cidr.broadcast())),
    }
}

/// Whether an address is one of a range that somebody may have.
fn is_host(cidr: IpNet, address: IpAddr) -> bool {
    let number = match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let (first, last) = range(cidr);
    cidr.contains(&address) && (first..=last).contains(&number)
}

fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

impl Inner {
    /// Fills in a Service's address and ports, and tells what its write must claim and release. Does nothing
    /// for other kinds. A dry run words its refusals differently.
    pub fn allocate(
        &self,
        resource: &Resource,
        old: Option<&Value>,
        service: &mut Value,
        snapshot: &Snapshot,
        dry: bool,
    ) -> Result<Allocation, ApiError> {
        let mut made = Allocation::default();
        if !is_service(resource) {
            return Ok(made);
        }
        let before = old.map(Claims::of).unwrap_or_default();
        families::settle(service, old, &self.config.service_cidr)?;
        self.addresses(service, snapshot, dry, &mut made)?;
        let mut drawn = Drawn::new(snapshot, &before, Claims::of(service).ports, dry);
        ports::service_ports(service, old.is_none(), &mut drawn, &mut made)?;
        ports::health_port(service, &mut drawn, &mut made)?;
        let after = Claims::of(service);
        let mut errors = Errors::default();
        if let (Some(why), Some(ip)) = (unclaimable(object::name(service)), after.addresses.first())
            && !dry
        {
            let why = format!(
                "failed to allocate IP: IPAddress.networking.k8s.io {ip:?} is invalid: spec.parentRef.name: {why}"
            );
            errors.invalid(&Path::new("spec.clusterIPs"), json!([""]), why);
        }
        check(std::mem::take(&mut errors), "", "Service", object::name(service))?;
        for ip in after.addresses.difference(&before.addresses) {
            if snapshot.get_key(&address_key(ip)).is_some() {
                let message = format!("failed to allocate IP {ip}: provided IP is already allocated");
                errors.invalid(&Path::new("spec.clusterIPs"), service["spec"]["clusterIPs"].clone(), message);
            }
            let claim = address_claim(ip, service);
            made.compares.push(Compare { key: address_key(ip), mod_revision: 0 });
            made.ops.push(Op::Put { key: address_key(ip), value: claim, lease: None });
        }
        check(std::mem::take(&mut errors), "", "Service", object::name(service))?;
        // Of the others validation says that they may have none, and what a dry run asks for is not looked up in the range.
        let opens = matches!(text(service, &["spec", "type"]), "NodePort" | "LoadBalancer");
        if opens && !dry {
            ports::within_range(service, &before.ports, &mut errors);
        }
        for port in after.ports.difference(&before.ports).filter(|_| opens) {
            if errors.is_empty() && snapshot.get_key(&port_key(*port)).is_some() {
                errors.invalid(&node_port_path(service, *port), *port, "provided port is already allocated");
            }
            let claim = json!({"apiVersion": "internal.troupe/v1", "kind": "NodePort", "metadata": {"name": port.to_string()},
                "service": {"namespace": object::namespace(service), "name": object::name(service)}});
            made.compares.push(Compare { key: port_key(*port), mod_revision: 0 });
            made.ops.push(Op::Put { key: port_key(*port), value: claim.to_string().into(), lease: None });
        }
        check(errors, "", "Service", object::name(service))?;
        for ip in before.addresses.difference(&after.addresses) {
            made.ops.push(Op::Delete { key: address_key(ip) });
        }
        for port in before.ports.difference(&after.ports) {
            made.ops.push(Op::Delete { key: port_key(*port) });
        }
        Ok(made)
    }

    /// Refuses a Service that cannot get what it asks for: upstream finds that out before it looks at anything else of it,
    /// and says nothing else then. A new one is returned with what it could get.
    pub fn allocatable(
        &self,
        resource: &Resource,
        old: Option<&Value>,
        service: &Value,
        snapshot: &Snapshot,
        dry: bool,
    ) -> Result<Option<Value>, ApiError> {
        if !is_service(resource) {
            return Ok(None);
        }
        let mut service = service.clone();
        if let Some(before) = old {
            families::settle(&mut service, old, &self.config.service_cidr)?;
            return ports::asked_again(&service, &Claims::of(before).ports, dry).map(|()| None);
        }
        self.allocate(resource, None, &mut service, snapshot, dry)?;
        Ok(Some(service))
    }

    /// What a deleted object gives back.
    pub fn release(&self, resource: &Resource, object: &Value) -> Vec<Op> {
        if !is_service(resource) {
            return Vec::new();
        }
        let claims = Claims::of(object);
        let addresses = claims.addresses.iter().map(|ip| Op::Delete { key: address_key(ip) });
        addresses.chain(claims.ports.iter().map(|p| Op::Delete { key: port_key(*p) })).collect()
    }

    fn addresses(
        &self,
        service: &mut Value,
        snapshot: &Snapshot,
        dry: bool,
        made: &mut Allocation,
    ) -> Result<(), ApiError> {
        if text(service, &["spec", "type"]) == "ExternalName" {
            return Ok(());
        }
        let single = text(service, &["spec", "clusterIP"]).to_owned();
        let listed =
            list(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str).map(str::to_owned);
        let mut ips: Vec<String> = listed.collect();
        if ips.is_empty() && !single.is_empty() {
            ips.push(single);
        }
        if ips.first().is_none_or(|ip| ip != "None") {
            let families = list(service, &["spec", "ipFamilies"]).to_vec();
            for family in families.iter().skip(ips.len()) {
                let range = self.config.service_cidr.iter().find(|r| family_of(r.addr()) == family);
                let free = |ip: &str| snapshot.get_key(&address_key(ip)).is_none();
                let chosen = range.and_then(|range| choose_address(range, free));
                made.chosen_addresses += 1;
                ips.push(
                    chosen
                        .ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))?,
                );
            }
            self.check_addresses(&ips, object::name(service), snapshot, dry)?;
        }
        let spec = object_mut(service, &["spec"]);
        spec.insert("clusterIP".to_owned(), ips.first().cloned().into());
        spec.insert("clusterIPs".to_owned(), json!(ips));
        Ok(())
    }

    /// Refuses addresses that are none, or not of the cluster's ranges.
    fn check_addresses(
        &self,
        ips: &[String],
        name: &str,
        snapshot: &Snapshot,
        dry: bool,
    ) -> Result<(), ApiError> {
        let ours = |address| self.config.service_cidr.iter().any(|cidr| is_host(cidr, address));
        let mut errors = Errors::default();
        let path = Path::new("spec.clusterIPs");
        for (i, ip) in ips.iter().enumerate() {
            match ip.parse::<IpAddr>() {
                Err(_) => drop(checks::ip(ip, &path.index(i), &mut errors)),
                Ok(address) if !ours(address) && !added(snapshot).any(|cidr| is_host(cidr, address)) => {
                    let mut ranges = self.config.service_cidr.iter();
                    let range = ranges.find(|cidr| cidr.addr().is_ipv4() == address.is_ipv4());
                    let why = match range.filter(|_| dry) {
                        Some(range) => format!(
                            "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
                        ),
                        None => "the provided network does not match the current range".to_owned(),
                    };
                    let message = format!("failed to allocate IP {ip}: {why}");
                    errors.invalid(&path, json!(ips), message);
                }
                Ok(_) => {}
            }
        }
        check(errors, "", "Service", name)
    }
}

/// What is wrong with a name for upstream's claim of an address, which says whom it is for.
fn unclaimable(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("Required value".to_owned());
    }
    let wrong = name_errors(NameRule::PathSegment, name, false).into_iter().next()?;
    Some(format!("Invalid value: {}: {wrong}", go_quote(name)))
}

fn is_service(resource: &Resource) -> bool {
    resource.plural == "services" && resource.group.is_empty()
}

/// The ranges that were added to the cluster's own, and are ready.
fn added(snapshot: &Snapshot) -> impl Iterator<Item = IpNet> {
    let ranges = snapshot.list("networking.k8s.io", "servicecidrs", "").filter(|s| !s.meta.is_deleting());
    ranges.filter_map(|s| s.value().ok()).filter(is_ready).flat_map(|range| {
        let texts = list(&range, &["spec", "cidrs"]).iter().filter_map(Value::as_str);
        texts.filter_map(|text| text.parse().ok()).collect::<Vec<IpNet>>()
    })
}

fn is_ready(range: &Value) -> bool {
    let conditions = list(range, &["status", "conditions"]);
    conditions.iter().any(|c| text(c, &["type"]) == "Ready" && text(c, &["status"]) == "True")
}

fn choose_address(cidr: IpNet, free: impl Fn(&str) -> bool) -> Option<String> {
    let (first, last) = range(cidr);
    let low = if last - first > RESERVED_LOW * 2 { first + RESERVED_LOW } else { first + 1 };
    let mut random = rand::rng();
    let draws = (0..DRAWS_MAX).map(|_| random.random_range(low..=last)).collect::<Vec<_>>();
    let text = |n: u128| match cidr {
        IpNet::V4(_) => u32::try_from(n).map_or_else(|_| String::new(), |n| Ipv4Addr::from(n).to_string()),
        IpNet::V6(_) => Ipv6Addr::from(n).to_string(),
    };
    // The range's first address is the API server's own, its tenth the DNS's.
    let allowed = |n: &u128| *n != first && *n != first + 9;
    draws.into_iter().chain(low..=last).chain(first..low).filter(allowed).map(text).find(|ip| free(ip))
}

fn address_claim(ip: &str, service: &Value) -> bytes::Bytes {
    let family = ip.parse().map_or("IPv4", family_of);
    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": object::now(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {
            "resource": "services", "namespace": object::namespace(service), "name": object::name(service),
        }},
    });
    match resources::find("networking.k8s.io", "v1", "ipaddresses") {
        Some(resource) => object::encode(resource, &value),
        None => value.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_addresses_leave_the_reserved_ones_alone() {
        let cidr: IpNet = "10.96.0.0/28".parse().expect("cidr");
        let mut taken: BTreeSet<String> = BTreeSet::new();
        while let Some(ip) = choose_address(cidr, |ip| !taken.contains(ip)) {
            assert!(taken.insert(ip));
        }
        // 14 hosts, less the API server's and the DNS's.
        assert_eq!(taken.len(), 12);
        assert!(!taken.contains("10.96.0.1") && !taken.contains("10.96.0.10"));
        let cidr: IpNet = "fd00:10:96::/112".parse().expect("cidr");
        for _ in 0..100 {
            let ip: IpAddr =
                choose_address(cidr, |_| true).expect("one is free").parse().expect("an address");
            assert!(cidr.contains(&ip) && ip > "fd00:10:96::100".parse::<IpAddr>().expect("an address"));
        }
    }

    #[test]
    fn addresses_are_claimed_for_names() {
        assert_eq!(unclaimable("web"), None);
        assert_eq!(unclaimable("").as_deref(), Some("Required value"));
        assert_eq!(unclaimable("a/b").as_deref(), Some("Invalid value: \"a/b\": may not contain '/'"));
    }
}
