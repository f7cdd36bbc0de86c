//! Containers' output in the CRI format, under `/var/log/pods`, linked from `/var/log/containers`.
//!
//! One writer per container copies the engine's stream into a file, which it rotates; readers follow the
//! file and are woken by the writer, so that nobody polls. The file is the only memory: a writer that
//! starts again looks at the last line's time and goes on from there, without losing or repeating a line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::runtime::PodIdentity;

mod line;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use line::{CriLine, format_line, parse_line};

/// What a writer has done so far, for those who follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Bytes written in all.
    written: u64,
    /// Rotations so far.
    generation: u64,
}

/// Where logs lie, and who writes them now.
pub struct Logs {
    pods: PathBuf,
    containers: PathBuf,
    bytes_max: u64,
    files_max: u32,
    /// Files with a live writer. A reader of another file stops at its end.
    writers: Mutex<HashMap<PathBuf, watch::Receiver<Progress>>>,
}

impl Logs {
    /// Logs under `pods` with links in `containers`; a file of `bytes_max` bytes is rotated and
    /// `files_max` of them are kept.
    pub fn new(pods: &Path, containers: &Path, bytes_max: u64, files_max: u32) -> Self {
        Logs {
            pods: pods.to_owned(),
            containers: containers.to_owned(),
            bytes_max,
            files_max: files_max.max(2),
            writers: Mutex::default(),
        }
    }

    /// The directory of a pod's logs.
    pub fn pod_dir(&self, pod: &PodIdentity) -> PathBuf {
        self.pods.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
    }

    /// The log file of one attempt of a container.
    pub fn file(&self, pod: &PodIdentity, container: &str, attempt: u32) -> PathBuf {
        self.pod_dir(pod).join(container).join(format!("{attempt}.log"))
    }

    /// The name by which log collectors find a container's file.
    fn link(&self, pod: &PodIdentity, container: &str, id: &str) -> PathBuf {
        self.containers.join(format!("{}_{}_{container}-{id}.log", pod.name, pod.namespace))
    }

    /// The last lines of a log, for a termination message: at most `lines`, at most `bytes`.
    pub fn tail(
        &self,
        pod: &PodIdentity,
        container: &str,
        attempt: u32,
        lines: usize,
        bytes: usize,
    ) -> String {
        read::tail(&self.file(pod, container, attempt), lines, bytes)
    }

    /// Deletes the files of one attempt, and its link.
    pub fn remove(&self, pod: &PodIdentity, container: &str, attempt: u32, id: &str) {
        let file = self.file(pod, container, attempt);
        for old in write::rotated(&file) {
            let _ = std::fs::remove_file(old);
        }
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::remove_file(self.link(pod, container, id));
    }

    /// Deletes all of a pod's logs and links.
    pub fn remove_pod(&self, pod: &PodIdentity) {
        let dir = self.pod_dir(pod);
        for link in std::fs::read_dir(&self.containers).into_iter().flatten().flatten() {
            if std::fs::read_link(link.path()).is_ok_and(|target| target.starts_with(&dir)) {
                let _ = std::fs::remove_file(link.path());
            }
        }
        let _ = std::fs::remove_dir_all(dir);
    }

    /// The pods that have a log directory: `<namespace>_<name>_<uid>`.
    pub fn pods(&self) -> Vec<PodIdentity> {
        let names = std::fs::read_dir(&self.pods).into_iter().flatten().flatten();
        names
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let mut parts = name.splitn(3, '_');
                Some(PodIdentity {
                    namespace: parts.next()?.to_owned(),
                    name: parts.next()?.to_owned(),
                    uid: parts.next()?.to_owned(),
                })
            })
            .collect()
    }
}
