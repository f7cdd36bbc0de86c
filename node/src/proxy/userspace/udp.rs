//! UDP packets of one service port, handed on to its endpoints, and their answers.
//!
//! A client's packets go to one endpoint for as long as they keep coming, each client by a socket of its own, from which
//! the endpoint's answers come back.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::balancer::{Load, SharedBalancer};
use super::schedule::Aim;
use crate::proxy::endpoints::Backend;

/// Flows of one port at a time; packets of further clients are lost, as packets may be.
const FLOWS_MAX: usize = 1024;
/// A flow ends when nothing has passed for so long, as the kernel's would.
const IDLE: Duration = Duration::from_secs(120);
/// The largest packet.
const PACKET_MAX: usize = 65_535;

/// A client's way to its endpoint.
struct Flow {
    socket: Rc<UdpSocket>,
    backend: Backend,
    used: Rc<Cell<Instant>>,
    /// Dropping it ends the flow.
    _end: oneshot::Sender<()>,
}

/// The flows of a port, by client. Cloning shares them.
#[derive(Clone, Default)]
pub struct Flows(Rc<RefCell<HashMap<SocketAddr, Flow>>>);

/// One packet at a time: flows that wait hold no memory for what may come.
type Buffer = Rc<RefCell<Vec<u8>>>;

impl Flows {
    /// Ends those to other endpoints: the client's next packet chooses anew.
    pub fn keep(&self, wanted: impl Fn(Backend) -> bool) {
        self.0.borrow_mut().retain(|_, flow| wanted(flow.backend));
    }

    fn socket(&self, client: SocketAddr) -> Option<Rc<UdpSocket>> {
        let flows = self.0.borrow();
        let flow = flows.get(&client)?;
        flow.used.set(Instant::now());
        Some(flow.socket.clone())
    }

    /// Forgets a flow that ended by itself; a later one of the same client is not touched.
    fn ended(&self, client: SocketAddr, socket: &Rc<UdpSocket>) {
        let mut flows = self.0.borrow_mut();
        if flows.get(&client).is_some_and(|flow| Rc::ptr_eq(&flow.socket, socket)) {
            flows.remove(&client);
        }
    }
}

/// Takes packets for as long as it is polled. `destination` is what clients aim at.
pub async fn serve(
    socket: Arc<UdpSocket>,
    balancer: SharedBalancer,
    flows: Flows,
    room: Arc<Semaphore>,
    destination: IpAddr,
) {
    let mut answers = FuturesUnordered::new();
    let mut packet = vec![0; PACKET_MAX];
    let buffer: Buffer = Rc::new(RefCell::new(vec![0; PACKET_MAX]));
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut packet) => match received {
                Ok(received) => received,
                // What a client's machine says about an earlier answer: nobody is there any more.
                Err(_) => continue,
            },
            Some(()) = answers.next() => continue,
        };
        let known = flows.socket(client);
        let way = match known {
            Some(way) => way,
            None if answers.len() >= FLOWS_MAX => continue,
            None => {
                let Ok(place) = room.clone().try_acquire_owned() else { continue };
                let aim = Aim { client: client.ip(), destination };
                let to = Client { socket: &socket, address: client, buffer: buffer.clone() };
                let Some((way, answering)) = open(to, aim, &balancer, &flows, place).await else {
                    continue;
                };
                answers.push(answering);
                way
            }
        };
        // Lost where the endpoint is not there: packets may be.
        let _ = way.send(packet.get(..length).unwrap_or_default()).await;
    }
}

/// Where answers go.
struct Client<'a> {
    socket: &'a UdpSocket,
    address: SocketAddr,
    buffer: Buffer,
}

/// Opens a way to an endpoint; what hands its answers on is to be polled.
async fn open<'a>(
    client: Client<'a>,
    aim: Aim,
    balancer: &SharedBalancer,
    flows: &'a Flows,
    place: OwnedSemaphorePermit,
) -> Option<(Rc<UdpSocket>, impl Future<Output = ()> + use<'a>)> {
    let backend = balancer.borrow_mut().choose(aim, &[], Instant::now())?;
    let way = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    way.connect(backend.address()).await.ok()?;
    let way = Rc::new(way);
    let used = Rc::new(Cell::new(Instant::now()));
    let (end, ended) = oneshot::channel();
    let flow = Flow { socket: way.clone(), backend, used: used.clone(), _end: end };
    flows.0.borrow_mut().insert(client.address, flow);
    let load = Load::new(balancer.clone(), backend);
    let answering = {
        let way = way.clone();
        async move {
            let _counted = (load, place);
            answer(&way, &client, &used, ended).await;
            flows.ended(client.address, &way);
        }
    };
    Some((way, answering))
}

/// Hands answers on until the flow is idle or ended.
async fn answer(
    way: &UdpSocket,
    client: &Client<'_>,
    used: &Cell<Instant>,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let idle_at = used.get() + IDLE;
        tokio::select! {
            _ = &mut ended => return,
            ready = way.readable() => {
                let mut buffer = client.buffer.borrow_mut();
                match ready.and_then(|()| way.try_recv(&mut buffer)) {
                    Ok(length) => {
                        used.set(Instant::now());
                        // Lost where there is no room: packets may be.
                        let _ = client.socket.try_send_to(buffer.get(..length).unwrap_or_default(), client.address);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    // Nobody is there: the next packet chooses anew.
                    Err(_) => return,
                }
            }
            () = tokio::time::sleep_until(idle_at) => {
                if used.get() + IDLE <= Instant::now() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
