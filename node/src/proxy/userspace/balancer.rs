//! The endpoints of one service port as its connections come and go.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actors::time::Instant;

use super::schedule::{Aim, Scheduler, Server};
use super::sticky::Sticky;
use crate::proxy::endpoints::Backend;

/// What a service port wants of its balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The endpoints.
    pub backends: Vec<Backend>,
    /// Clients stay with theirs until they have been silent for so long.
    pub affinity: Option<Duration>,
}

/// Chooses endpoints and counts what they have to do.
#[derive(Debug)]
pub struct Balancer {
    scheduler: Scheduler,
    servers: Vec<Server>,
    affinity: Option<Duration>,
    sticky: Sticky,
    turn: usize,
}

/// Shared by all connections of a port.
pub type SharedBalancer = Rc<RefCell<Balancer>>;

impl Balancer {
    /// Without endpoints.
    pub fn new(scheduler: Scheduler) -> Self {
        Balancer { scheduler, servers: Vec::new(), affinity: None, sticky: Sticky::default(), turn: 0 }
    }

    /// These are the endpoints now. Those that stay keep their counts.
    pub fn set(&mut self, wanted: &Wanted) {
        self.affinity = wanted.affinity;
        if wanted.affinity.is_none() {
            self.sticky = Sticky::default();
        }
        let before = std::mem::take(&mut self.servers);
        self.servers = wanted
            .backends
            .iter()
            .map(|backend| {
                let known = before.iter().find(|server| server.backend == *backend).copied();
                known.unwrap_or(Server { backend: *backend, open: 0, half_closed: 0 })
            })
            .collect();
    }

    /// Whether an endpoint is still wanted.
    pub fn has(&self, backend: Backend) -> bool {
        self.servers.iter().any(|server| server.backend == backend)
    }

    /// An endpoint for a new connection, other than those that were tried in vain.
    pub fn choose(&mut self, aim: Aim, tried: &[Backend], now: Instant) -> Option<Backend> {
        let usable = |server: &Server| !tried.contains(&server.backend);
        let recalled = self.affinity.and_then(|timeout| self.sticky.recall(aim.client, timeout, now));
        let recalled = recalled.filter(|backend| self.has(*backend) && !tried.contains(backend));
        let chosen = match recalled {
            Some(backend) => backend,
            None => {
                let index = self.scheduler.choose(&self.servers, usable, self.turn, aim)?;
                self.turn = index + 1;
                self.servers.get(index)?.backend
            }
        };
        if self.affinity.is_some() {
            self.sticky.remember(aim.client, chosen, now);
        }
        Some(chosen)
    }

    fn server(&mut self, backend: Backend) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.backend == backend)
    }
}

/// A connection, as its endpoint's load: it counts until it is dropped.
pub struct Load {
    balancer: SharedBalancer,
    backend: Backend,
    half_closed: bool,
}

impl Load {
    /// One more.
    pub fn new(balancer: SharedBalancer, backend: Backend) -> Self {
        if let Some(server) = balancer.borrow_mut().server(backend) {
            server.open += 1;
        }
        Load { balancer, backend, half_closed: false }
    }

    /// One side has ended it.
    pub fn half_close(&mut self) {
        if !std::mem::replace(&mut self.half_closed, true)
            && let Some(server) = self.balancer.borrow_mut().server(self.backend)
        {
            server.open = server.open.saturating_sub(1);
            server.half_closed += 1;
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // An endpoint that went and came back has lost its counts.
        if let Some(server) = self.balancer.borrow_mut().server(self.backend) {
            let count = if self.half_closed { &mut server.half_closed } else { &mut server.open };
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(last: u8) -> Backend {
        Backend { ip: [10, 0, 0, last].into(), port: 80 }
    }

    fn wanted(last: &[u8], affinity: Option<u64>) -> Wanted {
        let backends = last.iter().map(|l| backend(*l)).collect();
        Wanted { backends, affinity: affinity.map(Duration::from_secs) }
    }

    fn aim(client: u8) -> Aim {
        Aim { client: [192, 0, 2, client].into(), destination: [10, 96, 0, 1].into() }
    }

    #[tokio::test(start_paused = true)]
    async fn loads_count_while_connections_last() {
        let balancer = Rc::new(RefCell::new(Balancer::new(Scheduler::LeastConnection)));
        balancer.borrow_mut().set(&wanted(&[1, 2], None));
        let now = Instant::now();
        let choose = || balancer.borrow_mut().choose(aim(1), &[], now).unwrap();
        let first = choose();
        let mut load = Load::new(balancer.clone(), first);
        assert_ne!(choose(), first);
        load.half_close();
        load.half_close();
        let other = Load::new(balancer.clone(), backend(if first == backend(1) { 2 } else { 1 }));
        assert_eq!(choose(), first, "a half-closed connection hardly counts");
        drop((load, other));
        let idle = |s: &Server| (s.open, s.half_closed) == (0, 0);
        assert!(balancer.borrow().servers.iter().all(idle), "{balancer:?}");
        // Endpoints that stay keep their loads, those that go take theirs along.
        let load = Load::new(balancer.clone(), backend(1));
        balancer.borrow_mut().set(&wanted(&[1, 3], None));
        assert_eq!(choose(), backend(3));
        balancer.borrow_mut().set(&wanted(&[3], None));
        drop(load);
        assert!(balancer.borrow().servers.iter().all(idle));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_stay_where_they_are_while_it_is_there() {
        let mut balancer = Balancer::new(Scheduler::RoundRobin);
        balancer.set(&wanted(&[1, 2, 3], Some(60)));
        let start = Instant::now();
        let first = balancer.choose(aim(1), &[], start).unwrap();
        for seconds in [1, 50, 100] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(balancer.choose(aim(1), &[], now), Some(first));
        }
        let now = start + Duration::from_secs(101);
        assert_ne!(balancer.choose(aim(2), &[], now), Some(first), "another client has its own");
        let next = balancer.choose(aim(1), &[first], now).unwrap();
        assert_ne!(next, first, "it does not answer");
        assert_eq!(balancer.choose(aim(1), &[], now), Some(next), "and the client stays where it is then");
        let late = start + Duration::from_secs(300);
        balancer.set(&wanted(
            &[next.ip.to_string().rsplit('.').next().unwrap().parse::<u8>().unwrap() % 3 + 1],
            Some(60),
        ));
        assert_ne!(balancer.choose(aim(1), &[], late), Some(next));
        balancer.set(&wanted(&[], Some(60)));
        assert_eq!(balancer.choose(aim(1), &[], late), None);
    }
}
