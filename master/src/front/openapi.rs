//! OpenAPI's documents, which clients keep: a document of version 3 that is asked for by its hash never changes.

use std::time::{Duration, SystemTime};

use actix_web::http::header::{CONTENT_ENCODING, EXPIRES, HttpDate, LOCATION, VARY};
use actix_web::{HttpRequest, HttpResponse};

use super::handle::header;
use super::{Documents, path, write};
use crate::api::openapi::{Packed, Unserved};

/// How long a document stays good that is asked for by its hash.
const KEPT_FOR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The document at a path. What is not there, or not in the form asked for, has no body, as upstream.
pub(super) async fn answer(http: &HttpRequest, documents: &dyn Documents) -> HttpResponse {
    let headers = http.headers();
    let (document, media) = match documents.openapi(http.path(), header(headers, "accept")) {
        Ok(found) => found,
        Err(Unserved::Path) => return HttpResponse::NotFound().finish(),
        Err(Unserved::Form) => {
            return HttpResponse::NotAcceptable().insert_header((VARY, "Accept")).finish();
        }
    };
    let (tag, known) = (document.digest(), header(headers, "if-none-match"));
    let hash = path::query(http.query_string()).into_iter().find(|(name, _)| name == "hash");
    let hash = hash.map(|(_, hash)| hash).filter(|hash| !hash.is_empty());
    let begun = match hash.filter(|_| http.path().starts_with("/openapi/v3/")) {
        None => write::unchanged_or(&tag, known, write::NOT_KEPT),
        Some(hash) if hash != tag => return moved(http.path(), &tag),
        Some(_) => write::unchanged_or(&tag, known, "public, immutable").map_err(|mut builder| {
            builder.insert_header((EXPIRES, HttpDate::from(SystemTime::now() + KEPT_FOR)));
            builder
        }),
    };
    let mut builder = match begun {
        Ok(unchanged) => return unchanged,
        Err(builder) => builder,
    };
    builder.content_type(media);
    if write::takes_gzip(header(headers, "accept-encoding")) {
        builder.insert_header((CONTENT_ENCODING, "gzip")).append_header((VARY, "Accept-Encoding"));
        return builder.body(document.gzip());
    }
    plain(document)
        .await
        .map_or_else(|| HttpResponse::ServiceUnavailable().finish(), |body| builder.body(body))
}

/// The document itself; `None` where the runtime ends, and with it everything else.
async fn plain(document: Packed) -> Option<bytes::Bytes> {
    tokio::task::spawn_blocking(move || document.plain()).await.ok()
}

/// The answer to a client that knows another state of a document: where the present one is.
fn moved(path: &str, tag: &str) -> HttpResponse {
    let place = format!("{path}?hash={tag}");
    let page = format!("<a href=\"{place}\">Moved Permanently</a>.\n\n");
    HttpResponse::MovedPermanently()
        .insert_header(("ETag", format!("\"{tag}\"")))
        .insert_header((LOCATION, place))
        .content_type("text/html; charset=utf-8")
        .body(page)
}
