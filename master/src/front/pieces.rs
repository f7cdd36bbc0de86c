//! Long lists, which go out as they are put together: at no time does one lie in memory as a whole.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use bytes::{BufMut, Bytes, BytesMut};

use super::write;

/// About how many bytes are put together at a time: few TLS records, and no more than a slow client is sent ahead.
const CHUNK_BYTES: usize = 64 << 10;

/// A body of many pieces.
pub(super) struct Pieces {
    left: std::vec::IntoIter<Bytes>,
    bytes: u64,
}

impl Pieces {
    fn new(pieces: Vec<Bytes>) -> Self {
        Pieces { bytes: pieces.iter().map(|piece| piece.len() as u64).sum(), left: pieces.into_iter() }
    }
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let waiting = usize::try_from(self.bytes).unwrap_or(CHUNK_BYTES);
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES.min(waiting));
        while let Some(piece) = self.left.as_slice().first() {
            if chunk.is_empty() && piece.len() >= CHUNK_BYTES {
                return Poll::Ready(self.left.next().map(Ok));
            }
            if chunk.len() + piece.len() > CHUNK_BYTES {
                break;
            }
            chunk.put_slice(piece);
            self.left.next();
        }
        Poll::Ready(if chunk.is_empty() { None } else { Some(Ok(chunk.freeze())) })
    }
}

/// The answer that is a list of these pieces.
pub(super) fn respond(warnings: &[String], mut pieces: Vec<Bytes>) -> HttpResponse {
    // As JSON ends elsewhere.
    pieces.push(Bytes::from_static(b"\n"));
    write::with_warnings(200, warnings).content_type("application/json").body(Pieces::new(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_chunk_is_much_longer(lengths in proptest::collection::vec(0usize..90_000, 0..40)) {
            let pieces: Vec<Bytes> =
                lengths.iter().enumerate().map(|(i, n)| Bytes::from(vec![i as u8; *n])).collect();
            let whole = pieces.concat();
            let longest = lengths.iter().copied().max().unwrap_or(0).max(CHUNK_BYTES);
            let mut body = Pieces::new(pieces);
            prop_assert_eq!(body.size(), BodySize::Sized(whole.len() as u64));
            let mut sent = Vec::new();
            let mut task = Context::from_waker(std::task::Waker::noop());
            while let Poll::Ready(Some(Ok(chunk))) = Pin::new(&mut body).poll_next(&mut task) {
                prop_assert!(!chunk.is_empty() && chunk.len() <= longest);
                sent.extend_from_slice(&chunk);
            }
            prop_assert_eq!(sent, whole);
        }
    }
}
