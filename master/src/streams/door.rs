//! A connection whose first request may ask to upgrade to something else than a WebSocket.
//!
//! actix-http gives a handler the bytes that follow a request only where the request upgrades to
//! `websocket`; after any other upgrade it reads them as the next request. This wrapper looks at the head of
//! a connection's first request, and where that upgrades to something else (SPDY, or whatever a pod behind the
//! proxy speaks) it adds a second `Upgrade: websocket` line behind the client's own, which stays the one that
//! handlers see first. Clients dial anew for each upgrade, so the first request is enough.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head longer than this is passed on unseen.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What is no upgrade of ours: actix's own, and an offer that HTTP/1 clients make and servers may pass over.
const LEFT: [&[u8]; 2] = [b"websocket", b"h2c"];
const ADDED: &[u8] = b"Upgrade: websocket\r\n";

/// A connection, watched until its first request's head has been read.
pub struct Door<T> {
    io: T,
    /// What has been read of the first head; `None` once it has been decided.
    head: Option<BytesMut>,
    /// Read already, and not passed on yet.
    waiting: Bytes,
}

impl<T> Door<T> {
    /// Wraps a new connection.
    pub fn new(io: T) -> Self {
        Door { io, head: Some(BytesMut::new()), waiting: Bytes::new() }
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &T {
        &self.io
    }
}

/// What to pass on of what was read so far; `None` to read more of the head first.
fn decide(read: &[u8], ended: bool) -> Option<Bytes> {
    let head = read.windows(4).position(|w| w == b"\r\n\r\n");
    if head.is_none() && !ended && read.len() < HEAD_BYTES_MAX {
        return None;
    }
    // The blank line's first line end belongs to the last header.
    let head = read.get(..head.map_or(0, |at| at + 2)).unwrap_or_default();
    let Some(at) = asked(head) else { return Some(Bytes::copy_from_slice(read)) };
    let (before, after) = read.split_at(at);
    Some([before, ADDED, after].concat().into())
}

/// Where the line ends in which a head asks for an upgrade that actix would not see.
fn asked(head: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"upgrade") && !value.is_empty() {
            return (!LEFT.iter().any(|left| value.eq_ignore_ascii_case(left))).then_some(end);
        }
    }
    None
}

impl<T: AsyncRead + Unpin> AsyncRead for Door<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(head) = &mut this.head {
            let mut piece = [0; 4096];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut piece))?;
            head.extend_from_slice(piece.filled());
            if let Some(decided) = decide(head, piece.filled().is_empty()) {
                this.waiting = decided;
                this.head = None;
            }
        }
        if this.waiting.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let length = this.waiting.len().min(buf.remaining());
        buf.put_slice(&this.waiting[..length]);
        this.waiting.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Door<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<T: ActixStream> ActixStream for Door<T> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        if self.waiting.is_empty() { self.io.poll_read_ready(cx) } else { Poll::Ready(Ok(Ready::READABLE)) }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_write_ready(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn only_upgrades_that_actix_would_not_see_are_changed() {
        let spdy = "POST /x HTTP/1.1\r\nHost: a\r\nupgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n";
        let changed = spdy.replace("SPDY/3.1\r\n", "SPDY/3.1\r\nUpgrade: websocket\r\n");
        let in_body = "POST /x HTTP/1.1\r\nHost: a\r\n\r\n\r\nUpgrade: SPDY/3.1\r\n";
        let other = "GET /x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade:raw\r\n\r\nrest";
        let changed_other = other.replace(":raw\r\n", ":raw\r\nUpgrade: websocket\r\n");
        let own = "GET /x HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n";
        let h2c = "GET /x HTTP/1.1\r\nUpgrade: h2c\r\n\r\n";
        let h2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for (sent, expected) in [
            (spdy, changed.as_str()),
            (other, &changed_other),
            (own, own),
            (h2c, h2c),
            (in_body, in_body),
            (h2, h2),
            ("GET", "GET"),
            ("", ""),
        ] {
            for piece in [1, 7, 1000] {
                let (mut client, server) = tokio::io::duplex(64);
                let sent = sent.as_bytes().to_vec();
                let writing = tokio::spawn(async move {
                    for piece in sent.chunks(piece) {
                        client.write_all(piece).await.unwrap();
                    }
                });
                let mut read = String::new();
                Door::new(server).read_to_string(&mut read).await.unwrap();
                writing.await.unwrap();
                assert_eq!(read, expected);
            }
        }
    }
}
