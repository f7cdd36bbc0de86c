//! The pod-template-hash: a short name for a pod template, the same for equal templates, in every process.
//!
//! As upstream's: 32-bit FNV over the template (here over its canonical JSON) and the collision count,
//! written in decimal and then in an alphabet without vowels, so that no words appear in names.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// Label under which the hash is put on a ReplicaSet, its selector and its pods.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template, salted by how often earlier hashes collided.
pub fn pod_template_hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    // Serialising a template that was parsed from JSON cannot fail; an empty hash input would only collide.
    feed(&serde_json::to_vec(template).unwrap_or_default());
    if let Some(count) = collision_count {
        feed(&count.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

/// Maps each character into the vowel-free alphabet.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

/// The template without the hash label, for comparing a ReplicaSet's template with its Deployment's.
pub fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(POD_TEMPLATE_HASH);
            if labels.is_empty() {
                meta.labels = None;
            }
        }
        meta.creation_timestamp = None;
    }
    if template.metadata.as_ref().is_some_and(|m| *m == Default::default()) {
        template.metadata = None;
    }
    template
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image}]},
        }))
        .unwrap()
    }

    #[test]
    fn equal_templates_hash_equal_and_collisions_salt() {
        let a = pod_template_hash(&template("a"), None);
        assert_eq!(a, pod_template_hash(&template("a"), None));
        assert_ne!(a, pod_template_hash(&template("b"), None));
        assert_ne!(a, pod_template_hash(&template("a"), Some(1)));
        assert!(a.len() <= 10 && a.bytes().all(|b| ALPHABET.contains(&b)), "{a}");
    }

    #[test]
    fn the_hash_label_does_not_count() {
        let mut labelled = template("a");
        labelled
            .metadata
            .as_mut()
            .and_then(|m| m.labels.as_mut())
            .unwrap()
            .insert(POD_TEMPLATE_HASH.to_owned(), "x".to_owned());
        assert_eq!(without_hash(&labelled), without_hash(&template("a")));
    }
}
