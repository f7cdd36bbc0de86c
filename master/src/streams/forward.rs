//! Port-forwards over SPDY: for each connection a data stream and an error stream, paired by a request id.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actors::trace;
use bytes::Bytes;
use protocol::ApiError;
use protocol::streams::{
    ContainerTarget, FRAMES_WAITING_MAX, Frame, FrameStream, NodeStreams, PortForwardRequest,
};
use tokio::sync::mpsc;

use super::spdy::codec::Headers;
use super::spdy::{self, Event, Session, Writer};
use super::websocket::send_pieces;

/// The protocol of port-forwards.
pub(super) const PROTOCOLS: &[&str] = &["portforward.k8s.io"];
/// The same, over a WebSocket that tunnels SPDY.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Opens connections to ports of one pod.
pub(super) struct Ports {
    pub nodes: Arc<dyn NodeStreams>,
    pub node: String,
    pub target: ContainerTarget,
}

impl Ports {
    pub async fn connect(&self, port: u16) -> Result<FrameStream, ApiError> {
        let request = PortForwardRequest { target: self.target.clone(), port };
        self.nodes.port_forward(&self.node, request).await
    }

    pub fn failure(&self, port: u16, why: &str) -> String {
        if why.starts_with("error forwarding port ") {
            // A kubelet has said so already.
            return why.to_owned();
        }
        let ContainerTarget { pod, uid, .. } = &self.target;
        format!("error forwarding port {port} to pod {pod}, uid {uid}: {why}")
    }
}

/// What a client's stream is for.
#[derive(Debug, PartialEq, Eq)]
struct Half {
    is_data: bool,
    port: u16,
    request: String,
}

fn half(stream: u32, headers: &Headers) -> Option<Half> {
    let is_data = match spdy::header(headers, "streamtype")? {
        "data" => true,
        "error" => false,
        _ => return None,
    };
    let port = spdy::header(headers, "port")?.parse().ok().filter(|port| *port != 0)?;
    let request = match spdy::header(headers, "requestid") {
        Some(id) => id.to_owned(),
        // Old clients name no request: the error stream comes first, the data stream right after it.
        None => if is_data { stream.saturating_sub(2) } else { stream }.to_string(),
    };
    Some(Half { is_data, port, request })
}

/// What a client sends to one connection.
enum Sent {
    Data(Bytes),
    Finished,
}

/// Serves a session until the client leaves.
pub(super) async fn carry(mut session: Session, ports: Ports) {
    let ports = Rc::new(ports);
    // Halves that wait for their other half; connections by their data stream.
    let mut waiting: HashMap<String, (u32, Half)> = HashMap::new();
    let mut connections: HashMap<u32, mpsc::Sender<Sent>> = HashMap::new();
    let (ended, mut endings) = mpsc::channel::<(u32, u32)>(FRAMES_WAITING_MAX);
    loop {
        let event = tokio::select! {
            event = session.next() => event,
            Some((data, error)) = endings.recv() => {
                connections.remove(&data);
                session.forget(data);
                session.forget(error);
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::Opened { stream, headers }) => {
                let Some(half) = half(stream, &headers) else {
                    tracing::debug!(stream, "a port-forward's stream names no type or port");
                    return;
                };
                let Some((other, other_half)) = waiting.remove(&half.request) else {
                    waiting.insert(half.request.clone(), (stream, half));
                    continue;
                };
                if other_half.is_data == half.is_data {
                    return;
                }
                let port = half.port;
                let (data, error) = if half.is_data { (stream, other) } else { (other, stream) };
                let (sender, sent) = mpsc::channel(FRAMES_WAITING_MAX);
                connections.insert(data, sender);
                let (ports, ended) = (ports.clone(), ended.clone());
                let (out, errors) = (session.writer(data), session.writer(error));
                let work = async move {
                    connection(&ports, port, sent, out, errors).await;
                    let _ = ended.send((data, error)).await;
                };
                actors::spawn(trace::under(trace::current(), work));
            }
            // A connection that does not take its bytes holds back the session, as upstream's does.
            Some(Event::Data { stream, data }) => {
                if let Some(connection) = connections.get(&stream) {
                    let _ = connection.send(Sent::Data(data)).await;
                }
            }
            Some(Event::Finished(stream)) => {
                if let Some(connection) = connections.get(&stream) {
                    let _ = connection.send(Sent::Finished).await;
                }
            }
            // Without its sender the connection ends.
            Some(Event::Reset(stream)) => drop(connections.remove(&stream)),
        }
    }
}

/// Carries one connection; ends when the far end has written all, or the client wants no more.
async fn connection(ports: &Ports, port: u16, sent: mpsc::Receiver<Sent>, out: Writer, errors: Writer) {
    let failure = match ports.connect(port).await {
        Err(e) => Some(e.to_string()),
        Ok(FrameStream { input, output }) => tokio::select! {
            () = inward(sent, input) => None,
            failure = outward(output, &out) => failure,
        },
    };
    if let Some(why) = failure {
        let _ = errors.data(ports.failure(port, &why).as_bytes()).await;
    }
    let _ = out.finish().await;
    let _ = errors.finish().await;
}

async fn inward(mut sent: mpsc::Receiver<Sent>, input: mpsc::Sender<Frame>) {
    while let Some(item) = sent.recv().await {
        // When the far end takes no more, what it still writes matters: keep on.
        match item {
            Sent::Data(data) => {
                send_pieces(&input, data).await;
            }
            Sent::Finished => {
                let _ = input.send(Frame::CloseStdin).await;
            }
        }
    }
}

async fn outward(mut output: mpsc::Receiver<Frame>, out: &Writer) -> Option<String> {
    while let Some(frame) = output.recv().await {
        match frame {
            Frame::Stdout(data) => out.data(&data).await.ok()?,
            // The client's half may go on.
            Frame::CloseStdout => out.finish().await.ok()?,
            Frame::Error(why) => return Some(String::from_utf8_lossy(&why).into_owned()),
            _ => {}
        }
    }
    None
}
