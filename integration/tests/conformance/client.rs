//! A plain client of the API: JSON over HTTPS, and watches line by line. It never retries what was refused.

use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::plane::Plane;

/// How long one answer, or one event of a watch, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a PATCH is to be read.
#[derive(Clone, Copy, Debug)]
pub enum Patch {
    Merge,
    Strategic,
    Json,
    /// Server-side apply.
    Apply,
}

impl Patch {
    fn media_type(self) -> &'static str {
        match self {
            Patch::Merge => "application/merge-patch+json",
            Patch::Strategic => "application/strategic-merge-patch+json",
            Patch::Json => "application/json-patch+json",
            Patch::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What a client is answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub media_type: String,
    /// The `Warning` headers' texts.
    pub warnings: Vec<String>,
    pub body: Value,
    asked: String,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{}: {} {}", self.asked, self.code, self.body);
        self.body
    }

    /// What a refusal with this code says.
    #[track_caller]
    pub fn refused(self, code: u16) -> String {
        assert_eq!(self.code, code, "{}: {}", self.asked, self.body);
        assert_eq!(self.body["kind"], "Status", "{}: {}", self.asked, self.body);
        self.body["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// The client.
pub struct Api {
    runtime: Runtime,
    client: Client,
    /// `https://` and where the plane is.
    base: String,
}

impl Api {
    /// One with the administrator's certificate.
    pub fn of(plane: &Plane) -> Api {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let ca = reqwest::Certificate::from_pem(plane.ca().as_bytes()).expect("a CA");
        let admin = reqwest::Identity::from_pem(plane.admin().as_bytes()).expect("a certificate");
        let client = Client::builder().tls_certs_only([ca]).identity(admin).build();
        Api { runtime: runtime.expect("a runtime"), client: client.expect("a client"), base: plane.url("") }
    }

    /// Any request; the headers are names and values.
    pub fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let asked = format!("{method} {path}");
        self.runtime.block_on(async {
            let mut request = self.client.request(method, format!("{}{path}", self.base)).timeout(PATIENCE);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.body(body).send().await.expect("an answer");
            let code = answer.status().as_u16();
            let text = |name: &str| -> Vec<String> {
                let all = answer.headers().get_all(name).iter();
                all.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect()
            };
            let media_type = text("content-type").concat();
            let warnings = text("warning");
            let bytes = answer.bytes().await.expect("a body");
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Answer { code, media_type, warnings, body, asked }
        })
    }

    fn json(&self, method: Method, path: &str, media_type: &str, body: &Value) -> Answer {
        self.ask(method, path, &[("content-type", media_type)], body.to_string())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], String::new())
    }

    pub fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.ask(Method::GET, path, &[("accept", accept)], String::new())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, path, "application/json", body)
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PUT, path, "application/json", body)
    }

    pub fn patch(&self, how: Patch, path: &str, body: &Value) -> Answer {
        self.json(Method::PATCH, path, how.media_type(), body)
    }

    pub fn merge(&self, path: &str, body: &Value) -> Answer {
        self.patch(Patch::Merge, path, body)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, &[], String::new())
    }

    /// Deletes, and says what is to become of the dependents.
    pub fn delete_with(&self, path: &str, options: &Value) -> Answer {
        self.json(Method::DELETE, path, "application/json", options)
    }

    /// Opens a watch; the path has a query already.
    pub fn watch(&self, path: &str) -> Watch<'_> {
        let url = format!("{}{path}&watch=true", self.base);
        let answer = self.runtime.block_on(async { self.client.get(url).send().await.expect("an answer") });
        assert_eq!(answer.status(), 200, "a watch of {path}");
        Watch { api: self, answer, rest: Vec::new() }
    }
}

/// An open watch.
pub struct Watch<'a> {
    api: &'a Api,
    answer: Response,
    /// What came and is not a whole line yet, or not asked for yet.
    rest: Vec<u8>,
}

impl Watch<'_> {
    /// The next event: its type and object.
    pub fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).expect("an event");
                return (event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take());
            }
            let chunk = async { tokio::time::timeout(PATIENCE, self.answer.chunk()).await };
            let chunk = self.api.runtime.block_on(chunk).expect("an event in time");
            self.rest.extend_from_slice(&chunk.expect("a chunk").expect("a watch that goes on"));
        }
    }

    /// The next event of this type about which this holds; others are passed over.
    pub fn until(&mut self, kind: &str, expected: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (seen, object) = self.next();
            if seen == kind && expected(&object) {
                return object;
            }
        }
    }
}
