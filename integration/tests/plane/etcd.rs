//! An etcd process, for planes on an external store.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// An etcd of the test's own; it ends when this is dropped.
pub struct Etcd {
    process: Child,
    /// Where its clients find it.
    pub endpoint: String,
    _dir: tempfile::TempDir,
}

impl Etcd {
    /// Starts one with an empty store.
    pub fn start() -> Self {
        let port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let dir = tempfile::tempdir().expect("a folder");
        let (client, peer) = (format!("http://127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
        let process = Command::new("/usr/bin/etcd")
            .args(["--name", "t", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("t={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/usr/bin/etcd is installed");
        Etcd { process, endpoint: client, _dir: dir }
    }
}

impl Etcd {
    /// Has it forget what was before a revision.
    pub fn forget(&self, revision: &str) {
        let address = self.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let body = format!("{{\"revision\": \"{revision}\", \"physical\": true}}");
        let head =
            format!("POST /v3/kv/compaction HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}", body.len());
        write!(stream, "{head}\r\n\r\n{body}").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.contains(" 200 OK"), "{answer}");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
