//! Images: whether they are there, and pulling them.

use super::*;

impl Sync {
    /// The container's image, fetched if need be; or why it waits.
    pub(super) async fn image(
        &self,
        owner: &Pod,
        container: &Container,
    ) -> Result<Result<crate::runtime::Image, (Waiting, Option<SystemTime>)>, SyncError> {
        let runtime = &self.shared.runtime;
        let name = container.image.clone().unwrap_or_default();
        let of = Some(container.name.as_str());
        let present = runtime.image(&name).await?;
        let decision = self.memory.borrow().pulls.decide(container, present, actors::time::now());
        let image = match decision {
            Decision::Use(image) => {
                let text = format!(
                    "Container image \"{name}\" already present on machine and can be accessed by the pod"
                );
                self.note(owner, of, false, "Pulled", text);
                image
            }
            Decision::Wait(waiting, until) => {
                let (event, text) = match waiting.0.as_str() {
                    "ImagePullBackOff" => ("BackOff", format!("Back-off pulling image \"{name}\"")),
                    other => ("ErrImageNeverPull", format!("{}: {}", other, waiting.1)),
                };
                self.note(owner, of, event != "BackOff", event, text);
                self.note(owner, of, true, "Failed", format!("Error: {}", waiting.0));
                let wake_at = until.or(Some(actors::time::now() + self.shared.config.backoff_initial));
                return Ok(Err((waiting, wake_at)));
            }
            Decision::Pull => match self.pull(owner, container, &name).await? {
                Ok(image) => image,
                Err(failed) => return Ok(Err(failed)),
            },
        };
        let shown = match image.digests.first() {
            Some(digest) => format!("{}-pullable://{digest}", self.shared.engine),
            None => format!("{}://{}", self.shared.engine, image.id),
        };
        self.memory.borrow_mut().image_ids.insert(image.id.clone(), shown);
        Ok(Ok(image))
    }

    async fn pull(
        &self,
        owner: &Pod,
        container: &Container,
        name: &str,
    ) -> Result<Result<crate::runtime::Image, (Waiting, Option<SystemTime>)>, SyncError> {
        let of = Some(container.name.as_str());
        self.note(owner, of, false, "Pulling", format!("Pulling image \"{name}\""));
        let credentials = self.credentials(owner, name).await?;
        let began = actors::time::Instant::now();
        let tries = async {
            let mut last = None;
            for auth in credentials.iter().map(Some).chain(std::iter::once(None)) {
                match self.step(owner, "pull image", self.shared.runtime.pull(name, auth)).await {
                    Ok(image) => return Ok(image),
                    Err(e) => last = last.or(Some(e)),
                }
            }
            Err(last.unwrap_or_else(|| RuntimeError::NotFound(name.to_owned())))
        };
        let result = tokio::select! {
            result = tries => result,
            () = self.ending.notified() => return Err(SyncError::Ending),
        };
        match result {
            Ok(image) => {
                let took = began.elapsed().as_millis();
                let text = format!(
                    "Successfully pulled image \"{name}\" in {took}ms ({took}ms including waiting). Image size: {} bytes.",
                    image.size
                );
                self.note(owner, of, false, "Pulled", text);
                self.memory.borrow_mut().pulls.succeeded(name);
                Ok(Ok(image))
            }
            Err(e) => {
                let text = e.to_string();
                self.note(owner, of, true, "Failed", format!("Failed to pull image \"{name}\": {text}"));
                self.note(owner, of, true, "Failed", "Error: ErrImagePull".to_owned());
                let config = &self.shared.config;
                let until = self.memory.borrow_mut().pulls.failed(
                    name,
                    &text,
                    config.backoff_initial,
                    config.backoff_max,
                    actors::time::now(),
                );
                // A short look in between turns the reason into ImagePullBackOff.
                let soon = until.min(actors::time::now() + RETRY_PAUSE * 2);
                Ok(Err((("ErrImagePull".to_owned(), text), Some(soon))))
            }
        }
    }

    async fn credentials(
        &self,
        owner: &Pod,
        image: &str,
    ) -> Result<Vec<crate::runtime::RegistryAuth>, SyncError> {
        let names: Vec<String> = owner
            .spec
            .iter()
            .flat_map(|s| s.image_pull_secrets.iter().flatten())
            .map(|r| r.name.clone())
            .filter(|n| !n.is_empty())
            .collect();
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let found = self.shared.objects.all(Kind::Secret, namespace, &names, &self.uid).await?;
        let secrets: Vec<payload::Data> =
            found.into_values().flatten().map(|d| payload::Data::clone(&d)).collect();
        Ok(images::credentials(image, &secrets))
    }
}
