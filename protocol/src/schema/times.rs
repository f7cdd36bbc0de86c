//! Times with Go's eyes: what is wrong with a text that should be one.

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";
/// Digits behind the point that a time of microseconds begins with.
const MICRO_DIGITS: usize = 6;

/// What Go's reader would say about a text; `None` when it is a time. One of microseconds must have a fraction of six
/// digits.
pub fn error(text: &str, micro: bool) -> Option<String> {
    let reader = Reader { text, at: 0, layout: if micro { MICRO } else { SECONDS } };
    reader.time(micro).err()
}

/// A text in quotes as the reader of times shows it: bytes that are not ASCII by their numbers.
fn quoted(text: &str) -> String {
    let mut made = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => made.extend(['\\', c]),
            ' '..='\u{7f}' => made.push(c),
            _ => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    made.push_str(&format!("\\x{byte:02x}"));
                }
            }
        }
    }
    made.push('"');
    made
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    layout: &'static str,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn cannot(&self, part: &str) -> String {
        let (text, rest) = (quoted(self.text), quoted(self.rest()));
        format!("parsing time {text} as {:?}: cannot parse {rest} as {part:?}", self.layout)
    }

    fn wrong(&self, why: &str) -> String {
        format!("parsing time {}: {why}", quoted(self.text))
    }

    /// A number of so many digits.
    fn number(&mut self, digits: usize, part: &str) -> Result<u32, String> {
        let found = self.bytes().get(..digits).filter(|d| d.iter().all(u8::is_ascii_digit));
        let Some(found) = found else { return Err(self.cannot(part)) };
        let number = found.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'));
        self.at += digits;
        Ok(number)
    }

    fn literal(&mut self, text: char) -> Result<(), String> {
        if !self.rest().starts_with(text) {
            return Err(self.cannot(&text.to_string()));
        }
        self.at += 1;
        Ok(())
    }

    fn within(&self, number: u32, range: std::ops::RangeInclusive<u32>, what: &str) -> Result<(), String> {
        if range.contains(&number) { Ok(()) } else { Err(self.wrong(&format!("{what} out of range"))) }
    }

    fn time(mut self, micro: bool) -> Result<(), String> {
        let year = self.number(4, "2006")?;
        self.literal('-')?;
        let month = self.number(2, "01")?;
        self.within(month, 1..=12, "month")?;
        self.literal('-')?;
        let day = self.number(2, "02")?;
        self.literal('T')?;
        let hour = self.number(2, "15")?;
        self.within(hour, 0..=23, "hour")?;
        self.literal(':')?;
        let minute = self.number(2, "04")?;
        self.within(minute, 0..=59, "minute")?;
        self.literal(':')?;
        let second = self.number(2, "05")?;
        self.within(second, 0..=59, "second")?;
        self.fraction(micro)?;
        self.zone()?;
        if !self.rest().is_empty() {
            return Err(self.wrong(&format!("extra text: {}", quoted(self.rest()))));
        }
        let days = time::Month::try_from(u8::try_from(month).unwrap_or(1))
            .map_or(31, |month| u32::from(month.length(i32::try_from(year).unwrap_or(0))));
        self.within(day, 1..=days, "day")
    }

    fn fraction(&mut self, micro: bool) -> Result<(), String> {
        let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let point = self.rest().starts_with('.');
        let behind = self.bytes().get(1..).map_or(0, digits);
        if micro {
            if !point || behind < MICRO_DIGITS {
                return Err(self.cannot(".000000"));
            }
            self.at += 1 + MICRO_DIGITS;
        } else if point && behind > 0 {
            self.at += 1 + behind;
        }
        Ok(())
    }

    fn zone(&mut self) -> Result<(), String> {
        if self.rest().starts_with('Z') {
            self.at += 1;
            return Ok(());
        }
        let fits = match self.bytes() {
            [sign, a, b, colon, c, d, ..] => {
                matches!(sign, b'+' | b'-')
                    && *colon == b':'
                    && [a, b, c, d].into_iter().all(|digit| digit.is_ascii_digit())
            }
            _ => false,
        };
        if !fits {
            return Err(self.cannot("Z07:00"));
        }
        self.at += 6;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_are_gos() {
        for (text, micro, why) in [
            ("2001-01-01T00:00:00Z", false, ""),
            ("2001-01-01T00:00:00.5+02:00", false, ""),
            ("2001-01-01T00:00:00.123456Z", true, ""),
            ("", false, "cannot parse \"\" as \"2006\""),
            ("yesterday", false, "cannot parse \"yesterday\" as \"2006\""),
            ("é\n\"", false, "cannot parse \"\\xc3\\xa9\\x0a\\\"\" as \"2006\""),
            ("2001", false, "cannot parse \"\" as \"-\""),
            ("2001-01-01", false, "cannot parse \"\" as \"T\""),
            ("2001-01-01 00:00", false, "cannot parse \" 00:00\" as \"T\""),
            ("2001-13-01T00:00:00Z", false, "month out of range"),
            ("2001-02-30T00:00:00Z", false, "day out of range"),
            ("2001-01-01T25:00:00Z", false, "hour out of range"),
            ("2001-01-01T00:00:00", false, "cannot parse \"\" as \"Z07:00\""),
            ("2001-01-01T00:00:00Zx", false, "extra text: \"x\""),
            ("2001-01-01T00:00:00Z", true, "cannot parse \"Z\" as \".000000\""),
            ("2001-01-01T00:00:00.123456789Z", true, "cannot parse \"789Z\" as \"Z07:00\""),
        ] {
            let got = super::error(text, micro).unwrap_or_default();
            assert!(got.ends_with(why) && got.is_empty() == why.is_empty(), "{text}: {got}");
        }
    }
}
