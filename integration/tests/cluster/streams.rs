//! Into pods and out of them with kubectl, once over WebSockets and once over SPDY.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Each way, by the settings that make kubectl take it.
const WAYS: [(&str, &str); 2] = [("WebSocket", "true"), ("SPDY", "false")];

struct Way<'a> {
    name: &'a str,
    websockets: &'a str,
    kubeconfig: &'a Path,
}

impl Way<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", self.websockets);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", self.websockets);
        command.arg("--kubeconfig").arg(self.kubeconfig).args(args);
        command
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("stdin");
        let input = input.to_vec();
        let writing = std::thread::spawn(move || {
            // A command that does not read all of it is no failure of ours.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("kubectl ends");
        writing.join().expect("written");
        output
    }

    /// What a command that succeeds writes.
    fn said(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(args, input);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: kubectl {}: {why}", self.name, args.join(" "));
        output.stdout
    }
}

/// Runs all of it against `pod`, one of the sample's. `scratch` is for files.
pub fn check(kubeconfig: &Path, pod: &str, scratch: &Path) {
    // More than any buffer on the way holds, and no text.
    let large: Vec<u8> = (0..2_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (name, websockets) in WAYS {
        let way = Way { name, websockets, kubeconfig };
        assert_eq!(
            way.said(&["exec", pod, "--", "hostname"], b""),
            format!("{pod}\n").into_bytes(),
            "{name}"
        );
        let failed = way.run(&["exec", pod, "--", "sh", "-c", "echo to stderr >&2; exit 7"], b"");
        assert_eq!(failed.status.code(), Some(7), "{name}");
        // kubectl may log before it that it was told of a stream which it had not made yet: what says that the connection
        // stands, as upstream's servers do, races with it.
        let stderr = String::from_utf8_lossy(&failed.stderr);
        assert!(stderr.lines().any(|line| line == "to stderr"), "{name}: {stderr}");
        assert!(
            way.said(&["exec", "-i", pod, "--", "cat"], &large) == large,
            "{name}: bytes are lost or changed"
        );

        let (there, back) = (scratch.join("there"), scratch.join(format!("back-{name}")));
        std::fs::write(&there, &large).expect("written");
        let (there, back) = (there.to_string_lossy(), back.to_string_lossy());
        let remote = format!("{pod}:/tmp/large");
        way.said(&["cp", &there, &remote], b"");
        way.said(&["cp", &remote, &back], b"");
        assert!(std::fs::read(&*back).expect("copied") == large, "{name}: a copied file is not the same");

        forward(&way, pod);
    }
}

/// A port-forward carries several requests, one after the other and at once.
fn forward(way: &Way<'_>, pod: &str) {
    let mut command = way.command(&["port-forward", pod, ":8080"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut first = String::new();
    // Kept until the end: kubectl writes a line for each connection, and dies when nobody can read it.
    let mut said = BufReader::new(child.stdout.take().expect("stdout"));
    said.read_line(&mut first).expect("a line");
    // Forwarding from 127.0.0.1:40123 -> 8080
    let address = first.split_whitespace().nth(2).expect("an address").to_owned();
    let ask = |address: String| {
        let mut connection = TcpStream::connect(address).expect("connected");
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("asked");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("answered");
        answer
    };
    let several: Vec<_> = (0..4)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || ask(address))
        })
        .collect();
    for answer in several {
        let answer = answer.join().expect("an answer");
        assert!(answer.contains(pod), "{}: {answer}", way.name);
    }
    child.kill().expect("ended");
    child.wait().expect("gone");
    drop(said);
}
