use serde_json::json;

use super::*;

const NOW: u64 = 10_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// `name`, `attempt`, state, exit code, backoff label, seconds since it ended (and lived 1 s).
fn info(
    name: &str,
    attempt: u32,
    state: ContainerState,
    code: i32,
    backoff: u64,
    ended_ago: u64,
) -> ContainerInfo {
    let sandbox = name == "POD";
    let pairs = [
        (labels::TYPE, if sandbox { labels::TYPE_SANDBOX } else { labels::TYPE_CONTAINER }.to_owned()),
        (labels::CONTAINER_NAME, name.to_owned()),
        (labels::RESTART_COUNT, attempt.to_string()),
        (labels::BACKOFF, backoff.to_string()),
        (labels::SANDBOX_ID, "POD-0".to_owned()),
    ];
    let ended = at(NOW - ended_ago);
    ContainerInfo {
        id: format!("{name}-{attempt}"),
        labels: pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        state,
        created_at: ended - Duration::from_secs(1),
        started_at: (state != ContainerState::Created).then(|| ended - Duration::from_secs(1)),
        finished_at: (state == ContainerState::Exited).then_some(ended),
        exit_code: code,
        oom_killed: false,
        error: String::new(),
        image: String::new(),
        image_id: String::new(),
        pid: 0,
        tty: false,
        stdin: false,
        cgroup_parent: String::new(),
        signal: 0,
    }
}

fn running(name: &str, attempt: u32) -> ContainerInfo {
    info(name, attempt, ContainerState::Running, 0, 0, 0)
}

fn ended(name: &str, code: i32) -> ContainerInfo {
    info(name, 0, ContainerState::Exited, code, 0, 1)
}

fn pod(policy: &str, init: &[(&str, bool)], main: &[&str]) -> Pod {
    let init: Vec<_> = init
        .iter()
        .map(|(name, sidecar)| json!({"name": name, "restartPolicy": sidecar.then_some("Always")}))
        .collect();
    let main: Vec<_> = main.iter().map(|name| json!({"name": name})).collect();
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": init, "containers": main}}))
    .unwrap()
}

/// A plan in short: `sandbox`, `start <name>#<attempt>`, `kill <name>`, `wait <name> <s>`, `finished`.
fn short(owner: &Pod, containers: Vec<ContainerInfo>, health: &Health) -> String {
    let backoff = Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(300) };
    let plan = plan(owner, &Observed::new(containers), health, &BTreeMap::new(), backoff, at(NOW));
    let mut words = Vec::new();
    words.extend(plan.sandbox.map(|n| format!("sandbox#{n}")));
    words.extend(plan.kill.iter().map(|k| format!("kill {}", k.name)));
    words.extend(plan.start.iter().map(|s| format!("start {}#{}", s.name, s.attempt)));
    words.extend(plan.waiting.iter().map(|(name, d)| format!("wait {name} {}", d.as_secs())));
    words.extend(plan.finished.then(|| "finished".to_owned()));
    words.join(", ")
}

fn started(ids: &[&str]) -> Health {
    Health { started: ids.iter().map(|id| (*id).to_owned()).collect(), ..Health::default() }
}

#[test]
fn beginnings() {
    let none = Health::default();
    let simple = pod("Always", &[], &["a", "b"]);
    let full = pod("Always", &[("i", false), ("s", true)], &["a"]);
    let sandbox = || running("POD", 0);
    for (owner, containers, health, wanted) in [
        (&simple, vec![], none.clone(), "sandbox#0, start a#0, start b#0"),
        (&simple, vec![sandbox()], none.clone(), "start a#0, start b#0"),
        (&simple, vec![sandbox(), running("a", 0)], none.clone(), "start b#0"),
        (&simple, vec![sandbox(), running("a", 0), running("b", 0)], none.clone(), ""),
        (&full, vec![], none.clone(), "sandbox#0, start i#0"),
        (&full, vec![sandbox(), running("i", 0)], none.clone(), ""),
        (&full, vec![sandbox(), ended("i", 0)], none.clone(), "start s#0"),
        (&full, vec![sandbox(), ended("i", 1)], none.clone(), "start i#1"),
        (&full, vec![sandbox(), ended("i", 0), running("s", 0)], none, ""),
        (&full, vec![sandbox(), ended("i", 0), running("s", 0)], started(&["s-0"]), "start a#0"),
    ] {
        let about = format!("{containers:?}");
        assert_eq!(short(owner, containers, &health), wanted, "{about}");
    }
}

#[test]
fn endings_by_policy() {
    let none = Health::default();
    let sandbox = || running("POD", 0);
    let gone = || info("POD", 0, ContainerState::Exited, 0, 0, 1);
    for (policy, containers, wanted) in [
        ("Always", vec![sandbox(), ended("a", 0)], "start a#1"),
        ("OnFailure", vec![sandbox(), ended("a", 0)], "finished"),
        ("OnFailure", vec![sandbox(), ended("a", 2)], "start a#1"),
        ("Never", vec![sandbox(), ended("a", 2)], "finished"),
        ("Always", vec![gone(), ended("a", 137)], "sandbox#1, start a#1"),
        ("Always", vec![gone(), running("a", 0)], "sandbox#1, kill a, start a#1"),
        ("OnFailure", vec![gone(), ended("a", 0)], "finished"),
        ("Never", vec![gone(), ended("a", 137)], "finished"),
        ("Never", vec![], "sandbox#0, start a#0"),
    ] {
        let about = format!("{policy} {containers:?}");
        assert_eq!(short(&pod(policy, &[], &["a"]), containers, &none), wanted, "{about}");
    }
    let with_sidecar = pod("Never", &[("s", true)], &["a"]);
    let health = started(&["s-0"]);
    assert_eq!(short(&with_sidecar, vec![sandbox(), running("s", 0), ended("a", 0)], &health), "kill s");
    let with_init = pod("Never", &[("i", false)], &["a"]);
    assert_eq!(short(&with_init, vec![sandbox(), ended("i", 1)], &none), "finished");
}

#[test]
fn the_back_off_grows_and_is_forgiven() {
    let owner = pod("Always", &[], &["a"]);
    let none = Health::default();
    let crashed = |attempt, backoff, ago| {
        vec![running("POD", 0), info("a", attempt, ContainerState::Exited, 1, backoff, ago)]
    };
    for (attempt, backoff, ago, wanted) in [
        (0, 0, 0, "start a#1"),
        (1, 10, 3, "wait a 10"),
        (1, 10, 10, "start a#2"),
        (5, 160, 100, "wait a 160"),
        (9, 300, 299, "wait a 300"),
        (9, 300, 300, "start a#10"),
    ] {
        assert_eq!(short(&owner, crashed(attempt, backoff, ago), &none), wanted, "{attempt} {backoff} {ago}");
    }
    let backoff = Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(300) };
    let next = |latest: ContainerInfo| {
        let observed = Observed::new(vec![running("POD", 0), latest]);
        let (start, delay) = start_of(Role::Main, "a", &observed, &BTreeMap::new(), backoff, at(NOW));
        (delay.as_secs(), start.backoff_seconds)
    };
    assert_eq!(next(info("a", 1, ContainerState::Exited, 1, 10, 0)), (10, 20));
    assert_eq!(next(info("a", 6, ContainerState::Exited, 1, 200, 0)), (200, 300));
    let mut long_lived = info("a", 6, ContainerState::Exited, 1, 300, 0);
    long_lived.created_at = at(NOW - 700);
    assert_eq!(next(long_lived), (0, 10), "ten good minutes are forgiven");
}

#[test]
fn the_unhealthy_are_killed() {
    let owner = pod("Always", &[], &["a"]);
    let why = "Container a failed liveness probe, will be restarted".to_owned();
    let health = Health { unhealthy: [("a-0".to_owned(), why.clone())].into(), ..Health::default() };
    let containers = vec![running("POD", 0), running("a", 0)];
    assert_eq!(short(&owner, containers.clone(), &health), "kill a");
    let backoff = Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(300) };
    let kills = |policy: &str| {
        let owner = pod(policy, &[], &["a"]);
        plan(&owner, &Observed::new(containers.clone()), &health, &BTreeMap::new(), backoff, at(NOW)).kill
    };
    assert_eq!(kills("Always")[0].why, why);
    assert_eq!(kills("Never")[0].why, "Container a failed liveness probe");
}

#[test]
fn what_is_added_to_a_running_pod_runs_once() {
    let mut owner = pod("Always", &[], &["a"]);
    owner.spec.as_mut().unwrap().ephemeral_containers =
        serde_json::from_value(json!([{"name": "debug", "targetContainerName": "a"}])).unwrap();
    let none = Health::default();
    for (containers, wanted) in [
        (vec![], "sandbox#0, start a#0"),
        (vec![running("POD", 0), running("a", 0)], "start debug#0"),
        (vec![running("POD", 0), running("a", 0), running("debug", 0)], ""),
        (vec![running("POD", 0), running("a", 0), ended("debug", 1)], ""),
    ] {
        assert_eq!(short(&owner, containers, &none), wanted);
    }
}
