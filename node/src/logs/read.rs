//! From a log file to whoever asked, as plain text.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::jiff::Timestamp;
use protocol::streams::{LogRequest, LogStream};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};
use tokio::sync::{mpsc, watch};

use super::{Logs, Progress, line};

/// Text is sent on when this much has been collected, and at the file's end.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces that may wait for a slow client.
const PIECES_MAX: usize = 8;
/// Block size of the search for the last lines.
const BLOCK_BYTES: u64 = 64 << 10;

impl Logs {
    /// The text of a log. With `follow` it goes on until the file's writer ends (its container did).
    pub fn read(&self, file: PathBuf, request: &LogRequest) -> BoxStream<'static, io::Result<Bytes>> {
        let writer = self.writers.lock().get(&file).cloned().filter(|_| request.follow);
        let (send, receive) = mpsc::channel(PIECES_MAX);
        let request = request.clone();
        tokio::spawn(async move {
            let closed = send.clone();
            tokio::select! {
                result = copy(file, &request, writer, &send) => {
                    if let Err(e) = result {
                        let _ = send.send(Err(e)).await;
                    }
                }
                () = closed.closed() => {}
            }
        });
        futures::stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|piece| (piece, receive))
        })
        .boxed()
    }
}

/// Turns lines into the text that was asked for. Pure, but for the bytes that it counts.
struct Filter {
    timestamps: bool,
    since_nanos: Option<i128>,
    stream: LogStream,
    left: u64,
    /// The next piece begins a line, which is where a time is put.
    at_start: bool,
    text: Vec<u8>,
}

impl Filter {
    fn new(request: &LogRequest) -> Self {
        Filter {
            timestamps: request.timestamps,
            since_nanos: request.since_unix_nanos.map(i128::from),
            stream: request.stream,
            left: request.limit_bytes.unwrap_or(u64::MAX),
            at_start: true,
            text: Vec::new(),
        }
    }

    fn push(&mut self, raw: &[u8]) {
        let Some(line) = line::parse_line(raw) else { return };
        let wanted = match self.stream {
            LogStream::All => true,
            LogStream::Stdout => !line.stderr,
            LogStream::Stderr => line.stderr,
        };
        let early = self.since_nanos.is_some_and(|since| {
            line.time.parse::<Timestamp>().is_ok_and(|time| time.as_nanosecond() < since)
        });
        if !wanted || early {
            return;
        }
        let before = self.text.len();
        if self.timestamps && self.at_start {
            self.text.extend_from_slice(line.time.as_bytes());
            self.text.push(b' ');
        }
        self.text.extend_from_slice(line.text);
        if !line.partial {
            self.text.push(b'\n');
        }
        self.at_start = !line.partial;
        let added = (self.text.len() - before) as u64;
        if added > self.left {
            self.text.truncate(before + self.left as usize);
        }
        self.left = self.left.saturating_sub(added);
    }

    fn done(&self) -> bool {
        self.left == 0
    }
}

async fn copy(
    path: PathBuf,
    request: &LogRequest,
    mut writer: Option<watch::Receiver<Progress>>,
    send: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut seen = writer.as_mut().map(|w| *w.borrow_and_update()).unwrap_or_default();
    let start = match request.tail_lines {
        Some(lines) => {
            let path = path.clone();
            tokio::task::spawn_blocking(move || tail_offset(&path, lines)).await.map_err(io::Error::other)?
        }
        None => Ok(0),
    };
    let mut file = match (start, File::open(&path).await) {
        (Ok(start), Ok(mut file)) => {
            file.seek(SeekFrom::Start(start)).await?;
            BufReader::new(file)
        }
        // A container that has written nothing yet may have no file.
        (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::NotFound && writer.is_none() => return Ok(()),
        (Err(e), _) | (_, Err(e)) => return Err(e),
    };
    let mut filter = Filter::new(request);
    let mut raw = Vec::new();
    let mut reopen = false;
    loop {
        // To the end of what is there. A line that is being written stays in `raw` until its newline.
        while file.read_until(b'\n', &mut raw).await? > 0 {
            if raw.last() != Some(&b'\n') {
                break;
            }
            filter.push(&raw);
            raw.clear();
            if (filter.text.len() >= PIECE_BYTES || filter.done()) && !flush(&mut filter, send).await {
                return Ok(());
            }
            if filter.done() {
                return Ok(());
            }
        }
        if !flush(&mut filter, send).await {
            return Ok(());
        }
        if reopen {
            // The old file is read to its end now; the new one begins with a whole line.
            file = BufReader::new(File::open(&path).await?);
            raw.clear();
            reopen = false;
            continue;
        }
        let Some(watched) = &mut writer else { return Ok(()) };
        let now = *watched.borrow_and_update();
        if now != seen {
            // More was written; if a rotation followed, the rest of the old file comes first.
            reopen = now.generation != seen.generation;
            seen = now;
            continue;
        }
        if watched.changed().await.is_err() {
            // The writer has ended, perhaps after a last write: one more round, and no more waiting.
            writer = None;
        }
    }
}

async fn flush(filter: &mut Filter, send: &mpsc::Sender<io::Result<Bytes>>) -> bool {
    if filter.text.is_empty() {
        return true;
    }
    send.send(Ok(Bytes::from(std::mem::take(&mut filter.text)))).await.is_ok()
}

/// Where the last `lines` lines begin.
pub(super) fn tail_offset(path: &Path, lines: u64) -> io::Result<u64> {
    let mut file = std::fs::File::open(path)?;
    let mut end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut newlines = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut block = vec![0; (end - start) as usize];
        file.read_exact(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            newlines += 1;
            // The newline before the first wanted line.
            if newlines > lines {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

/// The last lines' text, for termination messages. Blocking.
pub(super) fn tail(path: &Path, lines: usize, bytes: usize) -> String {
    let mut text = Vec::new();
    if let Ok(offset) = tail_offset(path, lines as u64)
        && let Ok(mut file) = std::fs::File::open(path)
        && file.seek(SeekFrom::Start(offset)).is_ok()
    {
        let _ = file.read_to_end(&mut text);
    }
    let mut filter = Filter::new(&LogRequest::default());
    text.split_inclusive(|b| *b == b'\n').for_each(|raw| filter.push(raw));
    let cut = filter.text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&filter.text[cut..]).into_owned()
}
