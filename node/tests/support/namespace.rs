//! Network namespaces, and who talks in them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// The port on which [`serve`] answers.
pub const PORT: u16 = 8080;

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs `ip`; its output.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A namespace; it goes when dropped.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(name: String) -> Namespace {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Namespace(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

/// Makes the calling thread one of that namespace.
pub fn enter(namespace: &str) {
    let file = File::open(format!("/var/run/netns/{namespace}")).expect("the namespace is there");
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering a namespace");
}

/// Runs `work` on a thread of that namespace.
pub fn within<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = namespace.to_owned();
    thread::spawn(move || {
        enter(&namespace);
        work()
    })
    .join()
    .expect("the work in the namespace")
}

/// Answers there, over TCP with `name` and the address of who asked, over UDP with `name`.
#[allow(dead_code, reason = "not every test that has namespaces serves at any address")]
pub fn serve(namespace: &str, name: &'static str, port: u16) {
    serve_at(namespace, name, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
}

/// As [`serve`], at this address.
pub fn serve_at(namespace: &str, name: &'static str, address: SocketAddr) {
    let (tcp, udp) =
        within(namespace, move || (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()));
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|p| p.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(format!("{name} {peer}").as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(name.as_bytes(), peer);
        }
    });
}

/// Connects from that namespace and reads to the end.
#[allow(dead_code, reason = "see `Lab::tcp`")]
pub fn tcp(namespace: &str, to: &str, patience: Duration) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    within(namespace, move || {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}
