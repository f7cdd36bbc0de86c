//! A whole cluster in one thread, on virtual time: a real master on the embedded store, nodes over in-memory
//! links, a simulated engine on each. Random actors are killed while users go on; then the cluster must come
//! to what they last asked for, and must never have started anything twice.
//!
//! What is done, and to whom, follows from a seed. It is printed; `TROUPE_SEED=…` runs that seed alone.
//! (The order in which threads for blocking work finish is the operating system's, so a seed repeats the
//! blows, not every interleaving.)

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actors::{Stage, random};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use master::server::{Master, MasterConfig};
use node::link::InMemory;
use node::runtime::simulated::SimulatedRuntime;
use node::runtime::{ContainerRuntime, RuntimeEventKind};
use node::simulation::{SimulatedNode, SimulationConfig};
use protocol::{Caller, Client, PatchKind};
use serde_json::json;

const NODES: u16 = 3;
/// Blows and users' deeds per seed.
const DEEDS: usize = 60;
/// Seeds of an ordinary run.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Virtual time in which a cluster left in peace must have come to rest.
const PATIENCE: Duration = Duration::from_secs(900);
/// Deployments of the test.
const APPS: [&str; 2] = ["web", "api"];

/// How often each container of each pod was started: by node, pod uid and container.
type Starts = Rc<RefCell<BTreeMap<(String, String, String), u32>>>;

struct Cluster {
    stage: Stage,
    master: Master,
    nodes: Vec<SimulatedNode>,
    runtimes: Vec<SimulatedRuntime>,
    starts: Starts,
    admin: Client,
    _dir: tempfile::TempDir,
}

/// What users were told is so.
#[derive(Default)]
struct Acknowledged {
    replicas: BTreeMap<&'static str, i32>,
    versions: BTreeMap<&'static str, u64>,
    maps: BTreeMap<String, String>,
}

impl Cluster {
    async fn start() -> Cluster {
        let dir = tempfile::tempdir().expect("a folder");
        let stage = Stage::local();
        let config = MasterConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            workers: 1,
            ..MasterConfig::new(dir.path().to_owned())
        };
        let master = Master::start(&stage, config, &mut |_: &str| {}).await.expect("the master starts");
        let caller = Caller::component("simulation", &["system:masters"]);
        let admin = Client::new(master.pipeline.as_caller(caller), "simulation");
        let mut cluster = Cluster {
            stage,
            master,
            nodes: Vec::new(),
            runtimes: Vec::new(),
            starts: Starts::default(),
            admin,
            _dir: dir,
        };
        for number in 1..=NODES {
            cluster.add_node(number).await;
        }
        cluster
    }

    async fn add_node(&mut self, number: u16) {
        let config = SimulationConfig::numbered(number);
        let runtime = SimulatedRuntime::new(Duration::from_millis(300));
        self.count_starts(&config.name, &runtime);
        let connector = InMemory { accept: self.master.link.in_memory(&config.name) };
        let node = SimulatedNode::start(&self.stage, config, runtime.clone(), Arc::new(connector)).await;
        self.nodes.push(node.expect("the node starts"));
        self.runtimes.push(runtime);
    }

    /// Listens to an engine as long as the test runs. Nothing is missed: it listens before anything starts.
    fn count_starts(&self, node: &str, runtime: &SimulatedRuntime) {
        let (starts, node, runtime) = (self.starts.clone(), node.to_owned(), runtime.clone());
        tokio::task::spawn_local(async move {
            let mut events = runtime.events().await.expect("events");
            while let Some(event) = events.next().await {
                if event.kind == RuntimeEventKind::Started {
                    let key = (node.clone(), event.pod_uid, event.container);
                    *starts.borrow_mut().entry(key).or_default() += 1;
                }
            }
        });
    }

    async fn create(&self, app: &'static str, replicas: i32, told: &mut Acknowledged) {
        let labels = json!({"app": app});
        let deployment = json!({
            "metadata": {"name": app, "namespace": "default"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
                    "name": "c", "image": "runs", "ports": [{"containerPort": 80}],
                    "env": [{"name": "VERSION", "value": "0"}],
                    "resources": {"requests": {"cpu": "100m"}}}]}}}});
        let deployment: Deployment = serde_json::from_value(deployment).expect("a deployment");
        self.admin.create(&deployment).await.expect("created");
        let service = json!({"metadata": {"name": app, "namespace": "default"},
            "spec": {"selector": labels, "ports": [{"port": 80}]}});
        let service: Service = serde_json::from_value(service).expect("a service");
        self.admin.create(&service).await.expect("created");
        told.replicas.insert(app, replicas);
        told.versions.insert(app, 0);
    }

    /// One thing that happens: mostly a blow, sometimes a user's wish.
    async fn deed(&self, number: usize, told: &mut Acknowledged) -> String {
        let app = APPS[random::within(0..APPS.len() as u64) as usize];
        match random::within(0..10) {
            0 => {
                let replicas = i32::try_from(random::within(0..9)).unwrap_or(1);
                let patch = json!({"spec": {"replicas": replicas}});
                let done =
                    self.admin.patch::<Deployment>("default", app, None, PatchKind::Merge, &patch).await;
                // A wish that was refused, or whose fate is unknown, may or may not have been fulfilled: it
                // is repeated until it is acknowledged.
                let mut done = done.is_ok();
                while !done {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    let again =
                        self.admin.patch::<Deployment>("default", app, None, PatchKind::Merge, &patch);
                    done = again.await.is_ok();
                }
                told.replicas.insert(app, replicas);
                format!("scale {app} to {replicas}")
            }
            1 => {
                let version = number as u64 + 1;
                let env = json!([{"name": "VERSION", "value": version.to_string()}]);
                let template = json!({"spec": {"containers": [{"name": "c", "env": env}]}});
                let patch = json!({"spec": {"template": template}});
                let mut done = false;
                while !done {
                    let work =
                        self.admin.patch::<Deployment>("default", app, None, PatchKind::Strategic, &patch);
                    done = work.await.is_ok();
                    if !done {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
                told.versions.insert(app, version);
                format!("roll {app} to version {version}")
            }
            2 => {
                let pods = self.pods(app).await;
                let Some(pod) = pods.get(random::within(0..pods.len().max(1) as u64) as usize) else {
                    return "no pod to delete".to_owned();
                };
                let name = pod.metadata.name.clone().unwrap_or_default();
                let _ = self.admin.delete::<Pod>("default", &name, None, None).await;
                format!("delete pod {name}")
            }
            3 => {
                let name = format!("map-{number}");
                let map = json!({"metadata": {"name": name, "namespace": "default"}, "data": {"n": number.to_string()}});
                let map: ConfigMap = serde_json::from_value(map).expect("a map");
                if self.admin.create(&map).await.is_ok() {
                    told.maps.insert(name.clone(), number.to_string());
                }
                format!("create {name}")
            }
            _ => {
                let actors = self.stage.actors();
                let victim = &actors[random::within(0..actors.len() as u64) as usize].path;
                self.stage.inject_panic(victim);
                format!("kill {victim}")
            }
        }
    }

    async fn pods(&self, app: &str) -> Vec<Pod> {
        let mut pods: Vec<Pod> = self.admin.list("default").await.unwrap_or_default();
        pods.retain(|p| p.metadata.labels.as_ref().is_some_and(|l| l.get("app").is_some_and(|a| a == app)));
        pods
    }

    /// What is still not as it must be; `None` when all is.
    async fn wrong(&self, told: &Acknowledged) -> Option<String> {
        let mut running = BTreeSet::new();
        for app in APPS {
            let wanted = usize::try_from(told.replicas[app]).unwrap_or(0);
            let version = told.versions[app].to_string();
            let pods = self.pods(app).await;
            if pods.len() != wanted {
                return Some(format!("{app} has {} pods, not {wanted}", pods.len()));
            }
            let mut addresses = BTreeSet::new();
            for pod in &pods {
                let name = pod.metadata.name.clone().unwrap_or_default();
                let status = pod.status.clone().unwrap_or_default();
                let ready =
                    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
                if !ready || pod.metadata.deletion_timestamp.is_some() {
                    return Some(format!("pod {name} is not ready"));
                }
                let spec = pod.spec.clone().unwrap_or_default();
                let env =
                    spec.containers.iter().flat_map(|c| c.env.iter().flatten()).find(|e| e.name == "VERSION");
                if env.and_then(|e| e.value.as_deref()) != Some(&version) {
                    return Some(format!("pod {name} is not of version {version}"));
                }
                addresses.extend(status.pod_ip);
                running.insert(pod.metadata.uid.clone().unwrap_or_default());
            }
            if addresses.len() != wanted {
                return Some(format!("{wanted} pods of {app} have {} addresses", addresses.len()));
            }
            let slices: Vec<EndpointSlice> = self.admin.list("default").await.unwrap_or_default();
            let of_app = slices.iter().filter(|s| {
                s.metadata
                    .labels
                    .as_ref()
                    .and_then(|l| l.get("kubernetes.io/service-name"))
                    .is_some_and(|n| n == app)
            });
            let endpoints: BTreeSet<String> = of_app
                .flat_map(|s| s.endpoints.iter().flatten())
                .filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true))
                .flat_map(|e| e.addresses.clone())
                .collect();
            if endpoints != addresses {
                return Some(format!("{app}'s endpoints are {endpoints:?}, its pods {addresses:?}"));
            }
            let deployment: Option<Deployment> = self.admin.find("default", app).await.unwrap_or_default();
            let status = deployment.and_then(|d| d.status).unwrap_or_default();
            if status.ready_replicas.unwrap_or(0) != told.replicas[app] {
                return Some(format!("{app}'s status says {:?}", status.ready_replicas));
            }
        }
        // The engines run what the API says, and nothing else.
        let mut containers = BTreeSet::new();
        for runtime in &self.runtimes {
            for container in runtime.list(&[]).await.expect("a list") {
                if !container.is_sandbox() && container.state == node::runtime::ContainerState::Running {
                    containers.insert(container.pod().uid);
                }
            }
        }
        (containers != running).then(|| format!("engines run {containers:?}, the API says {running:?}"))
    }

    async fn until_right(&self, told: &Acknowledged, seed: u64, deeds: &[String]) {
        let until = actors::time::Instant::now() + PATIENCE;
        let mut wrong = self.wrong(told).await;
        while let Some(why) = wrong {
            assert!(
                actors::time::Instant::now() < until,
                "TROUPE_SEED={seed}: {why}, after:\n{}\nactors: {:#?}",
                deeds.join("\n"),
                self.stage
                    .actors()
                    .iter()
                    .map(|a| format!("{} depth {} restarts {}", a.path, a.depth, a.restarts))
                    .collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
            wrong = self.wrong(told).await;
        }
    }
}

async fn simulate(seed: u64) {
    actors::time::virtual_from(SystemTime::now());
    random::seed(seed);
    let cluster = Cluster::start().await;
    let mut told = Acknowledged::default();
    cluster.create("web", 6, &mut told).await;
    cluster.create("api", 3, &mut told).await;
    cluster.until_right(&told, seed, &[]).await;

    let mut deeds = Vec::new();
    for number in 0..DEEDS {
        let deed = cluster.deed(number, &mut told).await;
        deeds.push(format!("{number}. {deed}"));
        tokio::time::sleep(Duration::from_millis(random::within(50..4000))).await;
    }
    cluster.until_right(&told, seed, &deeds).await;
    // At rest it stays so.
    tokio::time::sleep(Duration::from_secs(120)).await;
    let wrong = cluster.wrong(&told).await;
    assert_eq!(wrong, None, "TROUPE_SEED={seed}: it did not stay at rest");

    // No container crashed, so none had a reason to be started twice, or on two nodes.
    let mut of_pod: BTreeMap<(String, String), u32> = BTreeMap::new();
    for ((_, uid, container), count) in cluster.starts.borrow().iter() {
        *of_pod.entry((uid.clone(), container.clone())).or_default() += count;
    }
    let twice: Vec<_> = of_pod.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        twice.is_empty(),
        "TROUPE_SEED={seed}: started more than once: {twice:?}, after:\n{}",
        deeds.join("\n")
    );

    // Nothing that was acknowledged is lost.
    for (name, value) in &told.maps {
        let map: Option<ConfigMap> = cluster.admin.find("default", name).await.expect("an answer");
        let found = map.and_then(|m| m.data?.get("n").cloned());
        assert_eq!(found.as_ref(), Some(value), "TROUPE_SEED={seed}: {name}");
    }
    // Old generations keep no pods.
    let sets: Vec<ReplicaSet> = cluster.admin.list("default").await.expect("an answer");
    let wanted: i32 = sets.iter().filter_map(|s| s.spec.as_ref()?.replicas).sum();
    assert_eq!(wanted, told.replicas.values().sum::<i32>(), "TROUPE_SEED={seed}");

    let kills = deeds.iter().filter(|d| d.contains("kill ")).count();
    let metrics = cluster.stage.encode_metrics();
    assert!(kills > 0 && metrics.contains("troupe_actor_panics_total"), "somebody was killed");
    for node in &cluster.nodes {
        node.stop();
    }
    cluster.master.front.stop().await;
    cluster.stage.shut_down(Duration::from_secs(30)).await;
}

#[test]
fn a_cluster_whose_actors_are_killed_comes_to_what_was_asked() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Ordered panics are the test's own doing: nobody wants to read their backtraces.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|text| text.contains("ordered by a debug command")) {
            usual(panic);
        }
    }));
    let seeds = match std::env::var("TROUPE_SEED") {
        Ok(seed) => vec![seed.parse().expect("TROUPE_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        println!("TROUPE_SEED={seed}");
        let system = actix_rt::System::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime")
        });
        system.block_on(simulate(seed));
    }
}
