//! The cluster's keys and certificates: made at first start in a state directory, readable only by their
//! owner, and used again at the next.
//!
//! - [`kubeconfig`]: writing kubeconfig files, and merging a context into one that exists.
//! - [`requests`]: reading certificate signing requests. `organizations`: certificates for members of several groups.
//! - [`roots`]: whose certificates other servers may show.
//!
//! Everything here reads and writes files: call it at start, or on a blocking thread.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use protocol::link::CERTIFICATE_BACKDATED;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

pub mod kubeconfig;
mod organizations;
pub mod requests;
pub mod roots;

/// How long the CAs are good.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long other certificates are good.
pub const LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// A certificate that ends within this time is made anew at start.
const RENEW_WITHIN: Duration = Duration::from_secs(60 * 86_400);
/// Bits of the key that signs ServiceAccount tokens.
const RSA_BITS: usize = 2048;

/// Names under which every API server is known, besides its addresses.
const SERVER_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Why a key or certificate is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key or certificate in a file is damaged; moving the file away makes a new one.
    #[error("{path} is not understood: {why}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A certificate could not be made.
    #[error("a certificate cannot be made: {0}")]
    Make(String),
    /// A certificate signing request is not acceptable.
    #[error("the certificate signing request is refused: {0}")]
    Request(String),
}

fn make(error: impl std::fmt::Display) -> PkiError {
    PkiError::Make(error.to_string())
}

/// A certificate (with its chain) and its private key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key, PKCS#8.
    pub key: String,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Proving who one is to a server.
    Client,
    /// Proving who one is to clients.
    Server,
    /// Both, as nodes need.
    Both,
}

/// The name in the certificate of front proxies, as `extension-apiserver-authentication` tells it.
pub const FRONT_PROXY: &str = "front-proxy";

/// The cluster's keys and certificates.
pub struct Pki {
    dir: PathBuf,
    ca: Pair,
    front_proxy_ca: Pair,
    /// No certificate that is asked for is good for longer.
    signing_max: Duration,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The keys are nobody's business.
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Pki {
    /// Opens the keys in `dir`, making what is missing. Blocks.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, PkiError> {
        let dir = dir.into();
        std::fs::create_dir_all(&dir).map_err(|source| PkiError::File { path: dir.clone(), source })?;
        let ca = authority(&dir, "ca", "kubernetes")?;
        let front_proxy_ca = authority(&dir, "front-proxy-ca", "front-proxy-ca")?;
        Ok(Pki { dir, ca, front_proxy_ca, signing_max: LIFETIME })
    }

    /// Signs what it is asked to sign for no longer than this.
    pub fn with_signing_max(mut self, time: Duration) -> Self {
        self.signing_max = time;
        self
    }

    /// The CA that signs client, node and serving certificates, PEM.
    pub fn ca(&self) -> &str {
        &self.ca.certificate
    }

    /// The CA that signs front proxies' certificates, PEM.
    pub fn front_proxy_ca(&self) -> &str {
        &self.front_proxy_ca.certificate
    }

    /// The API server's certificate, good for its names and for these hosts (names or addresses). Made
    /// anew when it lacks one of them or ends soon. Blocks.
    pub fn serving(&self, hosts: &[String]) -> Result<Pair, PkiError> {
        let mut names: Vec<String> = SERVER_NAMES.iter().map(|n| (*n).to_owned()).collect();
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        names.extend(hosts.iter().cloned());
        names.sort();
        names.dedup();
        if let Some(pair) = self.load("apiserver")?
            && covers(&pair.certificate, &names)
        {
            return Ok(pair);
        }
        let pair = self.issue("kube-apiserver", &[], &names, Usage::Server, LIFETIME)?;
        self.save("apiserver", &pair)?;
        Ok(pair)
    }

    /// A client certificate kept under a file name, such as the administrator's. Blocks.
    pub fn client(&self, file: &str, user: &str, groups: &[&str]) -> Result<Pair, PkiError> {
        if let Some(pair) = self.load(file)?
            && covers(&pair.certificate, &[])
        {
            return Ok(pair);
        }
        let pair = self.issue(user, groups, &[], Usage::Client, LIFETIME)?;
        self.save(file, &pair)?;
        Ok(pair)
    }

    /// The certificate that this server shows to the servers behind it, signed by the front proxies' CA. Blocks.
    pub fn front_proxy_client(&self) -> Result<Pair, PkiError> {
        let file = "front-proxy-client";
        if let Some(pair) = self.load(file)?
            && covers(&pair.certificate, &[])
        {
            return Ok(pair);
        }
        let key = KeyPair::generate().map_err(make)?;
        let params = subject(FRONT_PROXY, &[], Usage::Client, LIFETIME)?;
        let certificate = params.signed_by(&key, &issuer(&self.front_proxy_ca)?).map_err(make)?;
        let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
        self.save(file, &pair)?;
        Ok(pair)
    }

    /// The administrator's certificate: `admin` in `system:masters`. Blocks.
    pub fn admin(&self) -> Result<Pair, PkiError> {
        self.client("admin", "admin", &["system:masters"])
    }

    /// The key that signs ServiceAccount tokens, PEM. Blocks, the first time for a good part of a second.
    pub fn service_account_key(&self) -> Result<String, PkiError> {
        let path = self.dir.join("sa.key");
        if let Some(pem) = read(&path)? {
            return Ok(pem);
        }
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS).map_err(make)?;
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(make)?;
        write(&path, &pem)?;
        Ok(pem.to_string())
    }

    /// Issues a certificate with a new key; nothing is kept. `hosts` are names or addresses.
    pub fn issue(
        &self,
        user: &str,
        groups: &[&str],
        hosts: &[String],
        usage: Usage,
        lifetime: Duration,
    ) -> Result<Pair, PkiError> {
        let key = KeyPair::generate().map_err(make)?;
        let mut params = subject(user, groups, usage, lifetime)?;
        params.subject_alt_names = alt_names(hosts)?;
        let certificate = params.signed_by(&key, &self.issuer()?).map_err(make)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Signs somebody else's key (a PEM signing request, whose signature is checked). Subject and usage
    /// are ours to say; of the request only the key and, for servers, the alternative names are kept. One that
    /// is not `allowed` refuses the whole.
    pub fn sign_csr(
        &self,
        csr: &str,
        user: &str,
        groups: &[&str],
        usage: Usage,
        allowed: &dyn Fn(&SanType) -> bool,
    ) -> Result<String, PkiError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(csr).map_err(|e| PkiError::Request(e.to_string()))?;
        let mut params = subject(user, groups, usage, self.signing_max.min(LIFETIME))?;
        if let Some(other) = request.params.subject_alt_names.iter().find(|name| !allowed(name)) {
            return Err(PkiError::Request(format!("it asks for the name of somebody else: {other:?}")));
        }
        if usage != Usage::Client {
            params.subject_alt_names = std::mem::take(&mut request.params.subject_alt_names);
        }
        request.params = params;
        let certificate = request.signed_by(&self.issuer()?).map_err(make)?;
        Ok(certificate.pem())
    }

    /// Signs somebody else's key with the subject and names that were asked for, for these usages (as signing
    /// requests spell them).
    pub fn sign_as_asked(
        &self,
        asked: &requests::Asked,
        usages: &[String],
        lifetime: Duration,
    ) -> Result<String, PkiError> {
        let lifetime = lifetime.min(self.signing_max);
        let refuse = |why: String| PkiError::Request(why);
        let mut request =
            CertificateSigningRequestParams::from_pem(&asked.pem).map_err(|e| refuse(e.to_string()))?;
        let groups: Vec<&str> = asked.organizations.iter().map(String::as_str).collect();
        let params = &mut request.params;
        params.distinguished_name = distinguished(&asked.common_name, &groups);
        params.is_ca = IsCa::ExplicitNoCa;
        (params.key_usages, params.extended_key_usages) = requests::usages(usages).map_err(refuse)?;
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(lifetime);
        let certificate = request.signed_by(&self.issuer()?).map_err(make)?;
        if asked.organizations.len() < 2 {
            return Ok(certificate.pem());
        }
        let key = KeyPair::from_pem(&self.ca.key).map_err(make)?;
        organizations::with_subject(certificate.der(), &asked.common_name, &asked.organizations, &key)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        issuer(&self.ca)
    }

    fn load(&self, name: &str) -> Result<Option<Pair>, PkiError> {
        load(&self.dir, name)
    }

    fn save(&self, name: &str, pair: &Pair) -> Result<(), PkiError> {
        save(&self.dir, name, pair)
    }
}

fn issuer(ca: &Pair) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let key = KeyPair::from_pem(&ca.key).map_err(make)?;
    Issuer::from_ca_cert_pem(&ca.certificate, key).map_err(make)
}

/// A CA: the one in the files, or a new one.
fn authority(dir: &Path, file: &str, name: &str) -> Result<Pair, PkiError> {
    if let Some(pair) = load(dir, file)? {
        let damaged = |why: String| PkiError::Damaged { path: dir.join(format!("{file}.crt")), why };
        let key = KeyPair::from_pem(&pair.key).map_err(|e| damaged(e.to_string()))?;
        Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(|e| damaged(e.to_string()))?;
        return Ok(pair);
    }
    let key = KeyPair::generate().map_err(make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = alt_names(&[name.to_owned()])?;
    (params.not_before, params.not_after) = validity(CA_LIFETIME);
    let certificate: Certificate = params.self_signed(&key).map_err(make)?;
    let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
    save(dir, file, &pair)?;
    Ok(pair)
}

fn distinguished(user: &str, groups: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // rcgen keeps one value per type; `subject` refuses more, and `organizations` puts them in afterwards.
    if let Some(group) = groups.first() {
        name.push(DnType::OrganizationName, *group);
    }
    name.push(DnType::CommonName, user);
    name
}

fn subject(
    user: &str,
    groups: &[&str],
    usage: Usage,
    lifetime: Duration,
) -> Result<CertificateParams, PkiError> {
    if groups.len() > 1 {
        return Err(PkiError::Make("a certificate names one group at most".to_owned()));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(user, groups);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = match usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Both => vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
    };
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(lifetime);
    Ok(params)
}

fn validity(lifetime: Duration) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let now = actors::time::now();
    ((now - CERTIFICATE_BACKDATED).into(), (now + lifetime).into())
}

fn alt_names(hosts: &[String]) -> Result<Vec<SanType>, PkiError> {
    let san = |host: &String| match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => host.as_str().try_into().map(SanType::DnsName).map_err(make),
    };
    hosts.iter().map(san).collect()
}

/// Whether a certificate is good for these hosts and for a while yet.
fn covers(pem: &str, hosts: &[String]) -> bool {
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(&block.contents) else { return false };
    let until = SystemTime::UNIX_EPOCH
        + Duration::from_secs(certificate.validity().not_after.timestamp().try_into().unwrap_or(0));
    let names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.clone(),
        _ => Vec::new(),
    };
    let named = |host: &String| {
        let address = host.parse::<IpAddr>().ok().map(|address| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        });
        names.iter().any(|name| match (name, &address) {
            (GeneralName::DNSName(name), None) => name == host,
            (GeneralName::IPAddress(bytes), Some(address)) => bytes == address,
            _ => false,
        })
    };
    until > actors::time::now() + RENEW_WITHIN && hosts.iter().all(named)
}

fn load(dir: &Path, name: &str) -> Result<Option<Pair>, PkiError> {
    let certificate = read(&dir.join(format!("{name}.crt")))?;
    let key = read(&dir.join(format!("{name}.key")))?;
    Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
}

fn save(dir: &Path, name: &str, pair: &Pair) -> Result<(), PkiError> {
    // The key first: a crash in between leaves no certificate without its key.
    write(&dir.join(format!("{name}.key")), &pair.key)?;
    write(&dir.join(format!("{name}.crt")), &pair.certificate)
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { path: path.to_owned(), source }),
    }
}

/// Writes a file that only its owner reads, whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&temporary).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
}

/// A new bootstrap token: id and secret.
pub fn new_bootstrap_token() -> (String, String) {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let text = |length: usize| -> String {
        (0..length).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
    };
    (text(6), text(16))
}

#[cfg(test)]
mod tests;
