//! Which ports of the nodes a Service gets.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ApiError;
use rand::Rng;
use serde_json::Value;

use super::{Allocation, Claims, DRAWS_MAX};
use crate::api::invalid::{Errors, Path, check};
use crate::api::object::{self, list, list_mut, object_mut, text};
use crate::cache::Snapshot;
use crate::store;

/// First and last node port.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// What is said of ports that are none of these.
const NO_NODE_PORT: &str = "provided port is not in the valid range. The range of valid ports is 30000-32767";
/// Group and resource of the records that claim node ports.
const PORT_CLAIMS: (&str, &str) = ("internal.troupe", "nodeports");
/// The key of the record that claims a port.
pub(super) fn port_key(port: u16) -> String {
    store::key(PORT_CLAIMS.0, PORT_CLAIMS.1, "", &port.to_string())
}

/// The ports that one write takes.
pub(super) struct Drawn<'a> {
    snapshot: &'a Snapshot,
    /// Those that the Service had.
    before: &'a BTreeSet<u16>,
    /// Those that it asks for.
    asked: BTreeSet<u16>,
    /// Those that it took so far.
    taken: BTreeSet<i64>,
    dry: bool,
}

impl<'a> Drawn<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, before: &'a Claims, asked: BTreeSet<u16>, dry: bool) -> Self {
        Drawn { snapshot, before: &before.ports, asked, taken: BTreeSet::new(), dry }
    }

    /// Takes a port that was asked for, once.
    fn take(&mut self, port: i64) -> bool {
        u16::try_from(port).is_ok_and(|port| self.before.contains(&port)) || self.taken.insert(port)
    }

    /// Chooses a port. Nobody gets it in a dry run, which shows so: it names one that no Service can have.
    fn next(&mut self) -> Result<i64, ApiError> {
        let chosen = if self.dry {
            self.taken.last().map_or(i64::from(*NODE_PORTS.end()) + 2, |last| last.max(&0) + 1)
        } else {
            let free = |p: u16| {
                !self.asked.contains(&p)
                    && !self.taken.contains(&i64::from(p))
                    && self.snapshot.get_key(&port_key(p)).is_none()
            };
            choose_port(free)
                .map(i64::from)
                .ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?
        };
        self.taken.insert(chosen);
        Ok(chosen)
    }
}

/// Gives a Service's ports their node ports.
pub(super) fn service_ports(
    service: &mut Value,
    new: bool,
    drawn: &mut Drawn<'_>,
    made: &mut Allocation,
) -> Result<(), ApiError> {
    let kind = text(service, &["spec", "type"]);
    let balanced =
        kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != Value::Bool(false);
    if kind != "NodePort" && !balanced {
        return Ok(());
    }
    let number = |port: &Value, name: &str| port[name].as_i64().unwrap_or(0);
    let mut errors = Errors::default();
    let mut given = BTreeMap::new();
    for port in list(service, &["spec", "ports"]) {
        let (port, node_port) = (number(port, "port"), number(port, "nodePort"));
        if node_port != 0 {
            given.entry(port).or_insert(node_port);
        }
    }
    // One port number in two protocols is one node port, where the Service is new.
    let mut by_port = BTreeMap::new();
    for (i, port) in list_mut(service, &["spec", "ports"]).iter_mut().enumerate() {
        let (of, asked) = (number(port, "port"), number(port, "nodePort"));
        let known = by_port.get(&of).copied().filter(|_| new);
        let wanted = match asked {
            0 if new => known.or_else(|| given.get(&of).copied()),
            0 => None,
            asked => Some(asked),
        };
        let got = match wanted {
            Some(wanted) => {
                if known != Some(wanted) && !drawn.take(wanted) && new {
                    let at = Path::new("spec.ports").index(i).child("nodePort");
                    errors.invalid(&at, wanted, "provided port is already allocated");
                    break;
                }
                wanted
            }
            None => drawn.next()?,
        };
        by_port.entry(of).or_insert(got);
        if asked == 0 {
            made.chosen_ports.push(i);
            port["nodePort"] = got.into();
        }
    }
    check(errors, "", "Service", object::name(service))
}

/// Says which is the first port that a Service asks for, had not before, and cannot have.
pub(super) fn within_range(service: &Value, before: &BTreeSet<u16>, errors: &mut Errors) {
    let numbers = list(service, &["spec", "ports"]).iter().map(|port| port["nodePort"].as_i64().unwrap_or(0));
    let refused = |number: i64| match u16::try_from(number) {
        Ok(port) => port != 0 && !before.contains(&port) && !NODE_PORTS.contains(&port),
        Err(_) => true,
    };
    if let Some((i, number)) = numbers.enumerate().find(|(_, number)| refused(*number)) {
        errors.invalid(&Path::new("spec.ports").index(i).child("nodePort"), number, NO_NODE_PORT);
    }
}

/// Refuses a change by which a Service asks for a port that it cannot have, or twice for one.
pub(super) fn asked_again(service: &Value, before: &BTreeSet<u16>, dry: bool) -> Result<(), ApiError> {
    if !matches!(text(service, &["spec", "type"]), "NodePort" | "LoadBalancer") {
        return Ok(());
    }
    let (mut numbers, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in list(service, &["spec", "ports"]).iter().enumerate() {
        let (number, protocol) = (port["nodePort"].as_i64().unwrap_or(0), text(port, &["protocol"]));
        if number == 0 {
            continue;
        }
        let known = u16::try_from(number).is_ok_and(|number| before.contains(&number));
        let is_one = u16::try_from(number).is_ok_and(|number| NODE_PORTS.contains(&number));
        if !known && numbers.insert(number) && !is_one && !dry {
            let mut errors = Errors::default();
            errors.invalid(&Path::new("spec.ports").index(i).child("nodePort"), number, NO_NODE_PORT);
            return check(errors, "", "Service", object::name(service));
        }
        if !seen.insert((protocol, number)) {
            return Err(ApiError::new(500, "", format!("duplicate nodePort: {{{protocol} {number}}}")));
        }
    }
    Ok(())
}

/// The port at which a node tells a load balancer whether it has endpoints of its own.
pub(super) fn health_port(
    service: &mut Value,
    drawn: &mut Drawn<'_>,
    made: &mut Allocation,
) -> Result<(), ApiError> {
    let local = text(service, &["spec", "type"]) == "LoadBalancer"
        && text(service, &["spec", "externalTrafficPolicy"]) == "Local";
    let given = service["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0);
    let is_none = u16::try_from(given).map_or(true, |port| !NODE_PORTS.contains(&port));
    if local && given != 0 && is_none && !drawn.dry {
        let why = format!("failed to allocate requested HealthCheck NodePort {given}: {NO_NODE_PORT}");
        return Err(ApiError::internal(why));
    }
    if !local || given != 0 {
        return Ok(());
    }
    let chosen = drawn.next()?;
    made.chosen_health_port = true;
    object_mut(service, &["spec"]).insert("healthCheckNodePort".to_owned(), chosen.into());
    Ok(())
}

/// Where a Service names a port.
pub(super) fn node_port_path(service: &Value, port: u16) -> Path {
    let at = list(service, &["spec", "ports"])
        .iter()
        .position(|p| p["nodePort"].as_i64() == Some(i64::from(port)));
    Path::new("spec.ports").index(at.unwrap_or(0)).child("nodePort")
}

fn choose_port(free: impl Fn(u16) -> bool) -> Option<u16> {
    let mut random = rand::rng();
    let draws = (0..DRAWS_MAX).map(|_| random.random_range(NODE_PORTS)).collect::<Vec<_>>();
    draws.into_iter().chain(NODE_PORTS).find(|p| free(*p))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_outside_of_the_range_are_refused_unless_they_were_there() {
        for (ports, before, wanted) in [
            (json!([{"nodePort": 30000}, {"nodePort": 32767}, {}]), vec![], None),
            (json!([{"nodePort": -1}]), vec![], Some("spec.ports[0].nodePort: Invalid value: -1: ")),
            (
                json!([{}, {"nodePort": 70000}]),
                vec![],
                Some("spec.ports[1].nodePort: Invalid value: 70000: "),
            ),
            (
                json!([{"nodePort": 80}, {"nodePort": 1}]),
                vec![80],
                Some("spec.ports[1].nodePort: Invalid value: 1: "),
            ),
        ] {
            let service = json!({"spec": {"ports": ports}});
            let before: BTreeSet<u16> = before.into_iter().collect();
            let said = crate::api::invalid::said(|errors| within_range(&service, &before, errors));
            assert_eq!(said.len(), usize::from(wanted.is_some()), "{said:?}");
            assert!(
                said.iter().all(|said| wanted.is_some_and(|wanted| said.starts_with(wanted))),
                "{said:?}"
            );
        }
    }

    /// The node ports of a Service, after one of the name was made or changed.
    fn drawn(kind: &str, ports: Value, before: &[u16], new: bool) -> Result<Vec<i64>, String> {
        let snapshot = Snapshot::default();
        let before = Claims { ports: before.iter().copied().collect(), ..Claims::default() };
        let mut service = json!({"metadata": {"name": "a"}, "spec": {"type": kind, "ports": ports}});
        let mut drawn = Drawn::new(&snapshot, &before, BTreeSet::new(), true);
        service_ports(&mut service, new, &mut drawn, &mut Allocation::default())
            .map_err(|e| e.to_string())?;
        Ok(list(&service, &["spec", "ports"]).iter().map(|p| p["nodePort"].as_i64().unwrap_or(0)).collect())
    }

    #[test]
    fn a_dry_run_names_ports_that_nobody_has() {
        let [web, dns, udp] =
            [json!({"port": 80}), json!({"port": 53}), json!({"port": 53, "protocol": "UDP"})];
        let given = |port: i64, node: i64| json!({"port": port, "nodePort": node});
        for (kind, ports, before, new, wanted) in [
            ("NodePort", json!([web, dns]), vec![], true, vec![32769, 32770]),
            ("ClusterIP", json!([web]), vec![], true, vec![0]),
            // A new Service has one for a port in two protocols, and the one that is asked for in either.
            ("LoadBalancer", json!([dns, udp]), vec![], true, vec![32769, 32769]),
            ("NodePort", json!([dns, given(53, 30001)]), vec![], true, vec![30001, 30001]),
            ("NodePort", json!([dns, udp]), vec![], false, vec![32769, 32770]),
            // What it had counts for nothing, what it asks for is counted on from.
            ("NodePort", json!([given(80, 30001), dns]), vec![30001], false, vec![30001, 32769]),
            ("NodePort", json!([given(80, 30001), dns]), vec![], false, vec![30001, 30002]),
            ("NodePort", json!([given(80, -1), dns]), vec![], false, vec![-1, 1]),
        ] {
            assert_eq!(drawn(kind, ports.clone(), &before, new), Ok(wanted), "{kind} {ports} {new}");
        }
    }

    #[test]
    fn a_node_port_is_asked_for_once() {
        let given =
            |port: i64, protocol: &str| json!({"port": port, "protocol": protocol, "nodePort": 30001});
        for (second, taken) in
            [(given(80, "UDP"), false), (given(81, "UDP"), true), (given(80, "TCP"), false)]
        {
            let told = drawn("NodePort", json!([given(80, "TCP"), second]), &[], true);
            let wrong = "spec.ports[1].nodePort: Invalid value: 30001: provided port is already allocated";
            assert_eq!(told.is_err_and(|told| told.contains(wrong)), taken, "{second}");
        }
    }

    #[test]
    fn a_change_asks_for_a_node_port_once() {
        let said = |ports: Value, dry: bool| {
            let service = json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": ports}});
            asked_again(&service, &BTreeSet::from([80]), dry).err().map(|e| e.to_string()).unwrap_or_default()
        };
        let port = |number: i64, protocol: &str| json!({"nodePort": number, "protocol": protocol});
        for (ports, dry, wanted) in [
            (json!([port(30001, "TCP"), port(30001, "UDP"), port(80, "TCP"), port(0, "TCP")]), false, ""),
            (json!([port(30001, "TCP"), port(30001, "TCP")]), false, "duplicate nodePort: {TCP 30001}"),
            (json!([port(-1, "TCP"), port(-1, "TCP")]), true, "duplicate nodePort: {TCP -1}"),
            (
                json!([port(-1, "TCP"), port(-1, "TCP")]),
                false,
                "Service \"a\" is invalid: spec.ports[0].nodePort: Invalid value: -1: provided port is not in the \
                 valid range. The range of valid ports is 30000-32767",
            ),
        ] {
            assert_eq!(said(ports.clone(), dry), wanted, "{ports} {dry}");
        }
    }

    #[test]
    fn node_ports_run_out() {
        assert_eq!(choose_port(|p| p == 30001), Some(30001));
        assert_eq!(choose_port(|_| false), None);
    }
}
