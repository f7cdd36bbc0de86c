//! Sums of what objects say: whoever may write them may write numbers whose sum no field holds. Such a sum is as large
//! as it can be.

/// Of counts.
pub fn total(counts: impl IntoIterator<Item = i32>) -> i32 {
    counts.into_iter().fold(0, i32::saturating_add)
}

/// Of amounts.
pub fn total_amount(amounts: impl IntoIterator<Item = i64>) -> i64 {
    amounts.into_iter().fold(0, i64::saturating_add)
}
