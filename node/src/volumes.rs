//! Pods' volumes on the host's file system.
//!
//! A volume lies at `<root>/pods/<uid>/volumes/kubernetes.io~<kind>/<name>`, where the upstream kubelet
//! puts it too. What is projected from the API (ConfigMaps, Secrets, the downward API, tokens) is first
//! turned into a [`payload::Payload`] by pure functions and then written atomically; mounting again with a
//! changed payload is how updates reach running pods.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume, VolumeMount};

use crate::runtime::Mount;

pub mod payload;
#[cfg(test)]
mod tests;
pub mod write;

use payload::{Inputs, Payload};

/// Why a pod's volume is not there; the text goes into a `FailedMount` event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
pub struct VolumeError {
    /// The volume's name.
    pub volume: String,
    /// What went wrong.
    pub why: String,
}

/// Where a pod's volumes lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Path on the host and whether it must not be written, by volume name.
    pub paths: BTreeMap<String, (PathBuf, bool)>,
    /// When a token has to be replaced.
    pub refresh_at: Option<SystemTime>,
}

/// Makes and removes volumes under one root directory.
#[derive(Clone, Debug)]
pub struct Volumes {
    root: Arc<Path>,
}

impl Volumes {
    /// Volumes under `root`.
    pub fn new(root: &Path) -> Self {
        Volumes { root: root.into() }
    }

    /// The directory of a pod.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// Where a volume lies.
    fn path(&self, uid: &str, kind: &str, volume: &str) -> PathBuf {
        self.pod_dir(uid).join("volumes").join(format!("kubernetes.io~{kind}")).join(volume)
    }

    /// Makes what is missing of a pod's volumes and brings what is there up to date. Blocking.
    pub fn mount(&self, pod: &Pod, inputs: &Inputs) -> Result<Mounted, VolumeError> {
        let mut mounted = Mounted::default();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let fs_group = spec.and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
        for volume in spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            let fail = |why: String| VolumeError { volume: volume.name.clone(), why };
            let place = self.mount_one(uid, pod, volume, inputs, fs_group).map_err(fail)?;
            mounted.paths.insert(volume.name.clone(), place);
        }
        mounted.refresh_at = inputs.tokens.values().map(|token| token.refresh_at).min();
        Ok(mounted)
    }

    fn mount_one(
        &self,
        uid: &str,
        pod: &Pod,
        volume: &Volume,
        inputs: &Inputs,
        fs_group: Option<i64>,
    ) -> Result<(PathBuf, bool), String> {
        let io_text = |e: io::Error| e.to_string();
        if let Some(source) = &volume.empty_dir {
            let path = self.path(uid, "empty-dir", &volume.name);
            empty_dir(&path, source, fs_group).map_err(io_text)?;
            return Ok((path, false));
        }
        if let Some(source) = &volume.host_path {
            check_host_path(source)?;
            return Ok((PathBuf::from(&source.path), false));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let path = inputs
                .claims
                .get(&claim.claim_name)
                .ok_or_else(|| format!("persistentvolumeclaim \"{}\" not found", claim.claim_name))?
                .clone()?;
            std::fs::create_dir_all(&path).map_err(io_text)?;
            return Ok((path, claim.read_only == Some(true)));
        }
        let (kind, payload) = payload::of_volume(pod, volume, inputs)?
            .ok_or_else(|| "this kind of volume is not supported".to_owned())?;
        let path = self.path(uid, kind, &volume.name);
        write_payload(&path, &payload, fs_group).map_err(io_text)?;
        Ok((path, true))
    }

    /// The bind mounts of a container's volume mounts. `expand` resolves `subPathExpr`. Blocking.
    pub fn bind_mounts(
        mounts: &[VolumeMount],
        mounted: &Mounted,
        expand: impl Fn(&str) -> String,
    ) -> Result<Vec<Mount>, String> {
        let one = |mount: &VolumeMount| {
            let (path, must_read_only) = mounted
                .paths
                .get(&mount.name)
                .ok_or_else(|| format!("cannot find volume \"{}\" to mount", mount.name))?;
            let sub = match (&mount.sub_path, &mount.sub_path_expr) {
                (Some(sub), _) if !sub.is_empty() => sub.clone(),
                (_, Some(expr)) if !expr.is_empty() => expand(expr),
                _ => String::new(),
            };
            let host_path =
                if sub.is_empty() { path.clone() } else { sub_path(path, &sub, *must_read_only)? };
            Ok(Mount {
                host_path: host_path.display().to_string(),
                container_path: mount.mount_path.clone(),
                read_only: mount.read_only == Some(true) || *must_read_only,
                propagation: mount.mount_propagation.clone().unwrap_or_default(),
            })
        };
        mounts.iter().map(one).collect()
    }

    /// Removes a pod's directory and everything mounted in it. Never follows what a pod put there.
    /// Blocking.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        let dir = self.pod_dir(uid);
        if uid.is_empty() || !dir.exists() {
            return Ok(());
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let inside = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(|path| path.replace("\\040", " "))
            .filter(|path| Path::new(path).starts_with(&dir));
        let mut inside: Vec<_> = inside.collect();
        // The deepest first.
        inside.sort_by_key(|path| std::cmp::Reverse(path.len()));
        for path in inside {
            nix::mount::umount2(path.as_str(), nix::mount::MntFlags::MNT_DETACH)?;
        }
        std::fs::remove_dir_all(dir)
    }

    /// Pods that have a directory.
    pub fn pods(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("pods")).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }
}

fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, fs_group: Option<i64>) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    if source.medium.as_deref() == Some("Memory") {
        let limit = source.size_limit.as_ref().and_then(|q| q.0.parse::<protocol::quantity::Quantity>().ok());
        let options = limit.map(|q| format!("size={}", q.units()));
        let flags = nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV;
        nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref())?;
    }
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    give_group(path, fs_group)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn give_group(path: &Path, group: Option<i64>) -> io::Result<()> {
    match group.and_then(|g| u32::try_from(g).ok()) {
        Some(group) => std::os::unix::fs::lchown(path, None, Some(group)),
        None => Ok(()),
    }
}

fn write_payload(path: &Path, payload: &Payload, fs_group: Option<i64>) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    write::write(path, payload, fs_group.and_then(|g| u32::try_from(g).ok()))
}

fn check_host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = std::fs::metadata(path).map(|m| m.file_type());
    let failed = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", source.path));
    match (kind, found) {
        ("", _) => Ok(()),
        ("DirectoryOrCreate", Err(_)) => std::fs::create_dir_all(path)
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
            .map_err(|e| e.to_string()),
        ("FileOrCreate", Err(_)) => std::fs::File::create_new(path).map(drop).map_err(|e| e.to_string()),
        ("Directory" | "DirectoryOrCreate", Ok(t)) if t.is_dir() => Ok(()),
        ("File" | "FileOrCreate", Ok(t)) if t.is_file() => Ok(()),
        ("Socket", Ok(t)) if t.is_socket() => Ok(()),
        ("CharDevice", Ok(t)) if t.is_char_device() => Ok(()),
        ("BlockDevice", Ok(t)) if t.is_block_device() => Ok(()),
        ("Directory" | "DirectoryOrCreate", _) => failed("a directory"),
        ("File" | "FileOrCreate", _) => failed("a file"),
        ("Socket", _) => failed("a socket file"),
        ("CharDevice", _) => failed("a character device"),
        ("BlockDevice", _) => failed("a block device"),
        (other, _) => Err(format!("\"{other}\" is an invalid volume type")),
    }
}

/// A path below a volume, made where it is missing. A link that leads out of the volume is refused.
fn sub_path(volume: &Path, sub: &str, read_only: bool) -> Result<PathBuf, String> {
    let climbs = Path::new(sub).components().any(|c| !matches!(c, std::path::Component::Normal(_)));
    if climbs {
        return Err(format!(
            "failed to prepare subPath for volumeMount: \"{sub}\" must not leave the volume"
        ));
    }
    let wanted = volume.join(sub);
    if !wanted.exists() && !read_only {
        // Each step is looked at before the next, so that no link leads the making astray.
        let mut at = volume.canonicalize().map_err(|e| e.to_string())?;
        for part in Path::new(sub).components() {
            at = at.join(part);
            match std::fs::symlink_metadata(&at) {
                Ok(found) if found.is_symlink() => return Err(escapes(sub)),
                Ok(_) => {}
                Err(_) => std::fs::create_dir(&at).map_err(|e| e.to_string())?,
            }
        }
    }
    let real = wanted.canonicalize().map_err(|e| format!("failed to prepare subPath \"{sub}\": {e}"))?;
    let root = volume.canonicalize().map_err(|e| e.to_string())?;
    if real.starts_with(root) { Ok(real) } else { Err(escapes(sub)) }
}

fn escapes(sub: &str) -> String {
    format!("failed to prepare subPath for volumeMount: \"{sub}\" leads out of the volume")
}
