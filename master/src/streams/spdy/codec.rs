//! SPDY/3.1 frames: bytes to frames and back. No I/O.
//!
//! Everything a peer sends is bounded: frames by [`FRAME_BYTES_MAX`], header blocks by
//! [`HEADER_BYTES_MAX`]. An error means that the compression state is lost: the connection has to end.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary::DICTIONARY;

/// The longest frame that is accepted.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The longest header block that is accepted, uncompressed.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// The most settings in one frame.
const SETTINGS_MAX: usize = 64;

const VERSION: u16 = 3;
const FIN: u8 = 1;
const STREAM_ID: u32 = 0x7fff_ffff;

/// Names and values, in order. Names are lower case on the wire.
pub type Headers = Vec<(String, String)>;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// The new stream.
        stream: u32,
        /// The stream it belongs to; 0 for none.
        associated: u32,
        /// 0 is the highest of 8.
        priority: u8,
        /// The sender will send no data.
        fin: bool,
        /// What the stream is.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// Which.
        stream: u32,
        /// The sender will send no data.
        fin: bool,
        /// Headers of the answer.
        headers: Headers,
    },
    /// Ends a stream at once, both ways.
    RstStream {
        /// Which.
        stream: u32,
        /// Why (1 protocol error, 3 refused, 5 cancelled ...).
        status: u32,
    },
    /// Parameters of the connection: id and value.
    Settings(Vec<(u32, u32)>),
    /// Is answered by the same.
    Ping(u32),
    /// No stream after this one will be served.
    GoAway {
        /// The last stream that was accepted.
        last: u32,
        /// Why (0 ok, 1 protocol error, 2 internal error).
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Which.
        stream: u32,
        /// The sender will send nothing more.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// The sender can take this many bytes more.
    WindowUpdate {
        /// Which stream; 0 for the connection.
        stream: u32,
        /// How many.
        delta: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Which.
        stream: u32,
        /// The sender will send nothing more.
        fin: bool,
        /// The bytes.
        data: Bytes,
    },
}

/// What is wrong with a peer's bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not this version of SPDY, or not SPDY.
    #[error("SPDY version {0} is not spoken")]
    Version(u16),
    /// Longer than allowed.
    #[error("a SPDY frame of {0} bytes is too long")]
    TooLong(usize),
    /// Shorter than its type needs.
    #[error("a SPDY frame of type {0} is malformed")]
    Malformed(u16),
    /// The header block does not decompress, or is too long.
    #[error("a SPDY header block is malformed")]
    HeaderBlock,
}

/// One direction of a connection, read.
pub struct Decoder {
    buffer: BytesMut,
    headers: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { buffer: BytesMut::new(), headers: Decompress::new(true) }
    }
}

impl Decoder {
    /// Takes what has arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more has arrived. Frames of unknown types are left out.
    ///
    /// # Errors
    /// When the peer does not keep to the protocol; nothing after it can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, CodecError> {
        loop {
            let Some(&[a, b, c, d, flags, l1, l2, l3]) = self.buffer.first_chunk::<8>() else {
                return Ok(None);
            };
            let first = u32::from_be_bytes([a, b, c, d]);
            let length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(CodecError::TooLong(length));
            }
            let control = first & !STREAM_ID != 0;
            let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
            if control && version != VERSION {
                return Err(CodecError::Version(version));
            }
            if self.buffer.len() < 8 + length {
                return Ok(None);
            }
            self.buffer.advance(8);
            let payload = self.buffer.split_to(length).freeze();
            let fin = flags & FIN != 0;
            if !control {
                return Ok(Some(Frame::Data { stream: first, fin, data: payload }));
            }
            if let Some(frame) = self.control(kind, fin, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, fin: bool, mut payload: Bytes) -> Result<Option<Frame>, CodecError> {
        let mut number = || {
            if payload.remaining() < 4 { Err(CodecError::Malformed(kind)) } else { Ok(payload.get_u32()) }
        };
        Ok(Some(match kind {
            1 => {
                let (stream, associated) = (number()? & STREAM_ID, number()? & STREAM_ID);
                if payload.remaining() < 2 {
                    return Err(CodecError::Malformed(kind));
                }
                let priority = payload.get_u16().to_be_bytes()[0] >> 5;
                let headers = self.header_block(&payload)?;
                Frame::SynStream { stream, associated, priority, fin, headers }
            }
            2 | 8 => {
                let stream = number()? & STREAM_ID;
                let headers = self.header_block(&payload)?;
                if kind == 2 {
                    Frame::SynReply { stream, fin, headers }
                } else {
                    Frame::Headers { stream, fin, headers }
                }
            }
            3 => Frame::RstStream { stream: number()? & STREAM_ID, status: number()? },
            4 => {
                let count = number()? as usize;
                if count > SETTINGS_MAX {
                    return Err(CodecError::Malformed(kind));
                }
                let mut settings = Vec::with_capacity(count);
                for _ in 0..count {
                    settings.push((number()? & 0x00ff_ffff, number()?));
                }
                Frame::Settings(settings)
            }
            6 => Frame::Ping(number()?),
            7 => Frame::GoAway { last: number()? & STREAM_ID, status: number()? },
            9 => Frame::WindowUpdate { stream: number()? & STREAM_ID, delta: number()? & STREAM_ID },
            _ => return Ok(None),
        }))
    }

    fn header_block(&mut self, compressed: &[u8]) -> Result<Headers, CodecError> {
        let plain = self.inflate(compressed)?;
        parse_headers(&plain).ok_or(CodecError::HeaderBlock)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            if plain.len() > HEADER_BYTES_MAX {
                return Err(CodecError::HeaderBlock);
            }
            plain.reserve(1024);
            let (before, length) = (self.headers.total_in(), plain.len());
            let outcome = self.headers.decompress_vec(input, &mut plain, FlushDecompress::Sync);
            let consumed = usize::try_from(self.headers.total_in() - before).unwrap_or(input.len());
            input = input.get(consumed..).unwrap_or_default();
            match outcome {
                Ok(_) => {}
                Err(e) if e.needs_dictionary().is_some() => {
                    self.headers.set_dictionary(DICTIONARY).map_err(|_| CodecError::HeaderBlock)?;
                    continue;
                }
                Err(_) => return Err(CodecError::HeaderBlock),
            }
            if consumed == 0 && plain.len() == length {
                // Nothing moves any more: all is read, or the block is broken.
                return if input.is_empty() { Ok(plain) } else { Err(CodecError::HeaderBlock) };
            }
        }
    }
}

fn parse_headers(mut plain: &[u8]) -> Option<Headers> {
    fn text(plain: &mut &[u8]) -> Option<String> {
        let length = plain.try_get_u32().ok()? as usize;
        let (text, rest) = plain.split_at_checked(length)?;
        *plain = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
    let count = plain.try_get_u32().ok()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let (name, value) = (text(&mut plain)?, text(&mut plain)?);
        headers.push((name, value));
    }
    Some(headers)
}

/// One direction of a connection, written.
pub struct Encoder {
    headers: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        let mut headers = Compress::new(Compression::default(), true);
        // Fails only on a compressor that has begun already.
        let dictionary = headers.set_dictionary(DICTIONARY);
        debug_assert!(dictionary.is_ok());
        Encoder { headers }
    }
}

impl Encoder {
    /// A frame's bytes. Frames with headers have to be sent in the order in which they were encoded.
    ///
    /// # Errors
    /// When the frame is longer than a peer has to accept.
    pub fn encode(&mut self, frame: &Frame) -> Result<Bytes, CodecError> {
        let mut payload = BytesMut::new();
        let (kind, fin) = match frame {
            Frame::Data { stream, fin, data } => return data_frame(*stream, *fin, data),
            Frame::SynStream { stream, associated, priority, fin, headers } => {
                payload.put_u32(*stream);
                payload.put_u32(*associated);
                payload.put_u8((priority & 7) << 5);
                payload.put_u8(0);
                self.deflate(headers, &mut payload)?;
                (1, *fin)
            }
            Frame::SynReply { stream, fin, headers } => {
                payload.put_u32(*stream);
                self.deflate(headers, &mut payload)?;
                (2, *fin)
            }
            Frame::RstStream { stream, status } => {
                payload.put_u32(*stream);
                payload.put_u32(*status);
                (3, false)
            }
            Frame::Settings(settings) => {
                payload.put_u32(settings.len() as u32);
                for (id, value) in settings {
                    payload.put_u32(*id & 0x00ff_ffff);
                    payload.put_u32(*value);
                }
                (4, false)
            }
            Frame::Ping(id) => {
                payload.put_u32(*id);
                (6, false)
            }
            Frame::GoAway { last, status } => {
                payload.put_u32(*last);
                payload.put_u32(*status);
                (7, false)
            }
            Frame::Headers { stream, fin, headers } => {
                payload.put_u32(*stream);
                self.deflate(headers, &mut payload)?;
                (8, *fin)
            }
            Frame::WindowUpdate { stream, delta } => {
                payload.put_u32(*stream);
                payload.put_u32(*delta);
                (9, false)
            }
        };
        frame_bytes(0x8000_0000 | u32::from(VERSION) << 16 | kind, fin, &payload)
    }

    fn deflate(&mut self, headers: &Headers, out: &mut BytesMut) -> Result<(), CodecError> {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            for text in [&name, value] {
                plain.put_u32(text.len() as u32);
                plain.put_slice(text.as_bytes());
            }
        }
        let mut input = &plain[..];
        let mut compressed = Vec::with_capacity(plain.len() + 64);
        loop {
            let (before, length) = (self.headers.total_in(), compressed.len());
            compressed.reserve(64);
            self.headers
                .compress_vec(input, &mut compressed, FlushCompress::Sync)
                .map_err(|_| CodecError::HeaderBlock)?;
            let consumed = usize::try_from(self.headers.total_in() - before).unwrap_or(input.len());
            input = input.get(consumed..).unwrap_or_default();
            // A flush is complete once it leaves room in the output.
            if input.is_empty() && compressed.len() < compressed.capacity() || compressed.len() == length {
                out.put_slice(&compressed);
                return Ok(());
            }
        }
    }
}

/// A data frame; these need no compression state and may be written by anyone.
pub fn data_frame(stream: u32, fin: bool, data: &[u8]) -> Result<Bytes, CodecError> {
    frame_bytes(stream & STREAM_ID, fin, data)
}

fn frame_bytes(first: u32, fin: bool, payload: &[u8]) -> Result<Bytes, CodecError> {
    if payload.len() > FRAME_BYTES_MAX {
        return Err(CodecError::TooLong(payload.len()));
    }
    let mut out = BytesMut::with_capacity(payload.len() + 8);
    out.put_u32(first);
    out.put_u32(u32::from(if fin { FIN } else { 0 }) << 24 | payload.len() as u32);
    out.put_slice(payload);
    Ok(out.freeze())
}

#[cfg(test)]
mod tests;
