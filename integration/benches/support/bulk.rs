//! Bytes in bulk over one TCP connection between network namespaces, and short questions over another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::namespace::within;

/// How long bytes are sent for.
const LASTS: Duration = Duration::from_secs(2);
/// Bytes of one write.
const PIECE: usize = 128 << 10;
/// Questions of one round.
const QUESTIONS: usize = 2_000;

/// Takes whatever is sent to this address in a namespace, and answers the first byte of each connection with itself.
pub fn sink(namespace: &str, at: SocketAddr) {
    let listener = within(namespace, move || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut buffer = vec![0; PIECE];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    // A question is one byte; all else is bulk.
                    if length == 1 && stream.write_all(&buffer[..1]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Gigabits a second from a namespace to a [`sink`].
pub fn throughput(from: &str, to: SocketAddr) -> f64 {
    within(from, move || {
        let mut stream = TcpStream::connect(to).unwrap();
        let piece = vec![1; PIECE];
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < LASTS {
            stream.write_all(&piece).unwrap();
            sent += PIECE as u64;
        }
        (sent * 8) as f64 / start.elapsed().as_secs_f64() / 1e9
    })
}

/// The median time of a question and its answer, from a namespace to a [`sink`].
#[allow(dead_code, reason = "not every bench asks")]
pub fn answer(from: &str, to: SocketAddr) -> Duration {
    within(from, move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut times: Vec<Duration> = (0..QUESTIONS)
            .map(|_| {
                let start = Instant::now();
                stream.write_all(&[1]).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[QUESTIONS / 2]
    })
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
