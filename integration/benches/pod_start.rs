//! A pod's start, from its creation to `Running` in the API, against the same two containers (pause and app)
//! started with the bare Docker API. Both in one run, in turns, so that the ratio holds whatever else the
//! machine does.
//!
//! `cargo bench -p troupe --bench pod_start`. Needs root and Docker; uses the node's ports (10250 and on).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

/// Starts of each kind.
const ROUNDS: usize = 10;
const PAUSE: &str = node::runtime::pause::IMAGE;
const APP: &str = "troupe/sample:1";
const SLEEP: [&str; 2] = ["sleep", "600"];

fn troupe(args: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_troupe")).args(args).status().expect("troupe runs");
    assert!(status.success(), "troupe {}", args.join(" "));
}

/// The engine's API, as its own clients use it.
struct Docker {
    client: reqwest::Client,
}

impl Docker {
    async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("http://docker/v1.41{path}");
        let answer = self.client.post(url).json(&body).send().await.expect("Docker answers");
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn run(&self, name: &str, config: Value) -> String {
        let made = self.post(&format!("/containers/create?name={name}"), config).await;
        let id = made["Id"].as_str().expect("an id").to_owned();
        self.post(&format!("/containers/{id}/start"), Value::Null).await;
        id
    }

    async fn remove(&self, id: &str) {
        let url = format!("http://docker/v1.41/containers/{id}?force=true");
        self.client.delete(url).send().await.expect("Docker answers");
    }

    /// The two containers of a pod, and nothing else of it.
    async fn start(&self, round: usize) -> Duration {
        let began = Instant::now();
        let pause = json!({"Image": PAUSE, "HostConfig": {"NetworkMode": "none", "IpcMode": "shareable"}});
        let pause = self.run(&format!("troupe-bench-pause-{round}"), pause).await;
        let of_pause = format!("container:{pause}");
        let app = json!({"Image": APP, "Cmd": SLEEP,
            "HostConfig": {"NetworkMode": of_pause, "IpcMode": of_pause}});
        let app = self.run(&format!("troupe-bench-app-{round}"), app).await;
        let took = began.elapsed();
        self.remove(&app).await;
        self.remove(&pause).await;
        took
    }
}

async fn pod_start(pods: &Api<Pod>, round: usize) -> Duration {
    let name = format!("bench-{round}");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": APP, "imagePullPolicy": "IfNotPresent", "command": SLEEP}]}}))
    .expect("a pod");
    let began = Instant::now();
    let made = pods.create(&PostParams::default(), &pod).await.expect("created");
    let revision = made.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = Box::pin(pods.watch(&params, &revision).await.expect("a watch"));
    loop {
        match events.next().await.expect("the watch goes on").expect("an event") {
            WatchEvent::Modified(pod) | WatchEvent::Added(pod)
                if pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running") =>
            {
                break;
            }
            _ => {}
        }
    }
    let took = began.elapsed();
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await.expect("deleted");
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn measure(kubeconfig: &Path) {
    let read = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");
    let pods: Api<Pod> = Api::default_namespaced(client);
    let socket = reqwest::Client::builder().unix_socket("/var/run/docker.sock").build().expect("a client");
    let docker = Docker { client: socket };
    // Once for nothing: both find everything warm.
    docker.start(ROUNDS).await;
    pod_start(&pods, ROUNDS).await;
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(docker.start(round).await);
        whole.push(pod_start(&pods, round).await);
    }
    let (bare, whole) = (median(bare), median(whole));
    println!("two containers by the Docker API {:>7.0} ms", bare.as_secs_f64() * 1000.0);
    println!("a pod, from create to Running    {:>7.0} ms", whole.as_secs_f64() * 1000.0);
    println!("ratio                            {:>7.2}", whole.as_secs_f64() / bare.as_secs_f64());
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().expect("a folder");
    let (state, kubeconfig) = (dir.path().join("state"), dir.path().join("kubeconfig"));
    let (state, config) = (state.to_string_lossy(), kubeconfig.to_string_lossy());
    let place = ["--state-dir", &*state, "--kubeconfig", &*config];
    troupe(&[&["up", "--node-name", "bench", "--api-port", "0"][..], &place].concat());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let measured = std::panic::catch_unwind(|| runtime.block_on(measure(&kubeconfig)));
    troupe(&["down", "--purge", "--state-dir", &state]);
    if measured.is_err() {
        std::process::exit(1);
    }
}
