//! SPDY/3.1: many streams over one connection, as kubectl speaks it.
//!
//! The connection is a pair of byte streams: an upgraded HTTP/1.1 connection, or a WebSocket that tunnels
//! SPDY. Clients in use (Go's spdystream) neither keep to flow control windows nor open them: were ours to
//! insist on windows, streams would stall after 64 KiB. The connection itself holds back instead: what is
//! not read here is not read from the socket, and what the socket does not take waits in a bounded channel.

pub mod codec;
mod dictionary;

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::LocalBoxStream;
use tokio::sync::mpsc;

use codec::{Decoder, Encoder, Frame, Headers};

/// The most streams open at a time on a connection.
const STREAMS_MAX: usize = 1024;
/// How many writes wait for the socket.
pub const WRITES_WAITING_MAX: usize = 32;

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;

/// What the client sends. It ends when the client has gone.
pub type Inbound = LocalBoxStream<'static, Bytes>;

/// What a client does.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A new stream; it has been accepted.
    Opened {
        /// Its number.
        stream: u32,
        /// What it is.
        headers: Headers,
    },
    /// Bytes; never empty.
    Data {
        /// Of which stream.
        stream: u32,
        /// The bytes.
        data: Bytes,
    },
    /// The client writes no more to a stream.
    Finished(u32),
    /// The client wants nothing more of a stream.
    Reset(u32),
}

/// The server's end of a connection.
pub struct Session {
    inbound: Inbound,
    outbound: mpsc::Sender<Bytes>,
    decoder: Decoder,
    encoder: Encoder,
    open: HashSet<u32>,
    last: u32,
    ready: VecDeque<Event>,
}

impl Session {
    /// A session over two byte streams.
    pub fn new(inbound: Inbound, outbound: mpsc::Sender<Bytes>) -> Self {
        Session {
            inbound,
            outbound,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            open: HashSet::new(),
            last: 0,
            ready: VecDeque::new(),
        }
    }

    /// Writes to a stream of this session.
    pub fn writer(&self, stream: u32) -> Writer {
        Writer { stream, outbound: self.outbound.clone() }
    }

    /// A stream of which nothing more is wanted makes room for another.
    pub fn forget(&mut self, stream: u32) {
        self.open.remove(&stream);
    }

    /// What the client does next; `None` when it has gone or does not keep to the protocol.
    ///
    /// May be dropped while it waits for the client.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.decoder.next_frame() {
                Ok(Some(frame)) => {
                    if let Some(answer) = self.take(frame) {
                        let bytes = self.encoder.encode(&answer).ok()?;
                        self.outbound.send(bytes).await.ok()?;
                    }
                }
                Ok(None) => {
                    let bytes = self.inbound.next().await?;
                    self.decoder.feed(&bytes);
                }
                Err(e) => {
                    tracing::debug!(error = %e, "a SPDY client does not keep to the protocol");
                    let goodbye = Frame::GoAway { last: self.last, status: PROTOCOL_ERROR };
                    let bytes = self.encoder.encode(&goodbye).ok()?;
                    let _ = self.outbound.send(bytes).await;
                    return None;
                }
            }
        }
    }

    /// What a frame means: events for the user of the session, and at most one answer.
    fn take(&mut self, frame: Frame) -> Option<Frame> {
        match frame {
            Frame::SynStream { stream, fin, headers, .. } => {
                // Clients' streams are odd and count up.
                if stream % 2 == 0 || stream <= self.last {
                    return Some(Frame::RstStream { stream, status: PROTOCOL_ERROR });
                }
                self.last = stream;
                if self.open.len() >= STREAMS_MAX {
                    return Some(Frame::RstStream { stream, status: REFUSED_STREAM });
                }
                self.open.insert(stream);
                self.ready.push_back(Event::Opened { stream, headers });
                if fin {
                    self.ready.push_back(Event::Finished(stream));
                }
                Some(Frame::SynReply { stream, fin: false, headers: Vec::new() })
            }
            Frame::Data { stream, fin, data } => {
                // Bytes may still be under way to a stream that has ended here.
                if self.open.contains(&stream) {
                    if !data.is_empty() {
                        self.ready.push_back(Event::Data { stream, data });
                    }
                    if fin {
                        self.ready.push_back(Event::Finished(stream));
                    }
                }
                None
            }
            Frame::Headers { stream, fin, .. } => {
                if fin && self.open.contains(&stream) {
                    self.ready.push_back(Event::Finished(stream));
                }
                None
            }
            Frame::RstStream { stream, .. } => {
                if self.open.remove(&stream) {
                    self.ready.push_back(Event::Reset(stream));
                }
                None
            }
            // Odd pings are the client's questions, even ones would be answers to ours.
            Frame::Ping(id) if id % 2 == 1 => Some(Frame::Ping(id)),
            Frame::Ping(_)
            | Frame::SynReply { .. }
            | Frame::Settings(_)
            | Frame::GoAway { .. }
            | Frame::WindowUpdate { .. } => None,
        }
    }
}

/// Writes to one stream. The connection stays open as long as there are writers, or its session.
#[derive(Clone, Debug)]
pub struct Writer {
    stream: u32,
    outbound: mpsc::Sender<Bytes>,
}

/// The client has gone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub struct Gone;

impl Writer {
    /// Sends bytes.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn data(&self, data: &[u8]) -> Result<(), Gone> {
        for piece in data.chunks(protocol::streams::FRAME_BYTES_MAX) {
            self.send(piece, false).await?;
        }
        Ok(())
    }

    /// Nothing more comes on this stream.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn finish(&self) -> Result<(), Gone> {
        self.send(&[], true).await
    }

    async fn send(&self, data: &[u8], fin: bool) -> Result<(), Gone> {
        let frame = codec::data_frame(self.stream, fin, data).map_err(|_| Gone)?;
        self.outbound.send(frame).await.map_err(|_| Gone)
    }
}

/// A header of a stream.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
