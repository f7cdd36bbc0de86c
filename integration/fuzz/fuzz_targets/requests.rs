//! Requests as an authenticated client may make them, through the whole pipeline onto a store in memory: any kind, any
//! verb, any body. Each must be answered, and never by an internal error.
#![no_main]

use std::cell::OnceCell;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fuzz::{anything, definition, object, text};
use libfuzzer_sys::fuzz_target;
use master::auth::authenticate::Authenticator;
use master::auth::request_header::RequestHeaders;
use master::auth::tokens::TokenKeys;
use master::auth::ClusterAuthorizer;
use master::cache::{self, Cache};
use master::store::Store;
use master::store::embedded::EmbeddedStore;
use master::{api, bootstrap};
use protocol::{Api, ApiRequest, Caller, PatchKind, Target, Verb, resources};
use serde_json::{Value, json};

struct Server {
    runtime: tokio::runtime::Runtime,
    local: tokio::task::LocalSet,
    door: Arc<dyn Api>,
}

thread_local! {
    static SERVER: OnceCell<Server> = const { OnceCell::new() };
}

fn server() -> Server {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let door = local.block_on(&runtime, async {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().await.expect("a store"));
        let settings = bootstrap::Settings {
            advertise_address: "192.0.2.1".parse().expect("an address"),
            port: 6443,
            service_address: "10.96.0.1".parse().expect("an address"),
            service_cidr: "10.96.0.0/16".parse().expect("a range"),
            client_ca: String::new(),
            front_proxy_ca: String::new(),
            request_headers: RequestHeaders::own(),
        };
        bootstrap::reconcile(&*store, &settings).await.expect("what a cluster begins with");
        let cache = Cache::new();
        tokio::task::spawn_local(cache::feed::run(cache.clone(), store.clone()));
        cache.ready().await;
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let keys = Arc::new(TokenKeys::from_pem(&pem).expect("a key"));
        let authenticator = Authenticator::new(cache.clone(), keys);
        let authorizer = Arc::new(ClusterAuthorizer::new(cache.clone()));
        let pipeline = api::Pipeline::new(api::Config::default(), store, cache, authorizer, authenticator);
        pipeline.as_caller(Caller::component("fuzzer", &["system:masters"]))
    });
    Server { runtime, local, door }
}

/// A request, mostly for a kind that there is, with a body that is mostly of that kind.
fn request(u: &mut Unstructured<'_>) -> Result<ApiRequest> {
    let kind = definition(u)?;
    let (group, version, name) = kind.gvk.unwrap_or_default();
    let resource = resources::all().iter().find(|r| r.group == group && r.version == version && r.kind == name);
    let verbs = [Verb::Create, Verb::Create, Verb::Update, Verb::Patch, Verb::Get, Verb::List, Verb::Delete,
        Verb::DeleteCollection];
    let verb = *u.choose(&verbs)?;
    let named = !matches!(verb, Verb::Create | Verb::List | Verb::DeleteCollection);
    let own = if u.ratio(9, 10)? { "a".to_owned() } else { text(u)? };
    let target = Target {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.map_or_else(|| name.to_lowercase(), |r| r.plural.to_owned()),
        namespace: resource.is_none_or(|r| r.namespaced).then(|| "default".to_owned()),
        name: named.then(|| own.clone()),
        subresource: if u.ratio(1, 6)? { Some((*u.choose(&["status", "scale", "approval", "eviction", "binding", "token"])?).to_owned()) } else { None },
    };
    let mut request = ApiRequest::new(verb, target);
    let mut body = object(u, kind, 0)?;
    if let Value::Object(fields) = &mut body {
        fields.insert("apiVersion".to_owned(), if group.is_empty() { version.into() } else { format!("{group}/{version}").into() });
        fields.insert("kind".to_owned(), name.into());
        let meta = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Value::Object(meta) = meta {
            meta.insert("name".to_owned(), own.into());
        }
    }
    if verb == Verb::Patch {
        let patch = *u.choose(&[PatchKind::Json, PatchKind::Merge, PatchKind::Strategic, PatchKind::Apply])?;
        request.patch = Some(patch);
        if patch == PatchKind::Json {
            body = json!([{"op": *u.choose(&["add", "remove", "replace"])?, "path": text(u)?, "value": anything(u, 6)?}, {"op": "add", "path": "/spec", "value": body["spec"]}]);
        }
        request.options.field_manager = Some("fuzzer".to_owned());
    }
    if matches!(verb, Verb::Delete | Verb::DeleteCollection) {
        body = anything(u, 9)?;
    }
    if verb.is_write() {
        request.body = Bytes::from(body.to_string());
    }
    let options = &mut request.options;
    options.dry_run = u.ratio(1, 4)?;
    options.force = u.arbitrary()?;
    options.grace_period_seconds = Some(0);
    options.field_validation = Some((*u.choose(&["Ignore", "Warn", "Strict"])?).to_owned());
    if u.ratio(1, 8)? {
        options.label_selector = Some(text(u)?);
        options.field_selector = Some(text(u)?);
        options.continue_token = Some(text(u)?);
        options.limit = u.int_in_range(0..=3)?;
    }
    Ok(request)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = request(&mut Unstructured::new(bytes)) else { return };
    SERVER.with(|cell| {
        let server = cell.get_or_init(server);
        // Upstream makes no refusal of a Binding that leads nowhere, but a failure.
        let target = &request.target;
        let binds = target.resource == "bindings" || target.subresource.as_deref() == Some("binding");
        let answer = server.local.block_on(&server.runtime, server.door.call(request));
        let answer = answer.expect("whoever is in the process is reached");
        assert!(answer.code < 500 || binds, "{} {}", answer.code, String::from_utf8_lossy(&answer.body));
    });
});
