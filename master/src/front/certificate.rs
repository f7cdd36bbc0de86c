//! The serving certificate, read again when its files change.
//!
//! Nothing polls: a connection that finds the last look long ago has the files looked at, for those that come
//! after it. Files that make no sense leave the old certificate in use.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use actors::time::Instant;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Files are not looked at more often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A certificate that lies in files.
#[derive(Debug)]
pub struct FileCertificate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    looked: Mutex<(Instant, Option<SystemTime>)>,
    looking: AtomicBool,
}

impl FileCertificate {
    /// The certificate in two files. Reading them blocks.
    ///
    /// # Errors
    /// When they hold none.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, String> {
        let changed = changed(&certificate, &key);
        let current = ArcSwap::from_pointee(read(&certificate, &key)?);
        let looked = Mutex::new((Instant::now(), changed));
        let inner = Inner { certificate, key, current, looked, looking: AtomicBool::new(false) };
        Ok(FileCertificate { inner: Arc::new(inner) })
    }
}

impl Inner {
    /// Looks at the files, and reads them when they changed.
    fn look(&self) {
        let changed = changed(&self.certificate, &self.key);
        if changed == self.looked.lock().1 {
            return;
        }
        match read(&self.certificate, &self.key) {
            Ok(read) => {
                self.current.store(Arc::new(read));
                tracing::info!(file = %self.certificate.display(), "a new serving certificate is in use");
                self.looked.lock().1 = changed;
            }
            // One of two files may be written already; the next look sees both.
            Err(why) => tracing::warn!(why, "the serving certificate changed and cannot be used"),
        }
    }
}

fn changed(certificate: &PathBuf, key: &PathBuf) -> Option<SystemTime> {
    let of = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    of(certificate).max(of(key))
}

fn read(certificate: &PathBuf, key: &PathBuf) -> Result<CertifiedKey, String> {
    let of = |path: &PathBuf| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let bad = |path: &PathBuf, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let chain = CertificateDer::pem_slice_iter(&of(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(certificate, &e))?;
    let secret = PrivateKeyDer::from_pem_slice(&of(key)?).map_err(|e| bad(key, &e))?;
    let secret = rustls::crypto::ring::sign::any_supported_type(&secret).map_err(|e| bad(key, &e))?;
    let read = CertifiedKey::new(chain, secret);
    read.keys_match().map_err(|e| bad(certificate, &e))?;
    Ok(read)
}

impl ResolvesServerCert for FileCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = Instant::now();
        let due = {
            let mut looked = self.inner.looked.lock();
            let due = now.saturating_duration_since(looked.0) >= LOOK_EVERY;
            if due {
                looked.0 = now;
            }
            due
        };
        if due && !self.inner.looking.swap(true, Ordering::AcqRel) {
            let inner = self.inner.clone();
            tokio::task::spawn_blocking(move || {
                inner.look();
                inner.looking.store(false, Ordering::Release);
            });
        }
        Some(self.inner.current.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = std::env::temp_dir().join(format!("troupe-certificate-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).expect("folder");
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let write = |at: u64| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
            for (path, text) in [(&certificate, made.cert.pem()), (&key, made.signing_key.serialize_pem())] {
                std::fs::write(path, text).expect("written");
                let file = std::fs::File::options().write(true).open(path).expect("file");
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(at)).expect("time");
            }
            made.cert.der().to_vec()
        };
        let first = write(1);
        let served = FileCertificate::open(certificate.clone(), key.clone()).expect("is read");
        let now = || served.inner.current.load().cert[0].to_vec();
        assert_eq!(now(), first);
        let second = write(2);
        served.inner.look();
        assert_eq!(now(), second);
        std::fs::write(&key, "no key").expect("written");
        served.inner.look();
        assert_eq!(now(), second);
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
