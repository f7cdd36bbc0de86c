//! A container's environment: services, envFrom, env, and `$(NAME)` in values, commands and arguments. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Service};

use super::{pod, resources};

#[cfg(test)]
mod tests;

/// Why a container's configuration cannot be made: the reason `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// What environments refer to. `None` in a map means that the object does not exist.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// ConfigMaps' data by name.
    pub config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    /// Secrets' data by name (not text: values that are none are refused).
    pub secrets: BTreeMap<String, Option<BTreeMap<String, Vec<u8>>>>,
    /// Services whose addresses the pod may see.
    pub services: Vec<Arc<Service>>,
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
    /// The node's addresses, the primary one first.
    pub host_ips: Vec<String>,
    /// The node's name.
    pub node_name: String,
    /// What the node can give away.
    pub allocatable: resources::Amounts,
}

/// The ConfigMaps and Secrets that a container's environment names.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// The environment in order of first mention; later values of a name win.
pub fn environment(
    owner: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut all = Environment::default();
    let links = owner.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
    for service in &sources.services {
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let master = of == "default" && service.metadata.name.as_deref() == Some("kubernetes");
        if master || (links && of == namespace) {
            service_variables(service).into_iter().for_each(|(name, value)| all.set(name, value));
        }
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name).and_then(Option::as_ref) {
                Some(data) => data.iter().for_each(|(k, v)| all.set(format!("{prefix}{k}"), v.clone())),
                None if reference.optional == Some(true) => {}
                None => return Err(ConfigError(format!("configmap \"{}\" not found", reference.name))),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name).and_then(Option::as_ref) {
                Some(data) => {
                    for (key, value) in data {
                        all.set(format!("{prefix}{key}"), text(value, key)?);
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(ConfigError(format!("secret \"{}\" not found", reference.name))),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => value_of(owner, container, sources, source)?,
            (Some(value), None) => Some(expand(value, |name| all.get(name))),
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            all.set(variable.name.clone(), value);
        }
    }
    Ok(all.in_order)
}

#[derive(Default)]
struct Environment {
    in_order: Vec<(String, String)>,
    places: BTreeMap<String, usize>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.places.get(&name) {
            Some(place) => self.in_order[*place].1 = value,
            None => {
                self.places.insert(name.clone(), self.in_order.len());
                self.in_order.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.in_order[*place].1.as_str())
    }
}

fn text(value: &[u8], key: &str) -> Result<String, ConfigError> {
    String::from_utf8(value.to_vec())
        .map_err(|_| ConfigError(format!("the value of key {key} is not UTF-8 text")))
}

fn value_of(
    owner: &Pod,
    container: &Container,
    sources: &Sources,
    source: &k8s_openapi::api::core::v1::EnvVarSource,
) -> Result<Option<String>, ConfigError> {
    let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return field_value(owner, sources, &field.field_path)
            .map(Some)
            .ok_or_else(|| ConfigError(format!("unsupported fieldPath: {}", field.field_path)));
    }
    if let Some(field) = &source.resource_field_ref {
        let of = field.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(&container.name);
        let spec = owner.spec.as_ref();
        let found = spec.and_then(|s| pod::containers(s).find(|(_, c)| c.name == of)).map(|(_, c)| c);
        let divisor = field.divisor.as_ref().map_or("", |q| q.0.as_str());
        return found
            .and_then(|c| resources::resource_field(c, &field.resource, divisor, &sources.allocatable))
            .map(Some)
            .ok_or_else(|| ConfigError(format!("unsupported container resource : {}", field.resource)));
    }
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        return match sources.config_maps.get(&key.name).and_then(Option::as_ref) {
            Some(data) => match data.get(&key.key) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(ConfigError(format!(
                    "couldn't find key {} in ConfigMap {namespace}/{}",
                    key.key, key.name
                ))),
            },
            None if optional => Ok(None),
            None => Err(ConfigError(format!("configmap \"{}\" not found", key.name))),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        return match sources.secrets.get(&key.name).and_then(Option::as_ref) {
            Some(data) => match data.get(&key.key) {
                Some(value) => text(value, &key.key).map(Some),
                None if optional => Ok(None),
                None => Err(ConfigError(format!(
                    "couldn't find key {} in Secret {namespace}/{}",
                    key.key, key.name
                ))),
            },
            None if optional => Ok(None),
            None => Err(ConfigError(format!("secret \"{}\" not found", key.name))),
        };
    }
    Ok(Some(String::new()))
}

/// What a `fieldRef` path of the downward API says; `None` when it is not supported.
pub fn field_value(owner: &Pod, sources: &Sources, path: &str) -> Option<String> {
    let meta = &owner.metadata;
    if let Some((map, rest)) = path.split_once("['") {
        let key = rest.strip_suffix("']")?;
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return None,
        };
        return Some(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => map_text(meta.labels.as_ref()),
        "metadata.annotations" => map_text(meta.annotations.as_ref()),
        "spec.nodeName" => sources.node_name.clone(),
        "spec.serviceAccountName" => owner.spec.as_ref()?.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => sources.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => sources.host_ips.join(","),
        "status.podIP" => sources.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => sources.pod_ips.join(","),
        _ => return None,
    })
}

/// Labels or annotations as lines `key="value"`.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join("\n")
}

/// The variables that a service with a cluster IP gives.
pub fn service_variables(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    if ip.is_empty() || ip == "None" {
        return Vec::new();
    }
    let upper = |name: &str| name.to_uppercase().replace(['-', '.'], "_");
    let prefix = upper(service.metadata.name.as_deref().unwrap_or_default());
    let bracketed = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut all = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            all.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
    }
    for (at, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{bracketed}:{}", protocol.to_lowercase(), port.port);
        if at == 0 {
            all.push((format!("{prefix}_PORT"), url.clone()));
        }
        let of_port = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        all.push((of_port.clone(), url));
        all.push((format!("{of_port}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{of_port}_PORT"), port.port.to_string()));
        all.push((format!("{of_port}_ADDR"), ip.to_owned()));
    }
    all
}

/// Replaces `$(NAME)`; unknown names stay as they are, and `$$(` is a literal `$(`.
pub fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Expands a command or its arguments with the container's environment.
pub fn expand_all(words: Option<&Vec<String>>, environment: &[(String, String)]) -> Vec<String> {
    let value = |name: &str| environment.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    words.into_iter().flatten().map(|word| expand(word, value)).collect()
}
