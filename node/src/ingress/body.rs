//! Bodies on their way through: they are passed on piece by piece, never collected, and not waited for without end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

/// The next piece of a body comes within this time, or the body is given up.
pub const PIECE_WAIT: Duration = Duration::from_secs(300);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection that it came by.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// Nothing came.
    #[error("no piece of the body came for {} s", PIECE_WAIT.as_secs())]
    Late,
    /// It was given to another attempt before.
    #[error("the body was read by an earlier attempt")]
    Taken,
}

/// A body whose pieces have to come in time.
pub struct Paced {
    inner: Incoming,
    wait: Option<Pin<Box<Sleep>>>,
    /// What is held as long as the body lasts.
    _held: Option<Arc<OwnedSemaphorePermit>>,
}

impl Paced {
    /// Over a body; `held` is let go with its end.
    pub fn new(inner: Incoming, held: Option<Arc<OwnedSemaphorePermit>>) -> Self {
        Paced { inner, wait: None, _held: held }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(task) {
            Poll::Ready(piece) => {
                this.wait = None;
                Poll::Ready(piece.map(|piece| piece.map_err(BodyError::Broken)))
            }
            Poll::Pending => {
                let wait = this.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(PIECE_WAIT)));
                wait.as_mut().poll(task).map(|()| Some(Err(BodyError::Late)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Has a request's body until an attempt to send the request reads of it.
#[derive(Clone)]
pub struct Lender {
    slot: Arc<Mutex<Option<Paced>>>,
    pieces: Arc<AtomicU64>,
}

impl Lender {
    /// Of a body.
    pub fn new(body: Paced) -> Self {
        Lender { slot: Arc::new(Mutex::new(Some(body))), pieces: Arc::default() }
    }

    /// The body for one attempt.
    pub fn lend(&self) -> Lent {
        Lent { from: self.clone(), own: None }
    }

    /// Whether nobody has read of it, so that another attempt may have it whole.
    pub fn is_whole(&self) -> bool {
        self.slot.lock().is_some()
    }

    /// Pieces read so far.
    pub fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }
}

/// A request's body as one attempt has it: taken from the [`Lender`] by the first read.
pub struct Lent {
    from: Lender,
    own: Option<Paced>,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.own.is_none() {
            this.own = this.from.slot.lock().take();
        }
        let Some(body) = &mut this.own else { return Poll::Ready(Some(Err(BodyError::Taken))) };
        let polled = Pin::new(body).poll_frame(task);
        if polled.is_ready() {
            this.from.pieces.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.own {
            Some(body) => body.is_end_stream(),
            None => self.from.slot.lock().as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.own {
            Some(body) => body.size_hint(),
            None => self.from.slot.lock().as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }
}
