//! The cost of one hop, with metrics and trace on, over raw actix. Both are measured in one run, in turns,
//! so that their difference and ratio hold whatever else the machine does.
//!
//! `cargo bench -p troupe-actors`

use std::time::{Duration, Instant};

use actors::{Props, Stage, message};

const ROUNDS: usize = 5;
const HOPS: u32 = 100_000;
const SOON: Duration = Duration::from_secs(10);

struct Add(u64);
message!(Add => u64);

struct Raw(u64);
impl actix::Actor for Raw {
    type Context = actix::Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        // As much room as ours has; the default of 16 would drop most of a burst.
        ctx.set_mailbox_capacity(1024);
    }
}
impl actix::Handler<Add> for Raw {
    type Result = u64;
    fn handle(&mut self, m: Add, _: &mut Self::Context) -> u64 {
        self.0 += m.0;
        self.0
    }
}

struct Ours(u64);
impl actors::Actor for Ours {
    type Context = actors::Context<Self>;
}
impl actors::Handler<Add> for Ours {
    type Result = u64;
    fn handle(&mut self, m: Add, _: &mut Self::Context) -> u64 {
        self.0 += m.0;
        self.0
    }
}

fn per_hop(started: Instant) -> f64 {
    started.elapsed().as_nanos() as f64 / f64::from(HOPS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[actix::main]
async fn main() {
    use actix::Actor;
    let raw = Raw(0).start();
    let stage = Stage::local();
    let ours = stage.spawn(Props::new("bench/ours", || Ours(0)).capacity(1024));
    let mut nanos: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let t = Instant::now();
        for _ in 0..HOPS {
            let _ = raw.send(Add(1)).await;
        }
        nanos[0].push(per_hop(t));
        let t = Instant::now();
        for _ in 0..HOPS {
            let _ = ours.ask(Add(1), SOON).await;
        }
        nanos[1].push(per_hop(t));
        // A tell is sending and handling: bursts that fit the mailbox, closed by one ask.
        let t = Instant::now();
        for n in 0..HOPS {
            let _ = raw.try_send(Add(1));
            if n % 512 == 511 {
                let _ = raw.send(Add(0)).await;
            }
        }
        let _ = raw.send(Add(0)).await;
        nanos[2].push(per_hop(t));
        let t = Instant::now();
        for n in 0..HOPS {
            let _ = ours.tell(Add(1)).await;
            if n % 512 == 511 {
                let _ = ours.ask(Add(0), SOON).await;
            }
        }
        let _ = ours.ask(Add(0), SOON).await;
        nanos[3].push(per_hop(t));
    }
    let [raw_ask, ask, raw_tell, tell] = nanos.map(median);
    println!("          raw actix   with metrics and trace   added    ratio");
    for (name, raw, ours) in [("ask", raw_ask, ask), ("tell", raw_tell, tell)] {
        println!("{name:<6} {raw:>9.0} ns {ours:>18.0} ns {:>12.0} ns {:>6.1}", ours - raw, ours / raw);
    }
}
