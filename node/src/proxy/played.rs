//! A Service and its endpoints, for tests.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

/// `default/web` at 10.96.0.5, TCP port 80, but for what `spec` says otherwise.
pub fn service(spec: Value) -> Service {
    let mut full = json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80, "protocol": "TCP"}]});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    let meta = json!({"namespace": "default", "name": "web"});
    serde_json::from_value(json!({"metadata": meta, "spec": full})).unwrap()
}

/// Endpoints `10.244.0.<last>:8080`; those with a `true` run on node `n1`, others on `n2`.
pub fn slice(endpoints: &[(u8, bool)]) -> EndpointSlice {
    let endpoint = |(last, here): &(u8, bool)| json!({"addresses": [format!("10.244.0.{last}")], "nodeName": if *here { "n1" } else { "n2" }});
    let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "web-1"}, "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    }))
    .unwrap()
}
