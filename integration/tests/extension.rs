//! What extends the API meets real servers: admission webhooks, conversion of versions, API aggregation; and what
//! serves it meets plain HTTP clients. A control plane alone, servers that speak TLS as webhooks and API servers do,
//! kubectl or an HTTP client.

#[path = "extension/admission.rs"]
mod admission;
#[path = "extension/aggregation.rs"]
mod aggregation;
#[path = "extension/autoscaling.rs"]
mod autoscaling;
#[path = "extension/calls.rs"]
mod calls;
#[path = "extension/conversion.rs"]
mod conversion;
mod plane;
#[path = "extension/policies.rs"]
mod policies;
#[path = "extension/quotas.rs"]
mod quotas;
#[path = "extension/serving.rs"]
mod serving;

use plane::Plane;

#[test]
fn declared_kinds_are_explained_as_soon_as_they_are_declared() {
    let plane = Plane::start();
    // The first answers are what clients keep.
    assert!(plane.kubectl(&["explain", "configmaps.data"]).contains("FIELD: data"));
    plane.apply(&plane::definition(
        "gadgets",
        "Gadget",
        serde_json::json!([plane::version(
            "v1",
            true,
            serde_json::json!({"type": "object",
            "description": "A gadget is a thing with teeth.",
            "properties": {"spec": {"type": "object", "properties": {
                "teeth": {"type": "integer", "description": "How many it has."}}}}})
        )]),
        serde_json::json!({"strategy": "None"}),
    ));
    plane.established("gadgets");
    let said = plane.kubectl(&["explain", "gadgets"]);
    assert!(said.contains("A gadget is a thing with teeth."), "{said}");
    let said = plane.kubectl(&["explain", "gadgets.spec.teeth"]);
    assert!(said.contains("How many it has.") && said.contains("<integer>"), "{said}");
}
