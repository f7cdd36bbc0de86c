use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::auth::authenticate::certificate_caller;

fn der(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

#[test]
fn what_is_made_once_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = ["192.0.2.7".to_owned(), "master-1".to_owned()];
    let first = Pki::open(dir.path()).unwrap();
    let (ca, serving, admin) =
        (first.ca().to_owned(), first.serving(&hosts).unwrap(), first.admin().unwrap());
    let again = Pki::open(dir.path()).unwrap();
    assert_eq!(again.ca(), ca);
    assert_eq!(again.serving(&hosts).unwrap().certificate, serving.certificate);
    assert_eq!(again.admin().unwrap().certificate, admin.certificate);
    let other = again.serving(&["192.0.2.8".to_owned()]).unwrap();
    assert_ne!(other.certificate, serving.certificate, "a new address needs a new certificate");
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn certificates_say_who_their_owners_are_and_verify() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    let caller = certificate_caller(&der(&pki.admin().unwrap().certificate)).unwrap();
    assert_eq!(caller.user, "admin");
    assert_eq!(caller.groups, ["system:masters", "system:authenticated"]);
    assert!(caller.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));

    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::new(vec!["n1".to_owned()]).unwrap();
    wanted.distinguished_name.push(DnType::CommonName, "admin-i-wish");
    let csr = wanted.serialize_request(&key).unwrap().pem().unwrap();
    let signed = pki.sign_csr(&csr, "system:node:n1", &["system:nodes"], Usage::Both, &|_| true).unwrap();
    let caller = certificate_caller(&der(&signed)).unwrap();
    assert_eq!((caller.user.as_str(), caller.groups[0].as_str()), ("system:node:n1", "system:nodes"));
    assert!(pki.sign_csr("rubbish", "x", &[], Usage::Client, &|_| true).is_err());
    let refused = pki.sign_csr(&csr, "system:node:n1", &["system:nodes"], Usage::Both, &|_| false);
    assert!(refused.unwrap_err().to_string().contains("somebody else"));

    // A TLS stack accepts both sides.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(pki.ca()).into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots.clone()),
        provider.clone(),
    )
    .build()
    .unwrap();
    let now = rustls::pki_types::UnixTime::now();
    clients.verify_client_cert(&der(&signed).into(), &[], now).unwrap();
    let servers = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    use rustls::client::danger::ServerCertVerifier;
    let serving = pki.serving(&["192.0.2.7".to_owned()]).unwrap();
    for name in ["localhost", "127.0.0.1", "192.0.2.7", "kubernetes.default.svc"] {
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        servers.verify_server_cert(&der(&serving.certificate).into(), &[], &name, &[], now).unwrap();
    }
}

#[test]
fn the_token_key_is_rsa_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    let pem = pki.service_account_key().unwrap();
    assert_eq!(pki.service_account_key().unwrap(), pem);
    let keys = crate::auth::tokens::TokenKeys::from_pem(&pem).unwrap();
    let us = ["x".to_owned()];
    let now = std::time::SystemTime::now();
    let token = keys.mint(&us, LIFETIME, now, Default::default()).unwrap().token;
    assert!(keys.verify(&token, &us, now).is_ok());
    let jwks = keys.jwks();
    assert_eq!(
        (jwks["keys"][0]["kty"].as_str(), jwks["keys"][0]["alg"].as_str()),
        (Some("RSA"), Some("RS256"))
    );
    let configuration = keys.openid_configuration("https://127.0.0.1/openid/v1/jwks");
    assert_eq!(configuration["id_token_signing_alg_values_supported"], json!(["RS256"]));
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    Pki::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("ca.key"), "rubbish").unwrap();
    let error = Pki::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("ca.crt"), "{error}");
}

#[test]
fn a_kubeconfig_keeps_its_other_entries() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/config");
    let client = Pair { certificate: "C".to_owned(), key: "K".to_owned() };
    let access = kubeconfig::Access { server: "https://127.0.0.1:6443", ca: "CA", client: &client };
    kubeconfig::merge_into(&path, "troupe", &access).unwrap();
    kubeconfig::remove_from(&path, "troupe").unwrap();

    std::fs::write(
        &path,
        "apiVersion: v1\nkind: Config\ncurrent-context: work\npreferences: {}\n\
         clusters:\n- name: work\n  cluster: {server: 'https://work', insecure-skip-tls-verify: true}\n\
         users:\n- name: me\n  user: {token: \"007\"}\n\
         contexts:\n- name: work\n  context: {cluster: work, user: me, namespace: mine}\n",
    )
    .unwrap();
    let read = || -> Value { serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap() };
    use serde_json::Value;
    let before = read();
    kubeconfig::merge_into(&path, "troupe", &access).unwrap();
    kubeconfig::merge_into(&path, "troupe", &access).unwrap();
    let merged = read();
    assert_eq!(merged["current-context"], "troupe");
    assert_eq!(merged["contexts"].as_array().unwrap().len(), 2);
    assert_eq!(merged["clusters"][0], before["clusters"][0]);
    assert_eq!(merged["users"][0], json!({"name": "me", "user": {"token": "007"}}));
    assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://127.0.0.1:6443");
    kubeconfig::remove_from(&path, "troupe").unwrap();
    assert_eq!(read(), before);
    kubeconfig::remove_from(&dir.path().join("none"), "troupe").unwrap();
}

#[test]
fn bootstrap_tokens_have_their_form() {
    let (id, secret) = new_bootstrap_token();
    assert!(crate::auth::authenticate::bootstrap_parts(&format!("{id}.{secret}")).is_some());
}
