//! Base64 with Go's eyes: where a text stops being base64.

/// What Go's reader would say about a text; `None` when it is base64. Line breaks anywhere are none of its business.
pub fn error(text: &[u8]) -> Option<String> {
    corrupt(text).map(|at| format!("illegal base64 data at input byte {at}"))
}

fn corrupt(text: &[u8]) -> Option<usize> {
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let next = |from: usize| (from..text.len()).find(|at| text.get(*at).is_some_and(|b| !breaks(b)));
    let mut at = 0;
    loop {
        // A group of four begins here.
        let mut digits = 0;
        while digits < 4 {
            let Some(found) = next(at) else {
                return (digits > 0).then(|| text.len() - digits);
            };
            let byte = text.get(found).copied().unwrap_or_default();
            at = found + 1;
            if digit(byte) {
                digits += 1;
                continue;
            }
            if byte != b'=' || digits < 2 {
                return Some(found);
            }
            if digits == 2 {
                match next(at) {
                    None => return Some(text.len()),
                    Some(second) if text.get(second) == Some(&b'=') => at = second + 1,
                    Some(second) => return Some(second - 1),
                }
            }
            // Nothing may follow the padding.
            return next(at);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_place_is_gos() {
        for (text, at) in [
            ("", None),
            ("MQ==", None),
            ("MTI=", None),
            ("MT\nIz\r\n", None),
            ("!!", Some(0)),
            ("MQ", Some(0)),
            ("MQ=", Some(3)),
            ("MQ=x", Some(2)),
            ("MQ==x", Some(4)),
            ("M===", Some(1)),
            ("MTIzM", Some(4)),
            ("MTIz MTIz", Some(4)),
        ] {
            assert_eq!(super::corrupt(text.as_bytes()), at, "{text:?}");
        }
    }
}
