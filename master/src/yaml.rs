//! YAML as Kubernetes' tools read and write it.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

/// A value as YAML. Long strings stay on one line (the writer's folding is valid, but not what simple
/// readers of kubeconfigs understand); strings of several lines become literal blocks.
///
/// # Errors
/// When the value cannot be written: never for JSON values, whose keys are strings.
pub fn to_text(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)?;
    Ok(with_plain_keys(&text))
}

/// The text with the keys that say who manages which field written plainly, as Go writes them: the writer puts
/// anything with a colon in quotes.
fn with_plain_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The column of the key whose value is a literal block; what is deeper belongs to that.
    let mut block: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start_matches(' ');
        let mut column = line.len() - rest.len();
        let blank = rest.trim_end().is_empty();
        if block.is_some_and(|key| blank || column > key) {
            out.push_str(line);
            continue;
        }
        let mut entry = rest;
        while let Some(inner) = entry.strip_prefix("- ") {
            entry = inner.trim_start_matches(' ');
            column = line.len() - entry.len();
        }
        let value = entry.trim_end().rsplit(' ').next().unwrap_or_default();
        block = value.starts_with(['|', '>']).then_some(column);
        match plain_key(entry) {
            Some((key, after)) => {
                out.push_str(&line[..column]);
                out.push_str(&key);
                out.push_str(after);
            }
            None => out.push_str(line),
        }
    }
    out
}

/// A quoted key at the start of a line that may stand there plainly, and what follows it.
fn plain_key(entry: &str) -> Option<(String, &str)> {
    let inner = entry.strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.char_indices().find_map(|(i, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(i)
    })?;
    let (quoted, after) = entry.split_at(end + 2);
    let key: String = serde_json::from_str(quoted).ok()?;
    let of_fields = key == "." || ["f:", "k:", "v:"].iter().any(|kind| key.starts_with(kind));
    let breaks = key.contains(": ")
        || key.contains(" #")
        || key.ends_with([':', ' '])
        || key.contains(char::is_control);
    (of_fields && !breaks && after.starts_with(':')).then_some((key, after))
}

/// What a YAML text says.
pub struct Read {
    /// Its first document.
    pub value: Value,
    /// What strict readers take offence at: keys that are there twice.
    pub strict: Vec<String>,
}

/// Reads the first document of a YAML text. Of keys that are there twice the last counts. Aliases and depth are
/// bounded by the reader, so a small text cannot become a huge value.
///
/// # Errors
/// What is wrong with the text, as Go's reader would begin to say it.
pub fn read(text: &str) -> Result<Read, String> {
    let mut strict = Vec::new();
    let options = serde_saphyr::options! {};
    let first = serde_saphyr::from_multiple_with_options::<Value>(text, options);
    let documents = match first {
        Ok(documents) => documents,
        Err(error) => match error.without_snippet() {
            serde_saphyr::Error::DuplicateMappingKey { key, location } => {
                let key = key.as_deref().unwrap_or_default();
                strict.push(format!("line {}: key {key:?} already set in map", location.line()));
                let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
                serde_saphyr::from_multiple_with_options(text, options).map_err(|e| complaint(&e))?
            }
            _ => return Err(complaint(&error)),
        },
    };
    Ok(Read { value: documents.into_iter().next().unwrap_or(Value::Null), strict })
}

/// `yaml: line 2: …`; Go leaves the first line's number out.
fn complaint(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    let line = error.location().map_or(0, |location| location.line());
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    // The reader says the place itself, at either end.
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = match text.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => text.rsplit_once(" at line ").map_or(text, |(rest, _)| rest),
    };
    if line > 1 { format!("yaml: line {line}: {text}") } else { format!("yaml: {text}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn keys_about_fields_are_written_plainly_and_texts_are_left_alone() {
        let value = json!({"f:data": {".": {}, "k:{\"name\":\"c\"}": {"f:x": 1}},
            "list": [{"f:a": {}, "other:key": 1}], "text": "\"f:a\": 1\nb\n", "z": "f:a"});
        let text = super::to_text(&value).expect("is written");
        assert_eq!(super::read(&text).expect("is read").value, value, "{text}");
        for line in [
            "f:data:\n",
            "  .: {}\n",
            "  k:{\"name\":\"c\"}:\n",
            "    f:x: 1\n",
            "- f:a: {}\n",
            "  \"f:a\": 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
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
    }
}
