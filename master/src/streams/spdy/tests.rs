use futures::stream;

use super::codec::{Decoder, Encoder};
use super::*;

fn syn(stream: u32, kind: &str, fin: bool) -> Frame {
    let headers = vec![("StreamType".to_owned(), kind.to_owned())];
    Frame::SynStream { stream, associated: 0, priority: 0, fin, headers }
}

/// Runs a session over what a client has sent, to its end.
async fn run(frames: &[Frame]) -> (Vec<Event>, Vec<Frame>) {
    let mut encoder = Encoder::default();
    let sent: Vec<Bytes> = frames.iter().map(|f| encoder.encode(f).unwrap()).collect();
    let (outbound, mut written) = mpsc::channel(64);
    let mut session = Session::new(stream::iter(sent).boxed_local(), outbound);
    let mut events = Vec::new();
    while let Some(event) = session.next().await {
        events.push(event);
    }
    drop(session);
    let mut decoder = Decoder::default();
    let mut answers = Vec::new();
    while let Some(bytes) = written.recv().await {
        decoder.feed(&bytes);
        answers.extend(decoder.next_frame().unwrap());
    }
    (events, answers)
}

#[tokio::test]
async fn streams_are_accepted_and_carry_bytes() {
    let data = Bytes::from_static(b"ls");
    let (events, answers) = run(&[
        syn(1, "error", true),
        syn(3, "stdin", false),
        Frame::Ping(7),
        Frame::Data { stream: 3, fin: true, data: data.clone() },
        Frame::RstStream { stream: 3, status: 5 },
        // Under way when the stream ended.
        Frame::Data { stream: 3, fin: false, data: data.clone() },
    ])
    .await;
    let headers = |kind: &str| vec![("streamtype".to_owned(), kind.to_owned())];
    assert_eq!(
        events,
        [
            Event::Opened { stream: 1, headers: headers("error") },
            Event::Finished(1),
            Event::Opened { stream: 3, headers: headers("stdin") },
            Event::Data { stream: 3, data },
            Event::Finished(3),
            Event::Reset(3),
        ]
    );
    let reply = |stream| Frame::SynReply { stream, fin: false, headers: vec![] };
    assert_eq!(answers, [reply(1), reply(3), Frame::Ping(7)]);
}

#[tokio::test]
async fn both_ends_understand_each_other() {
    let (to_server, at_server) = mpsc::channel(64);
    let (to_client, at_client) = mpsc::channel(64);
    let inbound =
        |channel| stream::unfold(channel, async |mut c: mpsc::Receiver<Bytes>| Some((c.recv().await?, c)));
    let mut server = Session::new(inbound(at_server).boxed_local(), to_client.clone());
    let mut client = Session::client(inbound(at_client).boxed_local(), to_server);
    for (kind, number) in [("error", 1), ("data", 3)] {
        let headers = vec![("streamtype".to_owned(), kind.to_owned())];
        let writer = client.open(headers.clone()).await.unwrap();
        assert_eq!(writer.stream(), number);
        writer.data(kind.as_bytes()).await.unwrap();
        assert_eq!(server.next().await, Some(Event::Opened { stream: number, headers }));
        let data = Bytes::from(kind);
        assert_eq!(server.next().await, Some(Event::Data { stream: number, data: data.clone() }));
        let back = server.writer(number);
        back.data(&data).await.unwrap();
        back.finish().await.unwrap();
        assert_eq!(client.next().await, Some(Event::Data { stream: number, data }));
        assert_eq!(client.next().await, Some(Event::Finished(number)));
    }
    // A server opens no streams; its questions are answered.
    let mut encoder = Encoder::default();
    for frame in [syn(2, "data", false), Frame::Ping(2)] {
        to_client.send(encoder.encode(&frame).unwrap()).await.unwrap();
    }
    drop((to_client, server));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn numbers_that_do_not_count_up_are_refused() {
    let (events, answers) = run(&[syn(3, "a", false), syn(3, "b", false), syn(2, "c", false)]).await;
    assert_eq!(events.len(), 1);
    assert_eq!(answers[1..], [3, 2].map(|stream| Frame::RstStream { stream, status: PROTOCOL_ERROR }));
}

#[tokio::test]
async fn a_client_opens_only_so_many_streams() {
    let frames: Vec<Frame> = (0..=STREAMS_MAX as u32).map(|n| syn(n * 2 + 1, "data", false)).collect();
    let (outbound, mut written) = mpsc::channel(4 * STREAMS_MAX);
    let mut encoder = Encoder::default();
    let sent: Vec<Bytes> = frames.iter().map(|f| encoder.encode(f).unwrap()).collect();
    let mut session = Session::new(stream::iter(sent).boxed_local(), outbound);
    let mut opened = 0;
    while session.next().await.is_some() {
        opened += 1;
    }
    assert_eq!(opened, STREAMS_MAX);
    drop(session);
    let mut last = Bytes::new();
    while let Some(bytes) = written.recv().await {
        last = bytes;
    }
    let refused = Frame::RstStream { stream: STREAMS_MAX as u32 * 2 + 1, status: REFUSED_STREAM };
    assert_eq!(last, Encoder::default().encode(&refused).unwrap());
}
