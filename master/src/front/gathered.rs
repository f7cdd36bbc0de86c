//! Writes of a connection, gathered: HTTP/2 writes and flushes each frame by itself, and each would be a record of TLS and
//! a call of the kernel.
//!
//! What is written is held back, and so is the flush behind it: the connection's task is asked to come again once those
//! have run that want to write too. Only a flush with nothing new before it is one. So what is ready at the same time
//! goes together, and waits for nothing else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are held back at most. What is larger is written as it is.
const HELD_BYTES_MAX: usize = 64 << 10;

/// A connection whose writes are gathered.
pub(super) struct Gathered<T> {
    io: T,
    /// Whether they are: the other side's task flushes again and again, until there is nothing.
    gathers: bool,
    held: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// Something was held back since the last flush.
    fresh: bool,
}

impl<T> Gathered<T> {
    /// Wraps a new connection; of one that does not gather all is passed on.
    pub(super) fn new(io: T, gathers: bool) -> Self {
        Gathered { io, gathers, held: Vec::new(), written: 0, fresh: false }
    }

    /// The connection itself.
    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Writes what is held back. A quiet connection holds no memory.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.held.get(self.written..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.held = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if !this.gathers || this.held.len() + length > HELD_BYTES_MAX {
            ready!(this.drain(cx))?;
        }
        if !this.gathers || length >= HELD_BYTES_MAX {
            return Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        }
        bufs.iter().for_each(|buf| this.held.extend_from_slice(buf));
        this.fresh = true;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.fresh) {
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(this.drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: ActixStream> ActixStream for Gathered<T> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.io.poll_write_ready(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::task::ArcWake;

    use super::*;

    /// Takes so many bytes at a time, and tells the sizes of what it took.
    struct Sink {
        most: usize,
        took: Vec<usize>,
        bytes: Vec<u8>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.most);
            self.took.push(taken);
            self.bytes.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(woken: &Arc<Self>) {
            woken.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Tried {
        gathered: Gathered<Sink>,
        woken: Arc<Woken>,
    }

    impl Tried {
        fn new(gathers: bool, most: usize) -> Self {
            let sink = Sink { most, took: Vec::new(), bytes: Vec::new() };
            Tried { gathered: Gathered::new(sink, gathers), woken: Arc::default() }
        }

        fn with<R>(
            &mut self,
            ask: impl FnOnce(Pin<&mut Gathered<Sink>>, &mut Context<'_>) -> Poll<io::Result<R>>,
        ) {
            let waker = futures::task::waker(self.woken.clone());
            let answer = ask(Pin::new(&mut self.gathered), &mut Context::from_waker(&waker));
            assert!(matches!(answer, Poll::Ready(Ok(_))));
        }

        fn write(&mut self, bytes: &[u8]) {
            self.with(|io, cx| io.poll_write(cx, bytes));
        }

        fn flush(&mut self) -> usize {
            self.with(|io, cx| io.poll_flush(cx));
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn frames_go_together_once_nothing_is_new() {
        let mut tried = Tried::new(true, usize::MAX);
        for (n, piece) in [&b"one"[..], b"two", b"three"].into_iter().enumerate() {
            tried.write(piece);
            // It was not flushed, so whoever asked has to come again.
            assert_eq!(tried.flush(), n + 1);
        }
        assert!(tried.gathered.io.took.is_empty());
        assert_eq!(tried.flush(), 3);
        assert_eq!(
            (&tried.gathered.io.bytes[..], &tried.gathered.io.took[..]),
            (&b"onetwothree"[..], &[11][..])
        );
        assert_eq!(tried.gathered.held.capacity(), 0, "a quiet connection holds nothing");
    }

    #[test]
    fn what_is_large_is_written_as_it_is_and_nothing_changes_places() {
        let mut tried = Tried::new(true, 40_000);
        let pieces: Vec<Vec<u8>> = [10, HELD_BYTES_MAX, 30_000, 50_000, 5]
            .into_iter()
            .enumerate()
            .map(|(n, length)| vec![n as u8; length])
            .collect();
        for piece in &pieces {
            let mut left = &piece[..];
            while !left.is_empty() {
                let before =
                    tried.gathered.io.bytes.len() + tried.gathered.held.len() - tried.gathered.written;
                tried.write(left);
                let now = tried.gathered.io.bytes.len() + tried.gathered.held.len() - tried.gathered.written;
                left = &left[now - before..];
                assert!(tried.gathered.held.len() <= HELD_BYTES_MAX);
            }
        }
        tried.with(|io, cx| io.poll_shutdown(cx));
        assert!(tried.gathered.io.bytes == pieces.concat());
    }

    #[test]
    fn a_connection_that_does_not_gather_writes_at_once() {
        let mut tried = Tried::new(false, usize::MAX);
        tried.write(b"one");
        tried.write(b"two");
        assert_eq!(tried.gathered.io.took, [3, 3]);
        assert_eq!(tried.flush(), 0);
    }
}
