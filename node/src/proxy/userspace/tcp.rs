//! TCP connections of one service port, handed on to its endpoints.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::balancer::{Load, SharedBalancer};
use super::schedule::Aim;

/// Connections of one port at a time; more wait to be taken.
const CONNECTIONS_MAX: usize = 4096;
/// An endpoint that takes longer to answer is passed over.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Endpoints that are tried for one connection.
const ATTEMPTS_MAX: usize = 5;

/// Takes connections for as long as it is polled.
pub async fn serve(listener: Arc<TcpListener>, balancer: SharedBalancer, room: Arc<Semaphore>) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((client, from)) => connections.push(connection(client, from, &balancer, &room)),
                // Out of file descriptors, say: it passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(()) = connections.next() => {}
        }
    }
}

/// One connection, from its start to its end.
async fn connection(mut client: TcpStream, from: SocketAddr, balancer: &SharedBalancer, room: &Semaphore) {
    let Ok(_place) = room.acquire().await else { return };
    let aim = Aim { client: from.ip(), destination: aimed_at(&client) };
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS_MAX {
        let chosen = balancer.borrow_mut().choose(aim, &tried, Instant::now());
        let Some(backend) = chosen else { break };
        let load = RefCell::new(Load::new(balancer.clone(), backend));
        match tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(backend.address())).await {
            Ok(Ok(mut server)) => {
                prepare(&client);
                prepare(&server);
                if hand_on(&mut client, &mut server, &load).await.is_err() {
                    reset(&client);
                    reset(&server);
                }
                return;
            }
            Ok(Err(error)) => {
                tracing::debug!(endpoint = %backend.address(), %error, "an endpoint is passed over")
            }
            Err(_) => tracing::debug!(endpoint = %backend.address(), "an endpoint does not answer"),
        }
        tried.push(backend);
    }
    reset(&client);
}

/// The address that the client used.
fn aimed_at(client: &TcpStream) -> IpAddr {
    let original = getsockopt(client, sockopt::OriginalDst);
    original.map_or(IpAddr::from(Ipv4Addr::UNSPECIFIED), |address| {
        IpAddr::from(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)))
    })
}

/// No packet waits for another, and who has gone without a word is noticed in the end.
fn prepare(stream: &TcpStream) {
    let done = stream.set_nodelay(true).is_ok() && setsockopt(stream, sockopt::KeepAlive, &true).is_ok();
    if !done {
        tracing::debug!("a connection could not be prepared; it works, if slower");
    }
}

/// Tells the other side that something failed, where an end would say that all is complete.
fn reset(stream: &TcpStream) {
    // One that is gone needs no telling.
    let _ = stream.set_zero_linger();
}

/// Hands on both ways until both have ended.
async fn hand_on(client: &mut TcpStream, server: &mut TcpStream, load: &RefCell<Load>) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = one_way(from_client, to_server, load);
    let down = one_way(from_server, to_client, load);
    tokio::try_join!(up, down).map(|_| ())
}

/// Hands on one way; its end is handed on too, while the other way goes on.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    load: &RefCell<Load>,
) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    load.borrow_mut().half_close();
    to.shutdown().await
}

#[cfg(test)]
mod tests;
