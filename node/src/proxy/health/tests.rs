use actors::{Props, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::*;

#[test]
fn answers_are_kube_proxys() {
    let check = |local: usize| Check { service: "shop/web".into(), local };
    let (status, weight, text) = answer(Some(&check(2)));
    assert_eq!((status, weight), (StatusCode::OK, 2));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": true,
        })
    );
    assert_eq!(answer(Some(&check(0))).0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer(None).0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn ports_come_change_and_go() {
    LocalSet::new()
        .run_until(async {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let stage = Stage::local();
            let checks: Arc<RwLock<Checks>> = Arc::default();
            let shared = checks.clone();
            let actor = stage.spawn(Props::new("health", move || HealthActor::new(shared.clone())));
            let show = async |local: Option<usize>| {
                let check = local.map(|local| (port, Check { service: "shop/web".into(), local }));
                *checks.write() = check.into_iter().collect();
                actor.tell(Look).await.unwrap();
            };
            // Until it is as expected: the actor has its own turn.
            let expect = async |expected: Option<&str>| {
                for _ in 0..1000 {
                    if ask(port).await.as_deref().and_then(|a| a.get(..12)) == expected {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                panic!("{:?} is not {expected:?}", ask(port).await);
            };
            show(Some(1)).await;
            expect(Some("HTTP/1.1 200")).await;
            let answer = ask(port).await.unwrap().to_ascii_lowercase();
            assert!(answer.contains("x-load-balancing-endpoint-weight: 1"), "{answer}");
            assert!(answer.contains("content-type: application/json"), "{answer}");
            show(Some(0)).await;
            expect(Some("HTTP/1.1 503")).await;
            show(None).await;
            expect(None).await;
        })
        .await;
}

async fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}

#[test]
fn checks_follow_their_service() {
    use crate::proxy::plan::{PortPlan, Protocol, Reach};
    let port = PortPlan {
        key: "d/x/tcp/80".into(),
        cluster_ip: [10, 96, 0, 1].into(),
        served_here: false,
        protocol: Protocol::Tcp,
        port: 80,
        affinity_seconds: None,
        cluster: vec![],
        local: vec![],
        here: vec![],
        internal: Reach::Refused,
        external: None,
    };
    let plan = |health| ServicePlan { ports: vec![port.clone()], health };
    let mut ports = Ports::default();
    let key: ServiceKey = "default/web".into();
    ports.set(&key, &plan(Some((31000, 1))));
    assert_eq!(ports.checks()[&31000], Check { service: key.clone(), local: 1 });
    ports.set(&key, &plan(Some((31001, 0))));
    assert_eq!(ports.checks().keys().collect::<Vec<_>>(), [&31001]);
    // The port is another's by the time that its former owner goes.
    let next: ServiceKey = "default/next".into();
    ports.set(&next, &plan(Some((31001, 3))));
    assert_eq!(ports.services(), 2);
    ports.set(&key, &ServicePlan::default());
    assert_eq!(ports.checks()[&31001].service, next);
    ports.set(&next, &ServicePlan::default());
    assert!(ports.checks().is_empty() && ports.services() == 0);
}
