use std::sync::{Arc, Mutex};

use actors::{Handler, Props, Stage, message};
use tokio::task::LocalSet;

use super::*;

/// A number changed to this.
struct Now(u32);
message!(Now => ());

/// Keeps the outside as the last number told. Refuses while the outside says so.
struct Keep {
    keeping: Keeping,
    number: Option<u32>,
    outside: Outside,
}

#[derive(Clone, Default)]
struct Outside(Arc<Mutex<(u32, Vec<String>)>>);

impl Outside {
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
    fn refuse(&self, times: u32) {
        self.0.lock().unwrap().0 = times;
    }
}

impl Actor for Keep {
    type Context = Context<Self>;
}

impl Keeper for Keep {
    type Error = String;
    const WHAT: &'static str = "numbers";
    fn keeping(&mut self) -> &mut Keeping {
        &mut self.keeping
    }
    fn complete(&self) -> bool {
        self.number.is_some()
    }
    fn batch(&mut self, everything: bool) -> Option<Batch<String>> {
        let number = self.number.filter(|n| *n != 0)?;
        let outside = self.outside.clone();
        Some(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut outside = outside.0.lock().unwrap();
            let refused = outside.0 > 0;
            outside.0 = outside.0.saturating_sub(1);
            outside.1.push(format!("{number}{}", if everything { " all" } else { "" }));
            if refused { Err("no".to_owned()) } else { Ok(()) }
        }))
    }
    fn applied(&mut self, _: &mut Context<Self>) {
        // With nothing more to do.
        self.number = Some(0);
    }
}

impl Handler<Now> for Keep {
    type Result = ();
    fn handle(&mut self, Now(number): Now, ctx: &mut Context<Self>) {
        self.number = Some(number);
        self.schedule(BATCH, ctx);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_share_batches_and_failures_bring_everything_again() {
    LocalSet::new()
        .run_until(async {
            let outside = Outside::default();
            let stage = Stage::local();
            let shared = outside.clone();
            let make = move || Keep { keeping: Keeping::default(), number: None, outside: shared.clone() };
            let actor = stage.spawn(Props::new("keep", make));
            let wait = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
            for number in 1..=3 {
                actor.tell(Now(number)).await.unwrap();
            }
            wait(500).await;
            assert_eq!(outside.log(), ["3 all"], "the first batch is everything, of the last that was told");
            actor.tell(Now(4)).await.unwrap();
            wait(500).await;
            assert_eq!(outside.log(), ["4"]);
            outside.refuse(2);
            actor.tell(Now(5)).await.unwrap();
            wait(5000).await;
            assert_eq!(outside.log(), ["5", "5 all", "5 all"], "two refusals, then it is taken");
        })
        .await;
}
