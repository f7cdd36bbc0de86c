//! A quota that many clients run against at once, over connections of their own.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use crate::plane::Plane;
use crate::plane::etcd::Etcd;

/// Clients, each with a connection of its own.
const CLIENTS: usize = 8;
/// Objects that each of them wants to make.
const EACH: usize = 6;
/// Objects that the quota allows.
const ALLOWED: usize = 20;

fn client(plane: &Plane) -> Client {
    let ca = reqwest::Certificate::from_pem(plane.ca().as_bytes()).expect("a CA");
    let admin = reqwest::Identity::from_pem(plane.admin().as_bytes()).expect("a certificate");
    Client::builder().tls_certs_only([ca]).identity(admin).build().expect("a client")
}

async fn get(client: &Client, url: String) -> Value {
    let answer = client.get(url).send().await.expect("an answer").bytes().await.expect("a body");
    serde_json::from_slice(&answer).expect("JSON")
}

async fn raced(plane: &Plane) {
    let root = "/api/v1/namespaces/raced";
    plane.kubectl(&["create", "namespace", "raced"]);
    plane.kubectl(&["create", "quota", "few", "-n", "raced", &format!("--hard=count/secrets={ALLOWED}")]);
    plane.until(&["get", "quota", "few", "-n", "raced", "-o", "jsonpath={.status.used}"], |said| {
        said.contains("count/secrets")
    });
    let race = (0..CLIENTS).map(|number| {
        let (client, url) = (client(plane), plane.url(&format!("{root}/secrets")));
        async move {
            let mut made = 0;
            for i in 0..EACH {
                let name = format!("s-{number}-{i}");
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
                let asked =
                    client.post(&url).header("content-type", "application/json").body(body.to_string());
                let answer = asked.send().await.expect("an answer");
                match answer.status().as_u16() {
                    201 => made += 1,
                    403 => {
                        let said = answer.text().await.expect("text");
                        assert!(said.contains("exceeded quota: few, requested: count/secrets=1"), "{said}");
                    }
                    other => panic!("{other}: {}", answer.text().await.unwrap_or_default()),
                }
            }
            made
        }
    });
    let made: usize = futures::future::join_all(race).await.into_iter().sum();
    let client = client(plane);
    let there = get(&client, plane.url(&format!("{root}/secrets"))).await;
    let there = there["items"].as_array().map_or(0, Vec::len);
    assert_eq!((made, there), (ALLOWED, ALLOWED), "acknowledged, and there");
    let quota = get(&client, plane.url(&format!("{root}/resourcequotas/few"))).await;
    assert_eq!(quota["status"]["used"]["count/secrets"], ALLOWED.to_string());
    // What is deleted makes room for exactly as much.
    plane.kubectl(&["delete", "secret", "-n", "raced", "--all"]);
    plane.until(
        &["get", "quota", "few", "-n", "raced", "-o", "jsonpath={.status.used.count/secrets}"],
        |said| said == "0",
    );
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let limit = Duration::from_secs(120);
    runtime.expect("a runtime").block_on(async { tokio::time::timeout(limit, work).await.expect("it ends") });
}

#[test]
fn a_quota_on_the_embedded_store_is_never_overrun() {
    let plane = Plane::start();
    run(raced(&plane));
}

#[test]
fn a_quota_on_etcd_is_never_overrun() {
    let etcd = Etcd::start();
    let plane = Plane::on(vec![etcd.endpoint.clone()], |_, _| {});
    run(raced(&plane));
}
