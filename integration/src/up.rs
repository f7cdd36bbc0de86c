//! `troupe up` and `troupe down`: a cluster in one process, in the background.

mod down;
mod sample;
mod start;

pub use down::{DownArgs, down};
pub use start::{UpArgs, up};

/// Why a cluster could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A file or process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The process that runs the cluster ended while it started.
    #[error("the cluster did not start; the last lines of {log}:\n{tail}")]
    Ended {
        /// Its log.
        log: String,
        /// The log's end.
        tail: String,
    },
    /// It is still there.
    #[error("the process that runs the cluster does not end; see {0}")]
    StillThere(String),
    /// The kubeconfig could not be written.
    #[error(transparent)]
    Kubeconfig(#[from] master::pki::PkiError),
    /// The sample does not run as it should.
    #[error("sample: {0}")]
    Sample(String),
    /// What a node leaves behind could not be removed.
    #[error("clean-up: {0}")]
    CleanUp(String),
}

/// An I/O failure with what was tried.
fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> UpError {
    let what = what.into();
    move |source| UpError::Io { what, source }
}
