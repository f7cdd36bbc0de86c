//! The HTTP side of a control plane, seen by plain HTTP clients over TLS: who they are, what they may ask of it at
//! once, and how it counts.

use std::time::Duration;

use actix_web::http::header::HttpDate;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::plane::Plane;
use crate::plane::server::{Answer, Asked, Server};

/// A client that knows the plane's CA, and whatever else it is given.
fn client(plane: &Plane, more: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    let ca = reqwest::Certificate::from_pem(plane.ca().as_bytes()).expect("a CA");
    more(Client::builder().tls_certs_only([ca])).build().expect("a client")
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

async fn json_of(response: Response) -> Value {
    let bytes = response.bytes().await.expect("a body");
    serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
}

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Who the plane takes a request for.
async fn who(client: &Client, plane: &Plane, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut asked = client.post(plane.url(WHO)).header("content-type", "application/json");
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    let answer = asked.body("{}").send().await.expect("an answer");
    (answer.status(), json_of(answer).await.pointer("/status/userInfo").cloned().unwrap_or_default())
}

/// A CA, and a certificate of it for clients with this name; PEM of the CA, and of certificate and key.
fn certified(name: &str) -> (String, String) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "proxies");
    let ca_pem = ca.self_signed(&ca_key).expect("a CA").pem();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a certificate");
    (ca_pem, format!("{}{}", certificate.pem(), key.serialize_pem()))
}

#[test]
fn a_proxy_says_on_whose_behalf_it_asks() {
    let (ca, proxy) = certified("proxy");
    let plane = Plane::with(|options, dir| {
        let file = dir.join("proxies.pem");
        std::fs::write(&file, &ca).expect("a file");
        options.requestheader_client_ca_file = Some(file);
        options.requestheader_allowed_names = vec!["proxy".to_owned()];
        options.requestheader_username_headers = vec!["X-Remote-User".to_owned()];
        options.requestheader_group_headers = vec!["X-Remote-Group".to_owned()];
        options.requestheader_extra_headers_prefix = vec!["X-Remote-Extra-".to_owned()];
    });
    let named = [
        ("x-remote-user", "jane"),
        ("x-remote-group", "dev"),
        ("x-remote-group", "ops"),
        ("x-remote-extra-scopes", "a"),
    ];
    run(async {
        let identity = reqwest::Identity::from_pem(proxy.as_bytes()).expect("a certificate");
        let by_proxy = client(&plane, |builder| builder.identity(identity));
        let (status, user) = who(&by_proxy, &plane, &named).await;
        assert_eq!(status, 201, "{user}");
        assert_eq!(
            user,
            json!({"username": "jane", "groups": ["dev", "ops", "system:authenticated"], "extra": {"scopes": ["a"]}})
        );
        // Its own name is nobody's here.
        assert_eq!(who(&by_proxy, &plane, &[]).await.0, 401);
        // Without such a certificate the headers are noise; with a user's, they are that user's noise.
        assert_eq!(who(&client(&plane, |builder| builder), &plane, &named).await.0, 403);
        let admin = reqwest::Identity::from_pem(plane.admin().as_bytes()).expect("a certificate");
        let (_, user) = who(&client(&plane, |builder| builder.identity(admin)), &plane, &named).await;
        assert_eq!(user["username"], "admin");
        // One of another name, of the same CA, is not believed; nor one of another CA let in.
        let (_, other) = certified("proxy");
        let other = reqwest::Identity::from_pem(other.as_bytes()).expect("a certificate");
        let stranger = client(&plane, |builder| builder.identity(other));
        let answer = stranger.post(plane.url(WHO)).body("{}").headers(Default::default()).send().await;
        assert!(answer.is_err(), "TLS lets in a certificate of an unknown CA");
    });
    let told = plane.raw("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication");
    let data = &told["data"];
    assert_eq!(data["requestheader-allowed-names"], "[\"front-proxy\",\"proxy\"]");
    assert_eq!(data["requestheader-username-headers"], "[\"X-Remote-User\"]");
    let cas = data["requestheader-client-ca-file"].as_str().expect("CAs");
    assert!(cas.ends_with(&ca) && cas.matches("BEGIN CERTIFICATE").count() == 2, "{cas}");
    assert!(data["client-ca-file"].as_str().is_some_and(|ca| ca.contains("BEGIN CERTIFICATE")));
}

#[test]
fn a_token_of_an_outside_issuer_is_a_user_of_ours() {
    let key = KeyPair::generate().expect("a key");
    let point = key.public_key_raw().to_vec();
    let coordinate = |bytes: &[u8]| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    };
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig",
        "x": coordinate(&point[1..33]), "y": coordinate(&point[33..65])}]});
    let plane = Plane::with(|options, dir| {
        let file = dir.join("jwks.json");
        std::fs::write(&file, jwks.to_string()).expect("a file");
        options.oidc_issuer_url = Some("https://issuer.example.com".to_owned());
        options.oidc_client_id = Some("cluster".to_owned());
        options.oidc_username_claim = "email".to_owned();
        options.oidc_groups_claim = Some("groups".to_owned());
        options.oidc_groups_prefix = "oidc:".to_owned();
        options.oidc_jwks_file = Some(file);
    });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let token = |audience: &str, until: u64| {
        let claims = json!({"iss": "https://issuer.example.com", "aud": audience, "sub": "1", "exp": until,
            "iat": now - 10, "email": "jane@example.com", "email_verified": true, "groups": ["dev"]});
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
        format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).expect("a token"))
    };
    run(async {
        let client = client(&plane, |builder| builder);
        let (status, user) = who(&client, &plane, &[("authorization", &token("cluster", now + 600))]).await;
        assert_eq!(status, 201, "{user}");
        assert_eq!(
            (user["username"].as_str(), &user["groups"]),
            (Some("jane@example.com"), &json!(["oidc:dev", "system:authenticated"]))
        );
        for bad in [token("another", now + 600), token("cluster", now - 600), "Bearer no.to.ken".to_owned()] {
            assert_eq!(who(&client, &plane, &[("authorization", &bad)]).await.0, 401, "{bad}");
        }
        // What the user may do is RBAC's affair.
        let secrets = plane.url("/api/v1/namespaces/default/secrets");
        let asked = || client.get(&secrets).header("authorization", token("cluster", now + 600));
        assert_eq!(asked().send().await.expect("an answer").status(), 403);
        plane.kubectl(&["create", "rolebinding", "dev", "--clusterrole=edit", "--group=oidc:dev"]);
        let mut status = asked().send().await.expect("an answer").status();
        // The write is acknowledged before every reader sees it.
        for _ in 0..100 {
            if status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            status = asked().send().await.expect("an answer").status();
        }
        assert_eq!(status, 200);
    });
}

fn admin(plane: &Plane) -> Client {
    let identity = reqwest::Identity::from_pem(plane.admin().as_bytes()).expect("a certificate");
    client(plane, |builder| builder.identity(identity))
}

#[test]
fn a_document_that_is_asked_for_by_its_hash_is_good_for_a_year_and_a_client_with_an_older_one_is_led_on() {
    let plane = Plane::start();
    run(async {
        let client = admin(&plane);
        let get = |path: String| client.get(plane.url(&path)).send();
        let index = json_of(get("/openapi/v3".into()).await.expect("an answer")).await;
        let path =
            index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("an address").to_owned();
        let kept = get(path.clone()).await.expect("an answer");
        assert_eq!(kept.headers()["cache-control"], "public, immutable");
        let until = kept.headers()["expires"].to_str().expect("a time");
        let until: std::time::SystemTime = until.parse::<HttpDate>().expect("a time").into();
        assert!(until > std::time::SystemTime::now() + Duration::from_secs(300 * 24 * 60 * 60));
        let tag = kept.headers()["etag"].to_str().expect("a tag").trim_matches('"').to_owned();
        assert_eq!(path, format!("/openapi/v3/apis/apps/v1?hash={tag}"));
        // The client follows where it is sent.
        let led = get("/openapi/v3/apis/apps/v1?hash=OLDER".into()).await.expect("an answer");
        assert_eq!(
            (led.status().as_u16(), led.url().query()),
            (200, path.split_once('?').map(|(_, query)| query))
        );
        for path in ["/openapi/v3/apis/apps/v1", "/openapi/v2?hash=ANY"] {
            let answer = get(path.into()).await.expect("an answer");
            assert_eq!(answer.headers()["cache-control"], "no-cache, private", "{path}");
        }
        let known = client.get(plane.url(&path)).header("if-none-match", format!("\"{tag}\"")).send().await;
        assert_eq!(known.expect("an answer").status(), 304);
    });
}

#[test]
fn long_answers_are_compressed_for_who_can_read_them_and_all_are_counted() {
    use std::io::Read;
    let plane = Plane::start();
    let text = "x".repeat(200 << 10);
    plane.create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "long"}, "data": {"text": text}}));
    run(async {
        let client = admin(&plane);
        let path = plane.url("/api/v1/namespaces/default/configmaps/long");
        let plain = client.get(&path).send().await.expect("an answer");
        assert_eq!(plain.headers().get("content-encoding"), None);
        let plain = plain.bytes().await.expect("a body");
        let packed = client.get(&path).header("accept-encoding", "gzip").send().await.expect("an answer");
        assert_eq!(packed.headers()["content-encoding"], "gzip");
        let packed = packed.bytes().await.expect("a body");
        assert!(packed.len() * 10 < plain.len(), "{} of {}", packed.len(), plain.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain);
        let metrics = client.get(plane.url("/metrics")).send().await.expect("an answer").text().await;
        let metrics = metrics.expect("text");
        let has = |start: &str, part: &str| {
            assert!(
                metrics.lines().any(|line| line.starts_with(start) && line.contains(part)),
                "no {start} with {part}:\n{metrics}"
            );
        };
        let get = "resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"GET\"";
        has("apiserver_request_total{code=\"200\"", get);
        has("apiserver_request_duration_seconds_bucket{", "le=\"0.005\"");
        has("apiserver_response_sizes_sum{", get);
        has("apiserver_request_body_size_bytes_count{", "resource=\"configmaps\",verb=\"create\"");
        has("etcd_request_duration_seconds_count{", "operation=\"create\",resource=\"configmaps\"");
        has("apiserver_resource_objects{group=\"\",resource=\"configmaps\"} ", "");
        has("apiserver_flowcontrol_dispatched_requests_total{", "priority_level=\"exempt\"");
        has("apiserver_flowcontrol_nominal_limit_seats{", "priority_level=\"workload-low\"");
        has("authentication_attempts{result=\"success\"} ", "");
        has("authenticated_user_requests{username=\"admin\"} ", "");
        has("process_resident_memory_bytes ", "");
        has("kubernetes_build_info{", "git_version=\"v1.36");
    });
}

#[test]
fn who_finds_no_seat_is_told_when_to_come_again() {
    let (release, held) = tokio::sync::watch::channel(false);
    let late = move |asked: &Asked| match asked.path() {
        "/late" => Answer::Held(held.clone()),
        _ => Answer::Json(500, json!({})),
    };
    let (plane, server) = (Plane::start(), Server::start(&[], None, late));
    plane.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "late"}, "webhooks": [{"name": "late.example.com", "failurePolicy": "Ignore",
            "clientConfig": server.client_config("/late"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "timeoutSeconds": 10, "objectSelector": {"matchLabels": {"late": "yes"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}]}));
    plane.apply(
        &json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "narrow"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0,
            "lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}}),
    );
    plane.apply(&json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "narrow"}, "spec": {"priorityLevelConfiguration": {"name": "narrow"},
            "matchingPrecedence": 2, "rules": [{"subjects": [{"kind": "User", "user": {"name": "narrow"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]}}));
    plane.kubectl(&[
        "create",
        "clusterrolebinding",
        "narrow",
        "--clusterrole=cluster-admin",
        "--user=narrow",
    ]);
    run(async {
        let client = admin(&plane);
        let path = plane.url("/api/v1/namespaces/default/configmaps");
        let narrow = |request: reqwest::RequestBuilder| request.header("impersonate-user", "narrow");
        let schema = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/narrow";
        let schema = json_of(client.get(plane.url(schema)).send().await.expect("an answer")).await;
        let uid = schema["metadata"]["uid"].as_str().expect("a uid");
        // What is declared holds soon, not at once; nobody else is of this level, so each is served.
        loop {
            let answer = narrow(client.get(&path)).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            if answer.headers()["x-kubernetes-pf-flowschema-uid"] == uid {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"generateName": "slow-", "labels": {"late": "yes"}}});
        let create = || {
            let create = client.post(&path).header("content-type", "application/json");
            narrow(create.body(body.to_string())).send()
        };
        // So does the webhook: one that it is not asked about is made and takes its seat along.
        let mut slow = Box::pin(create());
        while !server.was_asked("/late") {
            match tokio::time::timeout(Duration::from_millis(5), &mut slow).await {
                Ok(made) => {
                    assert_eq!(made.expect("an answer").status(), 201);
                    slow = Box::pin(create());
                }
                Err(_) => continue,
            }
        }
        let meanwhile = async {
            let refused = narrow(client.get(&path)).send().await.expect("an answer");
            release.send(true).expect("the webhook waits");
            refused
        };
        let (slow, refused) = tokio::join!(slow, meanwhile);
        assert_eq!(refused.status(), 429, "while one is served, the other is refused");
        assert_eq!(refused.headers()["retry-after"], "1");
        assert!(refused.headers().contains_key("x-kubernetes-pf-flowschema-uid"));
        assert_eq!(refused.text().await.expect("text"), "Too many requests, please try again later.\n");
        // The webhook's failure is ignored; and then there is room again.
        assert_eq!(slow.expect("an answer").status(), 201);
        assert_eq!(narrow(client.get(&path)).send().await.expect("an answer").status(), 200);
    });
}

#[test]
fn who_prefers_protobuf_gets_what_has_no_form_but_json() {
    let plane = Plane::start();
    run(async {
        let client = admin(&plane);
        for (path, accept, code) in [
            ("/version", "application/vnd.kubernetes.protobuf,application/json", 200),
            ("/version", "application/vnd.kubernetes.protobuf", 406),
            ("/", "application/vnd.kubernetes.protobuf", 200),
        ] {
            let answer =
                client.get(plane.url(path)).header("accept", accept).send().await.expect("an answer");
            assert_eq!(answer.status(), code, "{path} {accept}");
            if code == 200 {
                assert!(json_of(answer).await.is_object(), "{path}");
            }
        }
        let answer = client.get(plane.url("/metrics")).send().await.expect("metrics");
        let metrics = answer.text().await.expect("a text");
        for name in [
            "apiserver_request_sli_duration_seconds_bucket{",
            "authorization_attempts_total{result=\"allowed\"}",
            "authorization_duration_seconds_count{result=\"allowed\"}",
        ] {
            assert!(metrics.contains(name), "{name}");
        }
    });
}
