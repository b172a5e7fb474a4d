//! A count of tokens divided among those that caused it. Start at [`divide`].

use std::collections::BinaryHeap;

/// Divides `total` in proportion to `weights`, so that the shares add up to it: each has the whole
/// part of what is due to it, and what is left goes to the largest remainders, the first ones
/// first. Nobody has less than 1 where there is 1 for each; the largest shares give it. Weights
/// that are all 0 count as 1.
pub(super) fn divide(total: u64, weights: &[u64]) -> Vec<u64> {
    let is_nothing = weights.iter().all(|weight| *weight == 0);
    let weight = |index: usize| u128::from(if is_nothing { 1 } else { weights[index] });
    let sum: u128 = (0..weights.len()).map(weight).sum();
    // A product of two numbers of 64 bits has 128.
    let due = |index: usize| u128::from(total) * weight(index);
    let mut shares: Vec<u64> = (0..weights.len())
        .map(|index| u64::try_from(due(index) / sum).unwrap_or(total))
        .collect();
    let mut left = total - shares.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_cached_key(|index| std::cmp::Reverse(due(*index) % sum));
    for index in order {
        let one = left.min(1);
        shares[index] += one;
        left -= one;
    }
    if total >= weights.len() as u64 {
        raise(&mut shares);
    }
    shares
}

/// Gives 1 to each that has nothing, from the largest.
fn raise(shares: &mut [u64]) {
    let poor: Vec<usize> = (0..shares.len()).filter(|it| shares[*it] == 0).collect();
    if poor.is_empty() {
        return;
    }
    let mut rich: BinaryHeap<(u64, usize)> = shares.iter().copied().zip(0..).collect();
    for index in poor {
        let Some((most, from)) = rich.pop().filter(|(most, _)| *most > 1) else {
            return;
        };
        shares[from] -= 1;
        shares[index] = 1;
        rich.push((most - 1, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_in_proportion() {
        let check = |total: u64, weights: &[u64], expected: &[u64]| {
            assert_eq!(divide(total, weights), expected, "{total} {weights:?}");
        };
        check(100, &[90, 10], &[90, 10]);
        check(10, &[1, 1, 1], &[4, 3, 3]);
        check(11, &[1, 2, 3], &[2, 4, 5]);
        check(5, &[1000, 1, 1], &[3, 1, 1]);
        check(2, &[1, 1000, 1], &[0, 2, 0]);
        check(0, &[1, 2], &[0, 0]);
        check(7, &[0, 0], &[4, 3]);
        check(7, &[5], &[7]);
        check(u64::MAX, &[u64::MAX, u64::MAX], &[1 << 63, (1 << 63) - 1]);
    }

    proptest! {
        #[test]
        fn shares_add_up(
            total in prop_oneof![0..5000_u64, any::<u64>()],
            weights in prop::collection::vec(prop_oneof![0..9_u64, any::<u64>()], 1..200),
        ) {
            let shares = divide(total, &weights);
            prop_assert_eq!(shares.iter().map(|it| u128::from(*it)).sum::<u128>(), u128::from(total));
            if total >= weights.len() as u64 {
                prop_assert!(shares.iter().all(|share| *share >= 1));
            }
        }
    }
}
