//! The store on a real etcd: the contract, and what networks and servers do to it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use master::store::etcd::EtcdStore;
use master::store::{Range, Store, StoreError, Txn, TxnResult};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{body, commit, get, pod, take};

/// An etcd of our own, in a directory of its own.
struct Etcd {
    dir: tempfile::TempDir,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    fn start() -> Self {
        let mut etcd =
            Etcd { dir: tempfile::tempdir().unwrap(), client: free_port(), peer: free_port(), process: None };
        etcd.up();
        etcd
    }

    fn up(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let client = format!("http://127.0.0.1:{}", self.client);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let process = Command::new("/usr/bin/etcd")
            .args(["--name", "t", "--data-dir"])
            .arg(self.dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("t={peer}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("/usr/bin/etcd is installed");
        self.process = Some(process);
    }

    /// SIGKILL: no goodbye.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    async fn store(&self) -> EtcdStore {
        store_on(self.client).await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A store on a port, once something answers there.
async fn store_on(port: u16) -> EtcdStore {
    let store = EtcdStore::connect(&[format!("http://127.0.0.1:{port}")]).await.unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.current_revision().await {
        assert!(Instant::now() < until, "etcd does not come up: {error}");
    }
    store
}

async fn fresh() -> (Arc<dyn Store>, Etcd) {
    let etcd = Etcd::start();
    (Arc::new(etcd.store().await), etcd)
}

super::contract!(fresh());

/// Writes to one key until told to stop, whatever happens; returns the last value that was acknowledged.
async fn write_on(store: Arc<dyn Store>, key: String, stop: tokio::sync::watch::Receiver<bool>) -> u64 {
    let (mut count, mut acknowledged, mut at) = (0u64, 0, 0);
    while !*stop.borrow() {
        count += 1;
        match store.txn(Txn::put(&key, at, body(&count.to_string()))).await {
            Ok(TxnResult::Committed { revision }) => {
                at = revision;
                acknowledged = count;
            }
            // A write that was lost on the way may have happened: the compare finds out.
            Ok(TxnResult::Conflict { current, .. }) => at = current[0].as_ref().map_or(0, |r| r.mod_revision),
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    acknowledged
}

/// Watches and writes through trouble; then compares what the watch told with what a new one tells.
async fn through_trouble(
    watching: Arc<dyn Store>,
    writing: Arc<dyn Store>,
    trouble: impl Future<Output = ()>,
) {
    let start = watching.current_revision().await.unwrap();
    let mut watch = watching.watch("/registry/", start).await.unwrap();
    let collecting = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(batch) = watch.next().await {
            let batch = batch.expect("the watch heals itself");
            let end = batch.events.iter().any(|e| e.key == pod("end"));
            seen.push(batch);
            if end {
                break;
            }
        }
        seen.retain(|batch| !batch.events.is_empty());
        seen
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..3)
        .map(|i| tokio::spawn(write_on(writing.clone(), pod(&format!("w{i}")), stopped.clone())))
        .collect();
    trouble.await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(true).unwrap();
    for (i, writer) in writers.into_iter().enumerate() {
        let acknowledged = writer.await.unwrap();
        let stored = get(&*writing, &pod(&format!("w{i}"))).await.expect("it was written");
        let stored: u64 = String::from_utf8_lossy(&stored.value[6..stored.value.len() - 2]).parse().unwrap();
        assert!(
            acknowledged > 10 && stored >= acknowledged,
            "{acknowledged} were acknowledged, {stored} is there"
        );
    }
    commit(&*writing, Txn::put(pod("end"), 0, body("end"))).await;
    let seen =
        tokio::time::timeout(Duration::from_secs(20), collecting).await.expect("the end is seen").unwrap();
    let count = seen.iter().map(|batch| batch.events.len()).sum();
    let mut fresh = writing.watch("/registry/", start).await.unwrap();
    let wanted = take(&mut fresh, count).await;
    let told: Vec<_> =
        seen.into_iter().flat_map(|b| b.events.into_iter().map(move |event| (b.revision, event))).collect();
    assert_eq!(told, wanted);
    assert_eq!(wanted.last().unwrap().1.key, pod("end"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_when_etcd_was_killed() {
    let mut etcd = Etcd::start();
    let store: Arc<dyn Store> = Arc::new(etcd.store().await);
    let trouble = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            etcd.kill();
            tokio::time::sleep(Duration::from_millis(200)).await;
            etcd.up();
            while store.current_revision().await.is_err() {}
        }
    };
    through_trouble(store.clone(), store.clone(), trouble).await;
}

/// A proxy whose connections can be cut.
struct Proxy {
    port: u16,
    /// Whether connections pass; every change cuts those that are open.
    passing: tokio::sync::watch::Sender<bool>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    async fn to(target: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let passing = tokio::sync::watch::Sender::new(true);
        let state = passing.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.subscribe();
                if !*state.borrow_and_update() {
                    continue;
                }
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.changed() => {}
                    }
                });
            }
        });
        Proxy { port, passing, _accepting: accepting }
    }

    fn cut(&self) {
        self.passing.send_replace(true);
    }

    fn close(&self) {
        self.passing.send_replace(false);
    }

    fn open(&self) {
        self.passing.send_replace(true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_when_connections_are_cut() {
    let etcd = Etcd::start();
    let direct: Arc<dyn Store> = Arc::new(etcd.store().await);
    let proxy = Proxy::to(etcd.client).await;
    let proxied: Arc<dyn Store> = Arc::new(store_on(proxy.port).await);
    let trouble = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            proxy.cut();
        }
    };
    through_trouble(proxied, direct, trouble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_was_away_too_long_is_told_so() {
    let etcd = Etcd::start();
    let store = etcd.store().await;
    let first = commit(&store, Txn::put(pod("a"), 0, body("1"))).await;
    let proxy = Proxy::to(etcd.client).await;
    let mut watch = store_on(proxy.port).await.watch("/registry/", first - 1).await.unwrap();
    assert_eq!(take(&mut watch, 1).await.len(), 1);
    // While nobody reads the watch and its connection is cut, history goes.
    proxy.close();
    let mut last = first;
    for i in 0..5 {
        last = commit(&store, Txn::put(pod("a"), last, body(&i.to_string()))).await;
    }
    store.compact(last).await.unwrap();
    proxy.open();
    let told = watch.next().await;
    assert!(matches!(told, Some(Err(StoreError::Compacted { oldest })) if oldest == last), "{told:?}");
    assert!(watch.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_fail_in_time_while_etcd_is_away_and_mend_by_themselves() {
    let mut etcd = Etcd::start();
    let store = etcd.store().await;
    let revision = commit(&store, Txn::put(pod("a"), 0, body("1"))).await;
    etcd.kill();
    let asked = Instant::now();
    let read = store.range(Range::key(pod("a"))).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    let written = store.txn(Txn::put(pod("a"), revision, body("2"))).await;
    assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
    assert!(asked.elapsed() < master::store::etcd::DEADLINE * 2 + Duration::from_secs(1));
    etcd.up();
    let until = Instant::now() + Duration::from_secs(20);
    while store.txn(Txn::put(pod("a"), revision, body("2"))).await.is_err() {
        assert!(Instant::now() < until);
    }
    assert_eq!(get(&store, &pod("a")).await.unwrap().value, body("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_values_are_named() {
    let etcd = Etcd::start();
    let store = etcd.store().await;
    commit(&store, Txn::put(pod("good"), 0, body("1"))).await;
    let endpoint = format!("http://127.0.0.1:{}", etcd.client);
    let mut raw = etcd_client::Client::connect([endpoint], None).await.unwrap();
    raw.put(pod("bad"), "k8s\0something", None).await.unwrap();
    let read = store.range(Range::key(pod("bad"))).await;
    assert!(matches!(&read, Err(StoreError::Corrupt { key, .. }) if *key == pod("bad")), "{read:?}");
    let all = store.range(Range::prefix("/registry/")).await.unwrap();
    assert_eq!((all.records.len(), all.corrupt), (1, vec![pod("bad")]));
    // Another program's writes elsewhere neither disturb nor delay us.
    raw.put("elsewhere", "x", None).await.unwrap();
    let current = store.current_revision().await.unwrap();
    assert_eq!(current, get(&store, &pod("good")).await.unwrap().mod_revision);
}
