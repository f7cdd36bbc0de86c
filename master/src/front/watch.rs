//! Watches as streams: lines of JSON, or frames of protobuf.

use std::sync::Arc;

use actix_web::HttpResponse;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use protocol::schema::protobuf;
use protocol::{ApiError, Resource, WatchEvent, WatchKind, WatchStream};
use serde_json::Value;

use super::Documents;
use super::audited::Lasting;
use super::metrics::Watching;
use super::negotiate::{Chosen, Form, Syntax};
use super::write;

/// Events that are written together when so many wait.
const EVENTS_PER_WRITE: usize = 64;

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
        let mut out = BytesMut::new();
        for event in events {
            let converted = converted(&event, resource, chosen, columns.as_ref(), &mut first);
            let before = out.len();
            match chosen.syntax {
                Syntax::Protobuf => frame(&mut out, &event, converted),
                _ => line(&mut out, &event, converted),
            }
            counted.sent(out.len() - before);
        }
        Ok::<Bytes, std::convert::Infallible>(out.freeze())
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

fn line(out: &mut BytesMut, event: &WatchEvent, converted: Option<Value>) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event.kind.as_str().as_bytes());
    out.put_slice(b"\",\"object\":");
    match converted {
        Some(value) => out.put_slice(value.to_string().as_bytes()),
        None => out.put_slice(&event.object),
    }
    out.put_slice(b"}\n");
}

fn frame(out: &mut BytesMut, event: &WatchEvent, converted: Option<Value>) {
    let object = converted.or_else(|| serde_json::from_slice(&event.object).ok()).unwrap_or(Value::Null);
    let made = protobuf::watch_frame(event.kind.as_str(), &object).or_else(|| {
        let status = ApiError::internal("the object has no protobuf form").to_status();
        protobuf::watch_frame(WatchKind::Error.as_str(), &status)
    });
    out.put_slice(&made.unwrap_or_default());
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
