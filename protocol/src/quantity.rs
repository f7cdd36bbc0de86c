//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`): exact decimal arithmetic, upstream's canonical form.
//!
//! A quantity is an integer of nano-units kept in 128 bits, which holds what anybody asks for (upstream caps binary
//! amounts at 2^63−1 and rounds up below one nano).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

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
    nano: i128,
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

const NANO: i128 = 1_000_000_000;
/// Upstream caps binary amounts at the largest 64-bit integer.
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
/// Others end where 128 bits nearly do.
const MAX: i128 = 100_000_000_000_000_000_000_000_000_000 * NANO;
/// How many digits upstream reads into 64 bits.
const FAST_DIGITS_MAX: usize = 18;

impl Quantity {
    /// A whole number of units.
    pub fn from_units(units: i64) -> Self {
        Quantity { nano: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    /// A number of thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Quantity { nano: i128::from(milli) * 1_000_000, format: Format::DecimalSi }
    }

    /// A number of bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Quantity { nano: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// The value in whole units, rounded up (away from zero), as upstream's `Value()`.
    pub fn units(&self) -> i64 {
        self.scaled(NANO)
    }

    /// The value in thousandths, rounded up, as upstream's `MilliValue()`.
    pub fn milli(&self) -> i64 {
        self.scaled(1_000_000)
    }

    fn scaled(&self, by: i128) -> i64 {
        let (whole, rest) = (self.nano / by, self.nano % by);
        let rounded = whole + rest.signum();
        i64::try_from(rounded).unwrap_or(if rounded > 0 { i64::MAX } else { i64::MIN })
    }

    /// The amount without what is finer than thousandths, rounded away from zero.
    pub fn in_milli(self) -> Self {
        const MILLI: i128 = NANO / 1000;
        let rest = self.nano % MILLI;
        let rounded = if rest == 0 { self.nano } else { self.nano - rest + MILLI * rest.signum() };
        Quantity { nano: rounded, ..self }
    }

    /// The suffix family.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
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
        if quantity.nano != 0 && looks_canonical(text).is_some_and(looks) {
            return Ok(text.to_owned());
        }
        Ok(if coarse { quantity.in_milli() } else { quantity }.to_string())
    }

    /// Whether it passes for a whole number where thousandths are counted in 64 bits: those of large binary amounts
    /// run over, which leaves some of them.
    pub fn passes_for_whole(&self) -> bool {
        let thousandths = (self.nano / NANO).wrapping_mul(1000) as i64;
        self.is_whole() && (self.format != Format::BinarySi || thousandths % 1000 == 0)
    }

    /// Whether the amount is a whole number.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
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
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_add(other.nano), format }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_sub(other.nano), format }
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
        let most = if format == Format::BinarySi { BINARY_MAX } else { MAX };
        let magnitude = magnitude(whole, fraction, factor).min(most);
        Ok(Quantity { nano: if negative { -magnitude } else { magnitude }, format })
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

/// `whole.fraction * factor` in nano-units, rounded up; saturates.
fn magnitude(whole: &str, fraction: &str, factor: Factor) -> i128 {
    // More digits than this cannot matter: the value is capped above and rounded up below.
    let fraction = &fraction[..fraction.len().min(18)];
    let whole = whole.trim_start_matches('0');
    if whole.len() > 28 {
        return MAX;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().unwrap_or(MAX);
    let scale = fraction.len() as i32;
    match factor {
        Factor::Two(bits) => {
            let Some(value) = digits.checked_mul(1i128 << bits) else { return big(digits, 1 << bits, scale) };
            times_ten(value, 9 - scale)
        }
        Factor::Ten(power) => times_ten(digits, power.saturating_add(9 - scale)),
    }
}

/// `digits * factor / 10^scale` in nano-units where the product would overflow: divide first.
fn big(digits: i128, factor: i128, scale: i32) -> i128 {
    times_ten(digits, -scale).saturating_mul(factor).saturating_mul(NANO)
}

fn times_ten(value: i128, power: i32) -> i128 {
    if value == 0 {
        return 0;
    }
    match u32::try_from(power) {
        Ok(power) => 10i128.checked_pow(power).and_then(|f| value.checked_mul(f)).unwrap_or(MAX),
        Err(_) => match 10i128.checked_pow(power.unsigned_abs()) {
            Some(divisor) => value / divisor + i128::from(value % divisor != 0),
            None => 1,
        },
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        // Binary suffixes are for whole amounts of at least 1024; others fall back to decimal ones.
        if self.format == Format::BinarySi && self.nano.abs() >= 1024 * NANO && self.nano % NANO == 0 {
            let (mut value, mut step) = (self.nano / NANO, 0);
            while value % 1024 == 0 && step < 6 {
                value /= 1024;
                step += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let (mut value, mut exponent) = (self.nano, -9);
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { write!(f, "{value}") } else { write!(f, "{value}e{exponent}") };
        }
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
