//! One stream of a link, in both directions.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use super::frame::Frame;
use crate::reference::AskError;

/// Bytes that may be under way in one direction of a stream, beyond which its sender waits.
pub const STREAM_CREDIT_BYTES: usize = 256 * 1024;

/// Items that may wait to be received. Credit bounds bytes; this bounds tiny items.
pub(crate) const ITEMS_MAX: usize = 1024;

/// What an item of `bytes` costs: tiny ones are dearer than their bytes, so that no more of them than
/// [`ITEMS_MAX`] can be under way, and an item larger than all the credit takes all of it.
fn cost(bytes: usize) -> u32 {
    bytes.clamp(STREAM_CREDIT_BYTES / ITEMS_MAX, STREAM_CREDIT_BYTES) as u32
}

/// A stream to the peer. Dropping it resets it.
pub struct LinkStream {
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl LinkStream {
    pub(crate) fn new(sender: LinkSender, receiver: LinkReceiver) -> Self {
        LinkStream { sender, receiver }
    }

    /// Sends one item; waits for credit. Fails once the stream has ended.
    pub async fn send(&self, item: Bytes) -> Result<(), AskError> {
        self.sender.send(item).await
    }

    /// Says that nothing more will be sent; receiving goes on.
    pub async fn finish(&mut self) {
        self.sender.finish().await;
    }

    /// The next item; `None` when the peer has finished, or is gone.
    pub async fn receive(&mut self) -> Option<Bytes> {
        self.receiver.receive().await
    }

    /// Both directions as handles of their own. The stream is reset when both are dropped.
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }
}

/// The sending half of a [`LinkStream`].
pub struct LinkSender {
    pub(crate) shared: Arc<Shared>,
    pub(crate) credit: Arc<Semaphore>,
    pub(crate) finished: bool,
}

impl LinkSender {
    /// Sends one item; waits for credit. Fails once the stream has ended.
    pub async fn send(&self, item: Bytes) -> Result<(), AskError> {
        let permit = self.credit.acquire_many(cost(item.len())).await.map_err(|_| AskError::Closed)?;
        permit.forget();
        let frame =
            Frame::Data { id: self.shared.id, opened_by_receiver: !self.shared.opened_here, payload: item };
        self.shared.out.send(frame).await.map_err(|_| AskError::Unreachable)
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            let _ = self.shared.out.send(self.shared.end(false)).await;
        }
    }
}

/// The receiving half of a [`LinkStream`].
pub struct LinkReceiver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) items: mpsc::Receiver<Bytes>,
}

impl LinkReceiver {
    /// The next item; `None` when the peer has finished, or is gone.
    pub async fn receive(&mut self) -> Option<Bytes> {
        let item = self.items.recv().await?;
        let bytes = cost(item.len());
        let credit =
            Frame::Credit { id: self.shared.id, opened_by_receiver: !self.shared.opened_here, bytes };
        let _ = self.shared.out.send(credit).await;
        Some(item)
    }
}

/// What both halves of a stream share; the stream is reset when the last goes.
pub(crate) struct Shared {
    pub(crate) id: u64,
    pub(crate) opened_here: bool,
    pub(crate) out: mpsc::Sender<Frame>,
    /// Tells the peer's bookkeeping that this end is gone.
    pub(crate) gone: mpsc::Sender<(u64, bool)>,
}

impl Shared {
    fn end(&self, reset: bool) -> Frame {
        Frame::End { id: self.id, opened_by_receiver: !self.opened_here, reset }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The link's loop sends the reset: a drop cannot wait for room. The channel has room for every
        // stream that may be open.
        let _ = self.gone.try_send((self.id, self.opened_here));
    }
}
