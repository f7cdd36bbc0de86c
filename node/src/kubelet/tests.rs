//! The kubelet as a whole: on virtual time with the simulated runtime, and once on Docker.

pub(super) mod api;
mod docker;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actors::Stage;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::{Value, json};

use super::*;
use crate::network::made_up::MadeUpNetwork;
use crate::runtime::simulated::SimulatedRuntime;
use crate::runtime::{ContainerState, labels};
use api::FakeApi;

struct World {
    api: FakeApi,
    runtime: SimulatedRuntime,
    kubelet: Kubelet,
    stage: Stage,
}

async fn kubelet_on(stage: &Stage, api: &FakeApi, runtime: &SimulatedRuntime) -> Kubelet {
    let config = KubeletConfig::new("n1", "192.168.0.1".parse().unwrap());
    let (runtime, network) = (Arc::new(runtime.clone()), Arc::new(MadeUpNetwork::default()));
    start(stage, config, api.client(), runtime, network, Services::default()).await.unwrap()
}

/// Runs a test on virtual time: an hour passes as fast as nothing happens in it.
fn on_virtual_time<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        actors::time::virtual_from(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
        let (api, runtime, stage) = (FakeApi::new(), SimulatedRuntime::default(), Stage::local());
        let kubelet = kubelet_on(&stage, &api, &runtime).await;
        test(World { api, runtime, kubelet, stage }).await;
    });
}

impl World {
    fn add_pod(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = "n1".into();
        let meta =
            json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1});
        self.api.add("pods", json!({"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}));
    }

    /// Waits (virtually) until a pod is as wanted.
    async fn until(&self, what: &str, name: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        for _ in 0..6000 {
            if let Some(pod) = self.api.pod(name)
                && wanted(&pod)
            {
                return pod;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} never became {what}: {:#?}", self.api.pod(name).and_then(|p| p.status));
    }

    async fn until_gone(&self, name: &str) {
        for _ in 0..6000 {
            if self.api.pod(name).is_none()
                && !self.kubelet.shared().registry.contains(&format!("uid-{name}"))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} never went: {:#?}", self.api.pod(name));
    }

    /// What was told for a reason. Events are written beside the work that they tell about, so this waits for one.
    async fn events(&self, reason: &str) -> Vec<String> {
        for _ in 0..600 {
            let all = self.api.all("events");
            let of = all.iter().filter(|e| e["reason"] == reason);
            let told: Vec<String> =
                of.map(|e| e["message"].as_str().unwrap_or_default().to_owned()).collect();
            if !told.is_empty() {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nothing was told for {reason}: {:#?}", self.api.all("events"));
    }
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub(super) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub(super) fn container(pod: &Pod, name: &str) -> ContainerStatus {
    let status = pod.status.clone().unwrap_or_default();
    let all = status
        .init_container_statuses
        .into_iter()
        .flatten()
        .chain(status.container_statuses.into_iter().flatten());
    all.into_iter().find(|c| c.name == name).unwrap_or_default()
}

fn waiting(pod: &Pod, name: &str) -> String {
    container(pod, name).state.and_then(|s| s.waiting).and_then(|w| w.reason).unwrap_or_default()
}

#[test]
fn a_pod_runs_and_is_deleted() {
    on_virtual_time(|world| async move {
        world.add_pod("web", json!({"containers": [{"name": "c", "image": "x"}]}));
        let pod = world.until("ready", "web", ready).await;
        let status = pod.status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert!(status.pod_ip.unwrap().starts_with("10.0.0."));
        assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
        assert_eq!(world.events("Started").await, ["Container started"]);
        assert_eq!(world.events("Pulling").await, ["Pulling image \"x\""]);
        world.api.delete_pod("web", 30);
        world.until_gone("web").await;
        assert!(world.runtime.list(&[]).await.unwrap().is_empty());
        assert_eq!(world.events("Killing").await, ["Stopping container c"]);
    });
}

#[test]
fn init_containers_run_in_order_and_sidecars_go_last() {
    on_virtual_time(|world| async move {
        world.add_pod(
            "job",
            json!({"restartPolicy": "Never",
                "initContainers": [{"name": "first", "image": "exit-0-after-5"},
                    {"name": "side", "image": "x", "restartPolicy": "Always"}],
                "containers": [{"name": "c", "image": "exit-0-after-20"}]}),
        );
        let early = world
            .until("initializing", "job", |p| {
                container(p, "first").state.is_some_and(|s| s.running.is_some())
            })
            .await;
        assert_eq!(waiting(&early, "c"), "PodInitializing");
        let pod = world.until("running", "job", |p| phase(p) == "Running").await;
        assert!(container(&pod, "first").ready && container(&pod, "side").ready);
        let pod = world.until("done", "job", |p| phase(p) == "Succeeded").await;
        let reasons: Vec<_> = pod
            .status
            .unwrap()
            .conditions
            .unwrap()
            .into_iter()
            .map(|c| (c.type_, c.status, c.reason))
            .collect();
        assert!(reasons.contains(&("Ready".into(), "False".into(), Some("PodCompleted".into()))));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let left = world.runtime.list(&[]).await.unwrap();
        assert!(left.iter().all(|c| c.state == ContainerState::Exited), "{left:?}");
        assert!(!left.iter().any(|c| c.is_sandbox()));
    });
}

#[test]
fn a_crashing_container_backs_off_and_is_restarted() {
    on_virtual_time(|world| async move {
        world.add_pod("bad", json!({"containers": [{"name": "c", "image": "exit-3-after-1"}]}));
        let pod = world.until("backing off", "bad", |p| waiting(p, "c") == "CrashLoopBackOff").await;
        let status = container(&pod, "c");
        let message = status.state.unwrap().waiting.unwrap().message.unwrap();
        assert_eq!(message, "back-off 10s restarting failed container=c pod=bad_default(uid-bad)");
        let last = status.last_state.unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
        assert_eq!(phase(&pod), "Running");
        let began = actors::time::Instant::now();
        world.until("restarted four times", "bad", |p| container(p, "c").restart_count == 4).await;
        // 10 + 20 + 40 seconds of back-off, and a second of life each time.
        let took = began.elapsed().as_secs();
        assert!((70..80).contains(&took), "{took}");
        let kept = world.runtime.list(&[(labels::CONTAINER_NAME, "c")]).await.unwrap();
        assert!(kept.len() <= 2, "older containers are removed");
    });
}

#[test]
fn probes_decide_about_readiness_and_life() {
    on_virtual_time(|world| async move {
        world.add_pod(
            "web",
            json!({"containers": [{"name": "c", "image": "x",
                "startupProbe": {"exec": {"command": ["started"]}, "periodSeconds": 1, "failureThreshold": 30},
                "readinessProbe": {"exec": {"command": ["ready"]}, "periodSeconds": 2},
                "livenessProbe": {"exec": {"command": ["alive"]}, "periodSeconds": 5, "failureThreshold": 2}}]}),
        );
        world.runtime.answer("started", 1);
        world.until("running", "web", |p| container(p, "c").state.is_some_and(|s| s.running.is_some())).await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(!ready(&world.api.pod("web").unwrap()));
        assert_eq!(world.runtime.runs_of("ready"), 0, "readiness waits for the startup probe");
        world.runtime.answer("started", 0);
        world.until("ready", "web", ready).await;
        let probed = world.runtime.runs_of("started");
        world.runtime.answer("ready", 1);
        world.until("unready", "web", |p| !ready(p)).await;
        world.runtime.answer("ready", 0);
        world.until("ready again", "web", ready).await;
        assert_eq!(world.runtime.runs_of("started"), probed, "a startup probe that succeeded is over");
        world.runtime.answer("alive", 1);
        world.until("restarted", "web", |p| container(p, "c").restart_count == 1).await;
        assert_eq!(world.events("Killing").await, ["Container c failed liveness probe, will be restarted"]);
        assert!(world.events("Unhealthy").await.iter().any(|m| m.starts_with("Liveness probe failed:")));
    });
}

#[test]
fn images_that_cannot_be_had_are_reported() {
    on_virtual_time(|world| async move {
        world.add_pod("a", json!({"containers": [{"name": "c", "image": "absent:1"}]}));
        world.add_pod("b", json!({"containers": [{"name": "c", "image": "y", "imagePullPolicy": "Never"}]}));
        world.until("failing", "a", |p| waiting(p, "c") == "ErrImagePull").await;
        world.until("backing off", "a", |p| waiting(p, "c") == "ImagePullBackOff").await;
        world.until("refused", "b", |p| waiting(p, "c") == "ErrImageNeverPull").await;
        assert_eq!(phase(&world.api.pod("a").unwrap()), "Pending");
        world.api.delete_pod("a", 30);
        world.until_gone("a").await;
    });
}

#[test]
fn a_restarted_kubelet_adopts_what_runs() {
    on_virtual_time(|world| async move {
        for n in 0..5 {
            world.add_pod(&format!("p{n}"), json!({"containers": [{"name": "c", "image": "x"}]}));
        }
        for n in 0..5 {
            world.until("ready", &format!("p{n}"), ready).await;
        }
        let starts = world.runtime.starts();
        let writes = world.api.writes();
        world.kubelet.stop();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // While nobody looks: one pod goes, one container dies.
        world.api.vanish("pods", "default", "p4");
        let of =
            world.runtime.list(&[(labels::POD_UID, "uid-p3"), (labels::CONTAINER_NAME, "c")]).await.unwrap();
        world.runtime.crash(&of[0].id, 1);
        let _again = kubelet_on(&world.stage, &world.api, &world.runtime).await;
        world.until("restarted", "p3", |p| container(p, "c").restart_count == 1).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(world.runtime.starts(), starts + 1, "only the dead container is started");
        let left = world.runtime.list(&[(labels::POD_UID, "uid-p4")]).await.unwrap();
        assert!(left.is_empty(), "what nobody wants is taken down: {left:?}");
        let pods_written = world.api.writes() - writes;
        assert!(pods_written < 60, "an adopted pod is not written again: {pods_written}");
    });
}

#[test]
fn a_panicking_pod_actor_is_rebuilt_and_nothing_restarts() {
    on_virtual_time(|world| async move {
        world.add_pod("web", json!({"containers": [{"name": "c", "image": "x"}]}));
        world.until("ready", "web", ready).await;
        let starts = world.runtime.starts();
        assert!(world.stage.inject_panic("node/kubelet/pod[default/web]"));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let of =
            world.runtime.list(&[(labels::POD_UID, "uid-web"), (labels::CONTAINER_NAME, "c")]).await.unwrap();
        world.runtime.crash(&of[0].id, 1);
        world.until("restarted", "web", |p| container(p, "c").restart_count == 1).await;
        assert_eq!(world.runtime.starts(), starts + 1);
    });
}

#[test]
fn a_lost_api_costs_nothing_but_news() {
    on_virtual_time(|world| async move {
        world.add_pod("web", json!({"containers": [{"name": "c", "image": "x"}]}));
        world.until("ready", "web", ready).await;
        world.api.set_away(true);
        let of = world.runtime.list(&[(labels::CONTAINER_NAME, "c")]).await.unwrap();
        world.runtime.crash(&of[0].id, 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let now = world.runtime.list(&[(labels::CONTAINER_NAME, "c")]).await.unwrap();
        assert!(now.iter().any(|c| c.state == ContainerState::Running && c.attempt() == 1));
        world.api.set_away(false);
        world.until("told", "web", |p| container(p, "c").restart_count == 1).await;
    });
}

#[test]
fn grace_and_deadlines() {
    on_virtual_time(|world| async move {
        world.add_pod("stubborn", json!({"containers": [{"name": "c", "image": "stubborn"}]}));
        world.until("ready", "stubborn", ready).await;
        let began = actors::time::Instant::now();
        world.api.delete_pod("stubborn", 15);
        world.until_gone("stubborn").await;
        assert!((15..18).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        // A second, more impatient deletion is heard.
        world.add_pod("stubborn", json!({"containers": [{"name": "c", "image": "stubborn"}]}));
        world.until("ready", "stubborn", ready).await;
        let began = actors::time::Instant::now();
        world.api.delete_pod("stubborn", 600);
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.api.delete_pod("stubborn", 2);
        world.until_gone("stubborn").await;
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
        world.add_pod(
            "late",
            json!({"activeDeadlineSeconds": 30, "containers": [{"name": "c", "image": "x"}]}),
        );
        let pod = world.until("failed", "late", |p| phase(p) == "Failed").await;
        assert_eq!(pod.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
    });
}

#[test]
fn the_node_registers_and_keeps_its_lease() {
    on_virtual_time(|world| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let node = world.api.get("nodes", "", "n1").expect("the node is registered");
        let conditions = node["status"]["conditions"].as_array().unwrap();
        assert!(conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/os"], "linux");
        let renewed =
            |w: &World| w.api.get("leases", "kube-node-lease", "n1").unwrap()["spec"]["renewTime"].clone();
        let first = renewed(&world);
        let writes = world.api.writes();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_ne!(renewed(&world), first);
        let more = world.api.writes() - writes;
        assert!((5..=7).contains(&more), "an idle node writes its lease and no more: {more}");
    });
}
