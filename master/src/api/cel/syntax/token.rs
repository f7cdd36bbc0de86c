//! The kinds of tokens, what they are called in messages, and sets of them.

/// What a token is. The numbers give the order in which kinds are listed in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
#[allow(missing_docs, reason = "they are named as the language names them")]
pub enum Kind {
    End = -1,
    Equals = 1,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    Open,
    Close,
    Dot,
    Comma,
    Minus,
    Not,
    Question,
    Colon,
    Plus,
    Times,
    Divide,
    Modulo,
    True,
    False,
    Null,
    Space,
    Comment,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Identifier,
    EscapedIdentifier,
}

/// How many kinds there are, the end among them.
pub const KINDS: usize = 38;

/// Kinds whose text is always the same, from the first on, and those that have a name instead.
const FIXED: [&str; 28] = [
    "==", "!=", "in", "<", "<=", ">=", ">", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%", "true", "false", "null",
];
const NAMED: [&str; 9] = [
    "WHITESPACE",
    "COMMENT",
    "NUM_FLOAT",
    "NUM_INT",
    "NUM_UINT",
    "STRING",
    "BYTES",
    "IDENTIFIER",
    "ESC_IDENTIFIER",
];

impl Kind {
    /// Its place in a table of all kinds: the end first.
    pub fn index(self) -> usize {
        usize::try_from(self as i8).unwrap_or(0)
    }

    /// The text that a token of this kind always has.
    pub fn fixed(self) -> Option<&'static str> {
        self.index().checked_sub(1).and_then(|i| FIXED.get(i).copied())
    }

    /// Whether the grammar never sees it.
    pub fn hidden(self) -> bool {
        matches!(self, Kind::Space | Kind::Comment)
    }
}

/// What a kind is called in a message, by its number.
fn shown(number: i8) -> String {
    let fixed = FIXED.len();
    match usize::try_from(i32::from(number) - 1) {
        Ok(i) if i < fixed => format!("'{}'", FIXED[i]),
        Ok(i) => NAMED.get(i - fixed).copied().unwrap_or("").to_owned(),
        Err(_) if number == Kind::End as i8 => "<EOF>".to_owned(),
        Err(_) => "<EPSILON>".to_owned(),
    }
}

/// In a set: the rule may end without another token.
const NOTHING: i8 = -2;

/// A set of kinds, as ranges of their numbers (the second of a pair is not in it).
///
/// When a range is added that spans more than two others, later ones stay, and their kinds are then listed twice.
/// Messages are to have that too, so this is no set of bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    ranges: Vec<(i8, i8)>,
}

impl Kinds {
    /// Adds a kind.
    pub fn add(&mut self, kind: Kind) {
        self.add_range((kind as i8, kind as i8 + 1));
    }

    /// Adds that there may be no token.
    pub fn add_nothing(&mut self) {
        self.add_range((NOTHING, NOTHING + 1));
    }

    /// Adds all of another set.
    pub fn add_all(&mut self, other: &Kinds) {
        for range in &other.ranges {
            self.add_range(*range);
        }
    }

    fn add_range(&mut self, (start, stop): (i8, i8)) {
        for k in 0..self.ranges.len() {
            let (from, to) = self.ranges[k];
            if stop < from {
                self.ranges.insert(k, (start, stop));
                return;
            } else if stop == from {
                self.ranges[k].0 = start;
                return;
            } else if start <= to {
                self.ranges[k] = (from.min(start), to.max(stop));
                if let Some((next_from, next_to)) = self.ranges.get(k + 1).copied() {
                    let (from, to) = self.ranges[k];
                    if to >= next_to {
                        self.ranges.remove(k + 1);
                    } else if to >= next_from {
                        self.ranges[k] = (from, next_to);
                        self.ranges.remove(k + 1);
                    }
                }
                return;
            }
        }
        self.ranges.push((start, stop));
    }

    /// Takes out that there may be no token.
    pub fn remove_nothing(&mut self) {
        if let Some((start, stop)) = self.ranges.first_mut()
            && *start == NOTHING
        {
            *start += 1;
            if start == stop {
                self.ranges.remove(0);
            }
        }
    }

    fn has_number(&self, number: i8) -> bool {
        self.ranges.iter().any(|(start, stop)| (*start..*stop).contains(&number))
    }

    /// Whether a kind is in it.
    pub fn has(&self, kind: Kind) -> bool {
        self.has_number(kind as i8)
    }

    /// Whether there may be no token.
    pub fn has_nothing(&self) -> bool {
        self.has_number(NOTHING)
    }

    /// What stands for a token of its first kind where that is missing.
    pub fn first_missing(&self) -> String {
        match self.ranges.first().map(|(start, _)| *start) {
            Some(n) if n == Kind::End as i8 => "<missing EOF>".to_owned(),
            Some(n) if n > 0 && usize::try_from(n).is_ok_and(|n| n <= FIXED.len()) => {
                format!("<missing {}>", shown(n))
            }
            _ => "<missing undefined>".to_owned(),
        }
    }
}

impl std::fmt::Display for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> =
            self.ranges.iter().flat_map(|(start, stop)| *start..*stop).map(shown).collect();
        match names.as_slice() {
            [one] => f.write_str(one),
            _ => write!(f, "{{{}}}", names.join(", ")),
        }
    }
}
