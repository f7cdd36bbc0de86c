//! The messages between a node and its master, as they cross a link.
//!
//! A node dials and keeps one link; both sides ask over it. Numbers and layouts are the wire format: a
//! change to either needs a new link protocol version (`actors::link::VERSION_MAX`).

use std::time::Duration;

use actors::link::codec::{self, CodecError};
use actors::{ActorInfo, AskError};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::ApiError;

/// Certificates are good from so long before they are made, as nodes' clocks may be behind. So a new certificate
/// also says what the master's clock is.
pub const CERTIFICATE_BACKDATED: Duration = Duration::from_secs(3600);

/// What the versions of our own kubelets end in.
pub const KUBELET_BUILD: &str = "+troupe";

/// Message types. Numbers are never reused.
pub mod tag {
    /// Node → master: [`ApiRequest`](crate::ApiRequest), answered by `Result<ApiResponse, ApiError>`.
    pub const CALL: u16 = 1;
    /// Node → master, a stream: [`ApiRequest`](crate::ApiRequest); the first item is `Result<(), ApiError>`,
    /// each further one a [`WatchEvent`](crate::WatchEvent).
    pub const WATCH: u16 = 2;
    /// Anybody → master: [`JoinQuestion`](super::JoinQuestion), answered by `Result<JoinAnswer, ApiError>`.
    pub const JOIN_INFO: u16 = 3;
    /// Anybody → master: [`JoinRequest`](super::JoinRequest), answered by `Result<JoinGrant, ApiError>`.
    pub const JOIN: u16 = 4;
    /// Node → master: [`RenewRequest`](super::RenewRequest), answered by the new certificate's PEM as
    /// `Result<String, ApiError>`.
    pub const RENEW: u16 = 5;
    /// Master → node, a stream of frames: [`ExecRequest`](crate::streams::ExecRequest).
    pub const EXEC: u16 = 16;
    /// Master → node, a stream of frames: [`AttachRequest`](crate::streams::AttachRequest).
    pub const ATTACH: u16 = 17;
    /// Master → node, a stream of frames: [`PortForwardRequest`](crate::streams::PortForwardRequest).
    pub const PORT_FORWARD: u16 = 18;
    /// Master → node, a stream of log text: [`LogRequest`](crate::streams::LogRequest).
    pub const LOGS: u16 = 19;
    /// Master → node, a stream of frames: [`DialRequest`](crate::streams::DialRequest).
    pub const DIAL: u16 = 20;
    /// Either way: [`TraceQuery`](super::TraceQuery), answered by `Vec<actors::trace::Record>`.
    pub const RECORDS: u16 = 32;
    /// Either way: nothing, answered by `Vec<actors::ActorInfo>`.
    pub const ACTORS: u16 = 33;
    /// Either way: an actor's path, answered by `bool`: it exists and was made to panic.
    pub const PANIC: u16 = 34;

    /// The name of a message type, for the trace.
    pub fn name(tag: u16) -> &'static str {
        match tag {
            CALL => "Call",
            WATCH => "Watch",
            JOIN_INFO => "JoinInfo",
            JOIN => "Join",
            RENEW => "Renew",
            EXEC => "Exec",
            ATTACH => "Attach",
            PORT_FORWARD => "PortForward",
            LOGS => "Logs",
            DIAL => "Dial",
            RECORDS => "Records",
            ACTORS => "Actors",
            PANIC => "Panic",
            _ => "Unknown",
        }
    }
}

/// Which trace records to return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceQuery {
    /// Records of these traces; empty for any.
    pub traces: Vec<u128>,
    /// Records about this object (`deployments/default/web`).
    pub key: Option<String>,
    /// Records whose receiver's path starts so.
    pub actor: Option<String>,
    /// At most so many, the newest.
    pub limit: u32,
}

impl TraceQuery {
    /// Whether a record is asked for.
    pub fn wants(&self, record: &actors::trace::Record) -> bool {
        (self.traces.is_empty() || self.traces.contains(&record.context.trace))
            && self.key.as_ref().is_none_or(|key| record.key.as_deref() == Some(key))
            && self.actor.as_ref().is_none_or(|actor| record.to.starts_with(actor.as_str()))
    }

    /// The answer out of this process's rings.
    pub fn answer(&self) -> Vec<actors::trace::Record> {
        actors::trace::find(self.limit as usize, |record| self.wants(record))
    }
}

/// A node that has nothing but a token asks whom it may trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinQuestion {
    /// The token's public part.
    pub token_id: String,
    /// Random bytes, so that an answer cannot be replayed.
    pub nonce: [u8; 32],
}

/// The cluster's CA, proven with the token's secret, which never crosses an unproven connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The CA certificate in PEM.
    pub ca_pem: String,
    /// HMAC-SHA256 of nonce and CA under the token's secret.
    pub proof: Vec<u8>,
}

/// A node asks for its certificate. Sent only after the CA was proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The whole token, `id.secret`.
    pub token: String,
    /// The node's name.
    pub node: String,
    /// Certificate signing request in PEM.
    pub csr_pem: String,
    /// Addresses and names that the node's serving certificate needs.
    pub names: Vec<String>,
}

/// A node that has joined asks for a new certificate. Whose it is to be, the link itself says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// Certificate signing request in PEM.
    pub csr_pem: String,
}

/// What a joined node gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// The node's certificate in PEM: client and server in one.
    pub certificate_pem: String,
    /// Address of the cluster's DNS service.
    pub cluster_dns: String,
    /// The pods' addresses of the whole cluster.
    pub cluster_cidr: String,
    /// The services' addresses.
    pub service_cidr: String,
}

/// Encodes a message for the link.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes, CodecError> {
    codec::encode(message).map(Bytes::from)
}

/// Decodes a message from the link.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(bytes)
}

/// The live actors of one process, with where it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessActors {
    /// `master`, or `node/NAME`.
    pub process: String,
    /// Its actors.
    pub actors: Vec<ActorInfo>,
}

/// A failed ask as an API error: the server was not reached, or not in time.
pub fn unreachable(what: &str, error: AskError) -> ApiError {
    ApiError::Unreachable(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests;
