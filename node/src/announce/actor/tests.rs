use parking_lot::Mutex;
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
    taken: Mutex<BTreeSet<Ipv4Addr>>,
    announced: Mutex<Vec<Ipv4Addr>>,
    refusals: Mutex<u32>,
}

#[async_trait]
impl Ground for Played {
    async fn taken(&self) -> Result<BTreeSet<Ipv4Addr>, String> {
        Ok(self.taken.lock().clone())
    }
    async fn take(&self, address: Ipv4Addr) -> Result<(), String> {
        let mut refusals = self.refusals.lock();
        if *refusals > 0 {
            *refusals -= 1;
            return Err("refused".to_owned());
        }
        self.taken.lock().insert(address);
        Ok(())
    }
    async fn give_up(&self, address: Ipv4Addr) -> Result<(), String> {
        self.taken.lock().remove(&address);
        Ok(())
    }
    async fn announce(&self, address: Ipv4Addr) -> Result<(), String> {
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

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

#[test]
fn only_what_is_given_to_this_node_is_announced() {
    assert_eq!(addresses(&service("a", "here", "192.0.2.1"), "here"), [A].into());
    assert!(addresses(&service("a", "there", "192.0.2.1"), "here").is_empty());
    assert!(addresses(&service("a", "here", "fd00::1"), "here").is_empty());
    let mut other = service("a", "here", "192.0.2.1");
    other.spec.get_or_insert_default().type_ = Some("ClusterIP".to_owned());
    assert!(addresses(&other, "here").is_empty());
}

#[test]
fn addresses_come_are_told_move_and_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let stage = Stage::local();
        let ground = Arc::new(Played::default());
        ground.taken.lock().insert(OLD);
        *ground.refusals.lock() = 1;
        let (client, machine) = (Client::new(Arc::new(Nobody), "test"), ground.clone());
        let actor = stage.spawn(Props::new("announce", move || {
            Announcer::new("here".to_owned(), client.clone(), machine.clone())
        }));
        let tell = async |told| {
            assert!(actor.tell(Told(told)).await.is_ok());
            tokio::time::sleep(Duration::from_secs(60)).await;
        };

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
        stage.shut_down(Duration::from_secs(5)).await;
    });
}
