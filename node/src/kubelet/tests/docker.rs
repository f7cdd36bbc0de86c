//! The kubelet on this machine's Docker engine; skipped where there is none. Addresses are made up: what
//! is tried here is everything but the pod network.

use futures::StreamExt;
use protocol::streams::{
    ContainerTarget, ExecRequest, Frame, LogRequest, NodeStreams, PortForwardRequest, Stdio,
};

use super::*;
use crate::runtime::docker::DockerRuntime;
use crate::runtime::pause;

const IMAGE: &str = "troupe-test/busybox:1";

async fn engine(scope: &str) -> Option<Arc<DockerRuntime>> {
    let program = std::fs::read("/bin/busybox").or_else(|_| std::fs::read("/usr/bin/busybox")).ok()?;
    if std::fs::metadata("/var/run/docker.sock").is_err() {
        eprintln!("skipped: no Docker engine here");
        return None;
    }
    let runtime = DockerRuntime::connect(scope).await.unwrap();
    runtime.ensure_pause_image().await.unwrap();
    if runtime.image(IMAGE).await.unwrap().is_none() {
        let archive = pause::archive_of(&[("busybox", &program)]);
        runtime.import_image(IMAGE, archive, &["ENTRYPOINT [\"/busybox\"]".to_owned()]).await.unwrap();
    }
    clean(&runtime).await;
    Some(Arc::new(runtime))
}

async fn clean(runtime: &DockerRuntime) {
    for container in runtime.list(&[]).await.unwrap() {
        runtime.remove(&container.id).await.unwrap();
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

async fn text(streams: &streams::Streams, request: LogRequest) -> String {
    let mut pieces = streams.logs("", request).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn a_pod_with_everything_on_docker() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, everything());
}

async fn everything() {
    let Some(engine) = engine("test-kubelet").await else { return };
    let dir = tempfile::tempdir().unwrap();
    let api = FakeApi::new();
    let stage = Stage::local();
    let mut config = KubeletConfig::new("n1", "127.0.0.1".parse().unwrap());
    config.root_dir = dir.path().join("kubelet");
    config.pod_logs_dir = dir.path().join("pods");
    config.container_logs_dir = dir.path().join("containers");
    config.cluster_dns = Some("10.96.0.10".parse().unwrap());
    config.cgroup_root = "troupe-test".to_owned();
    let begin = async || {
        let engine: Arc<dyn ContainerRuntime> = engine.clone();
        let network = Arc::new(MadeUpNetwork::default());
        let services = Services::default();
        services.replace([]);
        start(&stage, config.clone(), api.client(), engine, network, services).await.unwrap()
    };
    let kubelet = begin().await;
    api.add("configmaps", json!({"metadata": {"name": "cm", "namespace": "default"}, "data": {"k": "one"}}));
    let script = "echo $GREETING $KEY; /busybox cat /cm/k; echo; /busybox cat /token/t; echo; \
        /busybox grep nameserver /etc/resolv.conf; /busybox hostname; /busybox grep web /etc/hosts; \
        /busybox id -u; /busybox nc -ll -p 8080 -e /busybox cat & \
        trap 'echo bye > /dev/termination-log; exit 3' TERM; while :; do /busybox sleep 0.1; done";
    api.add(
        "pods",
        json!({"metadata": {"name": "web", "namespace": "default", "uid": "uid-web"},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 5,
            "securityContext": {"fsGroup": 2000},
            "initContainers": [{"name": "init", "image": IMAGE, "args": ["touch", "/e/made"],
                "volumeMounts": [{"name": "e", "mountPath": "/e"}]}],
            "containers": [{"name": "c", "image": IMAGE, "command": ["/busybox", "sh", "-c", script],
                "securityContext": {"runAsUser": 1000},
                "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
                "env": [{"name": "GREETING", "value": "hello"},
                    {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}],
                "readinessProbe": {"exec": {"command": ["/busybox", "test", "-e", "/e/made"]}, "periodSeconds": 1},
                "volumeMounts": [{"name": "e", "mountPath": "/e"}, {"name": "cm", "mountPath": "/cm"},
                    {"name": "t", "mountPath": "/token"}]}],
            "volumes": [{"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "cm", "configMap": {"name": "cm"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}}),
    );
    until("ready", async || api.pod("web").filter(ready)).await;
    let target = ContainerTarget {
        namespace: "default".into(),
        pod: "web".into(),
        uid: String::new(),
        container: "c".into(),
    };
    let streams = kubelet.streams();
    let wanted = "hello one\none\ntoken-of-default\nnameserver 10.96.0.10\nweb\n";
    let log = until("the log", async || {
        let log = text(&streams, LogRequest { target: target.clone(), ..LogRequest::default() }).await;
        log.ends_with("1000\n").then_some(log)
    })
    .await;
    assert!(log.starts_with(wanted), "{log}");
    assert!(log.contains("\tweb\n"), "{log}");

    let request = ExecRequest {
        target: target.clone(),
        command: ["/busybox", "sh", "-c", "/busybox cat; exit 4"].map(str::to_owned).to_vec(),
        stdio: Stdio { stdin: true, stdout: true, stderr: true, tty: false },
    };
    let mut exec = streams.exec("", request).await.unwrap();
    exec.input.send(Frame::Stdin("in and out".into())).await.unwrap();
    exec.input.send(Frame::CloseStdin).await.unwrap();
    assert_eq!(exec.output.recv().await, Some(Frame::Stdout("in and out".into())));
    let Some(Frame::Error(status)) = exec.output.recv().await else { panic!("no status") };
    assert_eq!(protocol::streams::exit_code(&serde_json::from_slice(&status).unwrap()), Some(4));

    let request = PortForwardRequest { target: target.clone(), port: 8080 };
    let mut forward = streams.port_forward("", request).await.unwrap();
    forward.input.send(Frame::Stdin("through".into())).await.unwrap();
    assert_eq!(forward.output.recv().await, Some(Frame::Stdout("through".into())));
    drop(forward);

    // A change of the ConfigMap reaches the running container.
    api.add("configmaps", json!({"metadata": {"name": "cm", "namespace": "default"}, "data": {"k": "two"}}));
    let command = ["/busybox", "cat", "/cm/k"].map(str::to_owned);
    let id = container(&api.pod("web").unwrap(), "c").container_id.unwrap().replace("docker://", "");
    until("the update", async || {
        let (_, out) =
            crate::runtime::run(engine.as_ref(), &id, &command, Duration::from_secs(5), 100).await.unwrap();
        (out == b"two").then_some(())
    })
    .await;

    // Another kubelet takes over without restarting anything, and the log goes on.
    kubelet.stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let kubelet = begin().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = container(&api.pod("web").unwrap(), "c");
    assert_eq!((now.container_id.unwrap(), now.restart_count), (format!("docker://{id}"), 0));
    let again = text(&streams, LogRequest { target: target.clone(), ..LogRequest::default() }).await;
    assert_eq!(again, log, "no line is lost or repeated");

    // Killed, it comes back; its last words are kept.
    engine.stop(&id, Duration::from_secs(5)).await.unwrap();
    let pod = until("restarted", async || {
        api.pod("web").filter(|p| ready(p) && container(p, "c").restart_count == 1)
    })
    .await;
    let last = container(&pod, "c").last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.message.as_deref()), (3, Some("bye\n")));
    let previous = LogRequest { target: target.clone(), previous: true, ..LogRequest::default() };
    assert!(text(&streams, previous).await.starts_with("hello one\n"));

    api.delete_pod("web", 5);
    until("gone", async || api.pod("web").is_none().then_some(())).await;
    until("clean", async || engine.list(&[]).await.unwrap().is_empty().then_some(())).await;
    assert!(!config.root_dir.join("pods/uid-web").exists());
    assert_eq!(std::fs::read_dir(&config.pod_logs_dir).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(&config.container_logs_dir).unwrap().count(), 0);
    kubelet.stop();
    clean(&engine).await;
}
