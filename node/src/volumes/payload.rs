//! What a projected volume's files contain. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume};

use crate::kubelet::environment::{Sources, field_value};
use crate::kubelet::{pod, resources};

/// Mode of projected files unless the volume says otherwise.
const DEFAULT_MODE: i32 = 0o644;

/// Files by relative path: content and mode.
pub type Payload = BTreeMap<String, (Vec<u8>, u32)>;

/// A ConfigMap's or Secret's keys with their bytes.
pub type Data = BTreeMap<String, Vec<u8>>;

/// A service account's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub text: String,
    /// When to ask for another.
    pub refresh_at: SystemTime,
}

/// What distinguishes the tokens of a pod: audience and lifetime in seconds.
pub type TokenKey = (String, i64);

/// Everything that a pod's volumes are made of. `None` in a map means that the object does not exist.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// ConfigMaps, text and binary data together.
    pub config_maps: BTreeMap<String, Option<Data>>,
    /// Secrets.
    pub secrets: BTreeMap<String, Option<Data>>,
    /// Tokens.
    pub tokens: BTreeMap<TokenKey, Token>,
    /// Where claims lead, or why they lead nowhere.
    pub claims: BTreeMap<String, Result<PathBuf, String>>,
    /// What the downward API needs.
    pub sources: Sources,
}

/// What a pod's volumes refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Names of ConfigMaps.
    pub config_maps: Vec<String>,
    /// Names of Secrets.
    pub secrets: Vec<String>,
    /// Tokens.
    pub tokens: Vec<TokenKey>,
    /// Names of claims.
    pub claims: Vec<String>,
}

/// Seconds that a token lives unless the volume says otherwise.
const TOKEN_SECONDS: i64 = 3600;

/// Collects what a pod's volumes refer to.
pub fn references(owner: &Pod) -> References {
    let mut found = References::default();
    for volume in owner.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        found.config_maps.extend(volume.config_map.as_ref().map(|c| c.name.clone()));
        found.secrets.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()));
        found.claims.extend(volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found.config_maps.extend(source.config_map.as_ref().map(|c| c.name.clone()));
            found.secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
            found.tokens.extend(source.service_account_token.as_ref().map(|t| {
                (t.audience.clone().unwrap_or_default(), t.expiration_seconds.unwrap_or(TOKEN_SECONDS))
            }));
        }
    }
    found
}

/// The kind's directory name and the files of a projected volume; `None` for other kinds of volume.
pub fn of_volume(
    owner: &Pod,
    volume: &Volume,
    inputs: &Inputs,
) -> Result<Option<(&'static str, Payload)>, String> {
    let mut payload = Payload::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let object =
            Object { kind: "configmap", name: &source.name, data: inputs.config_maps.get(&source.name) };
        object.project(source.items.as_deref(), source.optional, mode, &mut payload)?;
        return Ok(Some(("configmap", payload)));
    }
    if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let object = Object { kind: "secret", name, data: inputs.secrets.get(name) };
        object.project(source.items.as_deref(), source.optional, mode, &mut payload)?;
        return Ok(Some(("secret", payload)));
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        downward(owner, source.items.as_deref(), mode, inputs, &mut payload)?;
        return Ok(Some(("downward-api", payload)));
    }
    let Some(projected) = &volume.projected else { return Ok(None) };
    let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
    for source in projected.sources.iter().flatten() {
        if let Some(s) = &source.config_map {
            let object = Object { kind: "configmap", name: &s.name, data: inputs.config_maps.get(&s.name) };
            object.project(s.items.as_deref(), s.optional, mode, &mut payload)?;
        }
        if let Some(s) = &source.secret {
            let object = Object { kind: "secret", name: &s.name, data: inputs.secrets.get(&s.name) };
            object.project(s.items.as_deref(), s.optional, mode, &mut payload)?;
        }
        if let Some(s) = &source.downward_api {
            downward(owner, s.items.as_deref(), mode, inputs, &mut payload)?;
        }
        if let Some(s) = &source.service_account_token {
            let key = (s.audience.clone().unwrap_or_default(), s.expiration_seconds.unwrap_or(TOKEN_SECONDS));
            let token = inputs.tokens.get(&key).ok_or("the service account's token could not be fetched")?;
            // Those who may read by group need not be everybody.
            let grouped = owner
                .spec
                .as_ref()
                .and_then(|s| s.security_context.as_ref())
                .is_some_and(|c| c.fs_group.is_some());
            let mode = if grouped { 0o640 } else { bits(mode) };
            payload.insert(s.path.clone(), (token.text.clone().into_bytes(), mode));
        }
        if source.cluster_trust_bundle.is_some() {
            return Err("clusterTrustBundle projections are not supported".to_owned());
        }
    }
    Ok(Some(("projected", payload)))
}

struct Object<'a> {
    kind: &'a str,
    name: &'a str,
    data: Option<&'a Option<Data>>,
}

impl Object<'_> {
    fn project(
        &self,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
        payload: &mut Payload,
    ) -> Result<(), String> {
        let optional = optional == Some(true);
        let Some(data) = self.data.and_then(Option::as_ref) else {
            return if optional { Ok(()) } else { Err(format!("{} \"{}\" not found", self.kind, self.name)) };
        };
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            payload.extend(data.iter().map(|(k, v)| (k.clone(), (v.clone(), bits(mode)))));
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(value) => {
                    payload.insert(checked(&item.path)?, (value.clone(), bits(item.mode.unwrap_or(mode))));
                }
                None if optional => {}
                None => return Err(format!("references non-existent {} key: {}", self.kind, item.key)),
            }
        }
        Ok(())
    }
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o7777
}

/// A relative path that stays inside the volume; admission checked it, but files are written as root.
fn checked(path: &str) -> Result<String, String> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.split('/').any(|part| part == ".." || part.is_empty());
    if bad { Err(format!("invalid path \"{path}\"")) } else { Ok(path.to_owned()) }
}

fn downward(
    owner: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    inputs: &Inputs,
    payload: &mut Payload,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            field_value(owner, &inputs.sources, &field.field_path)
        } else if let Some(field) = &item.resource_field_ref {
            let of = field.container_name.as_deref().unwrap_or_default();
            let found = owner.spec.as_ref().and_then(|s| pod::containers(s).find(|(_, c)| c.name == of));
            let divisor = field.divisor.as_ref().map_or("", |q| q.0.as_str());
            found.and_then(|(_, c)| {
                resources::resource_field(c, &field.resource, divisor, &inputs.sources.allocatable)
            })
        } else {
            None
        };
        let text = text.ok_or_else(|| format!("unsupported field of \"{}\"", item.path))?;
        payload.insert(checked(&item.path)?, (text.into_bytes(), bits(item.mode.unwrap_or(mode))));
    }
    Ok(())
}
