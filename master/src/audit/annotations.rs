//! What admission wants said about a request in the audit log.
//!
//! Whoever serves a request collects; whoever decides about it, however deep below, annotates. Outside of a
//! collection nothing is kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;

use super::policy::Level;

/// Annotations of one request.
const ANNOTATIONS_MAX: usize = 128;
/// Bytes of one annotation.
pub const VALUE_BYTES_MAX: usize = 10 << 10;

/// What is said under one key.
#[derive(Debug, PartialEq, Eq)]
pub struct Annotation {
    /// What is said.
    pub value: String,
    /// The least that a record tells for it to be in it.
    pub from: Level,
}

/// Annotations by their keys.
pub type Annotations = BTreeMap<String, Annotation>;

tokio::task_local! {
    static COLLECTED: RefCell<Annotations>;
}

/// Does some work, and tells what it wants said.
pub async fn collect<F: Future>(work: F) -> (F::Output, Annotations) {
    let work = async {
        let made = work.await;
        (made, COLLECTED.with(RefCell::take))
    };
    COLLECTED.scope(RefCell::default(), work).await
}

/// Says something about the request that is being served. What was said first under a key stays; what is too long
/// is cut.
pub fn annotate(key: &str, value: &str) {
    annotate_from(Level::Metadata, key, || value.to_owned());
}

/// The same, in records that tell at least so much.
pub fn annotate_from(from: Level, key: &str, value: impl FnOnce() -> String) {
    // Nobody listens to requests from within.
    let _ = COLLECTED.try_with(|collected| {
        let mut collected = collected.borrow_mut();
        if collected.len() < ANNOTATIONS_MAX && !collected.contains_key(key) {
            let mut value = value();
            value.truncate(value.floor_char_boundary(VALUE_BYTES_MAX));
            collected.insert(key.to_owned(), Annotation { value, from });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_first_is_kept() {
        annotate("lost", "nobody listens");
        let (made, said) = collect(async {
            annotate("a", "1");
            annotate("a", "2");
            annotate("long", &"ä".repeat(VALUE_BYTES_MAX));
            7
        })
        .await;
        assert_eq!((made, said["a"].value.as_str(), said["long"].value.len()), (7, "1", VALUE_BYTES_MAX));
        assert_eq!(said.len(), 2);
    }

    #[tokio::test]
    async fn a_request_says_so_much() {
        let (_, said) = collect(async { (0..1000).for_each(|n| annotate(&n.to_string(), "x")) }).await;
        assert_eq!(said.len(), ANNOTATIONS_MAX);
    }
}
