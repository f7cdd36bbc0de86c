//! Tests of the DNS: what it says ([`specification`]), how ([`messages`]), and the tables behind it ([`tables`]).

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use serde_json::{Value, json};

use super::forward::Forwarder;
use super::respond::{Plan, Responder, Transport};
use super::table::{Kind, Table, Watched};
use super::zone::Zone;

mod messages;
mod specification;
mod tables;

/// The DNS service's own address.
const OWN: [u8; 4] = [10, 96, 0, 10];

fn object<K: Watched>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

fn meta(name: &str) -> Value {
    json!({"namespace": "ns", "name": name})
}

fn service(name: &str, spec: Value) -> Service {
    object(json!({"metadata": meta(name), "spec": spec}))
}

fn slice(name: &str, service: &str, ports: Value, endpoints: Value) -> EndpointSlice {
    let mut meta = meta(name);
    meta["labels"] = json!({"kubernetes.io/service-name": service});
    object(json!({"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}))
}

/// A cluster with a Service of each sort.
fn cluster() -> Table {
    let mut table = Table::default();
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 9, "protocol": "UDP"}]);
    let services = [
        service(
            "web",
            json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ports": http}),
        ),
        service("db", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": http})),
        service("boot", json!({"clusterIP": "None", "publishNotReadyAddresses": true})),
        service("away", json!({"type": "ExternalName", "externalName": "Example.COM"})),
        service("near", json!({"type": "ExternalName", "externalName": "web.ns.svc.cluster.local"})),
        service("round", json!({"type": "ExternalName", "externalName": "round.ns.svc.cluster.local"})),
        service("pending", json!({"ports": http})),
    ];
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let endpoints = json!([
        {"addresses": ["10.244.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.3"], "conditions": {"ready": true}},
        {"addresses": ["10.244.0.4"], "hostname": "db-2", "conditions": {"ready": false}},
    ]);
    let slices = [
        slice("db-1", "db", ports.clone(), endpoints.clone()),
        slice("boot-1", "boot", json!([]), endpoints),
        slice("web-1", "web", ports, json!([{"addresses": ["10.244.0.9"], "hostname": "a"}])),
    ];
    let pod =
        |name: &str, ip: &str| -> Pod { object(json!({"metadata": meta(name), "status": {"podIP": ip}})) };
    let pods = [pod("p", "10.244.0.2"), pod("q", "10.244.0.2"), pod("r", "fd00::2")];
    let namespace: Namespace = object(json!({"metadata": {"name": "ns"}}));
    table.replace(Kind::Service, services.iter().map(|s| s.change(false)).collect());
    table.replace(Kind::Slice, slices.iter().map(|s| s.change(false)).collect());
    table.replace(Kind::Pod, pods.iter().map(|s| s.change(false)).collect());
    table.replace(Kind::Namespace, vec![namespace.change(false)]);
    table
}

fn responder(table: Table, verify_pods: bool) -> Responder {
    let zone = Zone::new("cluster.local", IpAddr::from(OWN), verify_pods).expect("a zone");
    Responder { zone, table: Arc::new(RwLock::new(table)), forwarder: Forwarder::new(Vec::new()) }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn with_payload(mut message: Message, bytes: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(bytes);
    message.set_edns(edns);
    message
}

/// The answer that needs nobody else, as it goes over the wire.
fn answered(responder: &Responder, question: &Message, transport: Transport) -> Message {
    let bytes = question.to_vec().expect("bytes");
    match responder.plan(&bytes, transport) {
        Some(Plan::Now(reply)) => Message::from_vec(&reply.encode().expect("bytes")).expect("a message"),
        other => panic!("{other:?}"),
    }
}
