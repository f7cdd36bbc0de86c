//! The actor, on virtual time: what it follows, what it tells, what it keeps over a rebuild.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::table::Found;
use super::*;

#[path = "../../tests/support/scripted.rs"]
mod scripted;
use scripted::Scripted;

fn ingress(name: &str, class: Option<&str>, host: &str, service: &str) -> Value {
    let mut value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}")},
        "spec": {
            "tls": [{"hosts": [host], "secretName": format!("{name}-tls")}],
            "rules": [{"host": host, "http": {"paths": [{"pathType": "Prefix", "path": "/",
                "backend": {"service": {"name": service, "port": {"name": "web"}}}}]}}]}});
    if let Some(class) = class {
        value["spec"]["ingressClassName"] = class.into();
    }
    value
}

fn class(name: &str, controller: &str, default: bool) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": default.to_string()}},
        "spec": {"controller": controller}})
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "a", "name": name},
        "spec": {"ports": [{"name": "web", "port": 80}]}})
}

fn slice(service: &str, ips: &[&str]) -> Value {
    let endpoints: Vec<_> = ips.iter().map(|ip| json!({"addresses": [ip]})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "a", "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "web", "port": 8080}], "endpoints": endpoints})
}

fn secret(name: &str) -> Value {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["h".to_owned()]).unwrap().self_signed(&key).unwrap();
    let base64 =
        |bytes: &str| serde_json::to_value(k8s_openapi::ByteString(bytes.as_bytes().to_vec())).unwrap();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a", "name": name},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": base64(&certificate.pem()), "tls.key": base64(&key.serialize_pem())}})
}

struct Scene {
    api: Scripted,
    stage: Stage,
    served: IngressHandle,
}

impl Scene {
    /// How many endpoints a request has, or why it has none.
    fn endpoints(&self, host: &str) -> String {
        match self.served.table.read().find(host, "/") {
            Found::Backend(backend) => match backend.in_turn() {
                Ok(endpoints) => endpoints.len().to_string(),
                Err(refusal) => refusal.to_string(),
            },
            Found::Refused(refusal) => refusal.to_string(),
            Found::Nothing => "nothing".to_owned(),
            Found::Unknown => "unknown".to_owned(),
        }
    }

    fn certificate(&self, host: &str) -> bool {
        self.served.table.read().certificates.find(Some(host)).is_some()
    }

    /// Lets everything that is under way happen; on virtual time this costs none.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }

    fn events(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let event = |e: &Value| format!("{} {}", text(&e["involvedObject"]["name"]), text(&e["reason"]));
        self.api.created().iter().map(event).collect()
    }
}

fn play<F: Future<Output = ()>>(prepare: impl FnOnce(&Scripted), test: impl FnOnce(Scene) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let api = Scripted::default();
        prepare(&api);
        let stage = Stage::local();
        let config = IngressConfig { node: "n1".to_owned(), http: None, https: None };
        let served = start(&stage, config, api.client()).unwrap();
        let scene = Scene { api, stage, served };
        scene.settle().await;
        test(scene).await;
    });
}

#[test]
fn it_serves_what_is_of_its_class_and_follows_changes() {
    let prepare = |api: &Scripted| {
        api.set("ingressclasses", class("troupe", "troupe.dev/ingress", false));
        api.set("ingressclasses", class("other", "example.com/other", false));
        api.set("ingresses", ingress("ours", Some("troupe"), "ours", "s"));
        api.set("ingresses", ingress("theirs", Some("other"), "theirs", "s"));
        api.set("ingresses", ingress("nobodys", None, "nobodys", "s"));
        api.set("services", service("s"));
        api.set("endpointslices", slice("s", &["10.0.0.1", "10.0.0.2"]));
    };
    play(prepare, async |scene| {
        assert!(scene.served.is_ready());
        let seen = || ["ours", "theirs", "nobodys"].map(|host| scene.endpoints(host));
        assert_eq!(seen(), ["2", "nothing", "nothing"]);
        // Whose an Ingress is may change with a class.
        scene.api.set("ingressclasses", class("troupe", "troupe.dev/ingress", true));
        scene.settle().await;
        assert_eq!(seen(), ["2", "nothing", "2"]);
        scene.api.set("ingresses", ingress("theirs", Some("troupe"), "theirs", "s"));
        scene.api.set("endpointslices", slice("s", &["10.0.0.2"]));
        scene.settle().await;
        assert_eq!(seen(), ["1", "1", "1"]);
        scene.api.delete("services", service("s"));
        scene.api.delete("ingresses", ingress("nobodys", None, "nobodys", "s"));
        scene.settle().await;
        let gone = "service \"a/s\" does not exist";
        assert_eq!(seen(), [gone, gone, "nothing"]);
    });
}

#[test]
fn certificates_follow_their_secrets_and_owners_are_told() {
    let prepare = |api: &Scripted| {
        api.set("ingressclasses", class("troupe", "troupe.dev/ingress", false));
        api.set("ingresses", ingress("i", Some("troupe"), "h", "s"));
        api.set("services", service("s"));
        api.set("secrets", secret("unrelated"));
    };
    play(prepare, async |scene| {
        assert!(!scene.certificate("h"));
        assert_eq!(scene.events(), ["i SecretMissing"]);
        scene.api.set("secrets", secret("i-tls"));
        scene.settle().await;
        assert!(scene.certificate("h"));
        let mut broken = secret("i-tls");
        broken["data"]["tls.key"] = "bm9uc2Vuc2U=".into();
        scene.api.set("secrets", broken);
        scene.settle().await;
        assert!(scene.certificate("h"), "what was good is kept");
        assert_eq!(scene.events(), ["i SecretMissing", "i SecretBroken"]);
        scene.api.delete("secrets", secret("i-tls"));
        scene.settle().await;
        assert!(!scene.certificate("h"));
        // A Secret that no Ingress names any more is not followed.
        scene.api.delete("ingresses", ingress("i", Some("troupe"), "h", "s"));
        scene.settle().await;
        scene.api.set("secrets", secret("i-tls"));
        scene.settle().await;
        assert!(!scene.certificate("h"));
    });
}

#[test]
fn what_an_ingress_cannot_be_served_from_is_told() {
    let prepare = |api: &Scripted| {
        api.set("ingressclasses", class("troupe", "troupe.dev/ingress", false));
        let mut elsewhere = service("s");
        elsewhere["spec"] = json!({"type": "ExternalName", "externalName": "example.com"});
        api.set("services", elsewhere);
        api.set("secrets", secret("i-tls"));
        api.set("ingresses", ingress("i", Some("troupe"), "h", "s"));
    };
    play(prepare, async |scene| {
        assert_eq!(
            scene.endpoints("h"),
            "service \"a/s\" is of type ExternalName, which an Ingress is not served from"
        );
        assert_eq!(scene.events(), ["i BackendRefused"]);
        // Told once, however often it is looked at.
        scene.api.set("services", service("t"));
        scene.api.set("ingresses", ingress("i", Some("troupe"), "h", "s"));
        scene.settle().await;
        assert_eq!(scene.events(), ["i BackendRefused"]);
    });
}

#[test]
fn a_rebuilt_actor_serves_on_and_forgets_what_is_gone() {
    let prepare = |api: &Scripted| {
        api.set("ingressclasses", class("troupe", "troupe.dev/ingress", false));
        for name in ["i", "j"] {
            api.set("ingresses", ingress(name, Some("troupe"), name, "s"));
            api.set("secrets", secret(&format!("{name}-tls")));
        }
        api.set("services", service("s"));
        api.set("endpointslices", slice("s", &["10.0.0.1"]));
    };
    play(prepare, async |scene| {
        assert_eq!((scene.endpoints("i"), scene.endpoints("j")), ("1".to_owned(), "1".to_owned()));
        assert!(scene.stage.inject_panic("node/ingress"));
        // At no moment is a request without an answer, or a client without a certificate.
        for _ in 0..200 {
            tokio::task::yield_now().await;
            assert!(scene.served.is_ready() && scene.endpoints("i") == "1" && scene.certificate("i"));
        }
        scene.settle().await;
        assert!(scene.certificate("i") && scene.endpoints("i") == "1");
        scene.api.delete("ingresses", ingress("j", Some("troupe"), "j", "s"));
        scene.settle().await;
        assert_eq!((scene.endpoints("j"), scene.certificate("j")), ("nothing".to_owned(), false));
    });
}
