//! Priority and fairness: which requests run now, which wait, which are turned away.
//!
//! Every request belongs to a flow of a flow schema, and through it to a priority level that has a number of
//! seats. A level that is full queues by flow ([`queues`]), so that one noisy client costs others little. Seats
//! that a level lends and does not use may be borrowed by others. Waiting is bounded in number and in time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::config::Config;
use self::measured::{Execution, FairnessMetrics};
use self::queues::{Arrival, Level};
use crate::auth::Attributes;
use crate::cache::Cache;

pub mod config;
pub mod measured;
pub mod queues;

/// How long a request waits for a seat: a quarter of the time that a request has.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Objects of a list that cost one more seat.
const OBJECTS_PER_SEAT: usize = 100;
/// Seats that one request takes at most.
const SEATS_MAX: usize = 10;

/// The server's seats.
pub struct Fairness {
    cache: Cache,
    metrics: FairnessMetrics,
    levels: Mutex<HashMap<Arc<str>, Level<oneshot::Sender<Seat>>>>,
}

/// Where a request sits.
struct Seat {
    queue: usize,
    seats: u32,
}

/// The right to run. Dropping it lets the next one run.
pub struct Permit {
    /// Uids of its flow schema and priority level, where there are such.
    pub flow: Flow,
    /// What is given back; none where the level is exempt.
    seat: Option<(Arc<Fairness>, Arc<str>, Seat)>,
    _execution: Option<Execution>,
}

/// A request that was turned away: come again in a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Uids of its flow schema and priority level.
    pub flow: Flow,
}

/// Where a request belongs, as its answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Uid of the flow schema.
    pub schema: Option<HeaderValue>,
    /// Uid of the priority level.
    pub level: Option<HeaderValue>,
}

impl Fairness {
    /// Seats by the flow control objects that the cache holds.
    pub fn new(cache: Cache, metrics: FairnessMetrics) -> Arc<Self> {
        Arc::new(Fairness { cache, metrics, levels: Mutex::default() })
    }

    /// How many seats a request takes: long lists cost more.
    pub fn width(&self, request: &Attributes, storage: Option<(&str, &str)>) -> u32 {
        let Some((group, plural)) = storage.filter(|_| request.verb == "list") else { return 1 };
        let count = self.cache.snapshot().count(group, plural);
        (1 + count / OBJECTS_PER_SEAT).min(SEATS_MAX) as u32
    }

    /// Waits for a seat.
    ///
    /// # Errors
    /// When there is none in time, or too many wait already.
    pub async fn admit(self: &Arc<Self>, request: &Attributes, seats: u32) -> Result<Permit, Refused> {
        let config = self.cache.derived::<Config>();
        let Some((schema, hash)) = config.classify(request) else {
            return Ok(Permit { flow: Flow::default(), seat: None, _execution: None });
        };
        let name = schema.level.clone();
        let level = config.levels.get(&name);
        let flow = Flow { schema: Some(schema.uid.clone()), level: level.map(|level| level.uid.clone()) };
        let Some(level) = level else {
            return Ok(Permit { flow, seat: None, _execution: None });
        };
        let counted = self.metrics.of(&schema.name, &name);
        let permit = |seat: Seat| Permit {
            flow: flow.clone(),
            _execution: Some(counted.dispatched(seat.seats)),
            seat: Some((self.clone(), name.clone(), seat)),
        };
        let refuse = |why: &'static str| {
            counted.rejected(why);
            Err(Refused { flow: flow.clone() })
        };
        let Some(limits) = level.limits else {
            let execution = Some(counted.dispatched(seats));
            return Ok(Permit { flow, seat: None, _execution: execution });
        };
        counted.arrived(seats);
        let (tell, told) = oneshot::channel();
        let (arrival, seats) = {
            let mut levels = self.levels.lock();
            let own = levels.entry(name.clone()).or_insert_with(|| Level::new(limits));
            own.configure(limits);
            // Most find a seat of their level's own, and nobody else's need be looked at.
            let spare = if own.has_room(seats) { 0 } else { spare(&config, &levels, &name) };
            let own = levels.entry(name.clone()).or_insert_with(|| Level::new(limits));
            (own.arrive(hash, seats, spare, tell), own.width(seats))
        };
        let ticket = match arrival {
            Arrival::Runs(queue) => {
                counted.waited(Duration::ZERO, true);
                return Ok(permit(Seat { queue, seats }));
            }
            Arrival::QueueFull => return refuse("queue-full"),
            Arrival::NoSeat => return refuse("concurrency-limit"),
            Arrival::Waits(ticket) => ticket,
        };
        let waiting = Waiting { fairness: self, level: &name, ticket, told: Some(told) };
        let (queued, begun) = (counted.queued(), std::time::Instant::now());
        let told = waiting.wait().await;
        drop(queued);
        counted.waited(begun.elapsed(), told.is_some());
        match told {
            Some(seat) => Ok(permit(seat)),
            None => refuse("time-out"),
        }
    }

    fn give_back(&self, name: &Arc<str>, seat: &Seat) {
        let config = self.cache.derived::<Config>();
        let mut levels = self.levels.lock();
        if let Some(level) = levels.get_mut(name) {
            level.release(seat.queue, seat.seats);
        }
        // Levels that are configured no longer stay while somebody is in them.
        if levels.len() > config.levels.len() {
            levels.retain(|name, level| !level.is_idle() || config.levels.contains_key(name));
        }
        if levels.values().all(|level| level.waiting() == 0) {
            return;
        }
        // Whoever waits here, or waits elsewhere for a seat to borrow.
        let mut names: Vec<Arc<str>> = levels.keys().filter(|n| *n != name).cloned().collect();
        names.insert(0, name.clone());
        for name in names {
            loop {
                let spare = spare(&config, &levels, &name);
                let Some(level) = levels.get_mut(&name) else { break };
                let Some((tell, queue, seats)) = level.next(spare) else { break };
                // Somebody who has just gone takes no seat.
                if tell.send(Seat { queue, seats }).is_err() {
                    level.release(queue, seats);
                }
            }
        }
    }
}

/// Seats that others lend and do not use now, as far as a level may borrow them.
fn spare<T>(config: &Config, levels: &HashMap<Arc<str>, Level<T>>, name: &Arc<str>) -> u32 {
    let mut free = 0u32;
    let mut borrowed = 0u32;
    for (other, level) in &config.levels {
        let Some(limits) = level.limits else { continue };
        let running = levels.get(other).map_or(0, Level::running);
        borrowed += running.saturating_sub(limits.seats);
        if other != name {
            free += limits.seats.saturating_sub(running).min(level.lendable);
        }
    }
    let own = config.levels.get(name).and_then(|level| level.limits).map_or(0, |limits| limits.seats);
    let own_borrowed = levels.get(name).map_or(0, Level::running).saturating_sub(own);
    // What this level has borrowed already counts as free to it.
    let free = free.saturating_sub(borrowed - own_borrowed);
    let limit = config.levels.get(name).and_then(|level| level.borrowing);
    limit.map_or(free, |limit| free.min(limit))
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((fairness, level, seat)) = self.seat.take() {
            fairness.give_back(&level, &seat);
        }
    }
}

/// A request in a queue. Dropping it leaves the queue.
struct Waiting<'a> {
    fairness: &'a Arc<Fairness>,
    level: &'a Arc<str>,
    ticket: u64,
    told: Option<oneshot::Receiver<Seat>>,
}

impl Waiting<'_> {
    async fn wait(mut self) -> Option<Seat> {
        let told = self.told.as_mut()?;
        let seat = tokio::time::timeout(WAIT_MAX, told).await.ok()?.ok()?;
        self.told = None;
        Some(seat)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        let waited =
            self.fairness.levels.lock().get_mut(self.level).is_some_and(|level| level.cancel(self.ticket));
        // It may have been given a seat at the very moment that it left.
        if !waited && let Ok(seat) = told.try_recv() {
            self.fairness.give_back(self.level, &seat);
        }
    }
}
