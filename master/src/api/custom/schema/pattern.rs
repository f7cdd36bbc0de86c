//! Patterns, as Go's regular expressions: what is wrong with one, and the same one for our engine. They differ in
//! what they take (`a{` and `\Q..\E` are good there, `a**` and `[a&&b]` mean something else here), and in what `\d`,
//! `\s`, `\w` and `\b` are about: ASCII alone.

use std::cell::RefCell;
use std::collections::HashSet;

use regex::Regex;

/// Patterns are compiled into at most so much memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Nothing repeats more often, in groups within groups either.
const REPEAT_MAX: u32 = 1000;
/// The classes that have a name within a class: `[[:alpha:]]`.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];
/// Groups nest no deeper.
const DEPTH_MAX: usize = 250;

/// Compiles a pattern of bounded size.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let ours = Reader::read(pattern)?;
    let compiled = regex::RegexBuilder::new(&ours).size_limit(PATTERN_BYTES_MAX).build();
    compiled.map_err(|_| wrong("expression too large", pattern))
}

/// What is wrong with a pattern, in Go's words.
pub fn pattern_error(pattern: &str) -> Option<String> {
    compile(pattern).err()
}

fn wrong(what: &str, at: &str) -> String {
    format!("error parsing regexp: {what}: `{at}`")
}

/// What can be repeated: how often it is itself, and what it is made of.
#[derive(Default)]
struct Node {
    times: Option<(u32, Option<u32>)>,
    parts: Vec<Node>,
}

impl Node {
    /// Whether repetitions within one another stay within a bound.
    fn within(&self, mut bound: u32) -> bool {
        if let Some((least, most)) = self.times {
            let times = most.unwrap_or(least);
            if most == Some(0) {
                return true;
            }
            if times > bound {
                return false;
            }
            bound /= times.max(1);
        }
        self.parts.iter().all(|part| part.within(bound))
    }
}

struct Reader<'p> {
    whole: &'p str,
    rest: &'p str,
    /// The pattern for our engine.
    ours: String,
    /// What was read of each open group, the outermost first; `None` is a bar.
    groups: Vec<Vec<Option<Node>>>,
}

impl<'p> Reader<'p> {
    fn read(whole: &'p str) -> Result<String, String> {
        let mut reader = Reader { whole, rest: whole, ours: String::new(), groups: vec![Vec::new()] };
        // Where the repetition before what is read now begins.
        let mut repeated: Option<&'p str> = None;
        while let Some(c) = reader.rest.chars().next() {
            repeated = reader.token(c, repeated)?;
        }
        if reader.groups.len() != 1 {
            return Err(wrong("missing closing )", whole));
        }
        Ok(reader.ours)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn atom(&mut self, ours: &str) {
        self.ours.push_str(ours);
        self.push(Some(Node::default()));
    }

    fn push(&mut self, node: Option<Node>) {
        if let Some(group) = self.groups.last_mut() {
            group.push(node);
        }
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.atom(&regex::escape(c.encode_utf8(&mut buffer)));
    }

    /// Reads what comes next. Returns where it begins if it is a repetition.
    fn token(&mut self, c: char, repeated: Option<&'p str>) -> Result<Option<&'p str>, String> {
        let before = self.rest;
        match c {
            '(' if before.starts_with("(?") => self.group_flags()?,
            '(' => {
                self.skip(1);
                self.open("(")?;
            }
            ')' => {
                self.skip(1);
                if self.groups.len() == 1 {
                    return Err(wrong("unexpected )", self.whole));
                }
                let parts = self.groups.pop().unwrap_or_default().into_iter().flatten().collect();
                self.ours.push(')');
                self.push(Some(Node { times: None, parts }));
            }
            '|' => {
                self.skip(1);
                self.ours.push('|');
                self.push(None);
            }
            '^' | '$' | '.' => {
                self.skip(1);
                let mut buffer = [0; 4];
                self.atom(c.encode_utf8(&mut buffer));
            }
            '[' => self.class()?,
            '*' | '+' | '?' => {
                self.skip(1);
                self.repeat((0, Some(0)), false, before, repeated)?;
                return Ok(Some(before));
            }
            '{' => match counts(before) {
                None => {
                    self.skip(1);
                    self.literal('{');
                }
                Some((least, most, length)) => {
                    self.skip(length);
                    let (Some(least), most) = (least, most) else {
                        return Err(wrong("invalid repeat count", &before[..length]));
                    };
                    let most = most.map(|most| most.unwrap_or(u32::MAX));
                    let too_many = least > REPEAT_MAX || most.is_some_and(|m| m > REPEAT_MAX || least > m);
                    if too_many {
                        return Err(wrong("invalid repeat count", &before[..length]));
                    }
                    self.repeat((least, most), true, before, repeated)?;
                    return Ok(Some(before));
                }
            },
            '\\' => self.backslash()?,
            c => {
                self.skip(c.len_utf8());
                self.literal(c);
            }
        }
        Ok(None)
    }

    fn repeat(
        &mut self,
        times: (u32, Option<u32>),
        counted: bool,
        before: &'p str,
        repeated: Option<&'p str>,
    ) -> Result<(), String> {
        if self.rest.starts_with('?') {
            self.skip(1);
        }
        let read = |from: &'p str| &from[..from.len() - self.rest.len()];
        if let Some(last) = repeated {
            return Err(wrong("invalid nested repetition operator", read(last)));
        }
        let Some(Some(inner)) = self.groups.last_mut().and_then(Vec::pop) else {
            return Err(wrong("missing argument to repetition operator", read(before)));
        };
        let node = Node { times: counted.then_some(times), parts: vec![inner] };
        if counted && (times.0 >= 2 || times.1.is_some_and(|most| most >= 2)) && !node.within(REPEAT_MAX) {
            return Err(wrong("invalid repeat count", read(before)));
        }
        let operator = read(before).to_owned();
        self.ours.push_str(&operator);
        self.push(Some(node));
        Ok(())
    }

    fn open(&mut self, ours: &str) -> Result<(), String> {
        if self.groups.len() > DEPTH_MAX {
            return Err(wrong("expression nests too deeply", self.whole));
        }
        self.ours.push_str(ours);
        self.groups.push(Vec::new());
        Ok(())
    }

    /// `(?`: a name, or flags, for the rest or for a group.
    fn group_flags(&mut self) -> Result<(), String> {
        let begin = self.rest;
        let name_at = [("(?P<", 4), ("(?<", 3)].into_iter().find(|(start, _)| begin.starts_with(start));
        if let Some((_, from)) = name_at.filter(|(_, from)| begin.len() > *from) {
            let Some(end) = begin.find('>') else { return Err(wrong("invalid named capture", begin)) };
            let name = begin.get(from..end).unwrap_or_default();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(wrong("invalid named capture", &begin[..=end]));
            }
            self.skip(end + 1);
            return self.open("(");
        }
        let (mut minus, mut some) = (false, false);
        let mut at = 2;
        for c in begin[2..].chars() {
            at += c.len_utf8();
            match c {
                'i' | 'm' | 's' | 'U' => some = true,
                '-' if !minus => (minus, some) = (true, false),
                ':' | ')' if !minus || some => {
                    self.skip(at);
                    let flags = &begin[2..at - 1];
                    if c == ':' {
                        return self.open(&format!("(?{flags}:"));
                    }
                    if !flags.is_empty() {
                        self.ours.push_str(&begin[..at]);
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(wrong("invalid or unsupported Perl syntax", &begin[..at]))
    }

    fn backslash(&mut self) -> Result<(), String> {
        let begin = self.rest;
        match begin[1..].chars().next() {
            Some('A') => self.whole_atom(2, r"\A"),
            Some('z') => self.whole_atom(2, r"\z"),
            Some('b') => self.whole_atom(2, r"(?-u:\b)"),
            Some('B') => self.whole_atom(2, r"(?-u:\B)"),
            Some('C') => return Err(wrong("invalid escape sequence", &begin[..2])),
            Some('Q') => {
                let said = &begin[2..];
                let (said, after) = said.split_once("\\E").unwrap_or((said, ""));
                said.chars().for_each(|c| self.literal(c));
                self.rest = after;
            }
            _ => match named_class(begin)? {
                Some((ours, length)) => self.whole_atom(length, &ours),
                None => {
                    let (c, length) = escaped(begin)?;
                    self.skip(length);
                    self.literal(c);
                }
            },
        }
        Ok(())
    }

    fn whole_atom(&mut self, length: usize, ours: &str) {
        self.skip(length);
        self.atom(ours);
    }

    fn class(&mut self) -> Result<(), String> {
        let begin = self.rest;
        let mut rest = &begin[1..];
        let mut ours = String::from("[");
        if let Some(after) = rest.strip_prefix('^') {
            ours.push('^');
            rest = after;
        }
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            if rest.len() > 2
                && rest.starts_with("[:")
                && let Some(end) = rest[2..].find(":]")
            {
                let name = &rest[..end + 4];
                let inner = &rest[2..end + 2];
                if !CLASSES.contains(&inner.strip_prefix('^').unwrap_or(inner)) {
                    return Err(wrong("invalid character class range", name));
                }
                ours.push_str(name);
                rest = &rest[end + 4..];
                continue;
            }
            if let Some((class, length)) = named_class(rest)? {
                ours.push_str(&class);
                rest = &rest[length..];
                continue;
            }
            let range = rest;
            let (low, after) = class_char(rest, begin)?;
            rest = after;
            let mut high = low;
            if rest.starts_with('-') && rest.len() >= 2 && !rest.starts_with("-]") {
                (high, rest) = class_char(&rest[1..], begin)?;
                if high < low {
                    let range = &range[..range.len() - rest.len()];
                    return Err(wrong("invalid character class range", range));
                }
            }
            let plain = |c: char| format!("\\x{{{:x}}}", u32::from(c));
            ours.push_str(&plain(low));
            if high != low {
                ours.push('-');
                ours.push_str(&plain(high));
            }
        }
        self.rest = &rest[1..];
        ours.push(']');
        self.atom(&ours);
        Ok(())
    }
}

/// Classes that a thread remembers.
const KNOWN_MAX: usize = 1024;

thread_local! {
    /// Classes that there are. Finding out costs as much as a whole pattern.
    static KNOWN: RefCell<HashSet<String>> = RefCell::default();
}

/// Whether our engine knows a class.
fn is_class(class: &str) -> bool {
    if KNOWN.with_borrow(|known| known.contains(class)) {
        return true;
    }
    let is = regex::RegexBuilder::new(class).size_limit(PATTERN_BYTES_MAX).build().is_ok();
    if is {
        KNOWN.with_borrow_mut(|known| {
            if known.len() < KNOWN_MAX {
                known.insert(class.to_owned());
            }
        });
    }
    is
}

/// A character of a class, and what follows it.
fn class_char<'p>(rest: &'p str, class: &str) -> Result<(char, &'p str), String> {
    match rest.chars().next() {
        None => Err(wrong("missing closing ]", class)),
        Some('\\') => escaped(rest).map(|(c, length)| (c, &rest[length..])),
        Some(c) => Ok((c, &rest[c.len_utf8()..])),
    }
}

/// A class that a backslash names, for our engine, and its length.
fn named_class(rest: &str) -> Result<Option<(String, usize)>, String> {
    let Some(after) = rest.strip_prefix('\\') else { return Ok(None) };
    let ours = match after.chars().next() {
        Some('d') => "[0-9]",
        Some('D') => "[^0-9]",
        Some('w') => "[0-9A-Za-z_]",
        Some('W') => "[^0-9A-Za-z_]",
        Some('s') => r"[\t\n\x0c\r ]",
        Some('S') => r"[^\t\n\x0c\r ]",
        Some('p' | 'P') => {
            let length = match after[1..].chars().next() {
                None => 2,
                Some('{') => {
                    let Some(end) = rest.find('}') else {
                        return Err(wrong("invalid character class range", rest));
                    };
                    end + 1
                }
                Some(c) => 2 + c.len_utf8(),
            };
            let class = &rest[..length];
            // `{^..}` says it is all the others.
            let ours = match class.split_once("{^") {
                Some((begin, name)) => format!("{}{{{name}", if begin == r"\p" { r"\P" } else { r"\p" }),
                None => class.to_owned(),
            };
            if !is_class(&ours) {
                return Err(wrong("invalid character class range", class));
            }
            return Ok(Some((ours, length)));
        }
        _ => return Ok(None),
    };
    Ok(Some((ours.to_owned(), 2)))
}

/// The character that a backslash and what follows stand for, and their length.
fn escaped(rest: &str) -> Result<(char, usize), String> {
    let mut chars = rest.char_indices().skip(1).peekable();
    let Some((_, c)) = chars.next() else {
        return Err(wrong("trailing backslash at end of expression", ""));
    };
    // What was looked at when it turns out to be wrong.
    let mut seen = 1 + c.len_utf8();
    let found = match c {
        'a' => Some('\u{7}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        '0'..='7' if c == '0' || chars.peek().is_some_and(|(_, c)| ('0'..='7').contains(c)) => {
            let mut code = u32::from(c) - u32::from('0');
            for _ in 0..2 {
                let Some((_, digit)) = chars.next_if(|(_, c)| ('0'..='7').contains(c)) else { break };
                code = code * 8 + (u32::from(digit) - u32::from('0'));
                seen += 1;
            }
            char::from_u32(code)
        }
        'x' if chars.peek().is_some_and(|(_, c)| *c == '{') => {
            chars.next();
            seen += 1;
            let mut code = Some(0_u32);
            let mut digits = 0;
            loop {
                let Some((_, c)) = chars.next() else { break None };
                seen += c.len_utf8();
                match c.to_digit(16) {
                    Some(digit) => {
                        digits += 1;
                        code = code.map(|code| code * 16 + digit).filter(|code| *code <= 0x10_ffff);
                        if code.is_none() {
                            break None;
                        }
                    }
                    None if c == '}' && digits > 0 => break code.and_then(char::from_u32),
                    None => break None,
                }
            }
        }
        'x' => {
            let mut code = 0;
            let mut good = 0;
            for _ in 0..2 {
                let Some((_, c)) = chars.next() else { break };
                seen += c.len_utf8();
                code = code * 16 + c.to_digit(16).unwrap_or(0);
                good += u32::from(c.is_ascii_hexdigit());
            }
            (good == 2).then(|| char::from_u32(code)).flatten()
        }
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
        _ => None,
    };
    found.map(|c| (c, seen)).ok_or_else(|| wrong("invalid escape sequence", &rest[..seen]))
}

/// `{n}`, `{n,}` or `{n,m}`: how often at least (`None` if that is no number of ours), how often at most, and the length.
/// It is a literal brace if it is none of these.
fn counts(rest: &str) -> Option<(Option<u32>, Option<Option<u32>>, usize)> {
    let end = rest.find('}')?;
    let inner = &rest[1..end];
    let number = |text: &str| -> Option<Option<u32>> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let plain = text.len() == 1 || !text.starts_with('0');
        (digits && plain).then(|| text.parse().ok())
    };
    let (least, most) = match inner.split_once(',') {
        None => {
            let n = number(inner)?;
            (n, Some(n))
        }
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, end + 1))
}

#[cfg(test)]
mod tests;
