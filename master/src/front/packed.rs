//! Long lists as protobuf, which Go's typed clients ask for: they go out as they are put together, an item at a time.
//!
//! The envelope says how long the list is before its first item. So every item is encoded once before anything goes
//! out. What is encoded then is kept as far as there is room; the rest is counted only, and encoded anew when it is
//! its turn. The objects themselves are never copied as a whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use protocol::ApiError;
use protocol::schema::protobuf::List;
use serde_json::Value;

use super::negotiate::Syntax;
use super::write;

/// About how many bytes go out at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of an answer that are kept from the first round: as many as clients get that ask page by page.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Items encoded in a row before other requests have their turn.
const ITEMS_PER_TURN: usize = 32;

/// A body of many items.
struct Packed {
    /// How long it is.
    bytes: u64,
    /// What was kept of the first round.
    made: std::vec::IntoIter<Bytes>,
    /// The items after that, two pieces of JSON each.
    left: std::vec::IntoIter<[Bytes; 2]>,
    list: List,
    tail: Option<Bytes>,
}

impl Packed {
    /// Encodes every item once. `pieces` is the list's JSON: what is before its items, two for each, what is after.
    /// `None` where that is no list that has a protobuf form.
    async fn new(pieces: &[Bytes], kept_max: usize) -> Result<Option<Packed>, serde_json::Error> {
        let [head, items @ .., tail] = pieces else { return Ok(None) };
        let (items, []) = items.as_chunks::<2>() else { return Ok(None) };
        let list: Value = serde_json::from_slice(&[&head[..], &tail[..]].concat())?;
        let Some(list) = List::of(&list) else { return Ok(None) };
        let (mut bytes, mut kept) = (0, 0);
        let (mut made, mut left) = (Vec::new(), Vec::new());
        let mut chunk = Vec::new();
        for (i, item) in items.iter().enumerate() {
            if i % ITEMS_PER_TURN == ITEMS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let before = chunk.len();
            put(&list, item, &mut chunk)?;
            let length = chunk.len() - before;
            bytes += length as u64;
            kept += length;
            if kept > kept_max || !left.is_empty() {
                chunk.truncate(before);
                left.push(item.clone());
            } else if chunk.len() >= CHUNK_BYTES {
                made.push(std::mem::take(&mut chunk).into());
            }
        }
        made.push(chunk.into());
        let (head, tail) = (list.head(bytes), list.tail());
        bytes += (head.len() + tail.len()) as u64;
        made.insert(0, head.into());
        Ok(Some(Packed {
            bytes,
            made: made.into_iter(),
            left: left.into_iter(),
            list,
            tail: Some(tail.into()),
        }))
    }
}

/// Encodes one item behind what is there.
fn put(list: &List, [before, item]: &[Bytes; 2], out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let before = before.strip_prefix(b",").unwrap_or(before);
    let item: Value = match before {
        [] => serde_json::from_slice(item)?,
        before => serde_json::from_slice(&[before, item].concat())?,
    };
    list.put(out, &item);
    Ok(())
}

impl MessageBody for Packed {
    type Error = serde_json::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(made) = self.made.by_ref().find(|made| !made.is_empty()) {
            return Poll::Ready(Some(Ok(made)));
        }
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES {
            let Some(item) = self.left.next() else { break };
            if let Err(error) = put(&self.list, &item, &mut chunk) {
                return Poll::Ready(Some(Err(error)));
            }
        }
        if chunk.is_empty() {
            return Poll::Ready(self.tail.take().map(Ok));
        }
        Poll::Ready(Some(Ok(chunk.into())))
    }
}

/// The answer that is a list of these pieces; `None` where it has no protobuf form.
pub(super) async fn respond(warnings: &[String], pieces: &[Bytes]) -> Result<Option<HttpResponse>, ApiError> {
    let packed = Packed::new(pieces, KEPT_BYTES_MAX).await.map_err(ApiError::internal)?;
    let media = Syntax::Protobuf.media_type();
    Ok(packed.map(|body| write::with_warnings(200, warnings).content_type(media).body(body)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::schema::protobuf::envelope;
    use serde_json::json;

    use super::*;

    /// A list of pods in pieces and as a whole.
    fn list(sizes: &[usize]) -> (Vec<Bytes>, Value) {
        let mut pieces = vec![Bytes::from_static(
            br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":["#,
        )];
        for (i, size) in sizes.iter().enumerate() {
            let item =
                json!({"metadata": {"name": format!("p{i}"), "annotations": {"a": "x".repeat(*size)}}})
                    .to_string();
            // Items that lie in the store begin behind their kind, others whole.
            let (comma, cut) = (if i > 0 { "," } else { "" }, i % 2);
            pieces.push(format!("{comma}{}", &item[..cut]).into());
            pieces.push(item[cut..].to_owned().into());
        }
        pieces.push(Bytes::from_static(b"]}"));
        let whole = serde_json::from_slice(&pieces.concat()).expect("JSON");
        (pieces, whole)
    }

    proptest! {
        #[test]
        fn items_that_are_kept_and_that_are_not_make_the_same_list(
            sizes in prop::collection::vec(0usize..90_000, 0..20), kept_max in 0usize..400_000
        ) {
            let (pieces, whole) = list(&sizes);
            let made = futures::executor::block_on(Packed::new(&pieces, kept_max));
            let mut body = made.expect("JSON").expect("a list");
            let wanted = envelope(&whole).expect("protobuf");
            prop_assert_eq!(body.size(), BodySize::Sized(wanted.len() as u64));
            prop_assert!(body.made.as_slice().iter().map(Bytes::len).sum::<usize>() <= kept_max + 100);
            let mut sent = Vec::new();
            let mut task = Context::from_waker(std::task::Waker::noop());
            while let Poll::Ready(Some(chunk)) = Pin::new(&mut body).poll_next(&mut task) {
                let chunk = chunk.expect("JSON");
                prop_assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES + 100_000);
                sent.extend_from_slice(&chunk);
            }
            prop_assert_eq!(sent, wanted);
        }
    }

    #[test]
    fn what_is_no_list_in_pieces_is_left_to_others() {
        let (pieces, whole) = list(&[3, 4]);
        let parts =
            |pieces: &[Bytes]| futures::executor::block_on(Packed::new(pieces, 1)).expect("JSON").is_some();
        assert!(parts(&pieces));
        assert!(!parts(&[whole.to_string().into()]));
        assert!(!parts(&[]));
        let golden = [
            Bytes::from_static(br#"{"kind":"GoldenList","apiVersion":"g/v1","items":["#),
            Bytes::from_static(b"]}"),
        ];
        assert!(!parts(&golden));
        let broken = [pieces[0].clone(), Bytes::new(), Bytes::from_static(b"{"), pieces[5].clone()];
        assert!(futures::executor::block_on(Packed::new(&broken, 1)).is_err());
    }
}
