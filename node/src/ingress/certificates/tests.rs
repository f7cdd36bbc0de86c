use k8s_openapi::api::networking::v1::Ingress;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::*;
use crate::ingress::claims::key;

/// A Secret with a certificate for a name.
fn secret(name: &str) -> Secret {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    entries(&[("tls.crt", certificate.pem().as_bytes()), ("tls.key", key.serialize_pem().as_bytes())])
}

fn entries(entries: &[(&str, &[u8])]) -> Secret {
    let data = entries.iter().map(|(k, v)| ((*k).to_owned(), k8s_openapi::ByteString(v.to_vec())));
    Secret { data: Some(data.collect()), ..Secret::default() }
}

/// An Ingress with these lists of TLS hosts.
fn ingress(name: &str, second: u8, rules: &[&str], tls: &[(&[&str], &str)]) -> Claims {
    let tls: Vec<_> =
        tls.iter().map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret})).collect();
    let rules: Vec<_> = rules.iter().map(|host| json!({"host": host})).collect();
    let ingress: Ingress = serde_json::from_value(json!({
        "metadata": {"namespace": "a", "name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
        "spec": {"tls": tls, "rules": rules}}))
    .unwrap();
    Claims::of(&ingress)
}

fn good(certificates: &mut Certificates, name: &str) -> Arc<CertifiedKey> {
    let key = key("a", name);
    let read = read(&key, &secret(name)).unwrap();
    certificates.set(&key, Ok(read.clone()));
    read
}

fn is(certificates: &Certificates, host: Option<&str>, wanted: Option<&Arc<CertifiedKey>>) {
    let found = certificates.find(host);
    let same = match (&found, wanted) {
        (Some(found), Some(wanted)) => Arc::ptr_eq(found, wanted),
        (None, None) => true,
        _ => false,
    };
    assert!(same, "{host:?}");
}

#[test]
fn what_is_wrong_with_a_secret() {
    let name = key("a", "s");
    let whole = secret("x");
    let part = |entry: &str| whole.data.as_ref().unwrap()[entry].0.clone();
    let (certificate, private) = (part("tls.crt"), part("tls.key"));
    let other = secret("y").data.unwrap()["tls.key"].0.clone();
    assert!(read(&name, &whole).is_ok());
    assert_eq!(read(&name, &Secret::default()).err(), Some(SecretFault::NoEntry(name.clone(), "tls.crt")));
    let without_key = entries(&[("tls.crt", &certificate)]);
    assert_eq!(read(&name, &without_key).err(), Some(SecretFault::NoEntry(name.clone(), "tls.key")));
    for (what, certificate, private) in [
        ("another's key", &certificate, &other),
        ("no certificate", &b"nonsense".to_vec(), &private),
        ("no key", &certificate, &b"nonsense".to_vec()),
    ] {
        let read = read(&name, &entries(&[("tls.crt", certificate), ("tls.key", private)]));
        assert!(matches!(read, Err(SecretFault::Broken(..))), "{what}: {:?}", read.err());
    }
}

#[test]
fn what_a_client_is_shown() {
    let mut certificates = Certificates::default();
    let one = ingress("one", 1, &["c.example"], &[(&["a.example", "*.b.example"], "first"), (&[], "own")]);
    let two = ingress("two", 2, &[], &[(&["A.example"], "second"), (&[], "default")]);
    certificates.change(None, Some(&one));
    certificates.change(None, Some(&two));
    is(&certificates, Some("a.example"), None);
    let second = good(&mut certificates, "second");
    // The older Ingress names another Secret, which is not there yet.
    is(&certificates, Some("a.example"), Some(&second));
    let first = good(&mut certificates, "first");
    is(&certificates, Some("a.example"), Some(&first));
    is(&certificates, Some("x.b.example"), Some(&first));
    is(&certificates, Some("x.y.b.example"), None);
    // Without hosts of its own a list is for those of the rules, and without rules for everybody.
    let own = good(&mut certificates, "own");
    is(&certificates, Some("c.example"), Some(&own));
    is(&certificates, Some("elsewhere"), None);
    let default = good(&mut certificates, "default");
    is(&certificates, Some("elsewhere"), Some(&default));
    is(&certificates, None, Some(&default));
    // What the older one no longer names, the younger one has.
    let changed = ingress("one", 1, &["c.example"], &[(&[], "own")]);
    certificates.change(Some(&one), Some(&changed));
    is(&certificates, Some("a.example"), Some(&second));
    is(&certificates, Some("c.example"), Some(&own));
    let mut left: Vec<_> = certificates.secrets().cloned().collect();
    left.sort();
    assert_eq!(left, ["a/default", "a/own", "a/second"].map(Key::from));
}

#[test]
fn a_broken_secret_leaves_what_was_and_a_missing_one_does_not() {
    let mut certificates = Certificates::default();
    let claims = ingress("i", 1, &[], &[(&["h"], "s")]);
    certificates.change(None, Some(&claims));
    let name = key("a", "s");
    let before = good(&mut certificates, "s");
    let broken = read(&name, &Secret::default()).unwrap_err();
    certificates.set(&name, Err(broken.clone()));
    is(&certificates, Some("h"), Some(&before));
    assert_eq!(certificates.fault(&name), Some(&broken));
    // A new table takes it over until it has heard of the Secret itself.
    let mut fresh = Certificates::default();
    fresh.change(None, Some(&claims));
    fresh.take_over(&mut certificates);
    is(&fresh, Some("h"), Some(&before));
    let after = good(&mut fresh, "s");
    is(&fresh, Some("h"), Some(&after));
    assert_eq!(fresh.fault(&name), None);
    fresh.set(&name, Err(SecretFault::Missing(name.clone())));
    is(&fresh, Some("h"), None);
    fresh.change(Some(&claims), None);
    assert!(fresh.secrets().next().is_none() && fresh.users(&name).is_empty());
}
