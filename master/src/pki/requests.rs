//! Reading certificate signing requests: what somebody wants certified.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, GeneralName};

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

use super::PkiError;

/// What a signing request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The request itself, PEM.
    pub pem: String,
    /// Who it is to be.
    pub common_name: String,
    /// Groups that it is to be in.
    pub organizations: Vec<String>,
    /// Host names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Other alternative names: mail addresses and URIs.
    pub other_names: usize,
}

/// Reads a request as objects hold it: PEM in base64.
pub fn parse(base64: &str) -> Result<Asked, PkiError> {
    let refuse = |why: String| PkiError::Request(why);
    let bytes = STANDARD.decode(base64).map_err(|e| refuse(e.to_string()))?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&bytes).map_err(|e| refuse(e.to_string()))?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(refuse("PEM block type must be CERTIFICATE REQUEST".to_owned()));
    }
    let (_, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|e| refuse(e.to_string()))?;
    let subject = &request.certification_request_info.subject;
    let mut asked = Asked {
        pem: String::from_utf8_lossy(&bytes).into_owned(),
        common_name: subject.iter_common_name().filter_map(|n| n.as_str().ok()).collect(),
        organizations: subject
            .iter_organization()
            .filter_map(|n| n.as_str().ok())
            .map(str::to_owned)
            .collect(),
        ..Asked::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => asked.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                        (Ok(v4), _) => asked.addresses.push(v4.into()),
                        (_, Ok(v6)) => asked.addresses.push(v6.into()),
                        _ => asked.other_names += 1,
                    }
                }
                _ => asked.other_names += 1,
            }
        }
    }
    Ok(asked)
}

/// Usages as certificates hold them; the error names one that they cannot.
pub fn usages(names: &[String]) -> Result<(Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>), String> {
    let (mut plain, mut extended) = (Vec::new(), Vec::new());
    for name in names {
        match name.as_str() {
            "signing" | "digital signature" => plain.push(KeyUsagePurpose::DigitalSignature),
            "content commitment" => plain.push(KeyUsagePurpose::ContentCommitment),
            "key encipherment" => plain.push(KeyUsagePurpose::KeyEncipherment),
            "key agreement" => plain.push(KeyUsagePurpose::KeyAgreement),
            "data encipherment" => plain.push(KeyUsagePurpose::DataEncipherment),
            "cert sign" => plain.push(KeyUsagePurpose::KeyCertSign),
            "crl sign" => plain.push(KeyUsagePurpose::CrlSign),
            "encipher only" => plain.push(KeyUsagePurpose::EncipherOnly),
            "decipher only" => plain.push(KeyUsagePurpose::DecipherOnly),
            "any" => extended.push(ExtendedKeyUsagePurpose::Any),
            "server auth" => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            "code signing" => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            "email protection" | "s/mime" => extended.push(ExtendedKeyUsagePurpose::EmailProtection),
            "timestamping" => extended.push(ExtendedKeyUsagePurpose::TimeStamping),
            "ocsp signing" => extended.push(ExtendedKeyUsagePurpose::OcspSigning),
            other => return Err(format!("unrecognized usage: {other:?}")),
        }
    }
    Ok((plain, extended))
}
