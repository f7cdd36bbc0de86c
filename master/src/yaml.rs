//! YAML as Kubernetes' tools read and write it.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

mod complaint;
mod compose;
mod emit;
mod resolve;
mod scalar;

use compose::{Document, Fault};

/// The column behind which the texts of answers are folded.
const ANSWER_WIDTH: usize = 80;

/// A value as YAML whose texts stay on one line where they can: what simple readers of kubeconfigs understand.
pub fn to_text(value: &Value) -> String {
    emit::text(value, usize::MAX)
}

/// A value as YAML as the API answers it: long texts are folded.
pub fn to_answer(value: &Value) -> String {
    emit::text(value, ANSWER_WIDTH)
}

/// What a YAML text says.
pub struct Read {
    /// Its first document.
    pub value: Value,
    /// What strict readers take offence at: keys that are there twice.
    pub strict: Vec<String>,
}

/// Reads the first document of a YAML text. Of keys that are there twice the last counts. Aliases and depth are
/// bounded, so a small text cannot become a huge value.
///
/// # Errors
/// What is wrong with the text, as Go's reader would begin to say it.
pub fn read(text: &str) -> Result<Read, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(line) = complaint::of_version(text) {
        return Err(line);
    }
    match compose::first(text) {
        Ok(Document { value, repeated }) => {
            let told = repeated.into_iter();
            let strict =
                told.map(|(line, key)| format!("line {line}: key {key} already set in map")).collect();
            Ok(Read { value, strict })
        }
        Err(Fault::Said(why)) => Err(why),
        Err(Fault::Syntax) => Err(syntax(text)),
    }
}

/// What is wrong with a text that is no YAML: told by a reader that takes note of what it was about.
fn syntax(text: &str) -> String {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    match serde_saphyr::from_multiple_with_options::<serde::de::IgnoredAny>(text, options) {
        Err(error) => complaint::of(&error, text),
        Ok(_) => "yaml: did not find expected node content".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn every_key_that_is_there_twice_is_told() {
        let text = "m:\n  a: {x: 1, x: 2}\n  b: 3\n  b:\n    c: 4\nm: 5\n";
        let read = super::read(text).expect("is read");
        assert_eq!(read.value, json!({"m": 5}));
        assert_eq!(
            read.strict,
            [
                "line 2: key \"x\" already set in map",
                "line 5: key \"b\" already set in map",
                "line 6: key \"m\" already set in map",
            ]
        );
        let read = super::read("{1: a, 1: b}").expect("is read");
        assert_eq!(
            (read.value, read.strict),
            (json!({"1": "b"}), vec!["line 1: key 1 already set in map".to_owned()])
        );
    }

    #[test]
    fn scalars_are_those_of_the_older_yaml() {
        let read = super::read("a: yes\nb: 0120\nc: 80.0\nd: 1.5\nyes: ~\ne: 2001-01-01\nf: off\n")
            .expect("is read");
        assert_eq!(
            read.value,
            json!({"a": true, "b": 80, "c": 80, "d": 1.5, "true": null, "e": "2001-01-01", "f": false})
        );
        assert_eq!(super::read("a: *b\n").err().as_deref(), Some("yaml: unknown anchor 'b' referenced"));
    }

    #[test]
    fn the_first_document_counts_and_so_does_the_last_of_two_keys() {
        let read = super::read("a: 1\n---\na: 2\n").expect("is read");
        assert_eq!((read.value, read.strict), (json!({"a": 1}), Vec::new()));
        let read = super::read("a: 1\nb: 2\na: 3\n").expect("is read");
        assert_eq!(read.value, json!({"a": 3, "b": 2}));
        assert_eq!(read.strict, ["line 3: key \"a\" already set in map"]);
        assert_eq!(
            super::read("a: b: c\n  - x").err().as_deref(),
            Some("yaml: mapping values are not allowed in this context")
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let value = json!({"f:data": {".": {}, "k:{\"name\":\"c\"}": {"f:x": 1}},
            "list": [{"f:a": {}, "other:key": 1}, ["a", [true]], [], "yes", "1", "2025-01-01", "a: b", " x", "- y", ""],
            "text": "\"f:a\": 1\nb\n", "z": "f:a", "long": "it's a long line ".repeat(12), "block": " a\n\nb",
            "tabs": "a\tb  c".repeat(30)});
        for text in [super::to_text(&value), super::to_answer(&value)] {
            assert_eq!(super::read(&text).expect("is read").value, value, "{text}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let of = format!("*a{}", i - 1);
            text.push_str(&format!("a{i}: &a{i} [{}]\n", [of.as_str(); 10].join(",")));
        }
        assert!(super::read(&text).is_err());
        assert!(super::read(&"[".repeat(100_000)).is_err());
        // Each is within the bound, but for what it says of the one before.
        let mut text = "- &a0 x\n".to_owned();
        for i in 1..1_000 {
            let (open, close) = ("[".repeat(100), "]".repeat(100));
            text.push_str(&format!("- &a{i} {open}*a{}{close}\n", i - 1));
        }
        assert_eq!(super::read(&text).err().as_deref(), Some("yaml: exceeded max depth of 512"));
    }
}
