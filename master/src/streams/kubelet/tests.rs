//! A kubelet that answers from memory, over TLS with a certificate that it signed itself.

use bytes::Bytes;
use futures::stream::BoxStream;
use protocol::streams::{Frame, exit_status};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::store::Record;
use crate::streams::proxy::carry::pieces;
use crate::streams::proxy::reach::Anyone;
use crate::streams::spdy::{Event, Session, header};

const POD: &str = "web";

type Io = tokio_rustls::server::TlsStream<TcpStream>;

fn session(io: Io) -> Session<BoxStream<'static, Bytes>> {
    let (read, mut write) = tokio::io::split(io);
    let (outbound, mut written) = mpsc::channel::<Bytes>(32);
    tokio::spawn(async move {
        while let Some(bytes) = written.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
    Session::new(pieces(read).filter_map(async |piece| piece.ok()).boxed(), outbound)
}

/// Gives back what it gets, in capitals, and ends with 3; tells a size on stderr.
async fn command(io: Io) {
    let mut session = session(io);
    let mut streams = Vec::<(String, u32)>::new();
    while let Some(event) = session.next().await {
        let of = |kind: &str| streams.iter().find(|(k, _)| k == kind).map(|(_, stream)| *stream);
        match event {
            Event::Opened { stream, headers } => {
                streams.push((header(&headers, "streamtype").unwrap().to_owned(), stream));
            }
            Event::Data { stream, data } if of("stdin") == Some(stream) => {
                let out = session.writer(of("stdout").unwrap());
                out.data(&data.to_ascii_uppercase()).await.unwrap();
            }
            Event::Data { data, .. } => {
                session.writer(of("stdout").unwrap()).data(&data).await.unwrap();
            }
            Event::Finished(stream) if of("stdin") == Some(stream) => {
                let error = session.writer(of("error").unwrap());
                error.data(exit_status(3).to_string().as_bytes()).await.unwrap();
                for (_, stream) in &streams {
                    session.writer(*stream).finish().await.unwrap();
                }
            }
            _ => {}
        }
    }
}

/// Port 80 gives everything back; other ports refuse.
async fn ports(io: Io) {
    let mut session = session(io);
    let mut error = 0;
    while let Some(event) = session.next().await {
        match event {
            Event::Opened { stream, headers } if header(&headers, "streamtype") == Some("error") => {
                error = stream;
                if header(&headers, "port") != Some("80") {
                    let why = b"error forwarding port 81 to pod web, uid u: connection refused";
                    session.writer(error).data(why).await.unwrap();
                }
            }
            Event::Opened { stream, headers } => {
                assert_eq!(header(&headers, "requestid"), Some("0"));
                if header(&headers, "port") != Some("80") {
                    session.writer(stream).finish().await.unwrap();
                    session.writer(error).finish().await.unwrap();
                }
            }
            Event::Data { stream, data } => session.writer(stream).data(&data).await.unwrap(),
            Event::Finished(stream) if stream != error => {
                session.writer(stream).finish().await.unwrap();
                session.writer(error).finish().await.unwrap();
            }
            _ => {}
        }
    }
}

/// Reads the head of a request, and answers it.
async fn serve(mut io: Io) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let offers = |protocol: &str| head.contains(&format!("\r\nx-stream-protocol-version: {protocol}\r\n"));
    let asked = head.split(" HTTP/1.1").next().unwrap();
    let (protocol, kind) = match asked {
        "POST /exec/ns/web/c?command=sh&command=-c%20%25&input=1&output=1" => ("v4.channel.k8s.io", 0),
        "POST /attach/ns/web/c?input=1&output=1&tty=1" => ("v5.channel.k8s.io", 0),
        "POST /portForward/ns/web" => ("portforward.k8s.io", 1),
        _ => {
            let (code, text) = match asked {
                "GET /containerLogs/ns/web/c?follow=true&sinceTime=1970-01-01T00%3A00%3A01Z&tailLines=2" => {
                    (200, "one\ntwo\n")
                }
                "GET /containerLogs/ns/web/new" => (400, "container \"new\" is waiting to start"),
                _ => (404, "container not found (\"x\")\n"),
            };
            let answer = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            io.write_all(answer.as_bytes()).await.unwrap();
            return;
        }
    };
    assert!(offers(protocol) && head.contains("\r\nupgrade: SPDY/3.1\r\n"), "{head}");
    let switching = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocol}\r\n\r\n"
    );
    io.write_all(switching.as_bytes()).await.unwrap();
    if kind == 0 { command(io).await } else { ports(io).await }
}

/// The ways to nodes of which `n` has a kubelet.
async fn kubelets() -> Kubelets {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            tokio::spawn(serve(tls));
        }
    });
    let cache = Cache::new();
    let node = node("n", &[("Hostname", "n"), ("InternalIP", "127.0.0.1")], port, "v1.36.2");
    let record = Record {
        key: "/registry/core/nodes/n".to_owned(),
        value: serde_json::to_vec(&node).unwrap().into(),
        trace: Default::default(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
    };
    cache.load(vec![record], 2);
    let client = ClientConfig::builder();
    let anyone = Anyone::verifier(client.crypto_provider().clone());
    let client = client.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth();
    Kubelets::new(cache, Arc::new(client), &[])
}

fn node(name: &str, addresses: &[(&str, &str)], port: u16, version: &str) -> Node {
    let addresses: Vec<Value> =
        addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
    let info = json!({"kubeletVersion": version, "architecture": "", "bootID": "", "containerRuntimeVersion": "",
        "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""});
    serde_json::from_value(
        json!({"metadata": {"name": name}, "status": {"addresses": addresses, "nodeInfo": info,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}),
    )
    .unwrap()
}

fn target(container: &str) -> ContainerTarget {
    let (namespace, pod) = ("ns".to_owned(), POD.to_owned());
    ContainerTarget { namespace, pod, uid: "u".to_owned(), container: container.to_owned() }
}

/// Everything that comes, by kind.
async fn all(mut output: mpsc::Receiver<Frame>) -> (String, Option<String>, bool) {
    let (mut text, mut end, mut closed) = (String::new(), None, false);
    while let Some(frame) = output.recv().await {
        match frame {
            Frame::Stdout(data) => text.push_str(std::str::from_utf8(&data).unwrap()),
            Frame::Error(said) => end = Some(String::from_utf8(said.to_vec()).unwrap()),
            Frame::CloseStdout => closed = true,
            other => panic!("{other:?}"),
        }
    }
    (text, end, closed)
}

#[tokio::test]
async fn a_command_gets_its_input_and_ends_with_its_status() {
    let kubelets = kubelets().await;
    let stdio = Stdio { stdin: true, stdout: true, ..Stdio::default() };
    let command = vec!["sh".to_owned(), "-c %".to_owned()];
    let FrameStream { input, output } =
        kubelets.exec("n", ExecRequest { target: target("c"), command, stdio }).await.unwrap();
    input.send(Frame::Stdin(Bytes::from_static(b"hello"))).await.unwrap();
    input.send(Frame::CloseStdin).await.unwrap();
    assert_eq!(all(output).await, ("HELLO".to_owned(), Some(exit_status(3).to_string()), false));
}

#[tokio::test]
async fn a_terminal_tells_its_size() {
    let kubelets = kubelets().await;
    let stdio = Stdio { stdin: true, stdout: true, tty: true, ..Stdio::default() };
    let FrameStream { input, output } =
        kubelets.attach("n", AttachRequest { target: target("c"), stdio }).await.unwrap();
    input.send(Frame::Resize { width: 80, height: 25 }).await.unwrap();
    input.send(Frame::CloseStdin).await.unwrap();
    let (text, end, _) = all(output).await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"Width": 80, "Height": 25}));
    assert_eq!(end, Some(exit_status(3).to_string()));
}

#[tokio::test]
async fn the_directions_of_a_forwarded_connection_end_one_by_one() {
    let kubelets = kubelets().await;
    let request = |port| PortForwardRequest { target: target(""), port };
    let FrameStream { input, output } = kubelets.port_forward("n", request(80)).await.unwrap();
    input.send(Frame::Stdin(Bytes::from_static(b"ping"))).await.unwrap();
    input.send(Frame::CloseStdin).await.unwrap();
    assert_eq!(all(output).await, ("ping".to_owned(), None, true));
    let FrameStream { input, output } = kubelets.port_forward("n", request(81)).await.unwrap();
    let why = "error forwarding port 81 to pod web, uid u: connection refused";
    assert_eq!(all(output).await, (String::new(), Some(why.to_owned()), true));
    drop(input);
}

#[tokio::test]
async fn logs_and_their_refusals() {
    let kubelets = kubelets().await;
    let request = LogRequest {
        target: target("c"),
        follow: true,
        since_unix_nanos: Some(1_000_000_000),
        tail_lines: Some(2),
        ..LogRequest::default()
    };
    let pieces: Vec<_> = kubelets.logs("n", request).await.unwrap().collect().await;
    let text: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap()).collect();
    assert_eq!(text, b"one\ntwo\n");
    for (node, container, code, why) in [
        ("n", "new", 400, "container \"new\" is waiting to start"),
        ("n", "gone", 404, "the server could not find the requested resource ( pods/log web)"),
        ("other", "c", 404, "nodes \"other\" not found"),
    ] {
        let request = LogRequest { target: target(container), ..LogRequest::default() };
        let Err(refused) = kubelets.logs(node, request).await else { panic!("{node} {container}") };
        assert_eq!((refused.code(), refused.to_string().as_str()), (code, why));
    }
}

#[tokio::test]
async fn what_a_kubelet_does_not_upgrade_is_refused_in_its_words() {
    let kubelets = kubelets().await;
    let stdio = Stdio { stdout: true, ..Stdio::default() };
    let request = ExecRequest { target: target("x"), command: vec!["ls".to_owned()], stdio };
    let refused = kubelets.exec("n", request).await.unwrap_err();
    assert_eq!((refused.code(), refused.to_string().as_str()), (404, "container not found (\"x\")"));
}

#[test]
fn kubelets_are_where_their_nodes_say() {
    let preferred = PREFERRED.map(str::to_owned);
    let shown = |node: &Node, preferred: &[String]| match address::of(node, preferred) {
        Ok(at) => at.to_string(),
        Err(e) => e.to_string(),
    };
    let usual =
        node("n", &[("Hostname", "n"), ("InternalIP", "fd00::7"), ("InternalIP", "10.0.0.7")], 0, "v1");
    assert_eq!(shown(&usual, &preferred), "[fd00::7]:10250");
    assert_eq!(shown(&usual, &["Hostname".to_owned()]), "n:10250");
    assert_eq!(
        shown(&node("n", &[("InternalDNS", "n.local")], 7, "v1"), &preferred),
        "Internal error occurred: no preferred addresses found; known addresses: [{InternalDNS n.local}]"
    );
    assert!(!is_linked(&usual) && is_linked(&node("n", &[], 0, "v1.36.2+troupe")));
}

#[test]
fn logs_are_asked_for_as_clients_ask() {
    let request = LogRequest {
        target: target("c"),
        previous: true,
        timestamps: true,
        limit_bytes: Some(10),
        stream: LogStream::Stderr,
        ..LogRequest::default()
    };
    let expected = "/containerLogs/ns/web/c?previous=true&timestamps=true&limitBytes=10&stream=Stderr";
    assert_eq!(log_path(&request).text(), expected);
}
