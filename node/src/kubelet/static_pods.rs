//! Pods from manifests in a directory of this node, and their mirrors in the API.
//!
//! Such a pod runs whether or not there is an API. Its mirror only shows it there: deleting the mirror
//! does nothing to the pod, and the mirror comes back.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actors::{ActorRef, Context};
use k8s_openapi::api::core::v1::Pod;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use sha2::{Digest, Sha256};
use tokio::io::unix::AsyncFd;

use super::Shared;
use super::kubelet_actor::{KubeletActor, ManifestsRead};
use super::pod;

/// Pause before a directory that cannot be watched is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Editors write a file in several steps; reading waits until they are done.
const SETTLE: Duration = Duration::from_millis(100);
/// Manifests larger than this are refused.
const BYTES_MAX: u64 = 1 << 20;

/// Reads the manifests of a directory now and after each change, until dropped.
pub async fn follow(dir: PathBuf, node: String, kubelet: ActorRef<KubeletActor>) {
    loop {
        if let Err(e) = follow_once(&dir, &node, &kubelet).await {
            tracing::warn!(dir = %dir.display(), error = %e, "static pods cannot be followed");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn follow_once(dir: &Path, node: &str, kubelet: &ActorRef<KubeletActor>) -> std::io::Result<()> {
    tokio::fs::create_dir_all(dir).await?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let changes = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    inotify.add_watch(dir, changes)?;
    // What the events say does not matter, so they are read as plain bytes.
    // Deprecated for types that may swap their descriptor; a File does not, and the other way is unsafe.
    #[allow(deprecated)]
    let watched = AsyncFd::new(std::fs::File::from(std::os::fd::OwnedFd::from(inotify)))?;
    loop {
        let (at, name) = (dir.to_owned(), node.to_owned());
        let pods = tokio::task::spawn_blocking(move || read_all(&at, &name))
            .await
            .map_err(std::io::Error::other)??;
        if kubelet.tell(ManifestsRead { pods: pods.into_iter().map(Arc::new).collect() }).await.is_err() {
            return Ok(());
        }
        let mut ready = watched.readable().await?;
        tokio::time::sleep(SETTLE).await;
        // Which file changed does not matter: all are read again.
        while watched.get_ref().read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
        ready.clear_ready();
    }
}

fn read_all(dir: &Path, node: &str) -> std::io::Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let manifest = matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"));
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !manifest || hidden || entry.metadata().is_ok_and(|m| m.len() > BYTES_MAX) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        match parse(&text, node) {
            Ok(pod) => pods.push(pod),
            Err(e) => {
                tracing::warn!(file = %path.display(), error = %e, "a static pod's manifest is refused")
            }
        }
    }
    Ok(pods)
}

/// A pod from its manifest, with what the kubelet adds: the node's name at the end of its own, a uid made
/// of the content (so that a change is another pod), marks.
pub fn parse(text: &str, node: &str) -> Result<Pod, String> {
    let mut value: serde_json::Value = serde_yaml_value(text)?;
    if value["kind"].as_str().is_some_and(|kind| kind != "Pod") {
        return Err(format!("expected a Pod, found {}", value["kind"]));
    }
    // The manifest may leave out what serde asks for.
    if value["metadata"].is_null() {
        return Err("metadata.name is missing".to_owned());
    }
    value["status"] = serde_json::Value::Null;
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let name = pod.metadata.name.clone().filter(|n| !n.is_empty()).ok_or("metadata.name is missing")?;
    let spec = pod.spec.as_mut().ok_or("spec is missing")?;
    if spec.containers.is_empty() {
        return Err("spec.containers is empty".to_owned());
    }
    spec.node_name = Some(node.to_owned());
    let digest = Sha256::digest(format!("{node}\0{text}").as_bytes());
    let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    // Static pods stay on their node whatever its taints say.
    spec.tolerations.get_or_insert_with(Vec::new).push(k8s_openapi::api::core::v1::Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Default::default()
    });
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    let marks = meta.annotations.get_or_insert_default();
    marks.insert(pod::CONFIG_SOURCE.to_owned(), "file".to_owned());
    marks.insert(pod::CONFIG_HASH.to_owned(), hex.clone());
    meta.uid = Some(hex);
    Ok(pod)
}

/// YAML (and so JSON) as a JSON value.
fn serde_yaml_value(text: &str) -> Result<serde_json::Value, String> {
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}

/// The object that shows a static pod in the API.
fn mirror_of(owner: &Pod) -> Pod {
    let mut mirror = owner.clone();
    let hash = pod::annotation(owner, pod::CONFIG_HASH).unwrap_or_default().to_owned();
    mirror.metadata.uid = None;
    mirror.metadata.annotations.get_or_insert_default().insert(pod::CONFIG_MIRROR.to_owned(), hash);
    mirror.status = None;
    mirror
}

/// Static pods that still have a manifest: one that is being stopped gets no mirror again.
fn static_pods(shared: &Shared) -> Vec<Arc<Pod>> {
    let registry = &shared.registry;
    let wanted = registry.uids().into_iter().filter_map(|uid| registry.wanted(&uid));
    wanted.filter(|w| !w.gone && pod::is_static(&w.pod)).map(|w| w.pod).collect()
}

/// Sees to it that every static pod has its mirror, and removes mirrors of pods that are gone.
pub fn mirror(shared: &Arc<Shared>, mirrors: &[Arc<Pod>], ctx: &mut Context<KubeletActor>) {
    let pods = static_pods(shared);
    let mirrors = mirrors.to_vec();
    let shared = shared.clone();
    let work = async move {
        for mirror in mirrors {
            let fits = pods.iter().any(|p| same_name(p, &mirror) && hash_of(p) == mirror_hash(&mirror));
            if !fits {
                delete(&shared, &mirror).await;
            }
        }
        for owner in pods {
            create(&shared, &owner).await;
        }
    };
    ctx.run(work, |_, (), _| {});
}

/// A mirror changed in the API: one that was deleted comes back, one that is being deleted goes at once.
pub fn mirror_seen(shared: &Arc<Shared>, mirror: &Arc<Pod>, deleted: bool, ctx: &mut Context<KubeletActor>) {
    let shared = shared.clone();
    let mirror = mirror.clone();
    let owner = static_pods(&shared).into_iter().find(|p| same_name(p, &mirror));
    let work = async move {
        let current = owner.as_ref().is_some_and(|o| hash_of(o) == mirror_hash(&mirror));
        if !deleted && (mirror.metadata.deletion_timestamp.is_some() || !current) {
            delete(&shared, &mirror).await;
        }
        if deleted && let Some(owner) = owner {
            create(&shared, &owner).await;
        }
    };
    ctx.run(work, |_, (), _| {});
}

/// A manifest is gone: its mirror goes too.
pub fn unmirror(shared: &Arc<Shared>, uid: &str, ctx: &mut Context<KubeletActor>) {
    let Some(wanted) = shared.registry.wanted(uid) else { return };
    let shared = shared.clone();
    let work = async move {
        let identity = pod::identity(&wanted.pod);
        let _ = shared.client.delete::<Pod>(&identity.namespace, &identity.name, None, Some(0)).await;
    };
    ctx.run(work, |_, (), _| {});
}

fn same_name(a: &Pod, b: &Pod) -> bool {
    a.metadata.name == b.metadata.name && a.metadata.namespace == b.metadata.namespace
}

fn hash_of(owner: &Pod) -> Option<&str> {
    pod::annotation(owner, pod::CONFIG_HASH)
}

fn mirror_hash(mirror: &Pod) -> Option<&str> {
    pod::annotation(mirror, pod::CONFIG_MIRROR)
}

async fn create(shared: &Shared, owner: &Pod) {
    match shared.client.create(&mirror_of(owner)).await {
        Ok(_) => {
            if let Some(uid) = &owner.metadata.uid {
                shared.registry.wake(uid);
            }
        }
        Err(e) if e.is_already_exists() => {}
        Err(e) => tracing::warn!(pod = owner.metadata.name, error = %e, "a mirror pod cannot be made"),
    }
}

async fn delete(shared: &Shared, mirror: &Pod) {
    let identity = pod::identity(mirror);
    let uid = mirror.metadata.uid.as_deref();
    if let Err(e) = shared.client.delete::<Pod>(&identity.namespace, &identity.name, uid, Some(0)).await {
        tracing::debug!(pod = identity.name, error = %e, "a mirror pod cannot be deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_become_pods_of_this_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: x\n";
        let owner = parse(text, "n1").unwrap();
        assert_eq!(owner.metadata.name.as_deref(), Some("web-n1"));
        assert_eq!(owner.metadata.namespace.as_deref(), Some("default"));
        assert!(pod::is_static(&owner) && !pod::is_mirror(&owner));
        assert!(pod::is_mirror(&mirror_of(&owner)));
        let other = parse(&text.replace("image: x", "image: z"), "n1").unwrap();
        assert_ne!(owner.metadata.uid, other.metadata.uid, "a change is another pod");
        for bad in
            ["kind: Service", "kind: Pod", "kind: Pod\nmetadata: {name: x}\nspec: {containers: []}", "{"]
        {
            assert!(parse(bad, "n1").is_err(), "{bad}");
        }
    }
}
