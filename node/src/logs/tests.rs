use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use protocol::streams::LogRequest;

use super::write::{Resume, Skip};
use super::*;
use crate::runtime::LogLine;

fn text(lines: &[(&str, bool, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (time, stderr, line) in lines {
        format_line(&mut text, time, *stderr, line.as_bytes());
    }
    text
}

#[test]
fn lines_survive_the_format() {
    let cases =
        [("plain\n", false, "plain"), ("half", true, "half"), ("\n", false, ""), ("a b c\n", false, "a b c")];
    for (written, partial, read) in cases {
        let raw = text(&[("2026-01-02T03:04:05.000000006Z", true, written)]);
        let line = parse_line(&raw).unwrap();
        assert_eq!((line.partial, line.text), (partial, read.as_bytes()), "{written:?}");
        assert!(line.stderr);
    }
    for broken in ["", "2026", "2026 stdout", "2026 stdxxx F text", "2026 stdout F"] {
        assert_eq!(parse_line(broken.as_bytes()), None, "{broken:?}");
    }
}

#[test]
fn a_resumed_writer_neither_repeats_nor_loses_lines() {
    let line = |time: &str| LogLine { time: time.to_owned(), stderr: false, text: Bytes::new() };
    let mut skip = Skip::new(Resume { time: "2026-01-01T00:00:02Z".to_owned(), lines: 2 });
    let taken: Vec<_> = ["01", "02", "02", "02", "03"]
        .map(|s| skip.take(&line(&format!("2026-01-01T00:00:{s}.000000000Z"))))
        .to_vec();
    assert_eq!(taken, [false, false, false, true, true]);
    assert!(Skip::new(Resume::default()).take(&line("2026-01-01T00:00:00Z")));
}

async fn read_all(logs: &Logs, file: &Path, request: LogRequest) -> String {
    let mut stream = logs.read(file.to_owned(), &request);
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn readers_get_what_they_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path(), &dir.path().join("links"), 1 << 20, 5);
    let file = dir.path().join("0.log");
    let lines = [
        ("2026-01-01T00:00:01Z", false, "one\n"),
        ("2026-01-01T00:00:02Z", true, "tw"),
        ("2026-01-01T00:00:02Z", true, "o\n"),
        ("2026-01-01T00:00:03Z", false, "three\n"),
    ];
    std::fs::write(&file, text(&lines)).unwrap();
    let request = LogRequest::default;
    let cases = [
        (request(), "one\ntwo\nthree\n"),
        (LogRequest { tail_lines: Some(1), ..request() }, "three\n"),
        (LogRequest { tail_lines: Some(0), ..request() }, ""),
        (LogRequest { tail_lines: Some(99), ..request() }, "one\ntwo\nthree\n"),
        (LogRequest { limit_bytes: Some(5), ..request() }, "one\nt"),
        (LogRequest { since_unix_nanos: Some(1_767_225_603_000_000_000), ..request() }, "three\n"),
        (
            LogRequest { timestamps: true, ..request() },
            "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n",
        ),
        (LogRequest { stream: protocol::streams::LogStream::Stderr, ..request() }, "two\n"),
        (LogRequest { follow: true, ..request() }, "one\ntwo\nthree\n"),
    ];
    for (request, wanted) in cases {
        assert_eq!(read_all(&logs, &file, request.clone()).await, wanted, "{request:?}");
    }
    assert_eq!(read_all(&logs, &dir.path().join("none.log"), request()).await, "");
    assert_eq!(read::tail(&file, 2, 80), "o\nthree\n");
}

#[tokio::test]
async fn a_follower_sees_every_line_across_rotation_and_ends_with_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Arc::new(Logs::new(&dir.path().join("pods"), &dir.path().join("links"), 300, 3));
    let runtime = crate::runtime::simulated::SimulatedRuntime::default();
    let (container, feed) = runtime.logging_container("web");
    let file = logs.file(&container.pod(), "web", 0);
    let writer = {
        let logs = logs.clone();
        let container = container.clone();
        tokio::spawn(async move { logs.copy(&runtime, &container, true).await })
    };
    let mut sent = 0;
    let mut send = async |n: usize| {
        for _ in 0..n {
            sent += 1;
            let time = format!("2026-01-01T00:00:{:02}.{sent:09}Z", sent / 10);
            let line = LogLine { time, stderr: false, text: Bytes::from(format!("line {sent}\n")) };
            feed.send(line).await.unwrap();
        }
    };
    send(2).await;
    while logs.writers.lock().get(&file).is_none_or(|w| w.borrow().written == 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let follow = LogRequest { follow: true, ..LogRequest::default() };
    let reader = {
        let (logs, file) = (logs.clone(), file.clone());
        tokio::spawn(async move { read_all(&logs, &file, follow).await })
    };
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        send(3).await;
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    drop(feed);
    writer.await.unwrap().unwrap();
    let wanted: String = (1..=20).map(|n| format!("line {n}\n")).collect();
    assert_eq!(reader.await.unwrap(), wanted);
    assert_eq!(write::rotated(&file).len(), 2, "three files of the log are kept");
    assert!(std::fs::read_dir(dir.path().join("links")).unwrap().next().is_some());
}
