//! Exec and attach over SPDY: one stream each for stdin, stdout, stderr, errors and terminal sizes.

use std::collections::HashMap;
use std::time::Duration;

use protocol::streams::{Frame, FrameStream, Stdio, failure_status};
use tokio::sync::mpsc;

use super::spdy::{self, Event, Session, Writer};
use super::websocket::{ending, send_pieces, size};

/// The protocols of exec and attach, newest first.
pub(super) const PROTOCOLS: &[&str] =
    &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// How long a client may take to open its streams.
const OPENING_TIMEOUT: Duration = Duration::from_secs(30);
/// Events that a client may send before all of its streams are open.
const EARLY_EVENTS_MAX: usize = 64;

/// The streams that a client has to open.
pub(super) fn wanted(protocol: &str, stdio: Stdio) -> Vec<&'static str> {
    let with_sizes = !matches!(protocol, "v2.channel.k8s.io" | "channel.k8s.io");
    [
        ("error", true),
        ("stdin", stdio.stdin),
        ("stdout", stdio.stdout),
        ("stderr", stdio.stderr),
        ("resize", stdio.tty && with_sizes),
    ]
    .into_iter()
    .filter_map(|(name, wanted)| wanted.then_some(name))
    .collect()
}

/// Carries frames until either side ends.
pub(super) async fn carry(mut session: Session, protocol: &'static str, stdio: Stdio, frames: FrameStream) {
    let mut early = Vec::new();
    let opening = open(&mut session, wanted(protocol, stdio), &mut early);
    let streams = match tokio::time::timeout(OPENING_TIMEOUT, opening).await {
        Ok(Some(streams)) => streams,
        // Dropping the frames ends the process's streams.
        Ok(None) | Err(_) => return,
    };
    let writers = streams.iter().map(|(name, stream)| (*name, session.writer(*stream))).collect();
    let FrameStream { input, output } = frames;
    tokio::select! {
        () = inward(&mut session, &streams, early, &input) => {}
        () = outward(output, writers, protocol) => {}
    }
}

/// Waits for the client's streams. What it sends already is kept in `early`.
async fn open(
    session: &mut Session,
    mut wanted: Vec<&'static str>,
    early: &mut Vec<Event>,
) -> Option<HashMap<&'static str, u32>> {
    let mut streams = HashMap::new();
    while !wanted.is_empty() {
        match session.next().await? {
            Event::Opened { stream, headers } => {
                let kind = spdy::header(&headers, "streamtype").unwrap_or_default();
                let at = wanted.iter().position(|name| *name == kind)?;
                streams.insert(wanted.swap_remove(at), stream);
            }
            event if early.len() < EARLY_EVENTS_MAX => early.push(event),
            _ => return None,
        }
    }
    Some(streams)
}

async fn inward(
    session: &mut Session,
    streams: &HashMap<&'static str, u32>,
    early: Vec<Event>,
    input: &mpsc::Sender<Frame>,
) {
    let is = |name: &str, stream: u32| streams.get(name) == Some(&stream);
    let mut early = early.into_iter();
    loop {
        let event = match early.next() {
            Some(event) => event,
            None => match session.next().await {
                Some(event) => event,
                None => return,
            },
        };
        // When the process no longer reads, what it still writes matters, and pings want answers: go on.
        match event {
            Event::Data { stream, data } if is("stdin", stream) => {
                send_pieces(input, data).await;
            }
            Event::Finished(stream) | Event::Reset(stream) if is("stdin", stream) => {
                let _ = input.send(Frame::CloseStdin).await;
            }
            Event::Data { stream, data } if is("resize", stream) => {
                if let Some((width, height)) = size(&data) {
                    let _ = input.send(Frame::Resize { width, height }).await;
                }
            }
            _ => {}
        }
    }
}

async fn outward(mut output: mpsc::Receiver<Frame>, writers: HashMap<&'static str, Writer>, protocol: &str) {
    let mut status = None;
    while let Some(frame) = output.recv().await {
        let (name, data) = match frame {
            Frame::Stdout(data) => ("stdout", data),
            Frame::Stderr(data) => ("stderr", data),
            Frame::Error(end) => {
                status = Some(end);
                continue;
            }
            _ => continue,
        };
        if let Some(writer) = writers.get(name)
            && writer.data(&data).await.is_err()
        {
            return;
        }
    }
    let lost = || failure_status("the connection to the node was lost").to_string().into();
    let with_status = matches!(protocol, "v4.channel.k8s.io" | "v5.channel.k8s.io");
    if let (Some(text), Some(error)) =
        (ending(with_status, status.unwrap_or_else(lost)), writers.get("error"))
    {
        let _ = error.data(&text).await;
    }
    for writer in writers.values() {
        let _ = writer.finish().await;
    }
}
