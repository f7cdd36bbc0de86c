//! The seats of one priority level and the queues before them. Pure: no clock, no waiting.
//!
//! A flow is dealt a hand of queues by its hash and joins the emptiest of them, so that a busy flow fills a few
//! queues and leaves others to others (shuffle sharding). Queues take turns by virtual time: each has used as
//! many seats as its start says, and the one that has used least goes next.

use std::collections::VecDeque;

/// What a level is configured to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that run at the same time, in seats.
    pub seats: u32,
    /// Queues; none means that what finds no seat is refused.
    pub queues: usize,
    /// Queues that one flow is dealt.
    pub hand: usize,
    /// Requests that one queue holds.
    pub length_max: usize,
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It runs; give back the seats of this queue.
    Runs(usize),
    /// It waits under this ticket.
    Waits(u64),
    /// Its queue is full.
    QueueFull,
    /// There is no seat and there are no queues.
    NoSeat,
}

struct Waiting<T> {
    ticket: u64,
    seats: u32,
    item: T,
}

struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    running: u32,
    /// Virtual time at which the queue's next request starts.
    start: f64,
}

impl<T> Queue<T> {
    fn load(&self) -> u32 {
        self.waiting.iter().map(|w| w.seats).sum::<u32>() + self.running
    }
}

/// A priority level at work.
pub struct Level<T> {
    limits: Limits,
    running: u32,
    /// Requests in all queues: there are many queues, and mostly nobody is in them.
    waiting: usize,
    queues: Vec<Queue<T>>,
    now: f64,
    tickets: u64,
}

impl<T> Level<T> {
    /// An idle level.
    pub fn new(limits: Limits) -> Self {
        let mut level = Level { limits, running: 0, waiting: 0, queues: Vec::new(), now: 0.0, tickets: 0 };
        level.resize();
        level
    }

    fn resize(&mut self) {
        // Queues that are not dealt any more stay until they are empty.
        while self.queues.len() < self.limits.queues.max(1) {
            self.queues.push(Queue { waiting: VecDeque::new(), running: 0, start: self.now });
        }
    }

    /// Goes on under other limits.
    pub fn configure(&mut self, limits: Limits) {
        if self.limits != limits {
            self.limits = limits;
            self.resize();
        }
    }

    /// Whether a request finds a seat of the level's own.
    pub fn has_room(&self, seats: u32) -> bool {
        self.waiting == 0 && self.fits(self.width(seats), 0)
    }

    /// Seats taken.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nobody is in it.
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting == 0
    }

    /// A request arrives. `spare` seats may be borrowed from other levels.
    pub fn arrive(&mut self, flow: u64, seats: u32, spare: u32, item: T) -> Arrival {
        let seats = seats.clamp(1, self.limits.seats.max(1));
        let hand = deal(flow, self.limits.queues.max(1), self.limits.hand.max(1));
        let at = hand.into_iter().min_by_key(|i| self.queues[*i].load()).unwrap_or(0);
        if self.waiting == 0 && self.fits(seats, spare) {
            self.start(at, seats);
            return Arrival::Runs(at);
        }
        if self.limits.queues == 0 {
            return Arrival::NoSeat;
        }
        let queue = &mut self.queues[at];
        if queue.waiting.len() >= self.limits.length_max {
            return Arrival::QueueFull;
        }
        if queue.waiting.is_empty() {
            // An idle queue has no claim on the time that it slept through.
            queue.start = queue.start.max(self.now);
        }
        self.tickets += 1;
        self.waiting += 1;
        queue.waiting.push_back(Waiting { ticket: self.tickets, seats, item });
        Arrival::Waits(self.tickets)
    }

    fn fits(&self, seats: u32, spare: u32) -> bool {
        self.running == 0 || self.running + seats <= self.limits.seats + spare
    }

    fn start(&mut self, at: usize, seats: u32) {
        let queue = &mut self.queues[at];
        self.now = queue.start.max(self.now);
        queue.start = self.now + f64::from(seats);
        queue.running += seats;
        self.running += seats;
    }

    /// The next request that may run, with its queue and its seats.
    pub fn next(&mut self, spare: u32) -> Option<(T, usize, u32)> {
        if self.waiting == 0 {
            return None;
        }
        let waiting = self.queues.iter().enumerate().filter(|(_, q)| !q.waiting.is_empty());
        let (at, _) = waiting.min_by(|(_, a), (_, b)| a.start.total_cmp(&b.start))?;
        let seats = self.queues[at].waiting.front()?.seats;
        if !self.fits(seats, spare) {
            return None;
        }
        let next = self.queues[at].waiting.pop_front()?;
        self.waiting -= 1;
        self.start(at, next.seats);
        Some((next.item, at, next.seats))
    }

    /// A request of a queue is done.
    pub fn release(&mut self, at: usize, seats: u32) {
        self.running = self.running.saturating_sub(seats);
        if let Some(queue) = self.queues.get_mut(at) {
            queue.running = queue.running.saturating_sub(seats);
        }
    }

    /// A request waits no longer. Says whether it still did.
    pub fn cancel(&mut self, ticket: u64) -> bool {
        let waited = self.queues.iter_mut().any(|queue| {
            let before = queue.waiting.len();
            queue.waiting.retain(|w| w.ticket != ticket);
            queue.waiting.len() < before
        });
        self.waiting -= usize::from(waited);
        waited
    }

    /// The seats that a request of this width takes here.
    pub fn width(&self, seats: u32) -> u32 {
        seats.clamp(1, self.limits.seats.max(1))
    }
}

/// The hand of a flow: `hand` different numbers below `deck`, told by its hash.
fn deal(mut hash: u64, deck: usize, hand: usize) -> Vec<usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(hand.min(deck));
    for left in (1..=deck).rev().take(hand.min(deck)) {
        let mut card = (hash % left as u64) as usize;
        hash /= left as u64;
        // The card-th of those that are not dealt yet; `dealt` is kept sorted.
        for taken in &dealt {
            if *taken <= card {
                card += 1;
            }
        }
        let at = dealt.partition_point(|d| *d < card);
        dealt.insert(at, card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(seats: u32, queues: usize, hand: usize, length_max: usize) -> Level<&'static str> {
        Level::new(Limits { seats, queues, hand, length_max })
    }

    #[test]
    fn hands_are_different_cards() {
        for flow in [0, 1, 17, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            let hand = deal(flow, 64, 6);
            assert_eq!(hand.len(), 6, "{flow}");
            assert!(hand.windows(2).all(|w| w[0] < w[1]) && hand[5] < 64, "{hand:?}");
        }
        assert_eq!(deal(5, 1, 6), [0]);
    }

    #[test]
    fn without_queues_the_surplus_is_refused() {
        let mut level = level(1, 0, 0, 0);
        assert_eq!(level.arrive(1, 1, 0, "a"), Arrival::Runs(0));
        assert_eq!(level.arrive(1, 1, 0, "b"), Arrival::NoSeat);
        assert_eq!(level.arrive(1, 1, 1, "c"), Arrival::Runs(0), "a borrowed seat");
        level.release(0, 1);
        level.release(0, 1);
        assert!(level.is_idle());
    }

    #[test]
    fn a_noisy_flow_does_not_starve_a_quiet_one() {
        // One queue each: flows 0 and 1 are dealt different ones.
        let mut level = level(1, 2, 1, 100);
        assert_eq!(level.arrive(0, 1, 0, "noise"), Arrival::Runs(0));
        for _ in 0..50 {
            assert!(matches!(level.arrive(0, 1, 0, "noise"), Arrival::Waits(_)));
        }
        assert!(matches!(level.arrive(1, 1, 0, "quiet"), Arrival::Waits(_)));
        let mut order = Vec::new();
        for _ in 0..3 {
            let at = if order.last() == Some(&"quiet") { 1 } else { 0 };
            level.release(at, 1);
            order.push(level.next(0).expect("somebody waits").0);
        }
        assert!(order.contains(&"quiet"), "{order:?}");
    }

    #[test]
    fn queues_are_bounded_and_waiting_can_end() {
        let mut level = level(1, 1, 1, 1);
        assert_eq!(level.arrive(0, 1, 0, "a"), Arrival::Runs(0));
        let Arrival::Waits(ticket) = level.arrive(0, 1, 0, "b") else { panic!("waits") };
        assert_eq!(level.arrive(0, 1, 0, "c"), Arrival::QueueFull);
        assert!(level.cancel(ticket) && !level.cancel(ticket));
        level.release(0, 1);
        assert_eq!(level.next(0), None);
    }

    #[test]
    fn a_wide_request_waits_for_its_seats() {
        let mut level = level(4, 1, 1, 9);
        assert_eq!(level.arrive(0, 3, 0, "a"), Arrival::Runs(0));
        assert!(matches!(level.arrive(0, 99, 0, "wide"), Arrival::Waits(_)));
        assert_eq!(level.next(0), None);
        level.release(0, 3);
        assert_eq!(level.next(0), Some(("wide", 0, 4)));
    }
}
