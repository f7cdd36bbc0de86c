//! Containers that have ended: what they said last, and when they go.

use super::*;

/// Bytes of a container's last words that are kept.
const LAST_WORDS_BYTES_MAX: usize = 4096;
/// Lines and bytes of its log that stand in for them.
const LAST_LOG: (usize, usize) = (80, 2048);

impl Sync {
    /// Reads what ended containers left behind, once each.
    pub(super) async fn read_last_words(&self, owner: &Pod, observed: &Observed) {
        for ended in observed.containers.iter().filter(|c| c.state == ContainerState::Exited) {
            if self.memory.borrow().last_words.contains_key(&ended.id) {
                continue;
            }
            let words = if self.shared.runtime.is_real() {
                self.last_words(owner, ended).await
            } else {
                String::new()
            };
            self.memory.borrow_mut().last_words.insert(ended.id.clone(), words);
        }
        let known: BTreeSet<&str> = observed.containers.iter().map(|c| c.id.as_str()).collect();
        self.memory.borrow_mut().last_words.retain(|id, _| known.contains(id.as_str()));
    }

    async fn last_words(&self, owner: &Pod, ended: &ContainerInfo) -> String {
        let file = self.last_words_file(ended.name(), ended.attempt());
        let bytes = tokio::fs::read(file).await.unwrap_or_default();
        if !bytes.is_empty() {
            return String::from_utf8_lossy(&bytes[..bytes.len().min(LAST_WORDS_BYTES_MAX)]).into_owned();
        }
        let fallback = ended.label_or_empty(labels::TERMINATION_POLICY) == "FallbackToLogsOnError";
        if !fallback || ended.exit_code == 0 {
            return String::new();
        }
        let logs = self.shared.logs.clone();
        // Makes sure that the file has everything; a writer at work goes on instead.
        let _ = logs.copy(self.shared.runtime.as_ref(), ended, false).await;
        let (identity, name, attempt) = (pod::identity(owner), ended.name().to_owned(), ended.attempt());
        let read = move || logs.tail(&identity, &name, attempt, LAST_LOG.0, LAST_LOG.1);
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    pub(super) fn last_words_file(&self, container: &str, attempt: u32) -> std::path::PathBuf {
        self.shared.volumes.pod_dir(&self.uid).join("containers").join(container).join(attempt.to_string())
    }

    /// Removes containers beyond the newest two of each name.
    pub(super) async fn collect_garbage(&self, owner: &Pod, observed: &mut Observed) {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut kept = Vec::new();
        for container in std::mem::take(&mut observed.containers).into_iter().rev() {
            let count = seen.entry(container.name().to_owned()).or_default();
            *count += 1;
            if *count <= 2 || container.state == ContainerState::Running {
                kept.push(container);
                continue;
            }
            if self.shared.runtime.remove(&container.id).await.is_ok() {
                self.forget_container(owner, &container).await;
            }
        }
        kept.reverse();
        observed.containers = kept;
    }

    pub(super) async fn forget_container(&self, owner: &Pod, container: &ContainerInfo) {
        if !self.shared.runtime.is_real() {
            return;
        }
        let logs = self.shared.logs.clone();
        let (identity, name) = (pod::identity(owner), container.name().to_owned());
        let (attempt, id) = (container.attempt(), container.id.clone());
        let words = self.last_words_file(&name, attempt);
        let work = move || {
            logs.remove(&identity, &name, attempt, &id);
            let _ = std::fs::remove_file(words);
        };
        let _ = tokio::task::spawn_blocking(work).await;
    }
}
