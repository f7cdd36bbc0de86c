//! YAML as Kubernetes' tools read and write it.

use serde_json::Value;

/// A value as YAML. Long strings stay on one line (the writer's folding is valid, but not what simple
/// readers of kubeconfigs understand); strings of several lines become literal blocks.
///
/// # Errors
/// When the value cannot be written: never for JSON values, whose keys are strings.
pub fn to_text(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)?;
    Ok(text)
}
