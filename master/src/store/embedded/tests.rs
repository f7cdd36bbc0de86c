//! What a failing disk does.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::*;
use crate::store::{TxnResult, key};

/// A file in memory that can be made to refuse writes, as a full disk does.
#[derive(Clone, Debug, Default)]
struct Flaky {
    bytes: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Flaky {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock();
        let at = offset as usize;
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.bytes.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        let at = offset as usize;
        self.bytes.lock()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn pod(name: &str) -> String {
    key("", "pods", "default", name)
}

#[tokio::test]
async fn a_disk_that_was_full_is_used_again() {
    let disk = Flaky::default();
    let backend = disk.clone();
    let opener = move || Database::builder().create_with_backend(backend.clone());
    let store = EmbeddedStore::opened_by(Box::new(opener)).await.unwrap();
    let put = |name: &str| store.txn(Txn::put(pod(name), 0, "{}"));
    let TxnResult::Committed { revision } = put("before").await.unwrap() else { panic!() };
    let mut watch = store.watch("/registry/", revision).await.unwrap();

    disk.full.store(true, Ordering::SeqCst);
    assert!(matches!(put("lost").await, Err(StoreError::Unavailable(_))));
    // The next writer waits until there is room.
    let waiting = put("waiting");
    futures::pin_mut!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    disk.full.store(false, Ordering::SeqCst);
    let made = waiting.await.unwrap();
    assert!(matches!(made, TxnResult::Committed { .. }), "{made:?}");

    // What was answered is there, and the watch goes on over the gap.
    let found = store.range(Range::prefix("/registry/")).await.unwrap();
    let found: Vec<_> = found.records.iter().map(|r| r.key.as_str()).collect();
    assert!(found.contains(&pod("before").as_str()) && found.contains(&pod("waiting").as_str()), "{found:?}");
    let mut told = Vec::new();
    while !told.contains(&pod("waiting")) {
        told.extend(watch.next().await.unwrap().unwrap().events.into_iter().map(|event| event.key));
    }
    assert!(!told.contains(&pod("before")));
    assert_eq!(told.contains(&pod("lost")), found.contains(&pod("lost").as_str()));
}
