//! Between frames and the SPDY streams that a kubelet expects of a client.

use bytes::{Bytes, BytesMut};
use futures::Stream;
use protocol::ApiError;
use protocol::streams::{FRAME_BYTES_MAX, Frame, FrameStream, Stdio, exit_status, failure_status};
use serde_json::json;
use tokio::sync::mpsc;

use crate::streams::spdy::{Event, Gone, Session, Writer};
use crate::streams::terminal;

/// The protocols of exec and attach that end with a `Status`.
pub(super) const PROCESS_PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The protocol of port-forwards.
pub(super) const PORT_PROTOCOLS: &[&str] = crate::streams::forward::PROTOCOLS;

/// The most of what a kubelet says at the end that is passed on.
const END_BYTES_MAX: usize = 64 * 1024;

/// The streams of one exec, attach or forwarded connection, by what they carry.
struct Streams {
    /// Carries how it ended.
    error: u32,
    stdin: Option<Writer>,
    sizes: Option<Writer>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    /// A connection, whose directions end one by one.
    is_connection: bool,
}

impl From<Gone> for ApiError {
    fn from(gone: Gone) -> Self {
        ApiError::internal(gone)
    }
}

/// Opens the streams of an exec or attach.
pub(super) async fn process<I>(mut session: Session<I>, stdio: Stdio) -> Result<FrameStream, ApiError>
where
    I: Stream<Item = Bytes> + Unpin + Send + 'static,
{
    let mut streams =
        Streams { error: 0, stdin: None, sizes: None, stdout: None, stderr: None, is_connection: false };
    for name in terminal::wanted("v4.channel.k8s.io", stdio) {
        let writer = session.open(vec![("streamtype".to_owned(), name.to_owned())]).await?;
        match name {
            "stdin" => streams.stdin = Some(writer),
            "stdout" => streams.stdout = Some(writer.stream()),
            "stderr" => streams.stderr = Some(writer.stream()),
            "resize" => streams.sizes = Some(writer),
            _ => streams.error = writer.stream(),
        }
    }
    Ok(carried(session, streams))
}

/// Opens the streams of one connection to a port.
pub(super) async fn port<I>(mut session: Session<I>, port: u16) -> Result<FrameStream, ApiError>
where
    I: Stream<Item = Bytes> + Unpin + Send + 'static,
{
    let headers = |kind: &str| {
        let pairs =
            [("streamtype", kind.to_owned()), ("port", port.to_string()), ("requestid", "0".to_owned())];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    let error = session.open(headers("error")).await?;
    error.finish().await?;
    let data = session.open(headers("data")).await?;
    let stdout = Some(data.stream());
    let error = error.stream();
    Ok(carried(
        session,
        Streams { error, stdin: Some(data), sizes: None, stdout, stderr: None, is_connection: true },
    ))
}

/// Carries frames until the kubelet has said how it ended, or either side is gone.
fn carried<I>(session: Session<I>, mut streams: Streams) -> FrameStream
where
    I: Stream<Item = Bytes> + Unpin + Send + 'static,
{
    let (client, FrameStream { input, output }) = FrameStream::pair();
    let writers = (streams.stdin.take(), streams.sizes.take());
    tokio::spawn(async move {
        let watched = input.clone();
        tokio::select! {
            () = outward(output, writers) => {}
            () = inward(session, &streams, &input) => {}
            () = watched.closed() => {}
        }
    });
    client
}

/// What the client says. When it has nothing more to say, the kubelet is heard out all the same.
async fn outward(mut output: mpsc::Receiver<Frame>, (mut stdin, sizes): (Option<Writer>, Option<Writer>)) {
    while let Some(frame) = output.recv().await {
        let sent = match (frame, &stdin, &sizes) {
            (Frame::Stdin(data), Some(stdin), _) => stdin.data(&data).await,
            (Frame::CloseStdin, Some(writer), _) => {
                let sent = writer.finish().await;
                stdin = None;
                sent
            }
            (Frame::Resize { width, height }, _, Some(sizes)) => {
                let size = json!({"Width": width, "Height": height}).to_string();
                sizes.data(size.as_bytes()).await
            }
            _ => Ok(()),
        };
        if sent.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// What the kubelet says, to its end.
async fn inward<I: Stream<Item = Bytes> + Unpin>(
    mut session: Session<I>,
    streams: &Streams,
    input: &mpsc::Sender<Frame>,
) {
    let mut open: Vec<u32> =
        [Some(streams.error), streams.stdout, streams.stderr].into_iter().flatten().collect();
    let mut end = BytesMut::new();
    let mut said_all = false;
    while !open.is_empty() {
        match session.next().await {
            None => break,
            Some(Event::Data { stream, data }) if stream == streams.error => {
                let room = END_BYTES_MAX - end.len();
                end.extend_from_slice(&data[..data.len().min(room)]);
            }
            Some(Event::Data { stream, data }) => {
                let is_stderr = streams.stderr == Some(stream);
                if (is_stderr || streams.stdout == Some(stream)) && !written(input, data, is_stderr).await {
                    return;
                }
            }
            Some(Event::Finished(stream)) => {
                open.retain(|other| *other != stream);
                said_all |= stream == streams.error;
                if streams.is_connection && streams.stdout == Some(stream) {
                    let _ = input.send(Frame::CloseStdout).await;
                }
            }
            Some(Event::Reset(stream)) => open.retain(|other| *other != stream),
            Some(Event::Opened { .. }) => {}
        }
    }
    let end = match (streams.is_connection, end.is_empty()) {
        (_, false) => end.freeze(),
        (true, true) => return,
        (false, true) if said_all => exit_status(0).to_string().into(),
        (false, true) => failure_status("the connection to the kubelet was lost").to_string().into(),
    };
    let _ = input.send(Frame::Error(end)).await;
}

/// Sends output in frames of an allowed size; false when the client wants no more.
async fn written(input: &mpsc::Sender<Frame>, mut data: Bytes, is_stderr: bool) -> bool {
    while !data.is_empty() {
        let piece = data.split_to(data.len().min(FRAME_BYTES_MAX));
        let frame = if is_stderr { Frame::Stderr(piece) } else { Frame::Stdout(piece) };
        if input.send(frame).await.is_err() {
            return false;
        }
    }
    true
}
