//! A door to the API that remembers the newest revision written through it, so that whoever wrote can wait
//! until the cache shows it: then no reconcile ever acts on a state from before its own writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use protocol::request::WatchStream;
use protocol::{Api, ApiError, ApiRequest, ApiResponse};

/// See the module. One is made for each reconcile.
pub struct Writes {
    inner: Arc<dyn Api>,
    newest: AtomicU64,
}

impl Writes {
    /// Over a door.
    pub fn new(inner: Arc<dyn Api>) -> Arc<Self> {
        Arc::new(Writes { inner, newest: AtomicU64::new(0) })
    }

    /// The newest revision written; 0 when nothing was.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Api for Writes {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        // A dry run answers with a revision that will never be.
        let counts = request.verb.is_write() && !request.options.dry_run;
        let response = self.inner.call(request).await?;
        if counts && response.code < 400 {
            self.newest.fetch_max(response.revision, Ordering::Relaxed);
        }
        Ok(response)
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError> {
        self.inner.watch(request).await
    }
}
