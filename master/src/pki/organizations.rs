//! Certificates for members of several groups. What makes certificates here writes one organization into a name; so
//! the name is put into the finished certificate, which is signed anew.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, SigningKey};
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, BERReader};

use super::{PkiError, make};

/// `id-at-organizationName` and `id-at-commonName`.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];
/// Where the subject stands among the parts of what is signed: after version, number, algorithm, issuer, validity.
const SUBJECT: usize = 5;
/// Characters of a line of PEM.
const LINE: usize = 64;

/// A name as certificates hold it: the organizations in one set, as upstream writes them, then the common name.
fn name(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let pair = |writer: yasna::DERWriter<'_>, oid: &[u64], text: &str| {
        writer.write_sequence(|pair| {
            pair.next().write_oid(&ObjectIdentifier::from_slice(oid));
            pair.next().write_utf8_string(text);
        });
    };
    yasna::construct_der(|writer| {
        writer.write_sequence(|sets| {
            if !organizations.is_empty() {
                sets.next().write_set_of(|set| {
                    organizations.iter().for_each(|text| pair(set.next(), &ORGANIZATION, text));
                });
            }
            sets.next().write_set_of(|set| pair(set.next(), &COMMON_NAME, common_name));
        });
    })
}

fn parts(reader: BERReader<'_, '_>) -> ASN1Result<Vec<Vec<u8>>> {
    reader.read_sequence(|reader| {
        let mut all = Vec::new();
        while let Some(part) = reader.read_optional(|reader| reader.read_der())? {
            all.push(part);
        }
        Ok(all)
    })
}

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| parts.iter().for_each(|part| sequence.next().write_der(part)));
    })
}

/// A certificate (DER) with another subject, signed by the key that signed it before. PEM.
pub fn with_subject(
    certificate: &[u8],
    common_name: &str,
    organizations: &[String],
    key: &KeyPair,
) -> Result<String, PkiError> {
    let whole = yasna::parse_der(certificate, parts).map_err(|e| make(format!("{e:?}")))?;
    let [signed, algorithm, _] = whole.as_slice() else { return Err(make("a certificate has three parts")) };
    let mut inner = yasna::parse_der(signed, parts).map_err(|e| make(format!("{e:?}")))?;
    *inner.get_mut(SUBJECT).ok_or_else(|| make("a certificate has a subject"))? =
        name(common_name, organizations);
    let signed = joined(&inner);
    let signature = key.sign(&signed).map_err(make)?;
    let signature = yasna::construct_der(|writer| writer.write_bitvec_bytes(&signature, signature.len() * 8));
    Ok(pem(&joined(&[signed, algorithm.clone(), signature])))
}

fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (i, letter) in STANDARD.encode(der).chars().enumerate() {
        if i > 0 && i % LINE == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::CertificateParams;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use crate::auth::authenticate::certificate_caller;
    use crate::front::shown::Certifiers;
    use crate::pki::Pki;
    use crate::pki::requests::Asked;

    #[test]
    fn members_of_several_groups_are_certified() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let pki = Pki::open(dir.path()).expect("keys");
        let key = rcgen::KeyPair::generate().expect("a key");
        let request = CertificateParams::default().serialize_request(&key).expect("a request");
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for groups in [&["b", "a", "c"][..], &["one"], &[], &["a", "a"]] {
            let asked = Asked {
                pem: request.pem().expect("PEM"),
                common_name: "jane".to_owned(),
                organizations: texts(groups),
                ..Asked::default()
            };
            let usages = texts(&["client auth", "digital signature"]);
            let made = pki.sign_as_asked(&asked, &usages, Duration::from_secs(3600)).expect("a certificate");
            let der = CertificateDer::from_pem_slice(made.as_bytes()).expect("PEM");
            let caller = certificate_caller(&der).expect("a caller");
            let mut expected = texts(groups);
            expected.sort();
            let mut found: Vec<_> =
                caller.groups.iter().filter(|g| !g.starts_with("system:")).cloned().collect();
            found.sort();
            assert_eq!((caller.user.as_str(), found), ("jane", expected));
            let certifiers = Certifiers::new(pki.ca(), Some(pki.front_proxy_ca())).expect("CAs");
            let shown = certifiers.shown(&[der]).expect("a certificate");
            assert!(shown.client && !shown.proxy, "the signature is not the CA's");
        }
    }
}
