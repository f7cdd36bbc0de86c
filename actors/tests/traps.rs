//! Every known trap of actix, as a test that this layer does not fall into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actors::{
    Actor, ActorContext, AskError, AsyncContext, Context, Handler, Props, Rejected, ResponseActFuture,
    RestartPolicy, Stage, Strategy, WrapFuture, message, time, trace,
};

/// Runs a test on one thread with tokio's clock paused: time passes when everybody waits.
fn on_virtual_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

const SOON: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Counter {
    count: u32,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

struct Add(u32);
message!(Add => u32);
struct Boom;
message!(Boom => ());
struct LaterBoom;
message!(LaterBoom => ());
struct Poke(Arc<str>);
message!(Poke => (), |m| Some(m.0.clone()), coalesce);
struct StopYourself;
message!(StopYourself => ());
struct Sleep(Duration);
message!(Sleep => ());
struct WaitOn(Duration);
message!(WaitOn => ());

impl Handler<Add> for Counter {
    type Result = u32;
    fn handle(&mut self, m: Add, _: &mut Context<Self>) -> u32 {
        self.count += m.0;
        self.count
    }
}
impl Handler<Boom> for Counter {
    type Result = ();
    fn handle(&mut self, _: Boom, _: &mut Context<Self>) {
        panic!("boom");
    }
}
impl Handler<LaterBoom> for Counter {
    type Result = ();
    fn handle(&mut self, _: LaterBoom, ctx: &mut Context<Self>) {
        ctx.run_later(Duration::from_millis(5), |_, _| panic!("later"));
    }
}
impl Handler<Poke> for Counter {
    type Result = ();
    fn handle(&mut self, _: Poke, _: &mut Context<Self>) {
        self.count += 1;
    }
}
impl Handler<StopYourself> for Counter {
    type Result = ();
    fn handle(&mut self, _: StopYourself, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
impl Handler<Sleep> for Counter {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, m: Sleep, _: &mut Context<Self>) -> Self::Result {
        Box::pin(tokio::time::sleep(m.0).into_actor(self))
    }
}
impl Handler<WaitOn> for Counter {
    type Result = ();
    fn handle(&mut self, m: WaitOn, ctx: &mut Context<Self>) {
        ctx.wait(tokio::time::sleep(m.0).into_actor(self));
    }
}

fn counter(stage: &Stage, capacity: usize) -> (actors::ActorRef<Counter>, Arc<AtomicU32>) {
    let built = Arc::new(AtomicU32::new(0));
    let seen = built.clone();
    let props = Props::new("test/counter", move || {
        seen.fetch_add(1, Ordering::Relaxed);
        Counter::default()
    });
    (stage.spawn(props.capacity(capacity)), built)
}

#[test]
fn a_panic_loses_one_message_and_no_other_and_state_is_fresh() {
    on_virtual_time(async {
        let (actor, built) = counter(&Stage::local(), 8);
        assert_eq!(actor.ask(Add(5), SOON).await, Ok(5));
        let (boom, behind) = tokio::join!(actor.ask(Boom, SOON), actor.ask(Add(1), SOON));
        assert_eq!(boom, Err(AskError::Panicked));
        assert_eq!(behind, Ok(1), "handled by a fresh actor, from the kept mailbox");
        assert_eq!(built.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_panic_in_a_timer_is_caught_too() {
    on_virtual_time(async {
        let (actor, built) = counter(&Stage::local(), 8);
        actor.ask(LaterBoom, SOON).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(actor.ask(Add(1), SOON).await, Ok(1));
        assert_eq!(built.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn stopping_in_started_does_not_spin() {
    struct Quitter(Arc<AtomicU32>);
    impl Actor for Quitter {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Context<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            ctx.stop();
        }
    }
    on_virtual_time(async {
        let starts = Arc::new(AtomicU32::new(0));
        let seen = starts.clone();
        let stage = Stage::local();
        stage.spawn(
            Props::new("test/quitter", move || Quitter(seen.clone())).restart(RestartPolicy::Permanent),
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        let starts = starts.load(Ordering::Relaxed);
        assert!((5..40).contains(&starts), "{starts} starts in a minute");
        assert!(stage.encode_metrics().contains("troupe_actor_escalations_total"));
    });
}

#[test]
fn the_mailbox_is_bounded_whoever_sends() {
    on_virtual_time(async {
        let (actor, _) = counter(&Stage::local(), 2);
        let mut refused = 0;
        for _ in 0..100 {
            match actor.clone().try_tell(Add(1)) {
                Ok(()) => {}
                Err(Rejected::Full(Add(1))) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(refused, 98);
        assert_eq!(actor.ask(Add(0), SOON).await, Ok(2));
    });
}

#[test]
fn a_full_mailbox_makes_tell_wait_and_ask_fail_at_its_deadline() {
    on_virtual_time(async {
        let (actor, _) = counter(&Stage::local(), 1);
        actor.ask(WaitOn(Duration::from_secs(10)), SOON).await.unwrap();
        actor.try_tell(Add(1)).unwrap();
        assert_eq!(actor.ask(Add(1), Duration::from_secs(1)).await, Err(AskError::Full));
        let before = time::Instant::now();
        actor.tell(Add(1)).await.unwrap();
        assert!(before.elapsed() >= Duration::from_secs(8), "waited for room");
    });
}

#[test]
fn the_high_lane_overtakes() {
    on_virtual_time(async {
        let (actor, _) = counter(&Stage::local(), 8);
        actor.ask(WaitOn(Duration::from_secs(1)), SOON).await.unwrap();
        let stage_order = tokio::spawn({
            let actor = actor.clone();
            async move { actor.ask(Add(0), SOON).await }
        });
        tokio::task::yield_now().await;
        actor.tell_high(Add(7)).await.unwrap();
        assert_eq!(stage_order.await.unwrap(), Ok(7), "the later, urgent message was handled first");
    });
}

#[test]
fn equal_keys_that_wait_are_one_message() {
    on_virtual_time(async {
        let (actor, _) = counter(&Stage::local(), 4);
        actor.ask(WaitOn(Duration::from_secs(1)), SOON).await.unwrap();
        for _ in 0..50 {
            actor.try_tell(Poke("a".into())).unwrap();
            actor.try_tell(Poke("b".into())).unwrap();
        }
        assert_eq!(actor.ask(Add(0), SOON).await, Ok(2));
    });
}

#[test]
fn a_stopped_actor_says_so() {
    on_virtual_time(async {
        let stage = Stage::local();
        let (actor, _) = counter(&stage, 4);
        actor.ask(StopYourself, SOON).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(matches!(actor.try_tell(Add(1)), Err(Rejected::Closed(_))));
        assert_eq!(actor.ask(Add(1), SOON).await, Err(AskError::Closed));
        assert!(stage.actors().is_empty());
    });
}

#[test]
fn an_asker_that_gives_up_does_not_take_the_message_back() {
    on_virtual_time(async {
        let (actor, _) = counter(&Stage::local(), 4);
        actor.ask(WaitOn(Duration::from_secs(2)), SOON).await.unwrap();
        assert_eq!(actor.ask(Add(3), Duration::from_secs(1)).await, Err(AskError::Timeout));
        assert_eq!(actor.ask(Add(0), SOON).await, Ok(3));
    });
}

#[test]
fn an_actor_that_sends_to_itself_lets_its_siblings_run() {
    struct Busy {
        rounds: Arc<AtomicU32>,
    }
    struct Again;
    message!(Again => ());
    impl Actor for Busy {
        type Context = Context<Self>;
    }
    impl Handler<Again> for Busy {
        type Result = ();
        fn handle(&mut self, _: Again, ctx: &mut Context<Self>) {
            self.rounds.fetch_add(1, Ordering::Relaxed);
            ctx.me().try_tell(Again).unwrap();
        }
    }
    on_virtual_time(async {
        let rounds = Arc::new(AtomicU32::new(0));
        let stage = Stage::local();
        let (sibling, _) = counter(&stage, 4);
        let seen = rounds.clone();
        let busy = stage.spawn(Props::new("test/busy", move || Busy { rounds: seen.clone() }));
        busy.tell(Again).await.unwrap();
        tokio::task::yield_now().await;
        // The asker is a task among the others too: a LocalSet polls its root future only once in 61 turns.
        let asker = actors::spawn(async move {
            let before = rounds.load(Ordering::Relaxed);
            sibling.ask(Add(1), SOON).await.unwrap();
            rounds.load(Ordering::Relaxed) - before
        });
        let between = asker.await.unwrap();
        assert!(between <= 64 * 4, "the sibling waited for {between} messages of the busy one");
    });
}

#[test]
fn a_sibling_is_rebuilt_with_it_where_the_strategy_says_so() {
    for (strategy, expected) in [
        (Strategy::OneForOne, [0, 1, 0]),
        (Strategy::RestForOne, [0, 1, 1]),
        (Strategy::OneForAll, [1, 1, 1]),
    ] {
        on_virtual_time(async move {
            let stage = Stage::local();
            let group = stage.group("test/group", strategy);
            let actors: Vec<_> = (0..3)
                .map(|n| group.spawn(Props::new("test/member", Counter::default).instance(n.to_string())))
                .collect();
            tokio::task::yield_now().await;
            let _ = actors[1].ask(Boom, SOON).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let restarts: Vec<_> = stage.actors().iter().map(|a| a.restarts).collect();
            assert_eq!(restarts, expected, "{strategy:?}");
        });
    }
}

#[test]
fn children_stop_with_their_parent() {
    struct Parent;
    struct Make;
    message!(Make => ());
    impl Actor for Parent {
        type Context = Context<Self>;
    }
    impl Handler<Make> for Parent {
        type Result = ();
        fn handle(&mut self, _: Make, ctx: &mut Context<Self>) {
            ctx.spawn_child(Props::new("test/child", Counter::default));
        }
    }
    on_virtual_time(async {
        let stage = Stage::local();
        let parent = stage.spawn(Props::new("test/parent", || Parent));
        parent.ask(Make, SOON).await.unwrap();
        assert_eq!(stage.actors().len(), 2);
        parent.stop();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(stage.actors().is_empty(), "{:?}", stage.actors());
    });
}

#[test]
fn causes_follow_messages_futures_and_timers() {
    struct Relay {
        to: actors::ActorRef<Counter>,
    }
    struct Go;
    message!(Go => ());
    impl Actor for Relay {
        type Context = Context<Self>;
    }
    impl Handler<Go> for Relay {
        type Result = ();
        fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
            let to = self.to.clone();
            let ask = async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                to.ask(Add(1), SOON).await
            };
            ctx.run(ask, |actor, _, ctx| {
                let to = actor.to.clone();
                ctx.run_later(Duration::from_millis(3), move |_, _| to.try_tell(Add(2)).unwrap());
            });
        }
    }
    on_virtual_time(async {
        let stage = Stage::local();
        let (to, _) = counter(&stage, 4);
        let relay = stage.spawn(Props::new("test/relay", move || Relay { to: to.clone() }));
        let root = trace::TraceContext::default().child();
        trace::under(root, relay.tell(Go)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let records = trace::find(100, |r| r.context.trace == root.trace);
        let chain: Vec<_> = records.iter().map(|r| (&*r.from, &*r.to, &*r.kind)).collect();
        assert_eq!(
            chain,
            [
                ("", "test/relay", "Go"),
                ("test/relay", "test/counter", "Add"),
                ("test/relay", "test/counter", "Add"),
            ]
        );
        assert_eq!(records[0].parent, root.message);
        assert!(records[1..].iter().all(|r| r.parent == records[0].context.message));
        assert!(
            records[0].handling_us >= 3_000,
            "the future counts as handling: {} µs",
            records[0].handling_us
        );
    });
}

#[test]
fn a_panic_ordered_by_a_debug_command_is_like_any_other() {
    on_virtual_time(async {
        let stage = Stage::local();
        let (actor, built) = counter(&stage, 4);
        tokio::task::yield_now().await;
        assert!(stage.inject_panic("test/counter"));
        assert!(!stage.inject_panic("test/nobody"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(actor.ask(Add(1), SOON).await, Ok(1));
        assert_eq!(built.load(Ordering::Relaxed), 2);
        assert!(stage.encode_metrics().contains(r#"troupe_actor_panics_total{class="test/counter"} 1"#));
    });
}

#[test]
fn an_actor_whose_factory_panics_keeps_being_tried() {
    on_virtual_time(async {
        let tries = Arc::new(AtomicU32::new(0));
        let seen = tries.clone();
        let stage = Stage::local();
        let actor = stage.spawn(Props::new("test/late", move || {
            assert!(seen.fetch_add(1, Ordering::Relaxed) >= 3, "not yet");
            Counter::default()
        }));
        assert_eq!(actor.ask(Add(1), Duration::from_secs(60)).await, Ok(1));
    });
}

#[test]
fn async_answers_do_not_block_other_messages() {
    on_virtual_time(async {
        let (actor, _) = counter(&Stage::local(), 4);
        let slow = actor.ask(Sleep(Duration::from_secs(3)), SOON);
        let fast = async {
            let before = time::Instant::now();
            actor.ask(Add(1), SOON).await.unwrap();
            before.elapsed()
        };
        let (slow, fast) = tokio::join!(slow, fast);
        assert_eq!(slow, Ok(()));
        assert!(fast < Duration::from_secs(1));
    });
}

#[actix::test]
async fn a_stage_on_its_own_arbiters_works_the_same() {
    let stage = Stage::new(2);
    let (actor, _) = counter(&stage, 4);
    assert_eq!(actor.ask(Add(1), SOON).await, Ok(1));
    assert_eq!(actor.ask(Boom, SOON).await, Err(AskError::Panicked));
    assert_eq!(actor.ask(Add(1), SOON).await, Ok(1));
    assert!(stage.shut_down(SOON).await.is_empty());
}

#[test]
fn a_panic_while_it_is_dropped_ends_neither_the_program_nor_the_actor() {
    struct Fragile(Arc<AtomicU32>);
    impl Actor for Fragile {
        type Context = Context<Self>;
        fn stopping(&mut self, _: &mut Context<Self>) -> actors::actix::Running {
            panic!("in stopping");
        }
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
                panic!("in drop");
            }
        }
    }
    impl Handler<Boom> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Boom, _: &mut Context<Self>) {
            panic!("boom");
        }
    }
    impl Handler<Add> for Fragile {
        type Result = u32;
        fn handle(&mut self, m: Add, _: &mut Context<Self>) -> u32 {
            m.0
        }
    }
    on_virtual_time(async {
        let drops = Arc::new(AtomicU32::new(0));
        let seen = drops.clone();
        let actor = Stage::local().spawn(Props::new("test/fragile", move || Fragile(seen.clone())));
        assert_eq!(actor.ask(Boom, SOON).await, Err(AskError::Panicked));
        assert_eq!(actor.ask(Add(4), SOON).await, Ok(4));
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn depth_and_age_of_a_mailbox_are_seen() {
    on_virtual_time(async {
        let stage = Stage::local();
        let (actor, _) = counter(&stage, 8);
        actor.ask(WaitOn(Duration::from_secs(4)), SOON).await.unwrap();
        for _ in 0..3 {
            actor.try_tell(Add(1)).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let seen = stage.actors().remove(0);
        assert_eq!((seen.depth, seen.capacity, seen.oldest_wait), (3, 8, Duration::from_secs(2)));
        // After a panic it is found under its path as before, alive.
        let _ = actor.ask(Boom, Duration::from_secs(30)).await;
        assert_eq!(actor.ask(Add(1), SOON).await, Ok(1));
        assert_eq!(stage.actors().remove(0).restarts, 1);
    });
}

#[test]
fn a_circle_of_asks_is_seen_and_ends_at_its_deadline() {
    struct Asker {
        other: Arc<std::sync::OnceLock<actors::ActorRef<Asker>>>,
        /// Once is enough: what waited in the mailbox would close the circle again.
        asked: bool,
    }
    struct Circle;
    message!(Circle => Option<AskError>);
    impl Actor for Asker {
        type Context = Context<Self>;
    }
    impl Handler<Circle> for Asker {
        type Result = actors::AtomicResponse<Self, Option<AskError>>;
        fn handle(&mut self, _: Circle, _: &mut Context<Self>) -> Self::Result {
            let other = self.other.clone();
            let again = std::mem::replace(&mut self.asked, true);
            let ask = async move {
                if again {
                    return None;
                }
                other.get().unwrap().ask(Circle, SOON).await.err()
            };
            actors::AtomicResponse::new(Box::pin(ask.into_actor(self)))
        }
    }
    on_virtual_time(async {
        let stage = Stage::local();
        let (first, second): (Arc<std::sync::OnceLock<_>>, Arc<std::sync::OnceLock<_>>) = Default::default();
        for (name, own, other) in [("test/a", &first, &second), ("test/b", &second, &first)] {
            let other = other.clone();
            let asker = stage.spawn(Props::new(name, move || Asker { other: other.clone(), asked: false }));
            assert!(own.set(asker).is_ok());
        }
        let asking = tokio::task::spawn_local({
            let first = first.clone();
            async move { first.get().unwrap().ask(Circle, SOON * 2).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let edges: Vec<_> =
            stage.actors().iter().map(|a| (a.awaited_by.join(","), a.path.to_string())).collect();
        assert_eq!(
            edges,
            [("test/b".to_owned(), "test/a".to_owned()), ("test/a".to_owned(), "test/b".to_owned())]
        );
        assert_eq!(asking.await.unwrap(), Ok(Some(AskError::Timeout)));
        tokio::time::sleep(SOON * 3).await;
        assert!(stage.actors().iter().all(|a| a.awaited_by.is_empty()));
    });
}

#[test]
fn a_timer_that_arms_itself_anew_does_not_catch_up() {
    struct Ticker(Arc<AtomicU32>);
    impl Ticker {
        fn tick(&mut self, ctx: &mut Context<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            ctx.run_later(Duration::from_millis(100), Self::tick);
        }
    }
    impl Actor for Ticker {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Context<Self>) {
            self.tick(ctx);
        }
    }
    on_virtual_time(async {
        let ticks = Arc::new(AtomicU32::new(0));
        let seen = ticks.clone();
        let _ticker = Stage::local().spawn(Props::new("test/ticker", move || Ticker(seen.clone())));
        tokio::task::yield_now().await;
        // The arbiter stalls: a second passes in which nobody runs.
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let after = ticks.load(Ordering::Relaxed);
        assert!(after <= 3, "{after} ticks after a stall");
    });
}
