//! The actor of one service port: takes its connections and packets, and hands them on.
//!
//! Its sockets outlive its own lives, so that clients find them at the same port after it was rebuilt.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, AsyncContext, Context, Handler, SpawnHandle, message};
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::Semaphore;

use super::balancer::{Balancer, SharedBalancer, Wanted};
use super::schedule::Scheduler;
use super::udp::Flows;
use super::{tcp, udp};
use crate::proxy::plan::{PortPlan, Protocol, Reach};

/// Connections that the kernel holds for a port until they are taken.
const BACKLOG: u32 = 1024;

/// Where a service port takes its clients. Mode and port live on one arbiter, so its reactor serves both.
#[derive(Clone, Debug)]
enum Socket {
    Tcp(Arc<TcpListener>),
    Udp(Arc<UdpSocket>),
}

impl Socket {
    fn bind(protocol: Protocol, ip: Ipv4Addr) -> io::Result<Socket> {
        let any = SocketAddr::from((ip, 0));
        if protocol == Protocol::Udp {
            let socket = std::net::UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            return Ok(Socket::Udp(Arc::new(UdpSocket::from_std(socket)?)));
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind(any)?;
        Ok(Socket::Tcp(Arc::new(socket.listen(BACKLOG)?)))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Tcp(socket) => socket.local_addr(),
            Socket::Udp(socket) => socket.local_addr(),
        }
    }
}

/// A choice of endpoints, and where its clients are taken.
struct Door {
    socket: Socket,
    wanted: Wanted,
}

/// What is wanted of a service port. Written by the mode; outlives the port's actor.
pub struct Port {
    doors: RwLock<BTreeMap<Reach, Door>>,
    /// The Service's address: what UDP clients aim at, as far as anybody knows.
    cluster_ip: RwLock<IpAddr>,
    scheduler: Scheduler,
    /// Room for connections and flows of all ports.
    room: Arc<Semaphore>,
}

impl Port {
    /// Without a door yet.
    pub fn new(scheduler: Scheduler, room: Arc<Semaphore>) -> Self {
        let cluster_ip = RwLock::new(IpAddr::from(Ipv4Addr::UNSPECIFIED));
        Port { doors: RwLock::default(), cluster_ip, scheduler, room }
    }

    /// Opens a door at `ip` for each choice of endpoints that traffic leads to, and closes the others. Returns where they
    /// are. To be called where a reactor runs.
    pub fn set(&self, plan: &PortPlan, ip: Ipv4Addr) -> io::Result<BTreeMap<Reach, SocketAddr>> {
        *self.cluster_ip.write() = plan.cluster_ip;
        let mut doors = self.doors.write();
        doors.retain(|reach, _| !plan.backends(*reach).is_empty());
        let mut addresses = BTreeMap::new();
        for reach in plan.reaches() {
            let affinity = plan.affinity_seconds.map(|s| Duration::from_secs(s.into()));
            let wanted = Wanted { backends: plan.backends(reach).to_vec(), affinity };
            let door = match doors.remove(&reach) {
                Some(door) => Door { wanted, ..door },
                None => Door { wanted, socket: Socket::bind(plan.protocol, ip)? },
            };
            addresses.insert(reach, door.socket.address()?);
            doors.insert(reach, door);
        }
        Ok(addresses)
    }
}

/// What is wanted changed.
pub struct Look;
message!(Look => (), |_m| Some("endpoints".into()), coalesce);

/// A door that is served.
struct Serving {
    work: SpawnHandle,
    balancer: SharedBalancer,
    /// The UDP flows through it.
    flows: Flows,
}

/// Serves a service port.
pub struct PortActor {
    port: Arc<Port>,
    serving: BTreeMap<Reach, Serving>,
}

impl PortActor {
    /// Serves what is wanted of the port.
    pub fn new(port: Arc<Port>) -> Self {
        PortActor { port, serving: BTreeMap::new() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let port = self.port.clone();
        let doors = port.doors.read();
        self.serving.retain(|reach, serving| {
            let stays = doors.contains_key(reach);
            if !stays {
                ctx.cancel_future(serving.work);
            }
            stays
        });
        for (reach, door) in doors.iter() {
            if !self.serving.contains_key(reach) {
                let serving = self.serve(door, ctx);
                self.serving.insert(*reach, serving);
            }
            if let Some(serving) = self.serving.get(reach) {
                serving.balancer.borrow_mut().set(&door.wanted);
                serving.flows.keep(|backend| serving.balancer.borrow().has(backend));
            }
        }
    }

    fn serve(&self, door: &Door, ctx: &mut Context<Self>) -> Serving {
        let balancer = Rc::new(RefCell::new(Balancer::new(self.port.scheduler)));
        let flows = Flows::default();
        let room = self.port.room.clone();
        let work = match door.socket.clone() {
            Socket::Tcp(listener) => ctx.run(tcp::serve(listener, balancer.clone(), room), |_, (), _| {}),
            Socket::Udp(socket) => {
                let aim = *self.port.cluster_ip.read();
                ctx.run(udp::serve(socket, balancer.clone(), flows.clone(), room, aim), |_, (), _| {})
            }
        };
        Serving { work, balancer, flows }
    }
}

impl Actor for PortActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<Look> for PortActor {
    type Result = ();
    fn handle(&mut self, _: Look, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}
