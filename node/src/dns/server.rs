//! The sockets: bounded, and all of it inside one future, so that it ends with the actor that owns it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::respond::{Plan, Responder, Transport};

/// UDP questions that wait for a resolver at most.
const ASKED_MAX: usize = 1024;
/// TCP connections at most; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;
/// A TCP connection without a question, or that takes no answer, ends after this.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Pause after a failure of a socket, lest it be tried in a circle.
const PAUSE: Duration = Duration::from_millis(50);
/// The largest question that is read from a datagram.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// Where the kernel chose the UDP port: how often to try to get the same for TCP.
const SAME_PORT_TRIES: usize = 16;

/// Both sockets, on one port.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds both. Port 0 lets the kernel choose.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Sockets> {
        let mut tries = if address.port() == 0 { SAME_PORT_TRIES } else { 1 };
        loop {
            let udp = UdpSocket::bind(address).await?;
            tries -= 1;
            match TcpListener::bind(udp.local_addr()?).await {
                Ok(tcp) => return Ok(Sockets { udp, tcp }),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Where they are.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Answers until dropped.
    pub async fn serve(self, responder: Arc<Responder>) {
        tokio::join!(serve_udp(self.udp, &responder), serve_tcp(self.tcp, &responder));
    }
}

async fn serve_udp(socket: UdpSocket, responder: &Responder) {
    let mut asked = FuturesUnordered::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (reply, peer) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, peer)) => match responder.plan(&buffer[..length], Transport::Udp) {
                    Some(Plan::Now(reply)) => (reply, peer),
                    Some(Plan::Ask(pending)) if asked.len() < ASKED_MAX => {
                        asked.push(async move { (responder.ask(*pending).await, peer) });
                        continue;
                    }
                    Some(Plan::Ask(pending)) => (pending.refuse(), peer),
                    None => continue,
                },
                Err(error) => {
                    // Such as an ICMP error for an earlier answer: no reason to end.
                    tracing::debug!(%error, "DNS socket failed to receive");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            Some(done) = asked.next(), if !asked.is_empty() => done,
        };
        if let Some(bytes) = reply.encode() {
            // Where the socket's buffer is full the client asks again: waiting would hold up the others.
            let _sent = socket.try_send_to(&bytes, peer);
        }
    }
}

async fn serve_tcp(listener: TcpListener, responder: &Responder) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => connections.push(serve_connection(stream, responder)),
                Err(error) => {
                    tracing::debug!(%error, "DNS listener failed to accept");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(ended) = connections.next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "DNS connection ended");
                }
            }
        }
    }
}

/// One question after the other, until the client leaves, falls silent or sends what is no question.
async fn serve_connection(mut stream: TcpStream, responder: &Responder) -> std::io::Result<()> {
    loop {
        let question = async {
            let length = stream.read_u16().await?;
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await?;
            std::io::Result::Ok(bytes)
        };
        let bytes = tokio::time::timeout(IDLE_MAX, question).await??;
        let reply = match responder.plan(&bytes, Transport::Tcp) {
            Some(Plan::Now(reply)) => reply,
            Some(Plan::Ask(pending)) => responder.ask(*pending).await,
            None => return Ok(()),
        };
        let Some(bytes) = reply.encode() else { return Ok(()) };
        let Ok(length) = u16::try_from(bytes.len()) else { return Ok(()) };
        let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
        tokio::time::timeout(IDLE_MAX, stream.write_all(&framed)).await??;
    }
}
