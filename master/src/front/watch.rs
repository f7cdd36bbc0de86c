//! Watches as streams: lines of JSON, or frames of protobuf.

use std::sync::Arc;

use actix_web::HttpResponse;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use protocol::schema::{self, protobuf};
use protocol::{ApiError, Resource, WatchEvent, WatchKind, WatchStream};
use serde_json::Value;

use super::Documents;
use super::audited::Lasting;
use super::metrics::Watching;
use super::negotiate::{Chosen, Form, Syntax};
use super::{write, written};

/// Events that are written together when so many wait.
const EVENTS_PER_WRITE: usize = 64;
/// Events at once that others probably write too.
const SHARED_MAX: usize = 8;

type Columns = (Arc<dyn Documents>, String);

pub(super) fn respond(
    events: WatchStream,
    resource: &'static Resource,
    chosen: Chosen,
    columns: Option<Columns>,
    kept: (Option<Lasting>, Watching),
    warnings: &[String],
) -> HttpResponse {
    let mut first = true;
    let lines = events.ready_chunks(EVENTS_PER_WRITE).map(move |events| {
        // They live as long as the stream does.
        let (_, counted) = &kept;
        // Whoever gets many at once has just come, and gets what others do not.
        let shared = events.len() <= SHARED_MAX && chosen.form != Form::Table;
        let mut write = |event: &WatchEvent| match shared {
            true => written::once(event, chosen, || one(event, resource, chosen, None, &mut first)),
            false => one(event, resource, chosen, columns.as_ref(), &mut first),
        };
        let out = match &events[..] {
            [event] => {
                let bytes = write(event);
                counted.sent(bytes.len());
                bytes
            }
            events => {
                let mut out = BytesMut::new();
                for event in events {
                    let bytes = write(event);
                    counted.sent(bytes.len());
                    out.put_slice(&bytes);
                }
                out.freeze()
            }
        };
        Ok::<Bytes, std::convert::Infallible>(out)
    });
    let media = match chosen.syntax {
        Syntax::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    write::with_warnings(200, warnings)
        .content_type(media)
        .insert_header(("Cache-Control", "no-cache, private"))
        .streaming(lines)
}

/// One event as it is written.
fn one(
    event: &WatchEvent,
    resource: &Resource,
    chosen: Chosen,
    columns: Option<&Columns>,
    first: &mut bool,
) -> Bytes {
    let converted = converted(event, resource, chosen, columns, first);
    match chosen.syntax {
        Syntax::Protobuf => frame(event, converted),
        _ => line(event, converted),
    }
}

/// The event's object in another form than the stored one; `None` where it stays as it is.
fn converted(
    event: &WatchEvent,
    resource: &Resource,
    chosen: Chosen,
    columns: Option<&Columns>,
    first: &mut bool,
) -> Option<Value> {
    if event.kind == WatchKind::Error || matches!(chosen.form, Form::Object | Form::Aggregated) {
        return None;
    }
    let object: Value = serde_json::from_slice(&event.object).ok()?;
    let mut made = match chosen.form {
        Form::Table => table(&object, resource, columns, first)?,
        // Events carry single objects, whichever of the two was asked for.
        _ => write::partial(Form::Partial, resource, object).ok()?,
    };
    if chosen.beta {
        write::make_beta(&mut made);
    }
    Some(made)
}

fn line(event: &WatchEvent, converted: Option<Value>) -> Bytes {
    let converted = converted.as_ref().map(schema::written::own);
    let object = converted.as_deref().unwrap_or(&event.object);
    [b"{\"type\":\"", event.kind.as_str().as_bytes(), b"\",\"object\":", object, b"}\n"].concat().into()
}

fn frame(event: &WatchEvent, converted: Option<Value>) -> Bytes {
    let object = converted.or_else(|| serde_json::from_slice(&event.object).ok()).unwrap_or(Value::Null);
    let made = protobuf::watch_frame(event.kind.as_str(), &object).or_else(|| {
        let status = ApiError::internal("the object has no protobuf form").to_status();
        protobuf::watch_frame(WatchKind::Error.as_str(), &status)
    });
    Bytes::from(made.unwrap_or_default())
}

/// Only the first table of a watch says what its columns are.
fn table(object: &Value, resource: &Resource, columns: Option<&Columns>, first: &mut bool) -> Option<Value> {
    let (documents, include) = columns?;
    let mut table = documents.table(resource, object, include)?;
    if !std::mem::take(first)
        && let Some(fields) = table.as_object_mut()
    {
        fields.insert("columnDefinitions".to_owned(), Value::Null);
    }
    Some(table)
}
