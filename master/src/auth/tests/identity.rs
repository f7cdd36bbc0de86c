//! Tokens, certificates' stand-ins and impersonation: who somebody is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::tokens::{Bound, ISSUER, ObjectRef, TokenError, TokenKeys};
use super::super::*;
use super::{World, pod, who};

fn keys() -> Arc<TokenKeys> {
    // P-256 keys are made in no time, RSA ones are not.
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    Arc::new(TokenKeys::from_pem(&pem).unwrap())
}

fn account(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "a", "name": "runner", "uid": uid}})
}

fn request(world: &World, keys: &TokenKeys, spec: Value) -> Result<Value, protocol::ApiError> {
    reviews::token_request(keys, &world.cache, "a", "runner", &json!({"spec": spec}))
}

#[test]
fn tokens_stand_for_their_account_while_it_exists() {
    let (world, keys) = (World::new(), keys());
    world.put("", "serviceaccounts", account("u1")).put("", "pods", pod("web", "n1"));
    world.put(
        "",
        "nodes",
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "un1"}}),
    );
    let authenticator = Authenticator::new(world.cache.clone(), keys.clone());
    let good =
        request(&world, &keys, json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web"}}))
            .unwrap();
    assert_eq!(good["spec"]["audiences"], json!([ISSUER]));
    assert_eq!(good["spec"]["expirationSeconds"], 3600);
    let header = format!("Bearer {}", good["status"]["token"].as_str().unwrap());
    let caller = authenticator.authenticate(None, Some(&header)).unwrap();
    assert_eq!((caller.user.as_str(), caller.uid.as_str()), ("system:serviceaccount:a:runner", "u1"));
    assert_eq!(caller.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
    for (name, value) in
        [("pod-name", "web"), ("pod-uid", "uid-web"), ("node-name", "n1"), ("node-uid", "un1")]
    {
        assert_eq!(caller.extra[&format!("authentication.kubernetes.io/{name}")], [value]);
    }
    let review =
        reviews::token_review(&authenticator, &json!({"spec": {"token": good["status"]["token"]}})).unwrap();
    assert_eq!(review["status"]["authenticated"], true);
    let id = &review["status"]["user"]["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(id.as_str().is_some_and(|id| id.starts_with("JTI=")), "{review}");

    let refused = |header: &str| authenticator.authenticate(None, Some(header)).err().map(|e| e.code());
    world.delete("", "pods", "a", "web");
    assert_eq!(refused(&header), Some(401), "its pod is gone");
    world.put("", "pods", pod("web", "n1"));
    assert_eq!(refused(&header), None);
    world.put("", "serviceaccounts", account("u2"));
    assert_eq!(refused(&header), Some(401), "another account of the same name");

    world.put("", "serviceaccounts", account("u1"));
    let elsewhere = request(&world, &keys, json!({"audiences": ["golden"]})).unwrap();
    let elsewhere = elsewhere["status"]["token"].as_str().unwrap();
    assert_eq!(refused(&format!("Bearer {elsewhere}")), Some(401), "another audience");
    let review = json!({"spec": {"token": elsewhere, "audiences": ["golden", "x"]}});
    let review = reviews::token_review(&authenticator, &review).unwrap();
    assert_eq!(review["status"]["audiences"], json!(["golden"]));
    for bad in [
        "Bearer golden",
        "bearer golden",
        "Bearer a b",
        "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJnb2xkZW4iLCJzdWIiOiJ4In0.c2ln",
    ] {
        assert_eq!(refused(bad), Some(401), "{bad}");
    }
    for none in ["Basic Z29sZGVuOmdvbGRlbg==", "golden", "", "Bearer"] {
        assert_eq!(authenticator.authenticate(None, Some(none)).unwrap().user, ANONYMOUS, "{none}");
    }
}

#[test]
fn tokens_are_checked_by_signature_and_clock() {
    let (keys, others) = (keys(), keys());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let bound = Bound {
        namespace: "a".to_owned(),
        serviceaccount: ObjectRef { name: "runner".to_owned(), uid: "u".to_owned() },
        ..Bound::default()
    };
    let us = [ISSUER.to_owned()];
    let token = keys.mint(&us, Duration::from_secs(600), now, bound.clone()).unwrap().token;
    let at = |seconds: u64| {
        keys.verify(&token, &us, now + Duration::from_secs(seconds)).map(|(claims, _)| claims.bound)
    };
    assert_eq!(at(0), Ok(bound.clone()));
    assert_eq!(at(599), Ok(bound));
    assert_eq!(at(600), Err(TokenError::Expired));
    assert_eq!(keys.verify(&token, &us, now - Duration::from_secs(60)).err(), Some(TokenError::Expired));
    assert_eq!(others.verify(&token, &us, now).err(), Some(TokenError::Invalid));
    let mut forged = token.clone();
    forged.replace_range(40..41, if &token[40..41] == "A" { "B" } else { "A" });
    assert_eq!(keys.verify(&forged, &us, now).err(), Some(TokenError::Invalid));
    let set = keys.jwks();
    assert_eq!((set["keys"][0]["kty"].as_str(), set["keys"][0]["use"].as_str()), (Some("EC"), Some("sig")));
}

#[test]
fn token_requests_are_validated() {
    let (world, keys) = (World::new(), keys());
    let missing = request(&world, &keys, json!({})).unwrap_err();
    assert_eq!(missing.to_string(), "serviceaccounts \"runner\" not found");
    world.put("", "serviceaccounts", account("u1")).put("", "pods", {
        let mut other = pod("other", "n1");
        other["spec"]["serviceAccountName"] = "someone".into();
        other
    });
    for (spec, code, message) in [
        (
            json!({"expirationSeconds": 599}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 4294967297i64}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}}),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            json!({"boundObjectRef": {"kind": "Node", "apiVersion": "v1", "name": "none"}}),
            404,
            "nodes \"none\" not found",
        ),
        (
            json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "other"}}),
            400,
            "cannot bind token for serviceaccount \"runner\" to pod running with different serviceaccount name.",
        ),
    ] {
        let error = request(&world, &keys, spec).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message));
    }
}

#[test]
fn bootstrap_tokens_work_until_they_expire() {
    let world = World::new();
    let authenticator = Authenticator::new(world.cache.clone(), keys());
    let secret =
        |expiration, groups| authenticate::bootstrap_secret("abcdef", "0123456789abcdef", expiration, groups);
    let header = Some("Bearer abcdef.0123456789abcdef");
    assert_eq!(authenticator.authenticate(None, header).unwrap_err().code(), 401);
    world.put("", "secrets", secret(None, "system:bootstrappers:nodes"));
    let caller = authenticator.authenticate(None, header).unwrap();
    assert_eq!(caller.user, "system:bootstrap:abcdef");
    assert_eq!(caller.groups, ["system:bootstrappers", "system:bootstrappers:nodes", "system:authenticated"]);
    assert!(authenticator.authenticate(None, Some("Bearer abcdef.0123456789abcdee")).is_err());
    world.put("", "secrets", secret(Some("2999-01-01T00:00:00Z"), ""));
    assert!(authenticator.authenticate(None, header).is_ok());
    for (expiration, groups) in
        [(Some("2001-01-01T00:00:00Z"), ""), (Some("soon"), ""), (None, "system:masters")]
    {
        world.put("", "secrets", secret(expiration, groups));
        assert!(authenticator.authenticate(None, header).is_err(), "{expiration:?} {groups}");
    }
}

#[test]
fn impersonation_is_asked_for_piece_by_piece() {
    let read = |headers: &[(&str, &str)]| Impersonation::from_headers(headers.iter().copied());
    assert_eq!(read(&[("Accept", "x"), ("Impersonate-User", "")]), Ok(None));
    let nobody = read(&[("Impersonate-Group", "dev")]).unwrap_err();
    assert_eq!(
        nobody.to_string(),
        "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"dev\"}, Extra:map[string][]string(nil)} without impersonating a user name"
    );
    let nobody = read(&[("Impersonate-Extra-A", "x")]).unwrap_err();
    assert_eq!(
        nobody.to_string(),
        "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string(nil), Extra:map[string][]string{\"a\":[]string{\"x\"}}} without impersonating a user name"
    );

    let headers = [
        ("impersonate-user", "jane"),
        ("Impersonate-User", "joe"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Uid", "u-1"),
        ("Impersonate-Extra-acme.com%2Fproject", "p"),
    ];
    let wanted = read(&headers).unwrap().unwrap();
    let asked: Vec<_> = wanted
        .permissions(&who("root", &[]).into())
        .into_iter()
        .map(|a| (a.verb.clone(), a.group.clone(), a.full_resource().into_owned(), a.name))
        .collect();
    let one = |group: &str, resource: &str, name: &str| {
        ("impersonate".to_owned(), group.to_owned(), resource.to_owned(), name.to_owned())
    };
    assert_eq!(
        asked,
        [
            one("", "users", "jane"),
            one("", "groups", "dev"),
            one("", "groups", "ops"),
            one("authentication.k8s.io", "uids", "u-1"),
            one("authentication.k8s.io", "userextras/acme.com/project", "p"),
        ]
    );
    let caller = wanted.caller();
    assert_eq!(caller.groups, ["dev", "ops", "system:authenticated"]);
    assert_eq!(caller.extra["acme.com/project"], ["p"]);

    for (user, groups) in [
        (
            "system:serviceaccount:a:b",
            &["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"][..],
        ),
        ("system:serviceaccount:a", &["system:authenticated"]),
        ("system:anonymous", &["system:unauthenticated"]),
    ] {
        assert_eq!(read(&[("Impersonate-User", user)]).unwrap().unwrap().caller().groups, groups, "{user}");
    }
}

#[test]
fn a_token_in_a_secret_is_good_while_the_secret_holds_it() {
    use base64::Engine;
    let (world, keys) = (World::new(), keys());
    world.put("", "serviceaccounts", account("u1"));
    let token = keys.mint_lasting("a", "held", "runner", "u1").unwrap();
    let secret = |token: &str| {
        let data = base64::engine::general_purpose::STANDARD.encode(token);
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"namespace": "a", "name": "held"}, "data": {"token": data}})
    };
    let authenticator = Authenticator::new(world.cache.clone(), keys);
    let us = [ISSUER.to_owned()];
    assert!(matches!(authenticator.token(&token, &us), Err(TokenError::Invalidated(_))));
    world.put("", "secrets", secret(&token));
    let (caller, audiences) = authenticator.token(&token, &us).unwrap();
    assert_eq!((caller.user.as_str(), caller.uid.as_str()), ("system:serviceaccount:a:runner", "u1"));
    assert_eq!(audiences, us);
    assert!(matches!(authenticator.token(&token, &["other".to_owned()]), Err(TokenError::Audience(_))));
    world.put("", "secrets", secret("another"));
    assert!(matches!(authenticator.token(&token, &us), Err(TokenError::Invalidated(_))));
}
