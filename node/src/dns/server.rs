//! Questions to answers.

use std::sync::Arc;

use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::Record;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::RwLock;

use super::forward::Forwarder;
use super::zone::{Answer, Zone};

/// The largest UDP answer that we offer, in bytes.
const UDP_BYTES_MAX: u16 = 1232;

/// Answers from the zone, and asks upstream about the rest.
#[derive(Clone)]
pub struct Responder {
    /// The cluster's names.
    pub zone: Arc<RwLock<Zone>>,
    /// Everybody else's.
    pub forwarder: Arc<Forwarder>,
}

/// An answer, ready to be written.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How it went.
    pub code: ResponseCode,
    /// Whether we are the authority.
    pub authoritative: bool,
    /// Records that answer.
    pub answers: Vec<Record>,
    /// The SOA of a "no".
    pub authorities: Vec<Record>,
    /// Further records.
    pub additionals: Vec<Record>,
}

impl Responder {
    /// Answers one question.
    pub async fn answer(&self, query: &Query) -> Outcome {
        let (answer, soa) = {
            let zone = self.zone.read();
            (zone.answer(query.name(), query.query_type()), zone.soa())
        };
        let ours = Outcome { authoritative: true, ..Outcome::default() };
        match answer {
            Answer::Found(answers, additionals) => Outcome { answers, additionals, ..ours },
            Answer::NoData => Outcome { authorities: vec![soa], ..ours },
            Answer::NoName => Outcome { code: ResponseCode::NXDomain, authorities: vec![soa], ..ours },
            Answer::Alias(alias, target) => {
                let next = Query::query(target, query.query_type());
                let within = self.zone.read().answer(next.name(), next.query_type());
                let rest = match within {
                    Answer::Found(records, _) => records,
                    Answer::NotOurs => self.forwarder.ask(&next).await.answers,
                    _ => Vec::new(),
                };
                Outcome { answers: std::iter::once(alias).chain(rest).collect(), ..ours }
            }
            Answer::NotOurs => {
                let reply = self.forwarder.ask(query).await;
                Outcome {
                    code: reply.code,
                    answers: reply.answers,
                    authorities: reply.authorities,
                    ..Outcome::default()
                }
            }
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Responder {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let outcome = match request.request_info() {
            Ok(info) if request.metadata.op_code == OpCode::Query => self.answer(info.query.original()).await,
            Ok(_) => Outcome { code: ResponseCode::NotImp, ..Outcome::default() },
            Err(_) => Outcome { code: ResponseCode::FormErr, ..Outcome::default() },
        };
        metadata.response_code = outcome.code;
        metadata.authoritative = outcome.authoritative;
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().clamp(512, UDP_BYTES_MAX)).set_version(0);
            builder.edns(&edns);
        }
        let none: [Record; 0] = [];
        let response =
            builder.build(metadata, &outcome.answers, &outcome.authorities, &none, &outcome.additionals);
        match handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer was not sent");
                let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}
