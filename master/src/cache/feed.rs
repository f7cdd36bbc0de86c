//! Filling a cache from a store: a paged load at one revision, then a watch from there; and again when
//! the store's history is gone.

use std::time::Duration;

use futures::StreamExt;

use crate::store::{Batch, BatchStream, ROOT, Range, Record, Store, StoreError};

use super::Cache;

/// Records read at a time.
const PAGE: usize = 500;
/// Batches folded in at once.
const FOLD_MAX: usize = 256;

/// Reads everything at one revision.
pub async fn read_all(store: &dyn Store) -> Result<(Vec<Record>, u64), StoreError> {
    let mut records: Vec<Record> = Vec::new();
    let mut range = Range::prefix(ROOT).limit(PAGE);
    loop {
        let page = store.range(range.clone()).await?;
        for key in &page.corrupt {
            tracing::error!(key, "a stored value is not understood and is passed over");
        }
        records.extend(page.records);
        match records.last() {
            Some(last) if page.more => range = range.after(last.key.clone()).at(page.revision),
            _ => return Ok((records, page.revision)),
        }
    }
}

/// Loads the cache when it is empty, or brings it up to date after a gap.
pub async fn load(cache: &Cache, store: &dyn Store) -> Result<(), StoreError> {
    let (records, revision) = read_all(store).await?;
    cache.load(records, revision);
    Ok(())
}

/// Takes what is there from a watch, at least one batch.
pub async fn take(stream: &mut BatchStream) -> Result<Vec<Batch>, StoreError> {
    let ended = || StoreError::Unavailable("the store's watch ended".to_owned());
    let mut batches = vec![stream.next().await.ok_or_else(ended)??];
    while batches.len() < FOLD_MAX {
        match futures::poll!(stream.next()) {
            std::task::Poll::Ready(Some(Ok(batch))) => batches.push(batch),
            // An error comes again at the next call; what was read before it is folded in first.
            _ => break,
        }
    }
    Ok(batches)
}

/// Keeps the cache up with the store, for ever. Drop the future to stop it.
pub async fn run(cache: Cache, store: std::sync::Arc<dyn Store>) {
    let mut reload = cache.revision() == 0;
    loop {
        let error = match follow(&cache, &*store, &mut reload).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        reload = matches!(error, StoreError::Compacted { .. }) || cache.revision() == 0;
        tracing::warn!(%error, reload, "the cache's watch on the store broke");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn follow(
    cache: &Cache,
    store: &dyn Store,
    reload: &mut bool,
) -> Result<std::convert::Infallible, StoreError> {
    if std::mem::take(reload) {
        load(cache, store).await?;
    }
    let mut stream = store.watch(ROOT, cache.revision()).await?;
    loop {
        let batches = take(&mut stream).await?;
        cache.apply(batches);
    }
}
