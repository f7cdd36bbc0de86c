//! Whole numbers of 256 bits, which never run over: what is more is the most.

use std::cmp::Ordering;
use std::fmt;

const LIMBS: usize = 4;
/// The largest power of ten that a limb holds.
const TEN_19: u64 = 10_000_000_000_000_000_000;

/// A number; its limbs begin with the least. Zero is not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wide {
    negative: bool,
    limbs: [u64; LIMBS],
}

impl Wide {
    pub const MAX: Wide = Wide { negative: false, limbs: [u64::MAX; LIMBS] };

    pub const fn of(value: i128) -> Self {
        let magnitude = value.unsigned_abs();
        Wide { negative: value < 0, limbs: [magnitude as u64, (magnitude >> 64) as u64, 0, 0] }
    }

    /// A number of decimal digits.
    pub fn of_digits(digits: impl Iterator<Item = u8>) -> Self {
        digits.fold(Wide::default(), |made, digit| made.times(10) + Wide::of(i128::from(digit)))
    }

    pub fn is_zero(self) -> bool {
        self.limbs == [0; LIMBS]
    }

    pub fn is_negative(self) -> bool {
        self.negative
    }

    pub fn abs(self) -> Self {
        Wide { negative: false, ..self }
    }

    pub fn negated(self) -> Self {
        Wide { negative: !self.negative && !self.is_zero(), ..self }
    }

    fn most(self) -> Self {
        Wide { negative: self.negative, ..Wide::MAX }
    }

    pub fn times(self, by: u64) -> Self {
        let (mut made, mut carry) = (self, 0u128);
        for limb in &mut made.limbs {
            let product = u128::from(*limb) * u128::from(by) + carry;
            *limb = product as u64;
            carry = product >> 64;
        }
        if carry == 0 { made } else { self.most() }
    }

    /// Divides towards zero; the rest has no sign. Dividing by zero gives zero.
    pub fn divided(self, by: u64) -> (Self, u64) {
        let (mut made, mut rest) = (self, 0u128);
        for limb in made.limbs.iter_mut().rev() {
            let part = (rest << 64) | u128::from(*limb);
            *limb = part.checked_div(u128::from(by)).unwrap_or_default() as u64;
            rest = part.checked_rem(u128::from(by)).unwrap_or_default();
        }
        made.negative &= !made.is_zero();
        (made, rest as u64)
    }

    /// Divides away from zero.
    pub fn divided_up(self, by: u64) -> Self {
        let (whole, rest) = self.divided(by);
        let more = Wide { negative: self.negative, ..Wide::of(i128::from(rest != 0)) };
        if rest == 0 { whole } else { whole + more }
    }

    pub fn clamped(self) -> i64 {
        let magnitude = if self.limbs[1..] == [0; LIMBS - 1] { self.limbs[0] } else { u64::MAX };
        match self.negative {
            false => i64::try_from(magnitude).unwrap_or(i64::MAX),
            true => 0i64.checked_sub_unsigned(magnitude).unwrap_or(i64::MIN),
        }
    }

    /// What is left of it in 64 bits.
    pub fn wrapped(self) -> i64 {
        let low = self.limbs[0] as i64;
        if self.negative { low.wrapping_neg() } else { low }
    }

    /// How many decimal digits it has without the zeros at its end.
    pub fn significant_digits(self) -> usize {
        self.abs().to_string().trim_end_matches('0').len()
    }
}

impl std::ops::Add for Wide {
    type Output = Wide;

    fn add(self, other: Wide) -> Wide {
        let (mut made, mut carry) = (self, false);
        if self.negative == other.negative {
            for (limb, more) in made.limbs.iter_mut().zip(other.limbs) {
                let (sum, first) = limb.overflowing_add(more);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                (*limb, carry) = (sum, first || second);
            }
            return if carry { self.most() } else { made };
        }
        if self.abs() < other.abs() {
            return other + self;
        }
        for (limb, less) in made.limbs.iter_mut().zip(other.limbs) {
            let (left, first) = limb.overflowing_sub(less);
            let (left, second) = left.overflowing_sub(u64::from(carry));
            (*limb, carry) = (left, first || second);
        }
        made.negative &= !made.is_zero();
        made
    }
}

impl std::ops::Sub for Wide {
    type Output = Wide;

    #[expect(
        clippy::suspicious_arithmetic_impl,
        reason = "to take something away is to add what is against it"
    )]
    fn sub(self, other: Wide) -> Wide {
        self + other.negated()
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = || self.limbs.iter().rev().cmp(other.limbs.iter().rev());
        match (self.negative, other.negative) {
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut left, mut parts) = (self.abs(), Vec::new());
        while !left.is_zero() {
            let (rest, part) = left.divided(TEN_19);
            parts.push(part);
            left = rest;
        }
        f.write_str(if self.negative { "-" } else { "" })?;
        write!(f, "{}", parts.pop().unwrap_or_default())?;
        parts.iter().rev().try_for_each(|part| write!(f, "{part:019}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Wide;

    #[test]
    fn large_numbers_are_exact_and_the_largest_stays() {
        let two_127 = Wide::of(i128::MAX) + Wide::of(1);
        assert_eq!(two_127.to_string(), "170141183460469231731687303715884105728");
        let digits = "1".repeat(70);
        let made = Wide::of_digits(digits.bytes().map(|b| b - b'0'));
        assert_eq!((made.to_string(), made.significant_digits()), (digits, 70));
        assert_eq!(Wide::MAX.times(2), Wide::MAX);
        assert_eq!(Wide::MAX + Wide::of(1), Wide::MAX);
        assert_eq!(Wide::MAX.negated() + Wide::of(-1), Wide::MAX.negated());
        assert_eq!(two_127.wrapped(), 0);
        assert_eq!((two_127.clamped(), two_127.negated().clamped()), (i64::MAX, i64::MIN));
    }

    proptest! {
        #[test]
        fn they_are_as_the_small_ones(a in any::<i64>(), b in any::<i64>(), by in 1u32..) {
            let (a, b, by) = (i128::from(a), i128::from(b), u64::from(by));
            prop_assert_eq!(Wide::of(a) + Wide::of(b), Wide::of(a + b));
            prop_assert_eq!(Wide::of(a) - Wide::of(b), Wide::of(a - b));
            prop_assert_eq!(Wide::of(a).times(by), Wide::of(a * i128::from(by)));
            prop_assert_eq!(Wide::of(a).divided(by).0, Wide::of(a / i128::from(by)));
            prop_assert_eq!(Wide::of(a).divided(by).1, (a % i128::from(by)).unsigned_abs() as u64);
            let up = a / i128::from(by) + (a % i128::from(by)).signum();
            prop_assert_eq!(Wide::of(a).divided_up(by), Wide::of(up));
            prop_assert_eq!(Wide::of(a).cmp(&Wide::of(b)), a.cmp(&b));
            prop_assert_eq!(Wide::of(a).to_string(), a.to_string());
            prop_assert_eq!(i128::from(Wide::of(a).clamped()), a);
        }
    }
}
