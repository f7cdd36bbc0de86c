//! From the engine's stream into a rotated file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::{Logs, Progress, line};
use crate::runtime::{ContainerInfo, ContainerRuntime, LogLine, clock};

/// How far from the end the last line is looked for.
const LAST_LINE_BYTES_MAX: u64 = 128 << 10;
/// Lines that are written at once when the engine delivers faster than the disk takes.
const BATCH_LINES_MAX: usize = 256;

/// Where a writer goes on: the time of the last line in the file, and how many lines bear that time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) time: String,
    pub(super) lines: usize,
}

/// Removes the writer from the table when it ends, however it ends.
struct Registered<'a> {
    logs: &'a Logs,
    file: PathBuf,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.logs.writers.lock().remove(&self.file);
    }
}

impl Logs {
    /// Copies a container's output into its file until the container ends (with `follow`) or what there
    /// is has been copied. Only one writer per file works; a second returns at once.
    pub async fn copy(
        &self,
        runtime: &dyn ContainerRuntime,
        container: &ContainerInfo,
        follow: bool,
    ) -> io::Result<()> {
        let pod = container.pod();
        let path = self.file(&pod, container.name(), container.attempt());
        let link = self.link(&pod, container.name(), &container.id);
        let (progress, watched) = watch::channel(Progress::default());
        {
            let mut writers = self.writers.lock();
            if writers.contains_key(&path) {
                return Ok(());
            }
            writers.insert(path.clone(), watched);
        }
        let _registered = Registered { logs: self, file: path.clone() };
        let opened = path.clone();
        let (mut file, resume) = blocking(move || open(&opened, &link)).await?;
        let mut skip = Skip::new(resume);
        let since = skip.since().to_owned();
        let lines = runtime.logs(&container.id, &since, follow).await.map_err(io::Error::other)?;
        let mut batches = lines.ready_chunks(BATCH_LINES_MAX);
        while let Some(batch) = batches.next().await {
            let mut text = Vec::new();
            for item in batch {
                let line = item.map_err(io::Error::other)?;
                if skip.take(&line) {
                    line::format_line(&mut text, &line.time, line.stderr, &line.text);
                }
            }
            if text.is_empty() {
                continue;
            }
            let (target, bytes_max, files_max) = (path.clone(), self.bytes_max, self.files_max);
            let written = text.len() as u64;
            let (returned, rotated) = blocking(move || {
                file.write_all(&text)?;
                if file.metadata()?.len() < bytes_max {
                    return Ok((file, false));
                }
                Ok((rotate(&target, files_max)?, true))
            })
            .await?;
            file = returned;
            progress.send_modify(|p| {
                p.written += written;
                p.generation += u64::from(rotated);
            });
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Drops the lines that the file has already. Of several lines with the file's last time, as many as the
/// file holds are dropped.
pub(super) struct Skip {
    resume: Resume,
}

impl Skip {
    pub(super) fn new(resume: Resume) -> Self {
        Skip { resume }
    }

    fn since(&self) -> &str {
        &self.resume.time
    }

    /// Whether the line is new.
    pub(super) fn take(&mut self, line: &LogLine) -> bool {
        if self.resume.time.is_empty() {
            return true;
        }
        let (Ok(time), Ok(last)) = (line.time.parse::<Timestamp>(), self.resume.time.parse::<Timestamp>())
        else {
            return true;
        };
        if time < last {
            return false;
        }
        if time == last && self.resume.lines > 0 {
            self.resume.lines -= 1;
            return false;
        }
        true
    }
}

/// Opens a log for appending, after cutting off a line that a crash left incomplete, and links it.
fn open(path: &Path, link: &Path) -> io::Result<(File, Resume)> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let resume = match resume_of(&mut file)? {
        found if found.time.is_empty() => last_rotated(path)?,
        found => found,
    };
    if let Some(dir) = link.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if std::fs::read_link(link).is_ok_and(|target| target != path) {
        let _ = std::fs::remove_file(link);
    }
    match std::os::unix::fs::symlink(path, link) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    Ok((file, resume))
}

fn last_rotated(path: &Path) -> io::Result<Resume> {
    match rotated(path).last() {
        Some(last) => resume_of(&mut OpenOptions::new().read(true).write(true).open(last)?),
        None => Ok(Resume::default()),
    }
}

/// The last time in a file and how many lines bear it; an incomplete last line is cut off.
fn resume_of(file: &mut File) -> io::Result<Resume> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LAST_LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.take(LAST_LINE_BYTES_MAX).read_to_end(&mut text)?;
    let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        file.set_len(start + whole as u64)?;
    }
    file.seek(SeekFrom::End(0))?;
    let mut resume = Resume::default();
    for parsed in text[..whole].split_inclusive(|b| *b == b'\n').rev().filter_map(line::parse_line) {
        if resume.time.is_empty() {
            resume.time = parsed.time.to_owned();
        } else if parsed.time != resume.time {
            break;
        }
        resume.lines += 1;
    }
    Ok(resume)
}

/// Earlier files of a log, oldest first: `0.log.<time>`.
pub(super) fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(&prefix)))
        .map(|e| e.path())
        .collect();
    found.sort();
    found
}

/// Moves a full file aside and opens a new one; the oldest beyond `files_max` are deleted.
fn rotate(path: &Path, files_max: u32) -> io::Result<File> {
    let now = clock::timestamp(actors::time::now());
    let aside = format!("{}.{}", path.display(), now.strftime("%Y%m%d-%H%M%S%6f"));
    std::fs::rename(path, aside)?;
    let old = rotated(path);
    let surplus = (old.len() + 1).saturating_sub(files_max as usize);
    for file in &old[..surplus.min(old.len())] {
        let _ = std::fs::remove_file(file);
    }
    OpenOptions::new().create(true).read(true).append(true).open(path)
}
