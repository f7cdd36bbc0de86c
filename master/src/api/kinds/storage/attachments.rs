//! VolumeAttachment.

use serde_json::{Value, json};

use super::{driver_name, spec};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, named};
use crate::api::kinds::{Strategy, base, keep_metadata, volumes};
use crate::api::meta::NameRule;
use crate::api::object::{self, text};

const ATTACHMENT_BYTES_MAX: usize = 256 * 1024;
const ERROR_BYTES_MAX: usize = 1024;

pub(in crate::api::kinds) fn attachment() -> Strategy {
    Strategy {
        defaults: |object| {
            if let Some(path) =
                object::existing_mut(object, &["spec", "source", "inlineVolumeSpec", "hostPath"])
            {
                path.entry("type").or_insert_with(|| "".into());
            }
        },
        prepare_create: |object| object["status"] = json!({"attached": false}),
        prepare_status: keep_metadata,
        validate: valid_attachment,
        validate_update: |new, old, errors| {
            checks::immutable_struct(
                "a.storage.v1.VolumeAttachmentSpec",
                &new["spec"],
                &old["spec"],
                &Path::new("spec"),
                errors,
            );
        },
        validate_status: |new, _, errors| valid_attachment(new, errors),
        ..base()
    }
}

fn valid_attachment(object: &Value, errors: &mut Errors) {
    let (attachment, source) = (&object["spec"], &object["spec"]["source"]);
    driver_name(text(attachment, &["attacher"]), &spec("attacher"), errors);
    let both = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source["inlineVolumeSpec"].is_object(), source["persistentVolumeName"].as_str()) {
        (false, None) => errors.required(&spec("source"), both),
        (true, Some(_)) => errors.forbidden(&spec("source"), both),
        (false, Some("")) => {
            let path = spec("source").child("persistentVolumeName");
            errors.required(&path, "must specify non empty persistentVolumeName");
        }
        (false, Some(_)) => {}
        (true, None) => volumes::volume_spec(
            &source["inlineVolumeSpec"],
            "",
            true,
            &spec("source").child("inlineVolumeSpec"),
            errors,
        ),
    }
    named(NameRule::Subdomain, text(attachment, &["nodeName"]), &spec("nodeName"), errors);
    attachment_status(&object["status"], &Path::new("status"), errors);
    if let Some(name) = source["persistentVolumeName"].as_str() {
        named(NameRule::Subdomain, name, &spec("source").child("persistentVolumeName"), errors);
    }
}

fn attachment_status(status: &Value, path: &Path, errors: &mut Errors) {
    let entries = status["attachmentMetadata"].as_object().into_iter().flatten();
    let bytes: usize = entries.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > ATTACHMENT_BYTES_MAX {
        errors.too_long(&path.child("attachmentMetadata"), ATTACHMENT_BYTES_MAX);
    }
    for field in ["attachError", "detachError"] {
        let (error, path) = (&status[field], path.child(field));
        if text(error, &["message"]).len() > ERROR_BYTES_MAX {
            // The limit that is told is the other one.
            errors.too_long(&path.child("message"), ATTACHMENT_BYTES_MAX);
        }
        if let Some(code) = error["errorCode"].as_i64().filter(|code| *code < 0) {
            let detail = "must be between 0 and 2147483647, inclusive";
            errors.invalid(&path.child("errorCode"), code, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn attachments_name_a_driver_and_a_volume() {
        let strategy = attachment();
        let check = |source: Value, attacher: &str| {
            let object = json!({"spec": {"attacher": attacher, "nodeName": "n", "source": source}});
            said(|errors| {
                (strategy.validate)(&object, errors);
                (strategy.validate_create)(&object, errors);
            })
        };
        assert!(check(json!({"persistentVolumeName": "v"}), "d").is_empty());
        assert_eq!(check(json!({"persistentVolumeName": "v"}), ""), ["spec.attacher: Required value"]);
        let unnamed = check(json!({"persistentVolumeName": ""}), "d");
        let first =
            "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName";
        assert_eq!((unnamed.len(), unnamed[0].as_str()), (2, first));
    }

    #[test]
    fn what_became_of_an_attachment_has_limits() {
        let check = |status: Value| said(|errors| attachment_status(&status, &Path::new("status"), errors));
        assert!(check(json!({"attachError": {"message": "x", "errorCode": 0}})).is_empty());
        assert_eq!(
            check(json!({"detachError": {"message": "x".repeat(1025), "errorCode": -1}})),
            [
                "status.detachError.message: Too long: may not be more than 262144 bytes",
                "status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ]
        );
    }
}
