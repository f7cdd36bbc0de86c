//! Watches as streams of JSON lines.

use std::sync::Arc;

use actix_web::HttpResponse;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use protocol::{Resource, WatchEvent, WatchKind, WatchStream};
use serde_json::Value;

use super::Documents;
use super::negotiate::{Form, Syntax};
use super::write;

/// Events that are written together when so many wait.
const EVENTS_PER_WRITE: usize = 64;

type Columns = (Arc<dyn Documents>, String);

pub(super) fn respond(
    events: WatchStream,
    resource: &'static Resource,
    form: Form,
    syntax: Syntax,
    columns: Option<Columns>,
) -> HttpResponse {
    let mut first = true;
    let lines = events.ready_chunks(EVENTS_PER_WRITE).map(move |events| {
        let mut out = BytesMut::new();
        for event in events {
            line(&mut out, &event, resource, form, columns.as_ref(), &mut first);
        }
        Ok::<Bytes, std::convert::Infallible>(out.freeze())
    });
    let media = match (syntax, form) {
        (Syntax::Yaml, _) => "application/yaml;stream=watch",
        _ => "application/json",
    };
    HttpResponse::Ok()
        .content_type(media)
        .insert_header(("Cache-Control", "no-cache, private"))
        .streaming(lines)
}

fn line(
    out: &mut BytesMut,
    event: &WatchEvent,
    resource: &Resource,
    form: Form,
    columns: Option<&Columns>,
    first: &mut bool,
) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event.kind.as_str().as_bytes());
    out.put_slice(b"\",\"object\":");
    let converted = match (form, event.kind) {
        (_, WatchKind::Error) | (Form::Object | Form::Aggregated, _) => None,
        (Form::Partial, _) => serde_json::from_slice(&event.object).ok().map(write::partial),
        (Form::Table, _) => table(&event.object, resource, columns, first),
    };
    match converted {
        Some(value) => out.put_slice(value.to_string().as_bytes()),
        None => out.put_slice(&event.object),
    }
    out.put_slice(b"}\n");
}

/// Only the first table of a watch says what its columns are.
fn table(object: &Bytes, resource: &Resource, columns: Option<&Columns>, first: &mut bool) -> Option<Value> {
    let (documents, include) = columns?;
    let object: Value = serde_json::from_slice(object).ok()?;
    let mut table = documents.table(resource, &object, include)?;
    if !std::mem::take(first)
        && let Some(fields) = table.as_object_mut()
    {
        fields.insert("columnDefinitions".to_owned(), Value::Null);
    }
    Some(table)
}
