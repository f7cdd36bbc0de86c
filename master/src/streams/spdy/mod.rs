//! SPDY/3.1: many streams over one connection, as kubectl speaks it to us and we to kubelets.
//!
//! The connection is a pair of byte streams: an upgraded HTTP/1.1 connection, or a WebSocket that tunnels
//! SPDY. Clients in use (Go's spdystream) neither keep to flow control windows nor open them: were ours to
//! insist on windows, streams would stall after 64 KiB. The connection itself holds back instead: what is
//! not read here is not read from the socket, and what the socket does not take waits in a bounded channel.

pub mod codec;
mod dictionary;

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use futures::stream::LocalBoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use codec::{Decoder, Encoder, Frame, Headers};

/// The most streams open at a time on a connection.
const STREAMS_MAX: usize = 1024;
/// How many writes wait for the socket.
pub const WRITES_WAITING_MAX: usize = 32;

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;

/// What a client of ours sends. It ends when the client has gone.
pub type Inbound = LocalBoxStream<'static, Bytes>;

/// Who opens the streams of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opener {
    Peer,
    Us,
}

/// What the peer does.
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
    /// The peer writes no more to a stream.
    Finished(u32),
    /// The peer wants nothing more of a stream.
    Reset(u32),
}

/// One end of a connection.
pub struct Session<I = Inbound> {
    opener: Opener,
    inbound: I,
    outbound: mpsc::Sender<Bytes>,
    decoder: Decoder,
    encoder: Encoder,
    open: HashSet<u32>,
    last: u32,
    ready: VecDeque<Event>,
}

impl<I: Stream<Item = Bytes> + Unpin> Session<I> {
    /// The server's end, over two byte streams: the client opens streams.
    pub fn new(inbound: I, outbound: mpsc::Sender<Bytes>) -> Self {
        Self::opened_by(Opener::Peer, inbound, outbound)
    }

    /// The client's end: streams are opened here.
    pub fn client(inbound: I, outbound: mpsc::Sender<Bytes>) -> Self {
        Self::opened_by(Opener::Us, inbound, outbound)
    }

    fn opened_by(opener: Opener, inbound: I, outbound: mpsc::Sender<Bytes>) -> Self {
        Session {
            opener,
            inbound,
            outbound,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            open: HashSet::new(),
            last: 0,
            ready: VecDeque::new(),
        }
    }

    /// Opens a stream, at a client's end. Bytes may be sent at once: a server that does not want the stream resets it.
    ///
    /// # Errors
    /// When the server has gone.
    pub async fn open(&mut self, headers: Headers) -> Result<Writer, Gone> {
        // A client's streams are odd and count up.
        let stream = if self.last == 0 { 1 } else { self.last + 2 };
        let frame = Frame::SynStream { stream, associated: 0, priority: 0, fin: false, headers };
        let bytes = self.encoder.encode(&frame).map_err(|_| Gone)?;
        self.outbound.send(bytes).await.map_err(|_| Gone)?;
        self.last = stream;
        self.open.insert(stream);
        Ok(self.writer(stream))
    }

    /// Writes to a stream of this session.
    pub fn writer(&self, stream: u32) -> Writer {
        Writer { stream, outbound: self.outbound.clone() }
    }

    /// A stream of which nothing more is wanted makes room for another.
    pub fn forget(&mut self, stream: u32) {
        self.open.remove(&stream);
    }

    /// What the peer does next; `None` when it has gone or does not keep to the protocol.
    ///
    /// May be dropped while it waits for the peer.
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
                    tracing::debug!(error = %e, "a SPDY peer does not keep to the protocol");
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
                // Clients' streams are odd and count up; servers have no reason to open any.
                if self.opener == Opener::Us || stream % 2 == 0 || stream <= self.last {
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
            // A client's pings are odd and a server's even; others would be answers to ours.
            Frame::Ping(id) if (id % 2 == 1) == (self.opener == Opener::Peer) => Some(Frame::Ping(id)),
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

/// The peer has gone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer has gone")]
pub struct Gone;

impl Writer {
    /// The number of the stream.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the peer has gone.
    pub async fn data(&self, data: &[u8]) -> Result<(), Gone> {
        for piece in data.chunks(protocol::streams::FRAME_BYTES_MAX) {
            self.send(piece, false).await?;
        }
        Ok(())
    }

    /// Nothing more comes on this stream.
    ///
    /// # Errors
    /// When the peer has gone.
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
