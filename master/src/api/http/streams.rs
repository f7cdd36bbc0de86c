//! Watches over HTTP: one JSON document per line, as long as the client listens.

use actix_web::HttpResponse;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use protocol::{Resource, WatchEvent, WatchKind, WatchStream};
use serde_json::{Value, json};

use super::answer::{self, Include};
use super::negotiate::{Form, Shape, Syntax};

/// Answers a watch.
pub fn watch(resource: &'static Resource, events: WatchStream, form: Form, include: Include) -> HttpResponse {
    let media_type = match form.syntax {
        Syntax::Json => "application/json",
        Syntax::Yaml => "application/yaml",
    };
    HttpResponse::Ok().content_type(media_type).streaming(lines(resource, events, form, include))
}

fn lines(
    resource: &'static Resource,
    events: WatchStream,
    form: Form,
    include: Include,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let mut first = true;
    events.map(move |event| {
        let line = line(resource, &event, form, include, first);
        if event.kind != WatchKind::Bookmark {
            first = false;
        }
        Ok(line)
    })
}

/// One event as a line.
fn line(resource: &Resource, event: &WatchEvent, form: Form, include: Include, first: bool) -> Bytes {
    let plain = matches!(form.shape, Shape::Object) || event.kind == WatchKind::Error;
    let object = if plain { event.object.clone() } else { reshaped(resource, event, form, include, first) };
    if form.syntax == Syntax::Yaml {
        let value: Value = serde_json::from_slice(&object).unwrap_or(Value::Null);
        let event = json!({"type": event.kind.as_str(), "object": value});
        let mut text = b"---\n".to_vec();
        text.extend_from_slice(&answer::encode(&event, Syntax::Yaml));
        return Bytes::from(text);
    }
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event.kind.as_str().as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(&object);
    out.put_slice(b"}\n");
    out.freeze()
}

fn reshaped(resource: &Resource, event: &WatchEvent, form: Form, include: Include, first: bool) -> Bytes {
    let Ok(value) = serde_json::from_slice::<Value>(&event.object) else { return event.object.clone() };
    let shaped = match form.shape {
        Shape::Table(version) => {
            let mut table = answer::table(resource, &value, version, include);
            // Headers come once.
            if !first {
                table["columnDefinitions"] = Value::Null;
            }
            if event.kind == WatchKind::Bookmark {
                table["rows"] = json!([{"cells": [], "object": answer::partial(&value, version)}]);
            }
            table
        }
        Shape::Partial(version) => answer::partial(&value, version),
        _ => value,
    };
    Bytes::from(shaped.to_string())
}
