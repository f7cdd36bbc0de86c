//! Writes a payload so that a reader sees all of the old files or all of the new ones.
//!
//! The files lie in a directory named after the time, `..data` is a link to it that is replaced by one
//! rename, and each visible name is a link through `..data`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::payload::Payload;
use crate::runtime::clock;

/// The link that is switched.
const DATA: &str = "..data";
/// Its successor, before the switch.
const DATA_NEW: &str = "..data_tmp";

/// Brings a volume's directory to `payload`; nothing is touched when it is there already.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    let mut payload = payload.clone();
    if group.is_some() {
        // Whom the files are given to may read them as their owner does.
        payload.values_mut().for_each(|(_, mode)| *mode |= (*mode & 0o400) >> 3);
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && read(&dir.join(old))? == payload
    {
        return Ok(());
    }
    let stamp =
        clock::timestamp(std::time::SystemTime::now()).strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    let fresh = dir.join(&stamp);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, (content, mode)) in &payload {
        let file = fresh.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, content)?;
        if let Some(group) = group {
            std::os::unix::fs::chown(&file, None, Some(group))?;
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    let _ = fs::remove_file(dir.join(DATA_NEW));
    symlink(&stamp, dir.join(DATA_NEW))?;
    fs::rename(dir.join(DATA_NEW), dir.join(DATA))?;
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("..") {
            if name != DATA && name != stamp.as_str() {
                let _ = fs::remove_dir_all(entry.path());
            }
        } else if !names.contains(&*name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// What a payload directory holds.
fn read(dir: &Path) -> io::Result<Payload> {
    let mut found = Payload::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file()
                && let Ok(path) = entry.path().strip_prefix(dir)
            {
                let mode = entry.metadata()?.permissions().mode() & 0o7777;
                found.insert(path.display().to_string(), (fs::read(entry.path())?, mode));
            }
        }
    }
    Ok(found)
}
