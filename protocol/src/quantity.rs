//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`): exact decimal arithmetic, upstream's canonical form.
//!
//! A quantity is an integer of nano-units kept in 256 bits (`wide`), which holds what anybody asks for (upstream caps
//! binary amounts at 2^63−1 and rounds up below one nano).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

mod wide;

use wide::Wide;

/// The suffix family a quantity was written in; it stays when it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// `m`, none, `k`, `M`, …
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `e3`, `E6`, …
    DecimalExponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: Wide,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text has another form.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: u64 = 1_000_000_000;
const MILLI: u64 = NANO / 1000;
/// Upstream caps binary amounts at the largest 64-bit integer.
const BINARY_MAX: Wide = Wide::of(i64::MAX as i128 * NANO as i128);
/// More digits than this no amount has.
const DIGITS_MAX: usize = 76;
/// The same where a binary suffix follows.
const BINARY_DIGITS_MAX: usize = 58;
/// How many digits upstream reads into 64 bits.
const FAST_DIGITS_MAX: usize = 18;

impl Quantity {
    /// A whole number of units.
    pub fn from_units(units: i64) -> Self {
        Quantity { nano: Wide::of(units.into()).times(NANO), format: Format::DecimalSi }
    }

    /// A number of thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Quantity { nano: Wide::of(milli.into()).times(MILLI), format: Format::DecimalSi }
    }

    /// A number of bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Quantity { nano: Wide::of(bytes.into()).times(NANO), format: Format::BinarySi }
    }

    /// The value in whole units, rounded up (away from zero), as upstream's `Value()`.
    pub fn units(&self) -> i64 {
        self.nano.divided_up(NANO).clamped()
    }

    /// The value in thousandths, rounded up, as upstream's `MilliValue()`.
    pub fn milli(&self) -> i64 {
        self.nano.divided_up(MILLI).clamped()
    }

    /// The amount without what is finer than thousandths, rounded away from zero.
    pub fn in_milli(self) -> Self {
        Quantity { nano: self.nano.divided_up(MILLI).times(MILLI), ..self }
    }

    /// The suffix family.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.nano.is_zero()
    }

    /// Whether the amount is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano.is_negative()
    }

    /// A text as a client may write it, as clients get it back: upstream leaves it as it is where that looks canonical,
    /// which says nothing of signs, zeros before it and the case of an exponent. `coarse` is where nothing is finer than
    /// a thousandth.
    ///
    /// # Errors
    /// It is no quantity.
    pub fn written(text: &str, coarse: bool) -> Result<String, QuantityError> {
        let text = text.trim();
        let quantity: Quantity = text.parse()?;
        let looks = |scale: i32| !coarse || scale >= -3;
        if !quantity.is_zero() && looks_canonical(text).is_some_and(looks) {
            return Ok(text.to_owned());
        }
        Ok(if coarse { quantity.in_milli() } else { quantity }.to_string())
    }

    /// Whether it passes for a whole number where thousandths are counted in 64 bits: those of amounts that upstream does
    /// not keep in so few run over, which leaves some of them.
    pub fn passes_for_whole(&self) -> bool {
        let few = self.format != Format::BinarySi && self.nano.significant_digits() <= FAST_DIGITS_MAX;
        let thousandths = self.nano.divided_up(MILLI).wrapped();
        if few { self.is_whole() } else { thousandths % 1000 == 0 }
    }

    /// Whether the amount is a whole number.
    pub fn is_whole(&self) -> bool {
        self.nano.divided(NANO).1 == 0
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        // Adding to nothing takes the other's suffix family, as upstream does.
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nano: self.nano + other.nano, format }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nano: self.nano - other.nano, format }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(items: I) -> Quantity {
        items.fold(Quantity::default(), |a, b| a + b)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let Parts { negative, whole, fraction, suffix } = parts(text);
        // A sign or a point without digits is zero to upstream; a suffix alone is no amount.
        let bare = whole.is_empty() && fraction.is_empty();
        if (bare && !text.starts_with(['+', '-', '.'])) || fraction.contains('.') {
            return Err(QuantityError::Form);
        }
        let (factor, format) = suffix_value(suffix)?;
        let most = if format == Format::BinarySi { BINARY_MAX } else { Wide::MAX };
        let magnitude = magnitude(whole, fraction, factor).min(most);
        Ok(Quantity { nano: if negative { magnitude.negated() } else { magnitude }, format })
    }
}

/// What a quantity's text consists of.
struct Parts<'t> {
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
    suffix: &'t str,
}

fn parts(text: &str) -> Parts<'_> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    Parts { negative, whole, fraction, suffix }
}

/// The power of ten of a text that upstream takes for canonical.
fn looks_canonical(text: &str) -> Option<i32> {
    let Parts { whole, fraction, suffix, .. } = parts(text);
    let whole = whole.trim_start_matches('0');
    match suffix_value(suffix).ok()?.0 {
        Factor::Two(bits) => {
            let digits = i32::try_from(whole.len()).ok()? + i32::try_from(bits * 3 / 10).ok()?;
            let value: i64 = whole.parse().ok()?;
            (fraction.is_empty() && digits <= 14 && value % 8 != 0).then_some(0)
        }
        Factor::Ten(power) => {
            let scale = power.checked_sub(i32::try_from(fraction.len()).ok()?)?;
            let fits = !whole.is_empty() && whole.len() + fraction.len() <= FAST_DIGITS_MAX && scale >= -9;
            let zeros = fraction.bytes().rev().chain(whole.bytes().rev()).take_while(|b| *b == b'0').count();
            (fits && scale % 3 == 0 && zeros < 3).then_some(scale)
        }
    }
}

/// What a suffix multiplies by: a power of two or of ten.
#[derive(Clone, Copy)]
enum Factor {
    Two(u32),
    Ten(i32),
}

fn suffix_value(suffix: &str) -> Result<(Factor, Format), QuantityError> {
    let binary = |n| Ok((Factor::Two(n), Format::BinarySi));
    let decimal = |n| Ok((Factor::Ten(n), Format::DecimalSi));
    match suffix {
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        other => {
            let exponent = other.strip_prefix(['e', 'E']).ok_or_else(|| form_or_suffix(other))?;
            let value: i32 = exponent.parse().map_err(|_| form_or_suffix(other))?;
            Ok((Factor::Ten(value), Format::DecimalExponent))
        }
    }
}

/// A suffix of other letters breaks the form; one of the right letters is merely unknown.
fn form_or_suffix(suffix: &str) -> QuantityError {
    let tail = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if tail.bytes().all(|b| b.is_ascii_digit()) { QuantityError::Suffix } else { QuantityError::Form }
}

/// `whole.fraction * factor` in nano-units, rounded up; ends at the most.
fn magnitude(whole: &str, fraction: &str, factor: Factor) -> Wide {
    let whole = whole.trim_start_matches('0');
    if whole.len() > DIGITS_MAX {
        return Wide::MAX;
    }
    // Finer than this, all that matters is whether there is anything.
    let most = if matches!(factor, Factor::Two(_)) { BINARY_DIGITS_MAX } else { DIGITS_MAX };
    let (fine, finer) = fraction.split_at(fraction.len().min(most.saturating_sub(whole.len())));
    let more = i128::from(finer.bytes().any(|b| b != b'0'));
    let digits = whole.bytes().chain(fine.bytes()).map(|b| b.saturating_sub(b'0'));
    let digits = Wide::of_digits(digits) + Wide::of(more);
    let scale = fine.len() as i32;
    match factor {
        Factor::Two(bits) => times_ten(digits.times(1 << bits), 9 - scale),
        Factor::Ten(power) => times_ten(digits, power.saturating_add(9 - scale)),
    }
}

fn times_ten(value: Wide, power: i32) -> Wide {
    /// Nothing but zero has room for as many digits.
    const POWER_MAX: i32 = 80;
    let steps = 0..power.clamp(-POWER_MAX, POWER_MAX).abs();
    match power > 0 {
        true => steps.fold(value, |value, _| value.times(10)),
        // What is cut off at any step counts as something at the last.
        false => {
            let (value, lost) = steps.fold((value, false), |(value, lost), _| {
                let (value, rest) = value.divided(10);
                (value, lost || rest != 0)
            });
            value + Wide::of(lost.into())
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let (units, rest) = self.nano.divided(NANO);
        // Binary suffixes are for whole amounts of at least 1024; others fall back to decimal ones.
        if self.format == Format::BinarySi && rest == 0 && units.abs() >= Wide::of(1024) {
            let (mut value, mut step) = (units, 0);
            while let (less, 0) = value.divided(1024)
                && step < 6
            {
                value = less;
                step += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let (mut value, mut exponent) = (self.nano, -9);
        while let (less, 0) = value.divided(1000) {
            value = less;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { write!(f, "{value}") } else { write!(f, "{value}e{exponent}") };
        }
        // Of larger powers upstream knows no suffix, and says nothing of them.
        let suffix = match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            _ => "",
        };
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests;
