//! From a request's bytes to a response's: checks, the cluster's own answers at once, the rest by asking.

use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use parking_lot::RwLock;

use super::forward::Forwarder;
use super::table::Table;
use super::zone::{Answer, NEGATIVE_TTL_S, Zone};

/// What a UDP answer may measure where the client says nothing.
const UDP_BYTES_PLAIN: u16 = 512;
/// What a UDP answer may measure at most: more would be cut into fragments on some paths.
const UDP_BYTES_MAX: u16 = 1232;
/// Aliases of aliases within the cluster that are followed.
const ALIASES_MAX: usize = 8;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: answers may have to be cut.
    Udp,
    /// In a stream.
    Tcp,
}

/// An answer and the space for it.
#[derive(Debug)]
pub struct Reply {
    message: Message,
    bytes_max: usize,
}

/// An answer that needs somebody else's.
#[derive(Debug)]
pub struct Pending {
    reply: Reply,
    query: Query,
    dnssec: bool,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Plan {
    /// Answer now.
    Now(Reply),
    /// Ask first.
    Ask(Box<Pending>),
}

/// Answers requests, from the table and the resolvers.
pub struct Responder {
    /// The cluster's names.
    pub zone: Zone,
    /// What is known of them.
    pub table: Arc<RwLock<Table>>,
    /// For all other names.
    pub forwarder: Forwarder,
}

impl Responder {
    /// Decides about a request. `None` is to say nothing at all: it was no request.
    pub fn plan(&self, bytes: &[u8], transport: Transport) -> Option<Plan> {
        let request = match Message::from_vec(bytes) {
            Ok(request) => request,
            Err(_) => return unreadable(bytes).map(Plan::Now),
        };
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut message = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        message.metadata.recursion_desired = request.metadata.recursion_desired;
        message.metadata.checking_disabled = request.metadata.checking_disabled;
        message.metadata.recursion_available = true;
        message.add_queries(request.queries.iter().cloned());
        let mut payload = UDP_BYTES_PLAIN;
        let mut dnssec = false;
        let mut version = 0;
        if let Some(asked) = &request.edns {
            payload = asked.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX);
            dnssec = asked.flags().dnssec_ok;
            version = asked.version();
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_BYTES_MAX);
            edns.set_dnssec_ok(dnssec);
            message.set_edns(edns);
        }
        let bytes_max = match transport {
            Transport::Udp => usize::from(payload),
            Transport::Tcp => usize::from(u16::MAX),
        };
        let mut reply = Reply { message, bytes_max };
        let refusal = match request.queries.as_slice() {
            _ if request.metadata.op_code != OpCode::Query => Some(ResponseCode::NotImp),
            _ if version > 0 => Some(ResponseCode::BADVERS),
            [query] if query.query_class() != DNSClass::IN => Some(ResponseCode::Refused),
            [query] if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) => {
                Some(ResponseCode::Refused)
            }
            [_] => None,
            _ => Some(ResponseCode::FormErr),
        };
        if let Some(code) = refusal {
            return Some(Plan::Now(reply.refuse(code)));
        }
        let mut query = request.queries.into_iter().next()?;
        query.set_name(fully_qualified(query.name()));
        for _ in 0..ALIASES_MAX {
            // The lock is held for one look-up, never across a wait.
            let answer = self.zone.answer(&self.table.read(), query.name(), query.query_type());
            let message = &mut reply.message;
            message.metadata.authoritative =
                !matches!(answer, Answer::Elsewhere | Answer::NotReady) || message.metadata.authoritative;
            match answer {
                Answer::Found { mut answers, additionals } => {
                    // Clients take the first: spread them.
                    if answers.len() > 1 {
                        let first = actors::random::within(0..answers.len() as u64);
                        answers.rotate_left(first as usize);
                    }
                    message.answers.extend(answers);
                    message.additionals.extend(additionals);
                }
                Answer::NoData => message.authorities.push(self.zone.authority(NEGATIVE_TTL_S)),
                Answer::NoName => {
                    message.authorities.push(self.zone.authority(NEGATIVE_TTL_S));
                    message.metadata.response_code = ResponseCode::NXDomain;
                }
                Answer::NotReady => return Some(Plan::Now(reply.refuse(ResponseCode::ServFail))),
                Answer::Alias(record, target) => {
                    message.answers.push(record);
                    query.set_name(target);
                    continue;
                }
                Answer::Elsewhere => return Some(self.elsewhere(reply, query, dnssec)),
            }
            return Some(Plan::Now(reply));
        }
        Some(Plan::Now(reply.refuse(ResponseCode::ServFail)))
    }

    fn elsewhere(&self, reply: Reply, query: Query, dnssec: bool) -> Plan {
        if let Some(known) = self.forwarder.cached(&query, dnssec) {
            return Plan::Now(reply.complete(known));
        }
        if !self.forwarder.has_upstreams() {
            return Plan::Now(reply.refuse(ResponseCode::ServFail));
        }
        Plan::Ask(Box::new(Pending { reply, query, dnssec }))
    }

    /// Carries out what [`Responder::plan`] left to ask.
    pub async fn ask(&self, pending: Pending) -> Reply {
        match self.forwarder.ask(&pending.query, pending.dnssec).await {
            Some(message) => pending.reply.complete(message),
            None => pending.reply.refuse(ResponseCode::ServFail),
        }
    }
}

impl Pending {
    /// The answer when there is no room to ask.
    pub fn refuse(self) -> Reply {
        self.reply.refuse(ResponseCode::ServFail)
    }
}

impl Reply {
    fn refuse(mut self, code: ResponseCode) -> Reply {
        self.message.metadata.response_code = code;
        self.message.metadata.authoritative = false;
        self.message.answers.clear();
        self
    }

    fn complete(mut self, from: Message) -> Reply {
        let message = &mut self.message;
        message.metadata.response_code = from.metadata.response_code;
        message.answers.extend(from.answers);
        message.authorities.extend(from.authorities);
        message.additionals.extend(from.additionals);
        self
    }

    /// The bytes to send. What does not fit is left out, less needed things first; TC tells the client to
    /// ask again over TCP when an answer was left out.
    pub fn encode(mut self) -> Option<Vec<u8>> {
        loop {
            let bytes = self.message.to_vec().ok()?;
            if bytes.len() <= self.bytes_max {
                return Some(bytes);
            }
            let message = &mut self.message;
            if !message.additionals.is_empty() {
                message.additionals.clear();
            } else if let Some(last) = message.answers.len().checked_sub(1) {
                let share = message.answers.len() * self.bytes_max / bytes.len();
                message.answers.truncate(share.min(last));
                message.metadata.truncation = true;
            } else if !message.authorities.is_empty() {
                message.authorities.clear();
                message.metadata.truncation = true;
            } else {
                return None;
            }
        }
    }
}

/// The answer to bytes that are no message: an error when at least the header tells that it was a request.
fn unreadable(bytes: &[u8]) -> Option<Reply> {
    let header = bytes.get(..12)?;
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return None;
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    let mut message = Message::new(id, MessageType::Response, OpCode::Query);
    message.metadata = Metadata::new(id, MessageType::Response, OpCode::Query);
    message.metadata.response_code = ResponseCode::FormErr;
    Some(Reply { message, bytes_max: usize::from(UDP_BYTES_PLAIN) })
}

fn fully_qualified(name: &Name) -> Name {
    let mut name = name.clone();
    name.set_fqdn(true);
    name
}
