//! Messages: what is refused, what fits, and what is kept of others' answers.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{DNSClass, RData, Record};
use proptest::prelude::*;

use super::*;
use crate::dns::forward::{keep_for, parse_resolv_conf};

fn code(responder: &Responder, question: &Message) -> ResponseCode {
    answered(responder, question, Transport::Udp).metadata.response_code
}

#[test]
fn what_is_no_question_of_ours_is_refused() {
    let responder = responder(cluster(), false);
    let web = || question("web.ns.svc.cluster.local.", RecordType::A);
    assert_eq!(code(&responder, &web()), ResponseCode::NoError);

    let mut update = web();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&responder, &update), ResponseCode::NotImp);

    let mut chaos = web();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&responder, &chaos), ResponseCode::Refused);

    assert_eq!(code(&responder, &question("cluster.local.", RecordType::AXFR)), ResponseCode::Refused);

    let mut two = web();
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(code(&responder, &two), ResponseCode::FormErr);

    let mut newer = web();
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let answer = answered(&responder, &newer, Transport::Udp);
    // The higher bits of the code travel in the answer's own EDNS.
    assert!(answer.edns.is_some() && answer.answers.is_empty());

    // An answer is answered by nobody, or two servers would talk for ever.
    let mut reply = web();
    reply.metadata.message_type = MessageType::Response;
    assert!(responder.plan(&reply.to_vec().expect("bytes"), Transport::Udp).is_none());
}

#[test]
fn an_answer_repeats_its_question_and_number() {
    let responder = responder(cluster(), false);
    let mut question = question("WeB.ns.svc.cluster.local.", RecordType::A);
    question.metadata.id = 4711;
    let answer = answered(&responder, &question, Transport::Udp);
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (4711, MessageType::Response));
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    assert_eq!(answer.queries[0].name().to_string(), "WeB.ns.svc.cluster.local.");
}

#[test]
fn what_does_not_fit_a_datagram_is_asked_for_again_over_tcp() {
    let endpoints: Vec<_> = (0..200).map(|n| json!({"addresses": [format!("10.244.1.{n}")]})).collect();
    let mut table = cluster();
    table.apply(slice("big", "db", json!([]), endpoints.into()).change(false));
    let responder = responder(table, false);
    let big = || question("db.ns.svc.cluster.local.", RecordType::A);
    for (question, bytes_max) in
        [(big(), 512), (with_payload(big(), 4096), 1232), (with_payload(big(), 100), 512)]
    {
        let answer = answered(&responder, &question, Transport::Udp);
        assert!(answer.metadata.truncation && !answer.answers.is_empty());
        assert!(answer.to_vec().expect("bytes").len() <= bytes_max);
    }
    let whole = answered(&responder, &big(), Transport::Tcp);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 202));
    // Clients take the first; over many answers each endpoint comes first.
    let firsts: std::collections::HashSet<String> =
        (0..50).map(|_| answered(&responder, &big(), Transport::Tcp).answers[0].data.to_string()).collect();
    assert!(firsts.len() > 5, "{firsts:?}");
}

#[test]
fn others_answers_are_kept_for_their_time() {
    let record = |ttl| Record::from_rdata(Name::root(), ttl, RData::A(A::new(192, 0, 2, 1)));
    let soa = |ttl, minimum| {
        let data = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
        Record::from_rdata(Name::root(), ttl, RData::SOA(data))
    };
    let message = |code, answers: Vec<Record>, authorities: Vec<Record>, cut| {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.truncation = cut;
        message.answers = answers;
        message.authorities = authorities;
        message
    };
    use ResponseCode::*;
    for (message, expected) in [
        (message(NoError, vec![record(60), record(20)], vec![], false), Some(20)),
        (message(NoError, vec![record(999_999)], vec![], false), Some(3600)),
        (message(NoError, vec![record(0)], vec![], false), None),
        (message(NoError, vec![record(60)], vec![], true), None),
        (message(NoError, vec![], vec![], false), None),
        (message(NoError, vec![], vec![soa(60, 10)], false), Some(10)),
        (message(NXDomain, vec![], vec![soa(5, 10)], false), Some(5)),
        (message(NXDomain, vec![], vec![soa(900, 900)], false), Some(30)),
        (message(ServFail, vec![], vec![soa(900, 900)], false), None),
    ] {
        assert_eq!(keep_for(&message), expected, "{message}");
    }
}

#[test]
fn resolvers_are_read_without_our_own_address() {
    let text = "# a comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t10.96.0.10\nnameserver fe80::1%eth0\n\
                nameserver 2001:db8::1 \nnameserver 192.0.2.1\nnameserver nonsense\noptions ndots:5\n";
    let found: Vec<String> = parse_resolv_conf(text, OWN.into()).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
}

proptest! {
    /// Nothing that comes over the wire makes it fail, and all that it says is well formed.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), flips in prop::collection::vec((0usize..80, any::<u8>()), 0..4)) {
        let responder = responder(cluster(), true);
        let mut near = with_payload(question("_http._tcp.db.ns.svc.cluster.local.", RecordType::SRV), 1232).to_vec().expect("bytes");
        for (at, byte) in flips {
            if let Some(place) = near.get_mut(at) {
                *place = byte;
            }
        }
        for bytes in [bytes, near] {
            if let Some(Plan::Now(reply)) = responder.plan(&bytes, Transport::Udp)
                && let Some(said) = reply.encode()
            {
                prop_assert!(said.len() <= 1232 && Message::from_vec(&said).is_ok());
            }
        }
    }
}
