//! Questions that are not the cluster's go to the node's own resolvers, with a bounded cache before them.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::time::Instant;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Answers that the cache holds at most.
const CACHED_MAX: usize = 2048;
/// Bytes of an answer that the cache takes at most.
const CACHED_BYTES_MAX: usize = 4096;
/// Longest time that an answer is kept, s.
const CACHED_TTL_S_MAX: u32 = 3600;
/// Longest time that "there is none" is kept, s.
const CACHED_NEGATIVE_TTL_S_MAX: u32 = 30;
/// How long one resolver may take over UDP, and over TCP.
const UDP_WAIT: Duration = Duration::from_millis(1500);
const TCP_WAIT: Duration = Duration::from_secs(3);
/// The whole time that a client is kept waiting: stub resolvers ask again after 5 s.
const WHOLE_WAIT: Duration = Duration::from_millis(4500);
/// What we can take over UDP without fragments.
const PAYLOAD_BYTES_MAX: u16 = 1232;

/// The node's resolvers, as its resolv.conf names them, without `own`.
pub fn parse_resolv_conf(text: &str, own: IpAddr) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A scope (`fe80::1%eth0`) cannot be kept in an IpAddr: such a line is skipped.
        if let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>)
            && address != own
        {
            let address = SocketAddr::new(address, 53);
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

type Key = (Name, RecordType, DNSClass, bool);

struct Cached {
    message: Message,
    stored: Instant,
    ttl_s: u32,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<Key, Cached>,
    /// Keys in the order they came, the oldest first.
    order: VecDeque<Key>,
}

impl Cache {
    fn get(&mut self, key: &Key) -> Option<Message> {
        let cached = self.entries.get(key)?;
        let age_s = u32::try_from(cached.stored.elapsed().as_secs()).unwrap_or(u32::MAX);
        if age_s >= cached.ttl_s {
            return None;
        }
        let mut message = cached.message.clone();
        for record in
            message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals)
        {
            record.decrement_ttl(age_s);
        }
        Some(message)
    }

    fn put(&mut self, key: Key, message: Message, ttl_s: u32) {
        let cached = Cached { message, stored: Instant::now(), ttl_s };
        if self.entries.insert(key.clone(), cached).is_none() {
            self.order.push_back(key);
        }
        while self.entries.len() > CACHED_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
    }
}

/// How long an answer may be kept, s; `None` for not at all.
pub fn keep_for(message: &Message) -> Option<u32> {
    if message.metadata.truncation {
        return None;
    }
    let negative = match message.metadata.response_code {
        ResponseCode::NoError => message.answers.is_empty(),
        ResponseCode::NXDomain => true,
        _ => return None,
    };
    let ttl_s = if negative {
        let soa = message.authorities.iter().find_map(|r| match &r.data {
            RData::SOA(soa) => Some(r.ttl.min(soa.minimum)),
            _ => None,
        });
        soa?.min(CACHED_NEGATIVE_TTL_S_MAX)
    } else {
        let all = message.answers.iter().chain(&message.authorities).map(|r: &Record| r.ttl);
        all.min()?.min(CACHED_TTL_S_MAX)
    };
    (ttl_s > 0).then_some(ttl_s)
}

/// The way to the resolvers.
pub struct Forwarder {
    upstreams: Vec<SocketAddr>,
    /// The one that answered last: asked first, so that a dead one costs its time only once.
    preferred: AtomicUsize,
    cache: Mutex<Cache>,
}

impl Forwarder {
    /// A way to these resolvers, tried in turn.
    pub fn new(upstreams: Vec<SocketAddr>) -> Self {
        Forwarder { upstreams, preferred: AtomicUsize::new(0), cache: Mutex::default() }
    }

    /// What the cache knows.
    pub fn cached(&self, query: &Query, dnssec: bool) -> Option<Message> {
        self.cache.lock().get(&key(query, dnssec))
    }

    /// Whether there is anybody to ask.
    pub fn has_upstreams(&self) -> bool {
        !self.upstreams.is_empty()
    }

    /// Asks; `None` when nobody answered in time.
    pub async fn ask(&self, query: &Query, dnssec: bool) -> Option<Message> {
        if let Some(message) = self.cached(query, dnssec) {
            return Some(message);
        }
        let message = tokio::time::timeout(WHOLE_WAIT, self.ask_each(query, dnssec)).await.ok()??;
        if let Some(ttl_s) = keep_for(&message)
            && message.to_vec().is_ok_and(|bytes| bytes.len() <= CACHED_BYTES_MAX)
        {
            self.cache.lock().put(key(query, dnssec), message.clone(), ttl_s);
        }
        Some(message)
    }

    async fn ask_each(&self, query: &Query, dnssec: bool) -> Option<Message> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut refusal = None;
        for nth in 0..self.upstreams.len() {
            let at = (first + nth) % self.upstreams.len();
            match exchange(self.upstreams[at], query, dnssec).await {
                Ok(message)
                    if matches!(
                        message.metadata.response_code,
                        ResponseCode::NoError | ResponseCode::NXDomain
                    ) =>
                {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Some(message);
                }
                Ok(message) => refusal = Some(message),
                Err(error) => {
                    tracing::debug!(upstream = %self.upstreams[at], %error, "resolver did not answer");
                }
            }
        }
        refusal
    }
}

fn key(query: &Query, dnssec: bool) -> Key {
    (query.name().to_lowercase(), query.query_type(), query.query_class(), dnssec)
}

async fn exchange(upstream: SocketAddr, query: &Query, dnssec: bool) -> std::io::Result<Message> {
    let mut request = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    request.metadata.recursion_desired = true;
    request.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_BYTES_MAX);
    edns.set_dnssec_ok(dnssec);
    request.set_edns(edns);
    let bytes = request.to_vec().map_err(std::io::Error::other)?;
    let message = tokio::time::timeout(UDP_WAIT, over_udp(upstream, &request, &bytes)).await??;
    if !message.metadata.truncation {
        return Ok(message);
    }
    tokio::time::timeout(TCP_WAIT, over_tcp(upstream, &request, &bytes)).await?
}

/// Whether `message` is the answer to `request`.
fn answers(message: &Message, request: &Message) -> bool {
    message.metadata.id == request.metadata.id
        && message.metadata.message_type == MessageType::Response
        && (message.queries == request.queries
            // A resolver that cannot read the question need not repeat it.
            || message.queries.is_empty() && message.metadata.response_code != ResponseCode::NoError)
}

async fn over_udp(upstream: SocketAddr, request: &Message, bytes: &[u8]) -> std::io::Result<Message> {
    // A port of its own for each question: with the id, what keeps forgers guessing.
    let local: IpAddr = if upstream.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is stray or forged: go on waiting for the answer.
        if let Ok(message) = Message::from_vec(&buffer[..length])
            && answers(&message, request)
        {
            return Ok(message);
        }
    }
}

async fn over_tcp(upstream: SocketAddr, request: &Message, bytes: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let message = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if answers(&message, request) { Ok(message) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
