//! The Kubernetes DNS specification, record by record.

use hickory_proto::rr::Record;

use super::*;

fn shown(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> =
        records.iter().map(|r| format!("{} {} {}", r.name, r.record_type(), r.data)).collect();
    lines.sort();
    lines
}

/// `CODE: answers`, with `!` before the code where the answer is not authoritative.
fn ask(responder: &Responder, name: &str, kind: RecordType) -> String {
    let answer = answered(responder, &question(name, kind), Transport::Tcp);
    let mark = if answer.metadata.authoritative { "" } else { "!" };
    let code = answer.metadata.response_code;
    let negative = answer.answers.is_empty() && answer.metadata.authoritative;
    let soa = answer.authorities.iter().filter(|r| r.record_type() == RecordType::SOA).count();
    assert_eq!(soa, usize::from(negative), "{name}: absence is told with its time");
    let data: Vec<String> = shown(&answer.answers)
        .into_iter()
        .map(|line| line.strip_prefix(&format!("{name} ")).map_or_else(|| line.clone(), str::to_owned))
        .collect();
    format!("{mark}{code:?}: {}", data.join(", "))
}

#[test]
fn names_are_answered_as_the_specification_says() {
    use RecordType::*;
    let responder = responder(cluster(), false);
    for (name, kind, expected) in [
        // Of the zone itself.
        ("dns-version.cluster.local.", TXT, "NoError: TXT 1.1.0"),
        ("cluster.local.", NS, "NoError: NS ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", A, "NoError: A 10.96.0.10"),
        ("cluster.local.", A, "NoError: "),
        ("svc.cluster.local.", A, "NoError: "),
        ("ns.svc.cluster.local.", A, "NoError: "),
        ("none.svc.cluster.local.", A, "NXDomain: "),
        ("nonsense.cluster.local.", A, "NXDomain: "),
        // Services with an address.
        ("web.ns.svc.cluster.local.", A, "NoError: A 10.96.0.7"),
        ("WEB.ns.SVC.cluster.local.", A, "NoError: A 10.96.0.7"),
        ("web.ns.svc.cluster.local.", AAAA, "NoError: AAAA fd00::7"),
        ("web.ns.svc.cluster.local.", MX, "NoError: "),
        ("none.ns.svc.cluster.local.", A, "NXDomain: "),
        ("pending.ns.svc.cluster.local.", A, "NXDomain: "),
        ("_http._tcp.web.ns.svc.cluster.local.", SRV, "NoError: SRV 0 100 80 web.ns.svc.cluster.local."),
        ("_http._tcp.web.ns.svc.cluster.local.", A, "NoError: "),
        ("_tcp.web.ns.svc.cluster.local.", SRV, "NoError: "),
        ("_http._udp.web.ns.svc.cluster.local.", SRV, "NXDomain: "),
        ("_other._tcp.web.ns.svc.cluster.local.", SRV, "NXDomain: "),
        // Headless ones: those endpoints that are ready.
        ("db.ns.svc.cluster.local.", A, "NoError: A 10.244.0.2, A 10.244.0.3"),
        ("db.ns.svc.cluster.local.", AAAA, "NoError: "),
        ("db-0.db.ns.svc.cluster.local.", A, "NoError: A 10.244.0.2"),
        ("10-244-0-3.db.ns.svc.cluster.local.", A, "NoError: A 10.244.0.3"),
        ("10-244-0-2.db.ns.svc.cluster.local.", A, "NXDomain: "),
        ("db-2.db.ns.svc.cluster.local.", A, "NXDomain: "),
        ("db-2.boot.ns.svc.cluster.local.", A, "NoError: A 10.244.0.4"),
        ("boot.ns.svc.cluster.local.", A, "NoError: A 10.244.0.2, A 10.244.0.3, A 10.244.0.4"),
        (
            "_http._tcp.db.ns.svc.cluster.local.",
            SRV,
            "NoError: SRV 0 50 8080 10-244-0-3.db.ns.svc.cluster.local., SRV 0 50 8080 db-0.db.ns.svc.cluster.local.",
        ),
        // Aliases.
        ("away.ns.svc.cluster.local.", CNAME, "NoError: CNAME example.com."),
        (
            "near.ns.svc.cluster.local.",
            A,
            "NoError: CNAME web.ns.svc.cluster.local., web.ns.svc.cluster.local. A 10.96.0.7",
        ),
        ("x.away.ns.svc.cluster.local.", A, "NXDomain: "),
        ("round.ns.svc.cluster.local.", A, "!ServFail: "),
        // Nobody to ask here.
        ("away.ns.svc.cluster.local.", A, "!ServFail: "),
        ("example.com.", A, "!ServFail: "),
        // Pods, by any address in a namespace that exists.
        ("10-244-0-2.ns.pod.cluster.local.", A, "NoError: A 10.244.0.2"),
        ("1-2-3-4.ns.pod.cluster.local.", A, "NoError: A 1.2.3.4"),
        ("fd00--2.ns.pod.cluster.local.", AAAA, "NoError: AAAA fd00::2"),
        ("10-244-0-2.none.pod.cluster.local.", A, "NXDomain: "),
        ("nonsense.ns.pod.cluster.local.", A, "NXDomain: "),
        // Addresses back to names.
        ("7.0.96.10.in-addr.arpa.", PTR, "NoError: PTR web.ns.svc.cluster.local."),
        ("7.0.96.10.in-addr.arpa.", A, "NoError: "),
        (
            "2.0.244.10.in-addr.arpa.",
            PTR,
            "NoError: PTR db-0.boot.ns.svc.cluster.local., PTR db-0.db.ns.svc.cluster.local.",
        ),
        ("4.0.244.10.in-addr.arpa.", PTR, "NoError: PTR db-2.boot.ns.svc.cluster.local."),
        ("9.0.244.10.in-addr.arpa.", PTR, "!ServFail: "),
        ("8.8.8.8.in-addr.arpa.", PTR, "!ServFail: "),
        (
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "NoError: PTR web.ns.svc.cluster.local.",
        ),
    ] {
        assert_eq!(ask(&responder, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn verified_pods_are_those_that_exist() {
    let responder = responder(cluster(), true);
    for (name, kind, expected) in [
        ("10-244-0-2.ns.pod.cluster.local.", RecordType::A, "NoError: A 10.244.0.2"),
        ("fd00--2.ns.pod.cluster.local.", RecordType::AAAA, "NoError: AAAA fd00::2"),
        ("1-2-3-4.ns.pod.cluster.local.", RecordType::A, "NXDomain: "),
    ] {
        assert_eq!(ask(&responder, name, kind), expected, "{name}");
    }
    // Two pods on the host's network share an address; it goes with the last of them.
    let pod = |name: &str| -> Pod { object(json!({"metadata": meta(name)})) };
    responder.table.write().apply(pod("p").change(true));
    assert_eq!(ask(&responder, "10-244-0-2.ns.pod.cluster.local.", RecordType::A), "NoError: A 10.244.0.2");
    responder.table.write().apply(pod("q").change(true));
    assert_eq!(ask(&responder, "10-244-0-2.ns.pod.cluster.local.", RecordType::A), "NXDomain: ");
}

#[test]
fn targets_come_with_their_addresses() {
    let responder = responder(cluster(), false);
    let question = question("_http._tcp.db.ns.svc.cluster.local.", RecordType::SRV);
    let answer = answered(&responder, &question, Transport::Tcp);
    let expected =
        ["10-244-0-3.db.ns.svc.cluster.local. A 10.244.0.3", "db-0.db.ns.svc.cluster.local. A 10.244.0.2"];
    assert_eq!(shown(&answer.additionals), expected);
}

#[test]
fn before_the_first_list_nothing_is_denied() {
    let responder = responder(Table::default(), false);
    for name in ["web.ns.svc.cluster.local.", "ns.svc.cluster.local.", "1-2-3-4.ns.pod.cluster.local."] {
        assert_eq!(ask(&responder, name, RecordType::A), "!ServFail: ", "{name}");
    }
    assert_eq!(ask(&responder, "dns-version.cluster.local.", RecordType::TXT), "NoError: TXT 1.1.0");
}
