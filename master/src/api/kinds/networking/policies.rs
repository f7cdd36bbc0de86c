//! NetworkPolicy.

use serde_json::{Value, json};

use super::spec;
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, cidr, port_name_errors, port_number};
use crate::api::kinds::{Strategy, base};
use crate::api::object::{default, list, list_mut, object_mut, text};

/// Directions, and where the other side stands in their rules.
const PEERS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(in crate::api::kinds) fn network_policy() -> Strategy {
    Strategy {
        defaults: |object| {
            for direction in ["ingress", "egress"] {
                for rule in list_mut(object, &["spec", direction]) {
                    for port in list_mut(rule, &["ports"]) {
                        default(object_mut(port, &[]), "protocol", "TCP");
                    }
                }
            }
            if list(object, &["spec", "policyTypes"]).is_empty() {
                let egress = !list(object, &["spec", "egress"]).is_empty();
                object["spec"]["policyTypes"] =
                    if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            }
        },
        validate: valid_policy,
        warnings: |object, _, said| {
            for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
                for (i, rule) in list(object, &["spec", direction]).iter().enumerate() {
                    for (j, peer) in list(rule, &[peers]).iter().enumerate() {
                        let path = spec(direction).index(i).child(peers).index(j).child("ipBlock");
                        let block = &peer["ipBlock"];
                        checks::range_note(text(block, &["cidr"]), &path.child("cidr"), said);
                        checks::range_notes(list(block, &["except"]), &path.child("except"), said);
                    }
                }
            }
        },
        ..base()
    }
}

fn valid_policy(object: &Value, errors: &mut Errors) {
    checks::label_selector(&object["spec"]["podSelector"], &spec("podSelector"), errors);
    for (direction, peers) in PEERS {
        for (i, rule) in list(object, &["spec", direction]).iter().enumerate() {
            let path = spec(direction).index(i);
            for (j, port) in list(rule, &["ports"]).iter().enumerate() {
                policy_port(port, &path.child("ports").index(j), errors);
            }
            for (j, peer) in list(rule, &[peers]).iter().enumerate() {
                policy_peer(peer, &path.child(peers).index(j), errors);
            }
        }
    }
    let types = list(object, &["spec", "policyTypes"]);
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.invalid(&spec("policyTypes"), types.to_vec(), detail);
        return;
    }
    for (i, kind) in types.iter().enumerate() {
        checks::choice(kind, &["Ingress", "Egress"], &spec("policyTypes").index(i), errors);
    }
}

fn policy_port(port: &Value, path: &Path, errors: &mut Errors) {
    checks::choice(&port["protocol"], &["TCP", "UDP", "SCTP"], &path.child("protocol"), errors);
    let (at, end, given) = (path.child("port"), path.child("endPort"), &port["endPort"]);
    match &port["port"] {
        Value::Null => {
            if !given.is_null() {
                errors.invalid(&end, given.clone(), "may not be specified when `port` is not specified");
            }
        }
        Value::String(name) => {
            if !given.is_null() {
                errors.invalid(&end, given.clone(), "may not be specified when `port` is non-numeric");
            }
            for error in port_name_errors(name) {
                errors.invalid(&at, name.as_str(), error);
            }
        }
        number => {
            let number = number.as_i64().unwrap_or(0);
            port_number(number, &at, errors);
            if let Some(last) = given.as_i64() {
                if last < number {
                    // The message shows the port, though it is about the other.
                    errors.invalid(&end, number, "must be greater than or equal to `port`");
                }
                port_number(last, &end, errors);
            }
        }
    }
}

fn policy_peer(peer: &Value, path: &Path, errors: &mut Errors) {
    let mut peers = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if peer[name].is_object() {
            peers += 1;
            checks::label_selector(&peer[name], &path.child(name), errors);
        }
    }
    if peer["ipBlock"].is_object() {
        peers += 1;
        ip_block(&peer["ipBlock"], &path.child("ipBlock"), errors);
    }
    if peers == 0 {
        errors.required(path, "must specify a peer");
    } else if peers > 1 && peer["ipBlock"].is_object() {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, path: &Path, errors: &mut Errors) {
    let given = text(block, &["cidr"]);
    if given.is_empty() {
        errors.required(&path.child("cidr"), "");
        return;
    }
    let Some(network) = cidr(given, &path.child("cidr"), errors) else { return };
    for (i, except) in list(block, &["except"]).iter().filter_map(Value::as_str).enumerate() {
        let path = path.child("except").index(i);
        let Some(inner) = cidr(except, &path, errors) else { continue };
        if !network.contains(&inner.addr()) || network.prefix_len() >= inner.prefix_len() {
            errors.invalid(&path, except, "must be a strict subset of `cidr`");
        }
    }
}
