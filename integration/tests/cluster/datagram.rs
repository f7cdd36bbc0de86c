//! A program for pods, compiled by the test: answers datagrams with a name (`datagram serve PORT NAME`), or asks some
//! address so many times, each time from another port (`datagram ask ADDRESS TIMES`), and prints who answered. The
//! sample's image has nothing that speaks UDP.

use std::net::UdpSocket;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", port, name] => serve(&format!("0.0.0.0:{port}"), name),
        ["ask", address, times] => ask(address, times.parse().unwrap_or(1)),
        _ => Err(std::io::Error::other("serve PORT NAME, or ask ADDRESS TIMES")),
    }
}

fn serve(at: &str, name: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    let mut buffer = [0; 512];
    loop {
        let (_, peer) = socket.recv_from(&mut buffer)?;
        socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer)?;
    }
}

fn ask(address: &str, times: u32) -> std::io::Result<()> {
    let mut buffer = [0; 512];
    for _ in 0..times {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(address)?;
        socket.send(b"who?")?;
        match socket.recv(&mut buffer) {
            Ok(length) => println!("{}", String::from_utf8_lossy(&buffer[..length])),
            Err(_) => println!("nobody"),
        }
    }
    Ok(())
}
