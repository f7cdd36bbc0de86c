//! Settings of the API server that most clusters leave alone: audit, encryption at rest, identities from
//! outside, a serving certificate of one's own. Named as upstream's flags; every program that runs a master has them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::api::admission::config::AdmissionConfig;
use crate::api::cel::time::parse_duration;
use crate::audit::{LogConfig, Policy};
use crate::auth::oidc::OidcConfig;
use crate::auth::request_header::RequestHeaders;
use crate::server::StartError;
use crate::store::encrypted::EncryptionConfig;

/// The flags.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServingOptions {
    /// A file that says what is audited (audit.k8s.io/v1 Policy). Without it, nothing is.
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// The file that audit events are written to; `-` is standard output.
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// Megabytes after which the audit log is put aside.
    #[arg(long, value_name = "MB", default_value_t = 100)]
    pub audit_log_maxsize: u64,
    /// Audit logs put aside that are kept; 0 keeps all.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    /// Days that audit logs put aside are kept; 0 keeps them for ever.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub audit_log_maxage: u64,
    /// A file that configures admission plugins (AdmissionConfiguration: PodSecurity and ResourceQuota).
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    /// Admission plugins to have on beside those that are on by default, separated by commas; this server has no others.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins to turn off, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// A file that says which objects are encrypted at rest (EncryptionConfiguration; aesgcm and identity).
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// The serving certificate, PEM; read again when it changes. Without it, the cluster makes its own.
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of the serving certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// The CA of kubelets' serving certificates, PEM. Without it, nobody looks at them.
    #[arg(long, value_name = "FILE")]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Types of node addresses at which kubelets without a link are reached for exec, attach, port-forward and logs, the
    /// best first, separated by commas [default: InternalIP,ExternalIP,Hostname]. Proxies to nodes take InternalIP.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub kubelet_preferred_address_types: Vec<String>,
    /// How long certificates that are signed here are good at most, those of nodes among them (`8760h`).
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub cluster_signing_duration: Option<Duration>,
    /// The issuer of OpenID Connect tokens that are accepted.
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// The audience that such tokens must be for.
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// The claim that is the user's name.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// What user names are prefixed with; `-` for nothing [default: the issuer and `#`, unless the claim is
    /// email].
    #[arg(long, value_name = "TEXT")]
    pub oidc_username_prefix: Option<String>,
    /// The claim that lists the user's groups.
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// What group names are prefixed with.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub oidc_groups_prefix: String,
    /// A claim that tokens must have with this value. May be repeated.
    #[arg(long, value_name = "CLAIM=VALUE")]
    pub oidc_required_claim: Vec<String>,
    /// The issuer's CA, PEM; without it, the issuer must be known to the machine.
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// A file with the issuer's keys (a JSON web key set), instead of asking the issuer for them.
    #[arg(long, value_name = "FILE")]
    pub oidc_jwks_file: Option<PathBuf>,
    /// The CA of authenticating proxies, PEM: whoever shows a certificate of it may say in headers on whose behalf
    /// it asks.
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that such a certificate may have, separated by commas [default: any].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name, separated by commas; the first that is there counts.
    #[arg(long, value_name = "HEADERS", value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers with the user's uid.
    #[arg(long, value_name = "HEADERS", value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers with the user's groups.
    #[arg(long, value_name = "HEADERS", value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    /// What headers with further attributes of the user begin with.
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

/// A time as Go spells it (`1h30m`), of a second at least.
fn duration(text: &str) -> Result<Duration, String> {
    let nanos = parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    let found = nanos.map(Duration::from_nanos).filter(|time| *time >= Duration::from_secs(1));
    found.ok_or_else(|| format!("\"{text}\" is no time of a second or more; write it like 8760h or 1h30m"))
}

fn read(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|e| StartError::File(format!("{}: {e}", path.display())))
}

fn of_file<T>(path: &Path, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, StartError> {
    parse(&read(path)?).map_err(|why| StartError::File(format!("{}: {why}", path.display())))
}

/// What the files that the flags name say. Reading them blocks.
pub struct Loaded {
    /// What is audited, and where to.
    pub audit: Option<(Policy, LogConfig)>,
    /// How admission is configured.
    pub admission: AdmissionConfig,
    /// What is encrypted at rest.
    pub encryption: Option<EncryptionConfig>,
    /// Identities from outside.
    pub oidc: Option<OidcConfig>,
    /// Authenticating proxies: their CA, PEM, and how they say who asks.
    pub proxies: Option<(String, RequestHeaders)>,
    /// The CA of kubelets, PEM.
    pub kubelet_ca: Option<String>,
}

impl ServingOptions {
    /// Reads the files.
    pub fn load(&self) -> Result<Loaded, StartError> {
        let audit = match (&self.audit_policy_file, &self.audit_log_path) {
            (Some(policy), Some(path)) => {
                let log = LogConfig {
                    path: path.clone(),
                    bytes_max: self.audit_log_maxsize.max(1) << 20,
                    backups_max: self.audit_log_maxbackup,
                    days_max: self.audit_log_maxage,
                };
                Some((of_file(policy, Policy::parse)?, log))
            }
            _ => None,
        };
        let encryption = self
            .encryption_provider_config
            .as_deref()
            .map(|p| of_file(p, EncryptionConfig::parse))
            .transpose()?;
        Ok(Loaded {
            audit,
            admission: self.admission()?,
            encryption,
            oidc: self.oidc()?,
            proxies: self.proxies()?,
            kubelet_ca: self.kubelet_certificate_authority.as_deref().map(read).transpose()?,
        })
    }

    /// The same options with paths that mean the same from everywhere.
    pub fn anchored(mut self) -> std::io::Result<Self> {
        for path in [
            &mut self.audit_policy_file,
            &mut self.audit_log_path,
            &mut self.admission_control_config_file,
            &mut self.encryption_provider_config,
            &mut self.tls_cert_file,
            &mut self.tls_private_key_file,
            &mut self.kubelet_certificate_authority,
            &mut self.oidc_ca_file,
            &mut self.oidc_jwks_file,
            &mut self.requestheader_client_ca_file,
        ] {
            // `-` is standard output.
            if let Some(relative) = path.take_if(|path| path.as_os_str() != "-") {
                *path = Some(std::path::absolute(relative)?);
            }
        }
        Ok(self)
    }

    fn admission(&self) -> Result<AdmissionConfig, StartError> {
        let config = match &self.admission_control_config_file {
            None => AdmissionConfig::default(),
            Some(file) => {
                // What it names lies beside it.
                let beside = |name: &str| {
                    let path = file.parent().unwrap_or(Path::new("")).join(name);
                    std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
                };
                of_file(file, |text| AdmissionConfig::parse(text, beside))?
            }
        };
        config
            .switch(&self.enable_admission_plugins, &self.disable_admission_plugins)
            .map_err(StartError::File)
    }

    fn proxies(&self) -> Result<Option<(String, RequestHeaders)>, StartError> {
        let Some(file) = &self.requestheader_client_ca_file else { return Ok(None) };
        let trimmed = |all: &[String]| {
            let names = all.iter().map(|name| name.trim().to_owned());
            names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
        };
        let headers = RequestHeaders {
            allowed_names: trimmed(&self.requestheader_allowed_names),
            username: trimmed(&self.requestheader_username_headers),
            uid: trimmed(&self.requestheader_uid_headers),
            group: trimmed(&self.requestheader_group_headers),
            extra_prefix: trimmed(&self.requestheader_extra_headers_prefix),
        };
        if headers.username.is_empty() {
            let why = "--requestheader-client-ca-file needs --requestheader-username-headers: without it, proxies \
                       can name nobody";
            return Err(StartError::File(why.to_owned()));
        }
        Ok(Some((read(file)?, headers)))
    }

    fn oidc(&self) -> Result<Option<OidcConfig>, StartError> {
        let (Some(issuer), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else {
            return Ok(None);
        };
        let prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if self.oidc_username_claim == "email" => String::new(),
            None => format!("{issuer}#"),
        };
        let required = self.oidc_required_claim.iter().map(|pair| {
            let (claim, value) = pair
                .split_once('=')
                .ok_or_else(|| StartError::File(format!("--oidc-required-claim {pair}: no CLAIM=VALUE")))?;
            Ok((claim.to_owned(), value.to_owned()))
        });
        Ok(Some(OidcConfig {
            issuer: issuer.clone(),
            audience: client.clone(),
            username_claim: self.oidc_username_claim.clone(),
            username_prefix: prefix,
            groups_claim: self.oidc_groups_claim.clone(),
            groups_prefix: self.oidc_groups_prefix.clone(),
            required: required.collect::<Result<_, StartError>>()?,
            ca: self.oidc_ca_file.as_deref().map(read).transpose()?,
            keys: self.oidc_jwks_file.as_deref().map(read).transpose()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        serving: ServingOptions,
    }

    fn parsed(args: &[&str]) -> ServingOptions {
        Program::try_parse_from(std::iter::once(&"program").chain(args)).expect("flags").serving
    }

    #[test]
    fn proxies_are_named_by_flags() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "PEM").expect("a file");
        let ca = format!("--requestheader-client-ca-file={}", file.display());
        let options =
            parsed(&[&ca, "--requestheader-allowed-names=a, b", "--requestheader-uid-headers=X-Uid"]);
        let Some((pem, headers)) = options.load().expect("files").proxies else { panic!("no proxies") };
        assert_eq!(
            (pem.as_str(), headers.allowed_names.as_slice()),
            ("PEM", &["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!(
            (headers.username, headers.uid),
            (vec!["X-Remote-User".to_owned()], vec!["X-Uid".to_owned()])
        );
        assert!(parsed(&[]).load().expect("no files").proxies.is_none());
        assert!(parsed(&[&ca, "--requestheader-username-headers="]).load().is_err());
    }

    #[test]
    fn options_are_kept_over_restarts() {
        let options =
            parsed(&["--audit-policy-file=p", "--audit-log-path=-", "--cluster-signing-duration=1h30m"]);
        let options = options.anchored().expect("a current folder");
        assert!(options.audit_policy_file.as_deref().is_some_and(Path::is_absolute));
        assert_eq!(options.audit_log_path.as_deref(), Some(Path::new("-")));
        let kept = serde_json::to_string(&options).expect("JSON");
        assert_eq!(serde_json::from_str::<ServingOptions>(&kept).expect("JSON"), options);
        assert_eq!(serde_json::from_str::<ServingOptions>("{}").expect("JSON"), ServingOptions::default());
    }
}
