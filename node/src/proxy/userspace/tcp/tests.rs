use std::rc::Rc;

use tokio::io::AsyncReadExt;
use tokio::task::LocalSet;

use super::*;
use crate::proxy::endpoints::Backend;
use crate::proxy::userspace::balancer::{Balancer, Wanted};
use crate::proxy::userspace::schedule::Scheduler;

/// A port of this machine at which somebody listens, and which the proxy hands on to.
async fn listener() -> (TcpListener, Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, Backend { ip: address.ip(), port: address.port() })
}

/// Runs `test` with the address of a proxy for these endpoints, and its balancer.
async fn with_proxy<F: Future<Output = ()>>(
    backends: Vec<Backend>,
    room: usize,
    test: impl FnOnce(SocketAddr, SharedBalancer) -> F,
) {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (front, at) = listener().await;
            let balancer = Rc::new(RefCell::new(Balancer::new(Scheduler::RoundRobin)));
            balancer.borrow_mut().set(&Wanted { backends, affinity: None });
            let serving = tokio::task::spawn_local(serve(
                Arc::new(front),
                balancer.clone(),
                Arc::new(Semaphore::new(room)),
            ));
            test(at.address(), balancer).await;
            serving.abort();
        })
        .await;
}

#[tokio::test]
async fn half_closed_connections_go_on_the_other_way() {
    let (server, backend) = listener().await;
    with_proxy(vec![backend], 8, |at, _| async move {
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut heard = String::new();
        accepted.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question", "the client's end arrives");
        let answer = vec![7; 300_000];
        accepted.write_all(&answer).await.unwrap();
        drop(accepted);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, answer, "and the answer after it");
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    // Bound and not listening any more: whoever connects is refused.
    let (gone, refusing) = listener().await;
    drop(gone);
    let (server, backend) = listener().await;
    with_proxy(vec![refusing, backend], 8, |at, _| async move {
        for _ in 0..2 {
            let mut client = TcpStream::connect(at).await.unwrap();
            let (mut accepted, _) = server.accept().await.unwrap();
            accepted.write_all(b"here").await.unwrap();
            drop(accepted);
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "here");
        }
    })
    .await;
}

#[tokio::test]
async fn without_anybody_the_client_is_told_so() {
    let (gone, refusing) = listener().await;
    drop(gone);
    for backends in [vec![], vec![refusing]] {
        with_proxy(backends, 8, |at, _| async move {
            let mut client = TcpStream::connect(at).await.unwrap();
            let error = client.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::ConnectionReset,
                "an end would look like an empty answer"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_waits() {
    let (server, backend) = listener().await;
    with_proxy(vec![backend], 1, |at, _| async move {
        let first = TcpStream::connect(at).await.unwrap();
        let (held, _) = server.accept().await.unwrap();
        let mut second = TcpStream::connect(at).await.unwrap();
        second.write_all(b"x").await.unwrap();
        // The second is not handed on while the first lasts, however often others have their turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut next = std::pin::pin!(server.accept());
        assert!(futures::poll!(&mut next).is_pending());
        drop((first, held));
        let (mut accepted, _) = next.await.unwrap();
        let mut heard = [0; 1];
        accepted.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"x");
    })
    .await;
}
