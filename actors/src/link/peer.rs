//! A connected peer, and the loop that serves it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::frame::{self, Frame, LinkError};
use super::stream::{ITEMS_MAX, LinkReceiver, LinkSender, LinkStream, STREAM_CREDIT_BYTES, Shared};
use super::{ASKS_MAX, PING_EVERY, SILENCE_MAX, STREAMS_MAX};
use crate::reference::AskError;
use crate::time::Instant;
use crate::trace;

/// Frames that wait to be written before whoever sends has to wait.
const FRAMES_OUT_MAX: usize = 256;
/// Bytes gathered into one write.
const WRITE_BYTES: usize = 64 * 1024;

/// What this side does for its peer.
#[async_trait]
pub trait Serve: Send + Sync + 'static {
    /// Answers a question. Runs beside others, under the asker's trace context.
    async fn ask(&self, tag: u16, payload: Bytes) -> Result<Bytes, AskError>;

    /// Serves a stream that the peer opened, until it returns.
    async fn stream(&self, tag: u16, payload: Bytes, stream: LinkStream);

    /// The name of a message type, for the trace.
    fn tag_name(&self, tag: u16) -> &'static str;
}

type Answers = Mutex<HashMap<u64, oneshot::Sender<Result<Bytes, AskError>>>>;

struct Inner {
    name: Arc<str>,
    out: mpsc::Sender<Frame>,
    gone: mpsc::Sender<(u64, bool)>,
    answers: Answers,
    streams: Mutex<HashMap<(u64, bool), Ends>>,
    next: AtomicU64,
    room: Semaphore,
    closed: watch::Sender<bool>,
    tag_name: fn(u16) -> &'static str,
}

/// The link loop's ends of one stream.
struct Ends {
    items: Option<mpsc::Sender<Bytes>>,
    credit: Arc<Semaphore>,
}

/// A connected peer. Cheap to clone.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

impl Peer {
    /// What the peer is called.
    pub fn name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// Asks the peer, for at most `deadline`. A hop of the trace.
    pub async fn ask(&self, tag: u16, payload: Bytes, deadline: Duration) -> Result<Bytes, AskError> {
        let place = format!("link[{}]", self.inner.name);
        let work = self.ask_untraced(tag, payload, deadline);
        trace::step(&place, (self.inner.tag_name)(tag), None, |r| r.is_err(), work).await
    }

    async fn ask_untraced(&self, tag: u16, payload: Bytes, deadline: Duration) -> Result<Bytes, AskError> {
        let until = Instant::now() + deadline;
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let asking = async {
            let _room = self.inner.room.acquire().await.map_err(|_| AskError::Unreachable)?;
            let (tell, answer) = oneshot::channel();
            self.inner.answers.lock().insert(id, tell);
            let frame = Frame::Ask {
                id,
                tag,
                trace: trace::current(),
                deadline_ms: deadline.as_millis().min(u128::from(u32::MAX)) as u32,
                payload,
            };
            self.inner.out.send(frame).await.map_err(|_| AskError::Unreachable)?;
            answer.await.unwrap_or(Err(AskError::Unreachable))
        };
        let result = tokio::time::timeout_at(until, asking).await;
        self.inner.answers.lock().remove(&id);
        result.unwrap_or(Err(AskError::Timeout))
    }

    /// Opens a stream.
    pub async fn open(&self, tag: u16, payload: Bytes) -> Result<LinkStream, AskError> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let stream = self.inner.enlist(id, true).ok_or(AskError::Full)?;
        let frame = Frame::Open { id, tag, trace: trace::current(), payload };
        self.inner.out.send(frame).await.map_err(|_| AskError::Unreachable)?;
        Ok(stream)
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        *self.inner.closed.borrow()
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) {
        let mut closed = self.inner.closed.subscribe();
        let _ = closed.wait_for(|gone| *gone).await;
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.inner.closed.send_replace(true);
    }
}

impl Inner {
    fn enlist(&self, id: u64, opened_here: bool) -> Option<LinkStream> {
        let (items, receive) = mpsc::channel(ITEMS_MAX);
        let credit = Arc::new(Semaphore::new(STREAM_CREDIT_BYTES));
        let mut streams = self.streams.lock();
        if streams.len() >= STREAMS_MAX || *self.closed.borrow() {
            return None;
        }
        streams.insert((id, opened_here), Ends { items: Some(items), credit: credit.clone() });
        let shared = Arc::new(Shared { id, opened_here, out: self.out.clone(), gone: self.gone.clone() });
        let sender = LinkSender { shared: shared.clone(), credit, finished: false };
        Some(LinkStream::new(sender, LinkReceiver { shared, items: receive }))
    }

    fn end(&self) {
        self.closed.send_replace(true);
        self.answers.lock().clear();
        self.room.close();
        for ends in std::mem::take(&mut *self.streams.lock()).into_values() {
            ends.credit.close();
        }
    }
}

/// Shakes hands over `io` and serves the peer: returns the peer's handle and the loop, which ends with why
/// the link ended. Whoever calls drives the loop; dropping it ends the link.
pub async fn connect<S, Service>(
    mut io: S,
    name: &str,
    service: Arc<Service>,
    tag_name: fn(u16) -> &'static str,
) -> Result<(Peer, impl Future<Output = LinkError> + Send), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Service: Serve,
{
    let shaken = tokio::time::timeout(SILENCE_MAX, frame::handshake(&mut io)).await;
    shaken.map_err(|_| LinkError::Silent(SILENCE_MAX.as_secs()))??;
    let (out, frames) = mpsc::channel(FRAMES_OUT_MAX);
    let (gone, gone_streams) = mpsc::channel(2 * STREAMS_MAX);
    let inner = Arc::new(Inner {
        name: name.into(),
        out,
        gone,
        answers: Mutex::default(),
        streams: Mutex::default(),
        next: AtomicU64::new(1),
        room: Semaphore::new(ASKS_MAX),
        closed: watch::channel(false).0,
        tag_name,
    });
    let peer = Peer { inner: inner.clone() };
    let (read, write) = tokio::io::split(io);
    let serving = async move {
        let _end = EndOnDrop(inner.clone());
        let heard = Arc::new(Mutex::new(Instant::now()));
        let reader = read_loop(read, inner.clone(), service, heard.clone());
        let writer = write_loop(write, frames, gone_streams, inner.clone());
        let mut closed = inner.closed.subscribe();
        tokio::select! {
            e = reader => e,
            e = writer => e,
            () = silence(&heard) => LinkError::Silent(SILENCE_MAX.as_secs()),
            _ = closed.wait_for(|gone| *gone) => LinkError::Io(std::io::ErrorKind::ConnectionAborted.into()),
        }
    };
    Ok((peer, serving))
}

struct EndOnDrop(Arc<Inner>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn silence(heard: &Mutex<Instant>) {
    loop {
        let last = *heard.lock();
        let until = last + SILENCE_MAX;
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

async fn write_loop(
    mut io: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    mut gone: mpsc::Receiver<(u64, bool)>,
    inner: Arc<Inner>,
) -> LinkError {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        // Frames first: what a stream sent before it was dropped goes out before the word that it is gone.
        let frame = tokio::select! {
            biased;
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return LinkError::Io(std::io::ErrorKind::ConnectionAborted.into()),
            },
            Some((id, opened_here)) = gone.recv() => {
                if inner.streams.lock().remove(&(id, opened_here)).is_none() {
                    continue;
                }
                Frame::End { id, opened_by_receiver: !opened_here, reset: true }
            }
            () = tokio::time::sleep(PING_EVERY) => Frame::Ping,
        };
        if let Err(e) = frame::encode(&frame, &mut buffer) {
            // One message too long is its sender's problem, not the link's.
            tracing::warn!(peer = %inner.name, error = %e, "message not sent");
            if let Frame::Ask { id, .. } = frame {
                inner.answers.lock().remove(&id);
            }
            continue;
        }
        while buffer.len() < WRITE_BYTES {
            match frames.try_recv() {
                Ok(frame) => {
                    if let Err(e) = frame::encode(&frame, &mut buffer) {
                        tracing::warn!(peer = %inner.name, error = %e, "message not sent");
                    }
                }
                Err(_) => break,
            }
        }
        let written = async {
            io.write_all(&buffer).await?;
            io.flush().await
        };
        if let Err(e) = written.await {
            return e.into();
        }
        if buffer.capacity() > 4 * WRITE_BYTES {
            buffer = Vec::new();
        }
    }
}

async fn read_loop<Service: Serve>(
    mut io: impl AsyncRead + Unpin,
    inner: Arc<Inner>,
    service: Arc<Service>,
    heard: Arc<Mutex<Instant>>,
) -> LinkError {
    let served = Arc::new(Semaphore::new(ASKS_MAX));
    // Work for the peer ends with the link.
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let frame = match frame::read(&mut io).await {
            Ok(frame) => frame,
            Err(e) => return e,
        };
        *heard.lock() = Instant::now();
        while tasks.try_join_next().is_some() {}
        match frame {
            Frame::Ping => {
                if inner.out.send(Frame::Pong).await.is_err() {
                    return LinkError::Io(std::io::ErrorKind::ConnectionAborted.into());
                }
            }
            Frame::Pong => {}
            Frame::Ask { id, tag, trace: cause, deadline_ms, payload } => {
                let Ok(room) = served.clone().acquire_owned().await else {
                    return LinkError::Io(std::io::ErrorKind::ConnectionAborted.into());
                };
                let (service, inner) = (service.clone(), inner.clone());
                tasks.spawn(async move {
                    let _room = room;
                    let deadline = Duration::from_millis(u64::from(deadline_ms));
                    let work = trace::under(cause, service.ask(tag, payload));
                    let result = tokio::time::timeout(deadline, work).await.unwrap_or(Err(AskError::Timeout));
                    let _ = inner.out.send(Frame::Answer { id, result }).await;
                });
            }
            Frame::Answer { id, result } => {
                if let Some(asker) = inner.answers.lock().remove(&id) {
                    let _ = asker.send(result);
                }
            }
            Frame::Open { id, tag, trace: cause, payload } => {
                let Some(stream) = inner.enlist(id, false) else {
                    let refused = Frame::End { id, opened_by_receiver: true, reset: true };
                    let _ = inner.out.send(refused).await;
                    continue;
                };
                let service = service.clone();
                tasks.spawn(async move {
                    trace::under(cause, service.stream(tag, payload, stream)).await;
                });
            }
            Frame::Data { id, opened_by_receiver, payload } => {
                let items = inner.streams.lock().get(&(id, opened_by_receiver)).and_then(|e| e.items.clone());
                // A full channel means that the peer sends without credit, or dust: both are its fault.
                if let Some(items) = items
                    && let Err(mpsc::error::TrySendError::Full(_)) = items.try_send(payload)
                {
                    return LinkError::Protocol(format!("stream {id} sends more than it has credit for"));
                }
            }
            Frame::Credit { id, opened_by_receiver, bytes } => {
                if let Some(ends) = inner.streams.lock().get(&(id, opened_by_receiver)) {
                    let room = STREAM_CREDIT_BYTES.saturating_sub(ends.credit.available_permits());
                    ends.credit.add_permits((bytes as usize).min(room));
                }
            }
            Frame::End { id, opened_by_receiver, reset } => {
                let mut streams = inner.streams.lock();
                if reset {
                    if let Some(ends) = streams.remove(&(id, opened_by_receiver)) {
                        ends.credit.close();
                    }
                } else if let Some(ends) = streams.get_mut(&(id, opened_by_receiver)) {
                    ends.items = None;
                }
            }
        }
    }
}
