//! Defaults of pod specs, wherever they occur.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::api::object::{default, default_with, list_mut, object_mut};

/// Fills in a pod spec, as templates get it.
pub fn pod_spec(spec: &mut Value) {
    let Some(fields) = spec.as_object_mut() else { return };
    default(fields, "dnsPolicy", "ClusterFirst");
    default(fields, "restartPolicy", "Always");
    default(fields, "terminationGracePeriodSeconds", 30);
    default(fields, "securityContext", json!({}));
    default(fields, "schedulerName", "default-scheduler");
    // Two names of one field.
    let account = ["serviceAccountName", "serviceAccount"].iter().find_map(|name| {
        fields.get(*name).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned)
    });
    if let Some(account) = account {
        fields.insert("serviceAccountName".to_owned(), account.clone().into());
        fields.insert("serviceAccount".to_owned(), account.into());
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        list_mut(spec, &[kind]).iter_mut().for_each(container);
    }
    for item in list_mut(spec, &["volumes"]) {
        volume(item);
    }
}

/// In the host's network a container's ports are the host's. Templates are left alone.
pub fn host_ports(spec: &mut Value) {
    if spec["hostNetwork"] != Value::Bool(true) {
        return;
    }
    for kind in ["initContainers", "containers"] {
        for container in list_mut(spec, &[kind]) {
            for port in list_mut(container, &["ports"]) {
                if port["hostPort"].as_i64().unwrap_or(0) == 0 {
                    port["hostPort"] = port["containerPort"].clone();
                }
            }
        }
    }
}

fn container(container: &mut Value) {
    let Some(fields) = container.as_object_mut() else { return };
    default_with(fields, "imagePullPolicy", |fields| pull_policy(fields.get("image")).into());
    default(fields, "terminationMessagePath", "/dev/termination-log");
    default(fields, "terminationMessagePolicy", "File");
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = fields.get_mut(name).filter(|p| p.is_object()) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = fields.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            http_get(&mut lifecycle[hook]);
        }
        // Looking may have made empty entries.
        if let Some(map) = lifecycle.as_object_mut() {
            map.retain(|_, v| !v.is_null());
        }
    }
    for variable in list_mut(container, &["env"]) {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef").and_then(Value::as_object_mut) {
            default(field, "apiVersion", "v1");
        }
    }
}

/// When an image is pulled that its author says nothing of: one that may change under its name always.
fn pull_policy(image: Option<&Value>) -> &'static str {
    if is_latest(image.and_then(Value::as_str).unwrap_or_default()) { "Always" } else { "IfNotPresent" }
}

/// How long the path of an image may be.
const NAME_BYTES_MAX: usize = 255;

/// How long the digest of an image is.
const DIGEST_CHARS: usize = 64;

/// References to images: host and port, path, tag, digest.
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const HOST: &str = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?";
    const PART: &str = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*";
    const TAG: &str = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    const DIGEST: &str = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    Regex::new(&format!("^(?:{HOST}/)?{PART}(?:/{PART})*(?::(?P<tag>{TAG}))?(?P<digest>@{DIGEST})?$")).ok()
});

/// How long the path of an image is in its registry, which is Docker's own where none is named.
fn path_bytes(named: &str) -> usize {
    const OWN: &str = "library/";
    // What follows the last colon is a tag, unless that colon is the port's.
    let named =
        named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(named, |(named, _)| named);
    match named.split_once('/') {
        None => OWN.len() + named.len(),
        Some((host, path)) => {
            let is_host = host.contains(['.', ':']) || host == "localhost" || host.to_lowercase() != host;
            if is_host { path.len() } else { named.len() }
        }
    }
}

/// An image without a tag or digest means `latest`; what is no image means nothing.
fn is_latest(image: &str) -> bool {
    let named = image.split_once('@').map_or(image, |(name, _)| name);
    let found = REFERENCE.as_ref().filter(|_| path_bytes(named) <= NAME_BYTES_MAX);
    let found = found.and_then(|reference| reference.captures(image));
    // A digest without its algorithm is no name.
    let is_digest =
        image.len() == DIGEST_CHARS && image.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    found.filter(|_| !is_digest).is_some_and(|parts| match parts.name("tag") {
        Some(tag) => tag.as_str() == "latest",
        None => parts.name("digest").is_none(),
    })
}

fn probe(probe: &mut Value) {
    let fields = object_mut(probe, &[]);
    for (name, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if fields.get(name).and_then(Value::as_i64).unwrap_or(0) == 0 {
            fields.insert(name.to_owned(), value.into());
        }
    }
    http_get(probe);
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet").and_then(Value::as_object_mut) {
        default(get, "scheme", "HTTP");
        default(get, "path", "/");
    }
}

fn volume(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else { return };
    if !fields.iter().any(|(name, value)| name != "name" && !value.is_null()) {
        fields.insert("emptyDir".to_owned(), json!({}));
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = fields.get_mut(name).and_then(Value::as_object_mut) {
            default(source, "defaultMode", 420);
        }
    }
    if let Some(source) = fields.get_mut("hostPath").and_then(Value::as_object_mut) {
        source.entry("type").or_insert_with(|| "".into());
    }
    if let Some(image) = fields.get_mut("image").and_then(Value::as_object_mut) {
        default_with(image, "pullPolicy", |fields| pull_policy(fields.get("reference")).into());
    }
    if let Some(items) = volume.pointer_mut("/downwardAPI/items") {
        field_refs(items);
    }
    for source in list_mut(volume, &["projected", "sources"]) {
        if let Some(token) = source.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
            default(token, "expirationSeconds", 3600);
        }
        if let Some(items) = source.pointer_mut("/downwardAPI/items") {
            field_refs(items);
        }
    }
    if let Some(spec) =
        volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec").and_then(Value::as_object_mut)
    {
        default(spec, "volumeMode", "Filesystem");
    }
}

fn field_refs(items: &mut Value) {
    for item in items.as_array_mut().into_iter().flatten() {
        if let Some(field) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
            default(field, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_tag_is_pulled_always() {
        for (image, latest) in [
            ("a", true),
            ("a:latest", true),
            ("a:1", false),
            ("host:5000/a", true),
            ("host:5000/a:1", false),
            ("a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", false),
            ("Host/a", true),
            ("A", false),
            ("a b", false),
            ("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", false),
            ("a/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", true),
            ("", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
        for (image, latest) in [
            ("a".repeat(247), true),
            ("a".repeat(248), false),
            (format!("b/{}", "a".repeat(253)), true),
            (format!("host.example.com:5000/{}", "a".repeat(255)), true),
            (format!("host.example.com/{}", "a".repeat(256)), false),
        ] {
            assert_eq!(is_latest(&image), latest, "{image}");
        }
    }

    #[test]
    fn ports_are_the_hosts_in_its_network_alone() {
        let spec =
            |host: bool| json!({"hostNetwork": host, "containers": [{"ports": [{"containerPort": 80}]}]});
        for (host, expected) in [(true, json!(80)), (false, Value::Null)] {
            let mut spec = spec(host);
            pod_spec(&mut spec);
            assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], Value::Null);
            host_ports(&mut spec);
            assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], expected);
        }
    }
}
