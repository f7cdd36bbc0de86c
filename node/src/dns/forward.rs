//! Asking the node's own resolvers, and remembering their answers for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use actors::time::Instant;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long one resolver may take.
const RESOLVER_TIMEOUT: Duration = Duration::from_millis(2500);
/// Answers remembered at the same time.
const CACHE_ENTRIES_MAX: usize = 4096;
/// The longest that an answer is remembered, in seconds.
const CACHE_SECONDS_MAX: u32 = 300;
/// How long a "no" without its own measure is remembered, in seconds.
const NEGATIVE_SECONDS: u32 = 5;

/// What upstream said.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How it went.
    pub code: ResponseCode,
    /// Records that answer.
    pub answers: Vec<Record>,
    /// The SOA of a "no".
    pub authorities: Vec<Record>,
}

impl Reply {
    fn failed() -> Self {
        Reply { code: ResponseCode::ServFail, answers: Vec::new(), authorities: Vec::new() }
    }
}

type Key = (Name, RecordType);

/// The node's resolvers.
#[derive(Debug, Default)]
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    cache: Mutex<HashMap<Key, (Instant, Reply)>>,
}

/// The resolvers that a `resolv.conf` names, without those in `own` (asking ourselves would go round).
pub fn nameservers(resolv_conf: &str, own: &[std::net::IpAddr]) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok()).flatten()
        })
        .filter(|ip| !own.contains(ip))
        .map(|ip| SocketAddr::new(ip, 53))
        .take(3)
        .collect()
}

impl Forwarder {
    /// A forwarder to these resolvers; with none of them every question fails at once.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Forwarder { servers, cache: Mutex::default() }
    }

    /// Asks.
    pub async fn ask(&self, query: &Query) -> Reply {
        let key = (query.name().to_lowercase(), query.query_type());
        let now = Instant::now();
        if let Some((until, reply)) = self.cache.lock().get(&key)
            && *until > now
        {
            let left = u32::try_from(until.saturating_duration_since(now).as_secs()).unwrap_or(1).max(1);
            let mut reply = reply.clone();
            for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
                record.ttl = record.ttl.min(left);
            }
            return reply;
        }
        for server in &self.servers {
            match tokio::time::timeout(RESOLVER_TIMEOUT, exchange(*server, query)).await {
                Ok(Ok(reply)) if reply.code != ResponseCode::ServFail => {
                    self.remember(key, &reply);
                    return reply;
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver did not answer"),
                Err(_) => tracing::debug!(%server, "a resolver did not answer in time"),
            }
        }
        Reply::failed()
    }

    fn remember(&self, key: Key, reply: &Reply) {
        let seconds = seconds_to_keep(reply);
        if seconds == 0 {
            return;
        }
        let now = Instant::now();
        let mut cache = self.cache.lock();
        if cache.len() >= CACHE_ENTRIES_MAX {
            cache.retain(|_, (until, _)| *until > now);
            // Still full of live answers: begin anew rather than keep order of them.
            if cache.len() >= CACHE_ENTRIES_MAX {
                cache.clear();
            }
        }
        cache.insert(key, (now + Duration::from_secs(seconds.into()), reply.clone()));
    }
}

fn seconds_to_keep(reply: &Reply) -> u32 {
    if !matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return 0;
    }
    let records = if reply.answers.is_empty() { &reply.authorities } else { &reply.answers };
    let least = records.iter().map(|r| r.ttl).min();
    let least = if reply.answers.is_empty() { least.unwrap_or(NEGATIVE_SECONDS) } else { least.unwrap_or(0) };
    least.min(CACHE_SECONDS_MAX)
}

async fn exchange(server: SocketAddr, query: &Query) -> std::io::Result<Reply> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    let id = question.metadata.id;
    let bytes = question.to_vec().map_err(std::io::Error::other)?;

    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..length]) else { continue };
        if answer.metadata.id != id || answer.queries.first() != Some(query) {
            continue;
        }
        if answer.metadata.truncation {
            return over_tcp(server, &bytes, id).await;
        }
        return Ok(reply(answer));
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8], id: u16) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let mut buffer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if answer.metadata.id == id {
        Ok(reply(answer))
    } else {
        Err(std::io::Error::other("another question's answer"))
    }
}

fn reply(answer: Message) -> Reply {
    Reply { code: answer.metadata.response_code, answers: answer.answers, authorities: answer.authorities }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_come_from_the_file_without_ourselves() {
        let text = "# c\nsearch a b\nnameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver fd00::1\nnameserver x\n";
        let own = ["10.96.0.10".parse().unwrap()];
        let expected: Vec<SocketAddr> =
            vec!["192.0.2.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()];
        assert_eq!(nameservers(text, &own), expected);
    }

    #[tokio::test]
    async fn with_no_resolver_the_answer_is_a_quick_failure() {
        let query = Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A);
        let reply = Forwarder::new(Vec::new()).ask(&query).await;
        assert_eq!(reply.code, ResponseCode::ServFail);
    }
}
