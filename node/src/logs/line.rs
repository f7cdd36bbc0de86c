//! One line of the CRI log format: `<time> <stream> <P|F> <text>`.

/// A line, borrowed from its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CriLine<'a> {
    /// RFC 3339 with nanoseconds.
    pub time: &'a str,
    /// From standard error.
    pub stderr: bool,
    /// Only a part: the next line of this stream goes on with it.
    pub partial: bool,
    /// The text, without a newline.
    pub text: &'a [u8],
}

/// Reads a line (with or without its newline); `None` when it is none, such as one cut off by a crash.
pub fn parse_line(line: &[u8]) -> Option<CriLine<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = match parts.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(CriLine { time, stderr, partial, text: parts.next()? })
}

/// Appends a line. `text` without a final newline is a part.
pub fn format_line(into: &mut Vec<u8>, time: &str, stderr: bool, text: &[u8]) {
    let full = text.strip_suffix(b"\n");
    into.extend_from_slice(time.as_bytes());
    into.extend_from_slice(if stderr { b" stderr " } else { b" stdout " });
    into.extend_from_slice(if full.is_some() { b"F " } else { b"P " });
    into.extend_from_slice(full.unwrap_or(text));
    into.push(b'\n');
}
