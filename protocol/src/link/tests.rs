//! The messages' bytes, as nodes and masters of other builds read and write them.

use core::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::streams::{ContainerTarget, DialRequest, ExecRequest, Frame, PortForwardRequest, Stdio};

/// Checks both directions.
fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: T, expected: &[u8]) {
    assert_eq!(encode(&message).unwrap(), expected, "{message:?}");
    assert_eq!(decode::<T>(expected).unwrap(), message);
}

fn target() -> ContainerTarget {
    ContainerTarget { namespace: "n".into(), pod: "p".into(), uid: "u".into(), container: "c".into() }
}

#[test]
fn the_bytes_of_messages_stay_as_they_are() {
    golden(RenewRequest { csr_pem: "ab".into() }, &[2, b'a', b'b']);
    let nonce = [7; 32];
    let question = JoinQuestion { token_id: "abcdef".into(), nonce };
    golden(question, &[&[6][..], b"abcdef", &nonce].concat());
    golden(JoinAnswer { ca_pem: "x".into(), proof: vec![1, 2] }, &[1, b'x', 2, 1, 2]);
    golden(
        TraceQuery { traces: vec![1], key: None, actor: Some("a".into()), limit: 300 },
        &[1, 1, 0, 1, 1, b'a', 251, 44, 1],
    );
    let head = [1, b'n', 1, b'p', 1, b'u', 1, b'c'];
    golden(PortForwardRequest { target: target(), port: 80 }, &[&head[..], &[80]].concat());
    let stdio = Stdio { stdin: true, stdout: true, stderr: false, tty: true };
    let exec = ExecRequest { target: target(), command: vec!["ls".into()], stdio };
    golden(exec, &[&head[..], &[1, 2, b'l', b's', 1, 1, 0, 1]].concat());
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    golden(DialRequest { address, port: 8080 }, &[0, 10, 0, 0, 1, 251, 0x90, 0x1f]);
}

#[test]
fn the_bytes_of_frames_stay_as_they_are() {
    let text = || Bytes::from_static(b"x");
    for (frame, expected) in [
        (Frame::Stdin(text()), &[0, 1, b'x'][..]),
        (Frame::CloseStdin, &[1]),
        (Frame::Resize { width: 80, height: 24 }, &[2, 80, 24]),
        (Frame::Stdout(text()), &[3, 1, b'x']),
        (Frame::Stderr(text()), &[4, 1, b'x']),
        (Frame::CloseStdout, &[5]),
        (Frame::Error(text()), &[6, 1, b'x']),
    ] {
        golden(frame, expected);
    }
}

#[test]
fn errors_and_verdicts_survive_the_wire() {
    golden(Ok::<(), ApiError>(()), &[0]);
    let refused: Result<(), ApiError> = Err(ApiError::not_found("", "pods", "web"));
    let bytes = encode(&refused).unwrap();
    assert_eq!(decode::<Result<(), ApiError>>(&bytes).unwrap().unwrap_err().code(), 404);
}

#[test]
fn numbers_of_messages_are_used_once() {
    let tags = [
        tag::CALL,
        tag::WATCH,
        tag::JOIN_INFO,
        tag::JOIN,
        tag::RENEW,
        tag::EXEC,
        tag::ATTACH,
        tag::PORT_FORWARD,
        tag::LOGS,
        tag::DIAL,
        tag::RECORDS,
        tag::ACTORS,
        tag::PANIC,
    ];
    assert_eq!(tags, [1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 32, 33, 34]);
    let names: std::collections::BTreeSet<_> = tags.iter().map(|t| tag::name(*t)).collect();
    assert_eq!(names.len(), tags.len());
}
