//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`): exact decimal arithmetic, upstream's canonical form.
//!
//! A quantity is an integer of nano-units kept in 128 bits, which holds every value upstream accepts (it
//! caps at 2^63−1 and rounds up below one nano).

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
/// Upstream caps amounts at the largest 64-bit integer.
const MAX: i128 = i64::MAX as i128 * NANO;

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

    /// The amount with nothing finer than a thousandth, rounded away from zero.
    pub fn rounded_to_milli(self) -> Self {
        const MILLI: i128 = 1_000_000;
        let rest = self.nano % MILLI;
        let nano = self.nano - rest + rest.signum() * MILLI;
        Quantity { nano, ..self }
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

    /// The canonical spelling of a quantity's text.
    pub fn canonical(text: &str) -> Result<String, QuantityError> {
        text.parse::<Quantity>().map(|q| q.to_string())
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
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Form);
        }
        let (factor, format) = suffix_value(suffix)?;
        let magnitude = magnitude(whole, fraction, factor).min(MAX);
        Ok(Quantity { nano: if negative { -magnitude } else { magnitude }, format })
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
