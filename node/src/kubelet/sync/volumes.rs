//! A pod's volumes and what they are filled with.

use super::*;

impl Sync {
    /// Makes the pod's volumes, or brings them up to date.
    pub(super) async fn mount(&self, owner: &Pod) -> Result<(), SyncError> {
        self.shared.registry.take_stale(&self.uid);
        if !self.shared.runtime.is_real() {
            self.memory.borrow_mut().mounted = Some(Mounted::default());
            return Ok(());
        }
        let references = payload::references(owner);
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let objects = &self.shared.objects;
        let maps = objects.all(Kind::ConfigMap, namespace, &references.config_maps, &self.uid).await?;
        let secrets = objects.all(Kind::Secret, namespace, &references.secrets, &self.uid).await?;
        let owned = |all: BTreeMap<String, Option<Arc<payload::Data>>>| {
            all.into_iter().map(|(name, data)| (name, data.map(|d| payload::Data::clone(&d)))).collect()
        };
        let mut tokens = BTreeMap::new();
        for key in references.tokens {
            let token = self.token(owner, &key).await?;
            tokens.insert(key, token);
        }
        let mut claims = BTreeMap::new();
        for name in references.claims {
            let place = self.claim(namespace, &name).await?;
            claims.insert(name, place);
        }
        let inputs = Inputs {
            config_maps: owned(maps),
            secrets: owned(secrets),
            tokens,
            claims,
            sources: self.sources(),
        };
        let volumes = self.shared.volumes.clone();
        let owner = owner.clone();
        let mounted = tokio::task::spawn_blocking(move || volumes.mount(&owner, &inputs))
            .await
            .map_err(|e| SyncError::Io(e.to_string()))??;
        self.memory.borrow_mut().mounted = Some(mounted);
        Ok(())
    }

    /// A token for the pod's service account, renewed in good time.
    async fn token(&self, owner: &Pod, key: &TokenKey) -> Result<Token, SyncError> {
        let now = actors::time::now();
        if let Some(token) = self.memory.borrow().tokens.get(key).filter(|t| t.refresh_at > now) {
            return Ok(token.clone());
        }
        let (audience, seconds) = key;
        let identity = pod::identity(owner);
        let account = owner.spec.as_ref().and_then(|s| s.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let audiences: Vec<_> = Some(audience).filter(|a| !a.is_empty()).into_iter().collect();
        let body = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef":
                {"apiVersion": "v1", "kind": "Pod", "name": identity.name, "uid": identity.uid}},
        });
        let answer = self
            .shared
            .client
            .create_subresource::<k8s_openapi::api::core::v1::ServiceAccount>(
                &identity.namespace,
                &account,
                "token",
                &body,
            )
            .await?;
        let text = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
        let lifetime = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
        // At four fifths of its life, and after a day at the latest.
        let refresh_at = now + lifetime.mul_f64(0.8).min(Duration::from_secs(24 * 3600));
        let token = Token { text, refresh_at };
        self.memory.borrow_mut().tokens.insert(key.clone(), token.clone());
        Ok(token)
    }

    /// Where a claim's volume lies on this host, or why it does not.
    async fn claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Result<std::path::PathBuf, String>, SyncError> {
        use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
        let client = &self.shared.client;
        let Some(claim) = client.find::<PersistentVolumeClaim>(namespace, name).await? else {
            return Ok(Err(format!("persistentvolumeclaim \"{name}\" not found")));
        };
        let Some(volume) = claim.spec.and_then(|s| s.volume_name) else {
            return Ok(Err(format!("PVC {namespace}/{name} is not bound")));
        };
        let found = client.find::<PersistentVolume>("", &volume).await?.and_then(|v| v.spec);
        let Some(spec) = found else { return Ok(Err(format!("persistentvolume \"{volume}\" not found"))) };
        let path = spec.host_path.map(|h| h.path).or_else(|| spec.local.map(|l| l.path));
        Ok(path.map(Into::into).ok_or_else(|| "this kind of volume is not supported".to_owned()))
    }
}
