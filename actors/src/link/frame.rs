//! What goes over a link: length-limited frames, and the handshake before them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::codec::{self, CodecError, ENCODED_BYTES_MAX};
use crate::reference::AskError;
use crate::trace::TraceContext;

/// Oldest protocol version that this build speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest protocol version that this build speaks.
pub const VERSION_MAX: u16 = 1;

const MAGIC: [u8; 8] = *b"troupe/l";

/// The first bytes each side sends. Its layout never changes: a peer of any age must understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version the sender speaks.
    pub version_min: u16,
    /// Newest protocol version the sender speaks.
    pub version_max: u16,
}

impl Default for Hello {
    fn default() -> Self {
        Hello { version_min: VERSION_MIN, version_max: VERSION_MAX }
    }
}

impl Hello {
    /// Magic, then both versions, big-endian.
    pub fn to_bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.version_min.to_be_bytes());
        bytes[10..].copy_from_slice(&self.version_max.to_be_bytes());
        bytes
    }

    /// The reverse of [`Hello::to_bytes`]; `None` for anything else.
    pub fn from_bytes(bytes: &[u8; 12]) -> Option<Hello> {
        let (magic, versions) = bytes.split_at(8);
        let version = |at: usize| u16::from_be_bytes([versions[at], versions[at + 1]]);
        (magic == MAGIC).then(|| Hello { version_min: version(0), version_max: version(2) })
    }

    /// The newest version both speak, or what to do about it.
    pub fn agree(&self, peer: &Hello) -> Result<u16, LinkError> {
        let version = self.version_max.min(peer.version_max);
        if version >= self.version_min.max(peer.version_min) {
            Ok(version)
        } else if peer.version_max < self.version_min {
            Err(LinkError::PeerTooOld { peer: peer.version_max, oldest: self.version_min })
        } else {
            Err(LinkError::PeerTooNew { peer: peer.version_min, newest: self.version_max })
        }
    }
}

/// Why a link could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer stopped speaking our protocol long ago.
    #[error("the peer speaks link protocol {peer} at most, this program {oldest} at least: upgrade the peer")]
    PeerTooOld {
        /// Newest version of the peer.
        peer: u16,
        /// Oldest version of ours.
        oldest: u16,
    },
    /// The peer no longer speaks our protocol.
    #[error(
        "the peer speaks link protocol {peer} at least, this program {newest} at most: upgrade this program"
    )]
    PeerTooNew {
        /// Oldest version of the peer.
        peer: u16,
        /// Newest version of ours.
        newest: u16,
    },
    /// Whatever listens there is no Troupe.
    #[error("the other end does not speak Troupe's link protocol: check the address and port")]
    NotTroupe,
    /// The connection failed or was closed.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
    /// The peer broke the protocol.
    #[error("the peer broke the link protocol: {0}")]
    Protocol(String),
    /// Nothing was heard for too long.
    #[error("nothing heard from the peer for {0} s")]
    Silent(u64),
}

impl From<CodecError> for LinkError {
    fn from(e: CodecError) -> Self {
        LinkError::Protocol(e.to_string())
    }
}

/// One frame. The payload is a message of the program's own vocabulary, encoded; `tag` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// A question; answered by `Answer` with the same `id`.
    Ask {
        /// Correlation id, chosen by the asker.
        id: u64,
        /// Message type.
        tag: u16,
        /// The cause.
        trace: TraceContext,
        /// Milliseconds that the asker waits.
        deadline_ms: u32,
        /// The message.
        payload: Bytes,
    },
    /// The answer to an `Ask`.
    Answer {
        /// The question's id.
        id: u64,
        /// The answer.
        result: Result<Bytes, AskError>,
    },
    /// Opens a stream, in both directions.
    Open {
        /// Stream id, chosen by the opener.
        id: u64,
        /// Message type.
        tag: u16,
        /// The cause.
        trace: TraceContext,
        /// The message that opens it.
        payload: Bytes,
    },
    /// Bytes of a stream. Takes credit.
    Data {
        /// The stream.
        id: u64,
        /// Whether the receiver of this frame opened the stream.
        opened_by_receiver: bool,
        /// One item.
        payload: Bytes,
    },
    /// The receiver of `Data` has handled so many bytes: the sender may send as many more.
    Credit {
        /// The stream.
        id: u64,
        /// Whether the receiver of this frame opened the stream.
        opened_by_receiver: bool,
        /// Bytes.
        bytes: u32,
    },
    /// The sender of this frame sends no more on the stream; with `reset` it also reads no more.
    End {
        /// The stream.
        id: u64,
        /// Whether the receiver of this frame opened the stream.
        opened_by_receiver: bool,
        /// Both directions end.
        reset: bool,
    },
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

/// Exchanges hellos and agrees on a version.
pub(crate) async fn handshake<S>(io: &mut S) -> Result<u16, LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ours = Hello::default();
    io.write_all(&ours.to_bytes()).await?;
    io.flush().await?;
    let mut bytes = [0; 12];
    io.read_exact(&mut bytes).await?;
    let theirs = Hello::from_bytes(&bytes).ok_or(LinkError::NotTroupe)?;
    ours.agree(&theirs)
}

pub(crate) fn encode(frame: &Frame, out: &mut Vec<u8>) -> Result<(), LinkError> {
    let bytes = codec::encode(frame)?;
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(&bytes);
    Ok(())
}

pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Frame, LinkError> {
    let length = io.read_u32().await? as usize;
    if length > ENCODED_BYTES_MAX {
        return Err(LinkError::Protocol(format!("a frame of {length} bytes")));
    }
    let mut bytes = Vec::new();
    // Grows with what really arrives: a lying length costs no memory.
    let got = io.take(length as u64).read_to_end(&mut bytes).await?;
    if got < length {
        return Err(LinkError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(codec::decode(&bytes)?)
}
