use std::net::{Ipv4Addr, Ipv6Addr};

use futures::future::LocalBoxFuture;
use protocol::{Api, ApiError, ApiRequest, ApiResponse, WatchStream};
use serde_json::json;

use super::*;

/// A master that is away.
struct Nobody;

#[async_trait]
impl Api for Nobody {
    async fn call(&self, _: ApiRequest) -> Result<ApiResponse, ApiError> {
        Err(ApiError::Unreachable("nobody".into()))
    }
    async fn watch(&self, _: ApiRequest) -> Result<WatchStream, ApiError> {
        Err(ApiError::Unreachable("nobody".into()))
    }
}

/// A machine that only remembers.
#[derive(Default)]
struct Played {
    taken: Mutex<BTreeSet<IpAddr>>,
    announced: Mutex<Vec<IpAddr>>,
    refusals: Mutex<u32>,
    /// What it cannot take at all.
    never: Mutex<Option<IpAddr>>,
}

#[async_trait]
impl Ground for Played {
    async fn taken(&self) -> Result<BTreeSet<IpAddr>, String> {
        Ok(self.taken.lock().clone())
    }
    async fn take(&self, address: IpAddr) -> Result<(), String> {
        let mut refusals = self.refusals.lock();
        if *refusals > 0 {
            *refusals -= 1;
            return Err("refused".to_owned());
        }
        if *self.never.lock() == Some(address) {
            return Err("never".to_owned());
        }
        self.taken.lock().insert(address);
        Ok(())
    }
    async fn give_up(&self, address: IpAddr) -> Result<(), String> {
        self.taken.lock().remove(&address);
        Ok(())
    }
    async fn announce(&self, address: IpAddr) -> Result<(), String> {
        assert!(self.taken.lock().contains(&address), "announced before it was taken");
        self.announced.lock().push(address);
        Ok(())
    }
}

fn service(name: &str, node: &str, address: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": {"namespace": "n", "name": name, "annotations": {ANNOUNCED_BY: node}},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    }))
    .expect("a service")
}

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const B6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
const OLD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

#[test]
fn only_what_is_given_to_this_node_is_announced() {
    assert_eq!(addresses(&service("a", "here", "192.0.2.1"), "here"), [A].into());
    assert!(addresses(&service("a", "there", "192.0.2.1"), "here").is_empty());
    assert_eq!(addresses(&service("b", "here", "fd00::2"), "here"), [B6].into());
    let mut other = service("a", "here", "192.0.2.1");
    other.spec.get_or_insert_default().type_ = Some("ClusterIP".to_owned());
    assert!(addresses(&other, "here").is_empty());
}

/// Runs a test on virtual time: with the machine, and with what tells the actor things and then waits a minute.
fn played(
    refusals: u32,
    test: impl AsyncFnOnce(Arc<Played>, &dyn Fn(Told) -> LocalBoxFuture<'static, ()>, ActorRef<Announcer>),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let stage = Stage::local();
        let ground = Arc::new(Played::default());
        *ground.refusals.lock() = refusals;
        let (client, machine) = (Client::new(Arc::new(Nobody), "test"), ground.clone());
        let actor = stage.spawn(Props::new("announce", move || {
            Announcer::new("here".to_owned(), client.clone(), machine.clone())
        }));
        let told = actor.clone();
        let tell = move |what: Told| -> LocalBoxFuture<'static, ()> {
            let actor = told.clone();
            Box::pin(async move {
                assert!(actor.tell(what).await.is_ok());
                tokio::time::sleep(Duration::from_secs(60)).await;
            })
        };
        test(ground, &tell, actor).await;
        stage.shut_down(Duration::from_secs(5)).await;
    });
}

#[test]
fn addresses_come_are_told_move_and_go() {
    played(1, async |ground, tell, _| {
        let tell = |followed| tell(Told(followed));
        ground.taken.lock().insert(OLD);

        // Before the list nothing is given up: it may be wanted still.
        tell(Followed::Changed(Box::new(service("b", "here", "192.0.2.2")))).await;
        assert_eq!(*ground.taken.lock(), [OLD].into());

        // The first attempt is refused, a later one is not.
        let all = vec![service("a", "here", "192.0.2.1"), service("b", "there", "192.0.2.2")];
        tell(Followed::Listed(all)).await;
        assert_eq!(*ground.taken.lock(), [A].into());
        assert_eq!(std::mem::take(&mut *ground.announced.lock()), [A; ANNOUNCEMENTS as usize]);

        // What stays is not told again; what comes is.
        tell(Followed::Changed(Box::new(service("b", "here", "192.0.2.2")))).await;
        assert_eq!(*ground.taken.lock(), [A, B].into());
        assert_eq!(std::mem::take(&mut *ground.announced.lock()), [B; ANNOUNCEMENTS as usize]);

        tell(Followed::Changed(Box::new(service("a", "there", "192.0.2.1")))).await;
        tell(Followed::Gone(Box::new(service("b", "here", "192.0.2.2")))).await;
        assert!(ground.taken.lock().is_empty() && ground.announced.lock().is_empty());
    });
}

#[test]
fn an_address_of_two_services_is_one() {
    played(0, async |ground, tell, _| {
        let tell = |followed| tell(Told(followed));
        let both = vec![service("a", "here", "192.0.2.1"), service("b", "here", "192.0.2.1")];
        tell(Followed::Listed(both)).await;
        assert_eq!(*ground.taken.lock(), [A].into());
        assert_eq!(std::mem::take(&mut *ground.announced.lock()), [A; ANNOUNCEMENTS as usize]);
        // One goes, the other keeps it, and nobody need be told.
        tell(Followed::Gone(Box::new(service("a", "here", "192.0.2.1")))).await;
        assert_eq!(*ground.taken.lock(), [A].into());
        assert!(ground.announced.lock().is_empty());
        tell(Followed::Gone(Box::new(service("b", "here", "192.0.2.1")))).await;
        assert!(ground.taken.lock().is_empty());
    });
}

#[test]
fn an_address_that_cannot_be_had_stands_in_no_others_way() {
    played(0, async |ground, tell, _| {
        let tell = |followed| tell(Told(followed));
        *ground.never.lock() = Some(A);
        tell(Followed::Listed(vec![service("a", "here", "192.0.2.1"), service("b", "here", "fd00::2")]))
            .await;
        assert_eq!(*ground.taken.lock(), [B6].into());
        assert_eq!(std::mem::take(&mut *ground.announced.lock()), [B6; ANNOUNCEMENTS as usize]);
        // It is tried again and again; the others are not told of again for it.
        *ground.never.lock() = None;
        tell(Followed::Changed(Box::new(service("c", "there", "192.0.2.2")))).await;
        assert_eq!(*ground.taken.lock(), [A, B6].into());
        assert_eq!(*ground.announced.lock(), [A; ANNOUNCEMENTS as usize]);
    });
}

#[test]
fn what_an_interface_lost_comes_back_and_is_told_again() {
    played(0, async |ground, tell, actor| {
        tell(Told(Followed::Listed(vec![
            service("b", "here", "fd00::2"),
            service("a", "here", "192.0.2.1"),
        ])))
        .await;
        ground.announced.lock().clear();
        let happens = async |happened| {
            assert!(actor.tell(KernelTold(happened)).await.is_ok());
            tokio::time::sleep(Duration::from_secs(60)).await;
        };
        ground.taken.lock().remove(&B6);
        happens(Happened::Link { index: 2, up: false }).await;
        happens(Happened::Link { index: 2, up: true }).await;
        assert!(ground.taken.lock().contains(&B6));
        assert_eq!(std::mem::take(&mut *ground.announced.lock()), [B6; ANNOUNCEMENTS as usize]);
        // What somebody takes away, likewise.
        ground.taken.lock().remove(&A);
        happens(Happened::Address(A)).await;
        assert_eq!(*ground.announced.lock(), [A; ANNOUNCEMENTS as usize]);
    });
}
