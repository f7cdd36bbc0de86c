//! Links: asks, streams, flow control, versions, loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::link::{Frame, Hello, LinkError, LinkStream, Peer, STREAM_CREDIT_BYTES, Serve, codec, connect};
use actors::{AskError, TraceContext, trace};
use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;

const ECHO: u16 = 1;
const NEVER: u16 = 2;
const COUNT: u16 = 3;
const FLOOD: u16 = 4;
const SOON: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Far {
    flooded: Arc<AtomicUsize>,
}

#[async_trait]
impl Serve for Far {
    async fn ask(&self, tag: u16, payload: Bytes) -> Result<Bytes, AskError> {
        match tag {
            ECHO => Ok(payload),
            NEVER => std::future::pending().await,
            _ => Err(AskError::Closed),
        }
    }
    async fn stream(&self, tag: u16, _: Bytes, mut stream: LinkStream) {
        match tag {
            COUNT => {
                let mut sum = 0;
                while let Some(item) = stream.receive().await {
                    sum += item.len();
                }
                let _ = stream.send(Bytes::from(sum.to_string())).await;
                stream.finish().await;
            }
            FLOOD => {
                while stream.send(Bytes::from(vec![0; 1024])).await.is_ok() {
                    self.flooded.fetch_add(1024, Ordering::Relaxed);
                }
                self.flooded.store(usize::MAX, Ordering::Relaxed);
            }
            _ => {}
        }
    }
    fn tag_name(&self, tag: u16) -> &'static str {
        name(tag)
    }
}

fn name(tag: u16) -> &'static str {
    if tag == ECHO { "Echo" } else { "Other" }
}

async fn pair(far: Far) -> (Peer, Peer) {
    let (a, b) = tokio::io::duplex(4096);
    let (near, far) = tokio::join!(
        connect(a, "far", Arc::new(Far::default()), name),
        connect(b, "near", Arc::new(far), name)
    );
    let (near, near_loop) = near.expect("the near side shakes hands");
    let (far, far_loop) = far.expect("the far side shakes hands");
    tokio::spawn(near_loop);
    tokio::spawn(far_loop);
    (near, far)
}

#[tokio::test(start_paused = true)]
async fn an_ask_is_answered_and_traced() {
    let (near, _far) = pair(Far::default()).await;
    let root = TraceContext::default().child();
    let answer = trace::under(root, near.ask(ECHO, Bytes::from_static(b"hi"), SOON)).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"hi")));
    let hops = trace::find(10, |r| r.context.trace == root.trace);
    assert_eq!((&*hops[0].to, &*hops[0].kind, hops[0].parent), ("link[far]", "Echo", root.message));
}

#[tokio::test(start_paused = true)]
async fn a_large_message_fits_and_many_run_at_once() {
    let (near, _far) = pair(Far::default()).await;
    let asks = (0..200).map(|n| near.ask(ECHO, Bytes::from(vec![n as u8; 3 << 14]), SOON));
    for (n, answer) in futures::future::join_all(asks).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap()[0], n as u8);
    }
    let big = Bytes::from(vec![7; 3 << 20]);
    assert_eq!(near.ask(ECHO, big.clone(), SOON).await, Ok(big));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_ask_ends_at_its_deadline_or_when_the_peer_is_lost() {
    let (near, far) = pair(Far::default()).await;
    assert_eq!(near.ask(NEVER, Bytes::new(), SOON).await, Err(AskError::Timeout));
    let (lost, ()) = tokio::join!(near.ask(NEVER, Bytes::new(), SOON), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        far.close();
    });
    assert_eq!(lost, Err(AskError::Unreachable));
    near.closed().await;
    assert_eq!(near.ask(ECHO, Bytes::new(), SOON).await, Err(AskError::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn a_stream_carries_everything_in_order_both_ways() {
    let (near, _far) = pair(Far::default()).await;
    let mut stream = near.open(COUNT, Bytes::new()).await.unwrap();
    for n in 0..5_000usize {
        stream.send(Bytes::from(vec![0; n % 700])).await.unwrap();
    }
    stream.finish().await;
    let expected: usize = (0..5_000).map(|n| n % 700).sum();
    assert_eq!(stream.receive().await.unwrap(), expected.to_string());
    assert_eq!(stream.receive().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_slows_its_writer_and_nobody_else() {
    let far = Far::default();
    let flooded = far.flooded.clone();
    let (near, _far) = pair(far).await;
    let stream = near.open(FLOOD, Bytes::new()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(flooded.load(Ordering::Relaxed), STREAM_CREDIT_BYTES);
    assert!(near.ask(ECHO, Bytes::new(), SOON).await.is_ok());
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(flooded.load(Ordering::Relaxed), usize::MAX, "the writer was told that its reader has gone");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_link_stays_and_a_dead_one_is_noticed() {
    let (near, _far) = pair(Far::default()).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(near.ask(ECHO, Bytes::new(), SOON).await.is_ok());

    let (a, mut b) = tokio::io::duplex(4096);
    let hello = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut b, &Hello::default().to_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let (_peer, serving) = connect(a, "mute", Arc::new(Far::default()), name).await.unwrap();
    assert!(matches!(serving.await, LinkError::Silent(_)));
    hello.abort();
}

#[tokio::test(start_paused = true)]
async fn something_else_at_the_other_end_is_told_apart() {
    let (a, mut b) = tokio::io::duplex(4096);
    tokio::io::AsyncWriteExt::write_all(&mut b, b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
    let result = connect(a, "web", Arc::new(Far::default()), name).await;
    assert!(matches!(result.err(), Some(LinkError::NotTroupe)));
}

#[test]
fn versions_are_agreed_on_or_the_error_says_who_must_move() {
    let hello = |version_min, version_max| Hello { version_min, version_max };
    assert_eq!(hello(1, 3).agree(&hello(2, 5)).unwrap(), 3);
    assert!(matches!(hello(3, 4).agree(&hello(1, 2)), Err(LinkError::PeerTooOld { peer: 2, oldest: 3 })));
    assert!(matches!(hello(1, 2).agree(&hello(3, 4)), Err(LinkError::PeerTooNew { peer: 3, newest: 2 })));
}

#[test]
fn the_bytes_on_the_wire_stay_as_they_are() {
    assert_eq!(Hello { version_min: 1, version_max: 258 }.to_bytes(), *b"troupe/l\x00\x01\x01\x02");
    let trace = TraceContext { trace: 5, message: 6 };
    let ask = Frame::Ask { id: 300, tag: 1, trace, deadline_ms: 9, payload: Bytes::from_static(b"ab") };
    assert_eq!(codec::encode(&ask).unwrap(), [0, 251, 44, 1, 1, 5, 6, 9, 2, b'a', b'b']);
    let end = Frame::End { id: 7, opened_by_receiver: true, reset: false };
    assert_eq!(codec::encode(&end).unwrap(), [5, 7, 1, 0]);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = codec::decode::<Frame>(&bytes);
    }
}
