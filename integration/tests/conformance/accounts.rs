//! ServiceAccounts and what proves who somebody is: tokens and their review, signing requests, reviews of access.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, has_condition, name, pod};

pub fn root_ca_is_everywhere(scene: &Scene) {
    let path = format!("{}/kube-root-ca.crt", scene.core("configmaps"));
    let made = scene.until(&path, |_| true);
    assert_eq!(made["data"]["ca.crt"], scene.plane.ca());
    scene.api.delete(&path).ok();
    let again = scene.until(&path, |map| map["metadata"]["uid"] != made["metadata"]["uid"]);
    assert_eq!(again["data"], made["data"]);
    let wrong = json!({"data": {"ca.crt": "something else"}});
    scene.api.merge(&path, &wrong).ok();
    scene.until(&path, |map| map["data"] == made["data"]);
}

/// Whether a pod got a volume with a token.
fn has_token(pod: &Value) -> bool {
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array();
    mounts.is_some_and(|all| {
        all.iter().any(|one| one["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount")
    })
}

pub fn tokens_are_mounted_unless_declined(scene: &Scene) {
    let accounts = scene.core("serviceaccounts");
    for (account, mounts) in [("default", None), ("mount", Some(true)), ("nomount", Some(false))] {
        if account != "default" {
            let object = json!({"metadata": {"name": account}, "automountServiceAccountToken": mounts});
            scene.create(&accounts, &object);
        }
        for (spec, wanted) in [(None, mounts != Some(false)), (Some(true), true), (Some(false), false)] {
            let mut object = pod(&format!("{account}-{spec:?}").to_lowercase().replace(['(', ')'], "-"), "x");
            object["metadata"]["name"] = name(&object).trim_end_matches('-').into();
            object["spec"]["serviceAccountName"] = account.into();
            object["spec"]["automountServiceAccountToken"] = json!(spec);
            let made = scene.create(&scene.core("pods"), &object);
            assert_eq!(has_token(&made), wanted, "{account} {spec:?}");
        }
    }
}

pub fn tokens_are_reviewed(scene: &Scene) {
    let accounts = scene.core("serviceaccounts");
    let account = scene.create(&accounts, &json!({"metadata": {"name": "robot"}}));
    let made = scene.api.post(&format!("{accounts}/robot/token"), &json!({"spec": {}})).ok();
    let token = made["status"]["token"].as_str().expect("a token");
    assert!(!token.is_empty());
    let review = json!({"spec": {"token": token}});
    let said = scene.api.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).ok();
    let status = &said["status"];
    assert_eq!((&status["authenticated"], &status["error"]), (&json!(true), &Value::Null));
    assert_eq!(status["user"]["username"], format!("system:serviceaccount:{}:robot", scene.ns));
    assert_eq!(status["user"]["uid"], account["metadata"]["uid"]);
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me = scene.api.ask(Method::POST, path, &headers, "{}".to_owned());
    // The client's certificate is asked first.
    assert_eq!(me.ok()["status"]["userInfo"]["username"], "admin");
    // Nobody is known by a token of an account that is gone.
    scene.api.delete(&format!("{accounts}/robot")).ok();
    let ask = || scene.api.post("/apis/authentication.k8s.io/v1/tokenreviews", &review);
    scene.until_answered(ask, |answer| answer.body["status"]["authenticated"] != true);
}

pub fn lifecycle(scene: &Scene) {
    let accounts = scene.core("serviceaccounts");
    let label = format!("?labelSelector=of%3D{}", scene.ns);
    let mut watch = scene.api.watch(&format!("{accounts}{label}"));
    scene.create(&accounts, &json!({"metadata": {"name": "robot", "labels": {"of": scene.ns}}}));
    watch.until("ADDED", |one| name(one) == "robot");
    let change = json!({"automountServiceAccountToken": false});
    let patched = scene.api.patch(Patch::Strategic, &format!("{accounts}/robot"), &change).ok();
    assert_eq!(patched["automountServiceAccountToken"], false);
    let all = scene.items(&format!("/api/v1/serviceaccounts{label}"));
    assert_eq!((all.len(), &all[0]["automountServiceAccountToken"]), (1, &json!(false)));
    scene.api.delete(&format!("{accounts}{label}")).ok();
    watch.until("DELETED", |one| name(one) == "robot");
}

pub fn updated(scene: &Scene) {
    let accounts = scene.core("serviceaccounts");
    let path = format!("{accounts}/robot");
    scene.create(&accounts, &json!({"metadata": {"name": "robot"}, "automountServiceAccountToken": false}));
    scene.update(&path, |account| account["automountServiceAccountToken"] = true.into());
    assert_eq!(scene.get(&path)["automountServiceAccountToken"], true);
}

pub fn reviews_of_access(scene: &Scene) {
    let accounts = scene.core("serviceaccounts");
    scene.create(&accounts, &json!({"metadata": {"name": "robot"}}));
    let user = format!("system:serviceaccount:{}:robot", scene.ns);
    let attributes =
        json!({"verb": "list", "resource": "configmaps", "version": "v1", "namespace": scene.ns});
    let spec = json!({"user": user, "resourceAttributes": attributes});
    let local = scene.at("authorization.k8s.io/v1", "localsubjectaccessreviews");
    let global = "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned();
    let myself = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let local_body = json!({"metadata": {"namespace": scene.ns}, "spec": spec});
    let agree = |allowed: bool| {
        for (path, body) in [(&global, json!({"spec": spec})), (&local, local_body.clone())] {
            let said = scene.api.post(path, &body).ok();
            assert_eq!(said["status"]["allowed"], allowed, "{path}: {said}");
        }
        let as_user = [("impersonate-user", user.as_str()), ("content-type", "application/json")];
        let list = scene.api.ask(Method::GET, &scene.core("configmaps"), &as_user, String::new());
        assert_eq!(list.code, if allowed { 200 } else { 403 }, "{list:?}");
        let body = json!({"spec": {"resourceAttributes": attributes}}).to_string();
        let said = scene.api.ask(Method::POST, myself, &as_user, body);
        if allowed {
            assert_eq!(said.ok()["status"]["allowed"], true);
        } else {
            // Nor may somebody who is in no group ask about themselves.
            assert!(said.code == 403 || said.body["status"]["allowed"] == false, "{said:?}");
        }
    };
    agree(false);
    let roles = scene.at("rbac.authorization.k8s.io/v1", "rolebindings");
    scene.create(
        &roles,
        &json!({"metadata": {"name": "robot-views"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": scene.ns}]}),
    );
    let ask = || scene.api.post(&global, &json!({"spec": spec}));
    scene.until_answered(ask, |answer| answer.body["status"]["allowed"] == true);
    let said = scene.api.post(&local, &local_body).ok();
    assert_eq!(said["status"]["allowed"], true);
}

pub fn issuer_is_discovered(scene: &Scene) {
    let configuration = scene.get("/.well-known/openid-configuration");
    assert!(configuration["issuer"].is_string(), "{configuration}");
    let keys = scene.get("/openid/v1/jwks");
    let made = scene
        .api
        .post(&format!("{}/default/token", scene.core("serviceaccounts")), &json!({"spec": {}}))
        .ok();
    let token = made["status"]["token"].as_str().expect("a token");
    let header = jsonwebtoken::decode_header(token).expect("a header");
    let all: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).expect("a key set");
    let key = all.find(&header.kid.expect("a key's id")).expect("the key that signed");
    let mut wanted = jsonwebtoken::Validation::new(header.alg);
    wanted.set_issuer(&[configuration["issuer"].as_str().expect("a name")]);
    wanted.validate_aud = false;
    let key = jsonwebtoken::DecodingKey::from_jwk(key).expect("a key");
    let claims = jsonwebtoken::decode::<Value>(token, &key, &wanted).expect("a token of this issuer").claims;
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:default", scene.ns));
}

pub fn signing_requests(scene: &Scene) {
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "e2e.example.com");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    let label = format!("?labelSelector=of%3D{}", scene.ns);
    let object = |name: &str| {
        json!({"metadata": {"name": format!("{}-{name}", scene.ns), "labels": {"of": scene.ns}}, "spec": {
            "request": STANDARD.encode(&pem), "signerName": "example.com/mine", "expirationSeconds": 3600,
            "usages": ["digital signature", "key encipherment", "server auth"]}})
    };
    let (one, two) = (format!("{requests}/{}-one", scene.ns), format!("{requests}/{}-two", scene.ns));
    let made = scene.create(requests, &object("one"));
    assert_eq!(made["spec"]["username"], "admin");
    let approval = format!("{one}/approval");
    scene.get(&approval);
    let condition =
        |kind: &str| json!([{"type": kind, "status": "True", "reason": "ByHand", "message": "said by hand"}]);
    let change = json!({"metadata": {"annotations": {"patched": "yes"}}, "status": {"conditions": condition("Approved")}});
    let patched = scene.api.merge(&approval, &change).ok();
    assert!(has_condition(&patched, "Approved", "True"));
    assert_eq!(patched["metadata"]["annotations"]["patched"], "yes");
    // Who approved cannot deny any more, nor take the approval back.
    scene.api.merge(&approval, &json!({"status": {"conditions": []}})).refused(422);
    let updated = scene.update(&approval, |request| {
        request["metadata"]["annotations"]["updated"] = "yes".into();
    });
    assert_eq!(updated["metadata"]["annotations"]["updated"], "yes");

    let status = format!("{one}/status");
    scene.get(&status);
    let issued = STANDARD.encode(scene.plane.ca());
    let patched = scene.api.merge(&status, &json!({"status": {"certificate": issued}})).ok();
    assert_eq!(patched["status"]["certificate"], issued.as_str());
    assert!(has_condition(&patched, "Approved", "True"), "a status leaves conditions alone");
    let updated = scene.update(&status, |request| {
        let failed =
            json!({"type": "Failed", "status": "True", "reason": "ByHand", "message": "said by hand"});
        request["status"]["conditions"].as_array_mut().expect("conditions").push(failed);
    });
    assert!(has_condition(&updated, "Failed", "True"));

    scene.create(requests, &object("two"));
    scene.api.delete(&one).ok();
    scene.until_gone(&one);
    scene.get(&two);
    scene.api.delete(&format!("{requests}{label}")).ok();
    scene.until_items(&format!("{requests}{label}"), <[Value]>::is_empty);
}
