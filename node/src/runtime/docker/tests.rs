//! Against the engine of this machine; skipped where there is none.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::runtime::{Mount, PodIdentity, run};

/// A small image: the machine's static busybox, or nothing to test with.
async fn busybox(runtime: &DockerRuntime) -> Option<String> {
    let name = "troupe-test/busybox:1";
    let program = std::fs::read("/bin/busybox").or_else(|_| std::fs::read("/usr/bin/busybox")).ok()?;
    if runtime.image(name).await.unwrap().is_none() {
        let archive = pause::archive_of(&[("busybox", &program)]);
        runtime.import_image(name, archive, &["ENTRYPOINT [\"/busybox\"]".to_owned()]).await.unwrap();
    }
    Some(name.to_owned())
}

async fn runtime(scope: &str) -> Option<DockerRuntime> {
    if std::fs::metadata("/var/run/docker.sock").is_err() {
        eprintln!("skipped: no Docker engine here");
        return None;
    }
    let runtime = DockerRuntime::connect(scope).await.unwrap();
    runtime.ensure_pause_image().await.unwrap();
    clean(&runtime).await;
    Some(runtime)
}

async fn clean(runtime: &DockerRuntime) {
    for container in runtime.list(&[]).await.unwrap() {
        runtime.remove(&container.id).await.unwrap();
    }
}

fn pod(name: &str) -> PodIdentity {
    PodIdentity { namespace: "test".to_owned(), name: name.to_owned(), uid: format!("uid-{name}") }
}

async fn sandbox(runtime: &DockerRuntime, name: &str) -> String {
    let config = SandboxConfig {
        pod: pod(name),
        hostname: name.to_owned(),
        resolv_conf: Some("nameserver 10.96.0.10\n".to_owned()),
        image: pause::IMAGE.to_owned(),
        sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]),
        ..SandboxConfig::default()
    };
    runtime.create_sandbox(&config).await.unwrap()
}

fn shell(image: &str, name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        pod: pod(name),
        name: "main".to_owned(),
        image: image.to_owned(),
        command: ["/busybox", "sh", "-c", script].map(str::to_owned).to_vec(),
        ..ContainerConfig::default()
    }
}

async fn ended(runtime: &DockerRuntime, id: &str) -> ContainerInfo {
    for _ in 0..200 {
        let info = runtime.inspect(id).await.unwrap();
        if info.state == ContainerState::Exited {
            return info;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{id} still runs");
}

#[tokio::test]
async fn a_pod_lives_and_dies_on_docker() {
    let Some(runtime) = runtime("test-life").await else { return };
    let Some(image) = busybox(&runtime).await else { return };
    let mut events = runtime.events().await.unwrap();
    let sandbox = sandbox(&runtime, "life").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("f"), "from the host").unwrap();
    let mut config = shell(
        &image,
        "life",
        "/busybox cat /etc/resolv.conf /data/f; /busybox hostname; echo $A >&2; trap 'exit 3' TERM; \
         while :; do /busybox sleep 0.05; done",
    );
    config.env = vec![("A".to_owned(), "b=c".to_owned())];
    config.limits.memory = 64 << 20;
    config.limits.oom_score_adj = -997;
    config.mounts = vec![Mount {
        host_path: dir.path().display().to_string(),
        container_path: "/data".to_owned(),
        read_only: true,
        ..Mount::default()
    }];
    let id = runtime.create_container(&sandbox, &config).await.unwrap();
    runtime.start(&id).await.unwrap();
    let started = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let event = events.next().await.unwrap();
            if event.container == "main" && event.kind == RuntimeEventKind::Started {
                return event;
            }
        }
    });
    assert_eq!(started.await.unwrap().pod_uid, "uid-life");
    let info = runtime.inspect(&id).await.unwrap();
    assert_eq!(
        (info.state, info.name(), info.attempt(), info.pod()),
        (ContainerState::Running, "main", 0, pod("life"))
    );
    assert_eq!(runtime.list(&[(labels::POD_UID, "uid-life")]).await.unwrap().len(), 2);
    assert!(runtime.stats(&id).await.unwrap().memory_usage > 0);
    let command = ["/busybox", "sh", "-c", "echo out; echo err >&2; exit 7"].map(str::to_owned);
    let (code, text) = run(&runtime, &id, &command, Duration::from_secs(10), 100).await.unwrap();
    assert_eq!((code, text.len()), (7, 8));
    runtime.stop(&id, Duration::from_secs(10)).await.unwrap();
    let info = ended(&runtime, &id).await;
    assert_eq!(info.exit_code, 3);
    assert!(info.finished_at > info.started_at);
    let lines: Vec<_> = runtime.logs(&id, "", false).await.unwrap().try_collect().await.unwrap();
    let of = |stderr: bool| {
        let texts = lines.iter().filter(|l| l.stderr == stderr).map(|l| String::from_utf8_lossy(&l.text));
        texts.collect::<String>()
    };
    assert_eq!(of(false), "nameserver 10.96.0.10\nfrom the hostlife\n");
    assert_eq!(of(true), "b=c\n");
    let last = &lines.last().unwrap().time;
    let again: Vec<_> = runtime.logs(&id, last, false).await.unwrap().try_collect().await.unwrap();
    assert_eq!(again.last(), lines.last());
    assert!(again.len() <= lines.len());
    runtime.stop(&id, Duration::ZERO).await.unwrap();
    runtime.remove(&id).await.unwrap();
    runtime.remove(&id).await.unwrap();
    // The pause program ends on TERM at once, not after the grace period.
    let before = std::time::Instant::now();
    runtime.stop(&sandbox, Duration::from_secs(20)).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(5));
    clean(&runtime).await;
}

#[tokio::test]
async fn commands_have_stdin_terminals_and_sizes() {
    let Some(runtime) = runtime("test-exec").await else { return };
    let Some(image) = busybox(&runtime).await else { return };
    let sandbox = sandbox(&runtime, "exec").await;
    let id = runtime.create_container(&sandbox, &shell(&image, "exec", "/busybox sleep 60")).await.unwrap();
    runtime.start(&id).await.unwrap();
    let config = ExecConfig {
        command: ["/busybox", "wc", "-c"].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut session = runtime.exec(&id, &config).await.unwrap();
    session.input.write_all(b"12345").await.unwrap();
    session.input.shutdown().await.unwrap();
    let Output::Stdout(text) = session.output.next().await.unwrap().unwrap() else { panic!("stderr") };
    assert_eq!(&text[..], b"5\n");
    let config = ExecConfig {
        command: ["/busybox", "sh", "-c", "/busybox sleep 0.3; /busybox stty size"]
            .map(str::to_owned)
            .to_vec(),
        tty: true,
        stdin: true,
        stdout: true,
        ..ExecConfig::default()
    };
    let mut session = runtime.exec(&id, &config).await.unwrap();
    runtime.resize(&session.id, true, 101, 37).await.unwrap();
    let mut all = Vec::new();
    while let Some(Ok(Output::Stdout(bytes))) = session.output.next().await {
        all.extend_from_slice(&bytes);
    }
    assert_eq!(String::from_utf8_lossy(&all), "37 101\r\n");
    clean(&runtime).await;
}

#[tokio::test]
async fn what_the_engine_refuses_is_said_in_its_words() {
    let Some(runtime) = runtime("test-refuse").await else { return };
    let Some(image) = busybox(&runtime).await else { return };
    let sandbox = sandbox(&runtime, "refuse").await;
    let mut config = shell(&image, "refuse", "");
    config.command = vec!["/no/such/program".to_owned()];
    let id = runtime.create_container(&sandbox, &config).await.unwrap();
    let error = runtime.start(&id).await.unwrap_err().to_string();
    assert!(error.contains("no such file or directory"), "{error}");
    assert_eq!(runtime.image("no-such-image:1").await.unwrap(), None);
    assert!(matches!(runtime.inspect("no-such-container").await, Err(RuntimeError::NotFound(_))));
    // A left-over of the same name is replaced.
    let id = runtime.create_container(&sandbox, &shell(&image, "refuse", "exit 5")).await.unwrap();
    runtime.start(&id).await.unwrap();
    assert_eq!(ended(&runtime, &id).await.exit_code, 5);
    clean(&runtime).await;
}
