//! Whether and how an image is fetched, with the back-off of failed pulls.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use k8s_openapi::api::core::v1::Container;

use super::status::Waiting;
use crate::runtime::{Image, RegistryAuth};
use crate::volumes::payload::Data;

/// Failed pulls by image.
#[derive(Clone, Debug, Default)]
pub struct Pulls {
    failures: BTreeMap<String, Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    delay: Duration,
    until: SystemTime,
    error: String,
}

/// What to do about an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is here.
    Use(Image),
    /// Fetch it.
    Pull,
    /// It cannot be had, for this reason; look again then.
    Wait(Waiting, Option<SystemTime>),
}

impl Pulls {
    /// Decides by policy, presence and back-off.
    pub fn decide(&self, container: &Container, present: Option<Image>, now: SystemTime) -> Decision {
        let name = container.image.as_deref().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        match (policy, present) {
            ("Never" | "IfNotPresent", Some(image)) => return Decision::Use(image),
            ("Never", None) => {
                let text = format!("Container image \"{name}\" is not present with pull policy of Never");
                return Decision::Wait(("ErrImageNeverPull".to_owned(), text), None);
            }
            _ => {}
        }
        match self.failures.get(name).filter(|f| f.until > now) {
            Some(failure) => {
                let text = format!("Back-off pulling image \"{name}\": ErrImagePull: {}", failure.error);
                Decision::Wait(("ImagePullBackOff".to_owned(), text), Some(failure.until))
            }
            None => Decision::Pull,
        }
    }

    /// Notes a failed pull; answers when the next one may be tried.
    pub fn failed(
        &mut self,
        image: &str,
        error: &str,
        initial: Duration,
        max: Duration,
        now: SystemTime,
    ) -> SystemTime {
        let before = self.failures.get(image).map(|f| f.delay);
        let delay = before.map_or(initial, |d| (d * 2).min(max));
        let until = now + delay;
        self.failures.insert(image.to_owned(), Failure { delay, until, error: error.to_owned() });
        until
    }

    /// Notes a good pull.
    pub fn succeeded(&mut self, image: &str) {
        self.failures.remove(image);
    }
}

/// The registry that an image comes from, as credentials name it.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The credentials in pull secrets that fit an image, the longest path first.
pub fn credentials(image: &str, secrets: &[Data]) -> Vec<RegistryAuth> {
    let registry = registry_of(image);
    let mut found: Vec<(usize, RegistryAuth)> = Vec::new();
    for secret in secrets {
        let text = secret.get(".dockerconfigjson").or_else(|| secret.get(".dockercfg"));
        let Some(value) = text.and_then(|t| serde_json::from_slice::<serde_json::Value>(t).ok()) else {
            continue;
        };
        let auths = value.get("auths").unwrap_or(&value).as_object().cloned().unwrap_or_default();
        for (server, entry) in auths {
            let bare =
                server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
            let hub = registry == "docker.io"
                && matches!(bare, "index.docker.io/v1" | "docker.io" | "index.docker.io");
            let fits = hub || bare == registry || image.starts_with(&format!("{bare}/"));
            if !fits {
                continue;
            }
            let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let decoded = base64::engine::general_purpose::STANDARD.decode(field("auth")).unwrap_or_default();
            let decoded = String::from_utf8(decoded).unwrap_or_default();
            let (user, password) = decoded.split_once(':').unwrap_or_default();
            let or = |given: String, other: &str| if given.is_empty() { other.to_owned() } else { given };
            found.push((
                bare.len(),
                RegistryAuth {
                    username: or(field("username"), user),
                    password: or(field("password"), password),
                    server: server.clone(),
                    identity_token: field("identitytoken"),
                },
            ));
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_back_off() {
        let container = |policy: &str| Container {
            image: Some("x:1".into()),
            image_pull_policy: Some(policy.into()),
            ..Container::default()
        };
        let now = SystemTime::UNIX_EPOCH;
        let mut pulls = Pulls::default();
        let here = Some(Image::default());
        assert_eq!(
            pulls.decide(&container("IfNotPresent"), here.clone(), now),
            Decision::Use(Image::default())
        );
        assert_eq!(pulls.decide(&container("Always"), here, now), Decision::Pull);
        let Decision::Wait((reason, _), None) = pulls.decide(&container("Never"), None, now) else {
            panic!()
        };
        assert_eq!(reason, "ErrImageNeverPull");
        let (initial, max) = (Duration::from_secs(10), Duration::from_secs(300));
        let delays = [10, 20, 40, 80, 160, 300, 300];
        for seconds in delays {
            let until = pulls.failed("x:1", "no such host", initial, max, now);
            assert_eq!(until, now + Duration::from_secs(seconds));
        }
        let Decision::Wait((reason, text), Some(_)) = pulls.decide(&container("IfNotPresent"), None, now)
        else {
            panic!()
        };
        assert_eq!(
            (reason.as_str(), text.as_str()),
            ("ImagePullBackOff", "Back-off pulling image \"x:1\": ErrImagePull: no such host")
        );
    }

    #[test]
    fn credentials_fit_by_registry() {
        let config = br#"{"auths": {"r.example:5000": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"username": "a", "password": "b"}}}"#;
        let secrets = [Data::from([(".dockerconfigjson".to_owned(), config.to_vec())])];
        let names = |image: &str| {
            credentials(image, &secrets).into_iter().map(|a| (a.username, a.password)).collect::<Vec<_>>()
        };
        assert_eq!(names("r.example:5000/x/y:1"), [("u".to_owned(), "p".to_owned())]);
        assert_eq!(names("nginx"), [("a".to_owned(), "b".to_owned())]);
        assert!(names("other.example/x").is_empty());
    }
}
