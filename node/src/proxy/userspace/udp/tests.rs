use tokio::task::LocalSet;

use super::*;
use crate::proxy::userspace::balancer::{Balancer, Wanted};
use crate::proxy::userspace::schedule::Scheduler;

async fn socket() -> (UdpSocket, Backend) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, Backend { ip: address.ip(), port: address.port() })
}

/// Receives one packet there and answers with `name`; what was received, and from where.
async fn answered(server: &UdpSocket, name: &str) -> (String, SocketAddr) {
    let mut packet = [0; 64];
    let (length, from) = server.recv_from(&mut packet).await.unwrap();
    server.send_to(name.as_bytes(), from).await.unwrap();
    (String::from_utf8_lossy(&packet[..length]).into_owned(), from)
}

async fn heard(client: &UdpSocket) -> String {
    let mut packet = [0; 64];
    let length = client.recv(&mut packet).await.unwrap();
    String::from_utf8_lossy(&packet[..length]).into_owned()
}

#[tokio::test]
async fn flows_stay_until_their_endpoint_goes() {
    LocalSet::new()
        .run_until(async {
            let (one, first) = socket().await;
            let (two, second) = socket().await;
            let (front, at) = socket().await;
            let balancer = Rc::new(RefCell::new(Balancer::new(Scheduler::RoundRobin)));
            let want = |backends: &[Backend]| {
                balancer.borrow_mut().set(&Wanted { backends: backends.to_vec(), affinity: None })
            };
            want(&[first, second]);
            let flows = Flows::default();
            let room = Arc::new(Semaphore::new(2));
            let serving =
                serve(Arc::new(front), balancer.clone(), flows.clone(), room.clone(), [10, 96, 0, 1].into());
            let serving = tokio::task::spawn_local(serving);

            let (client, _) = socket().await;
            client.connect(at.address()).await.unwrap();
            let mut ways = Vec::new();
            for _ in 0..3 {
                client.send(b"who?").await.unwrap();
                let (question, way) = answered(&one, "one").await;
                assert_eq!((question.as_str(), heard(&client).await.as_str()), ("who?", "one"));
                ways.push(way);
            }
            ways.dedup();
            assert_eq!(ways.len(), 1, "one flow, one way");

            // Another client has its own endpoint, its own way and its own answers.
            let (other, _) = socket().await;
            other.connect(at.address()).await.unwrap();
            other.send(b"who?").await.unwrap();
            answered(&two, "two").await;
            assert_eq!(heard(&other).await, "two");
            assert_eq!(room.available_permits(), 0);

            // The endpoint goes: the next packet of the same client goes to the other.
            want(&[second]);
            flows.keep(|backend| balancer.borrow().has(backend));
            client.send(b"again").await.unwrap();
            assert_eq!(answered(&two, "two").await.0, "again");
            assert_eq!(heard(&client).await, "two");
            assert_eq!(flows.0.borrow().len(), 2);
            serving.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn idle_flows_end() {
    LocalSet::new()
        .run_until(async {
            let (server, backend) = socket().await;
            let (front, at) = socket().await;
            let balancer = Rc::new(RefCell::new(Balancer::new(Scheduler::LeastConnection)));
            balancer.borrow_mut().set(&Wanted { backends: vec![backend], affinity: None });
            let flows = Flows::default();
            let room = Arc::new(Semaphore::new(4));
            let serving =
                serve(Arc::new(front), balancer, flows.clone(), room.clone(), [10, 96, 0, 1].into());
            let serving = tokio::task::spawn_local(serving);
            let (client, _) = socket().await;
            client.connect(at.address()).await.unwrap();
            client.send(b"who?").await.unwrap();
            answered(&server, "one").await;
            heard(&client).await;
            let used = flows.0.borrow().values().next().unwrap().used.get();
            tokio::time::sleep_until(used + IDLE - Duration::from_secs(1)).await;
            assert_eq!(flows.0.borrow().len(), 1);
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!((flows.0.borrow().len(), room.available_permits()), (0, 4));
            serving.abort();
        })
        .await;
}
