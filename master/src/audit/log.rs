//! The audit log's file, and the files put aside when it grew too long.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::mpsc;

use super::LogConfig;

/// Lines that are written together when so many wait.
const LINES_PER_WRITE: usize = 256;

/// Writes lines until nobody can send any more. `failed` is told of each line that could not be written.
pub async fn write(config: LogConfig, mut lines: mpsc::Receiver<String>, failed: impl Fn()) {
    let mut target = Some(Target::new(config));
    loop {
        let mut batch = Vec::new();
        if lines.recv_many(&mut batch, LINES_PER_WRITE).await == 0 {
            return;
        }
        let count = batch.len();
        let Some(mut taken) = target.take() else { return };
        let done = tokio::task::spawn_blocking(move || {
            let result = taken.write(&batch);
            (taken, result)
        });
        match done.await {
            Ok((back, result)) => {
                target = Some(back);
                if let Err(error) = result {
                    tracing::error!(%error, lines = count, "the audit log could not be written");
                    (0..count).for_each(|_| failed());
                }
            }
            Err(_) => return,
        }
    }
}

struct Target {
    config: LogConfig,
    file: Option<(BufWriter<File>, u64)>,
}

impl Target {
    fn new(config: LogConfig) -> Self {
        Target { config, file: None }
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        if self.config.path == Path::new("-") {
            let mut out = io::stdout().lock();
            return lines.iter().try_for_each(|line| writeln!(out, "{line}"));
        }
        for line in lines {
            let length = line.len() as u64 + 1;
            if self.file.as_ref().is_some_and(|(_, size)| size + length > self.config.bytes_max) {
                self.rotate()?;
            }
            let (file, size) = match &mut self.file {
                Some(open) => open,
                None => self.file.insert(open(&self.config.path)?),
            };
            writeln!(file, "{line}")?;
            *size += length;
        }
        match &mut self.file {
            Some((file, _)) => file.flush(),
            None => Ok(()),
        }
    }

    /// Puts the file aside under a name with the time, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some((mut file, _)) = self.file.take() {
            file.flush()?;
        }
        let now = OffsetDateTime::from(actors::time::now());
        fs::rename(&self.config.path, aside(&self.config.path, now))?;
        for old in superfluous(&self.config, backups(&self.config.path)?, actors::time::now()) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let size = file.metadata()?.len();
    Ok((BufWriter::new(file), size))
}

/// `audit.log` becomes `audit-2024-05-06T07-08-09.123.log`.
fn aside(path: &Path, now: OffsetDateTime) -> PathBuf {
    let form = format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");
    let stamp = now.to_offset(time::UtcOffset::UTC).format(form).unwrap_or_default();
    let (stem, extension) = parts(path);
    path.with_file_name(format!("{stem}-{stamp}{extension}"))
}

fn parts(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = text(path.extension());
    (text(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

/// The files put aside, newest first, with the time of their last change.
fn backups(path: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let (stem, extension) = parts(path);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{stem}-2")) && name.ends_with(&extension) {
            found.push((entry.path(), entry.metadata()?.modified()?));
        }
    }
    // The names carry the time, and sort by it.
    found.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(found)
}

fn superfluous(config: &LogConfig, files: Vec<(PathBuf, SystemTime)>, now: SystemTime) -> Vec<PathBuf> {
    let age = Duration::from_secs(config.days_max * 24 * 3600);
    let old = |at: SystemTime| config.days_max > 0 && now.duration_since(at).is_ok_and(|passed| passed > age);
    let many = |i: usize| config.backups_max > 0 && i >= config.backups_max;
    files
        .into_iter()
        .enumerate()
        .filter(|(i, (_, at))| many(*i) || old(*at))
        .map(|(_, (path, _))| path)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a plain test of files; no arbiter here")]
    fn a_long_file_is_put_aside_and_old_ones_go() {
        let folder = std::env::temp_dir().join(format!("troupe-audit-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).expect("folder");
        let path = folder.join("audit.log");
        let config = LogConfig { path: path.clone(), bytes_max: 20, backups_max: 2, days_max: 0 };
        let mut target = Target::new(config);
        for i in 0..6 {
            target.write(&[format!("line number {i}")]).expect("is written");
            // Names differ by milliseconds.
            std::thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(fs::read_to_string(&path).expect("file"), "line number 5\n");
        let kept = backups(&path).expect("folder");
        assert_eq!(kept.len(), 2);
        assert_eq!(fs::read_to_string(&kept[0].0).expect("file"), "line number 4\n");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
