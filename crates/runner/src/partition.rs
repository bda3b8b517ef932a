//! Which blocks of a plan belong to which part, so that several machines can share a sweep.
//!
//! The assignment follows from the hash of the plan and from what its blocks cost by formulas, and from nothing that a machine
//! adds, so every task of a scheduler finds the same one on its own. A block is never split: its instances meet in one process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;

use crate::hash;

/// A part of a plan. `3/8` is the third of eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    /// From 1.
    pub(crate) part: u32,
    pub(crate) of: u32,
}

/// What a block is to whoever assigns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Load {
    /// No two blocks share it.
    pub(crate) block: String,
    /// What it costs. Whole numbers add up to the same in any order.
    pub(crate) milliseconds: u64,
    /// What its worker takes.
    pub(crate) bytes: u64,
}

/// What a part costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Share {
    pub(crate) milliseconds: u64,
    /// Of its largest block.
    pub(crate) bytes: u64,
}

/// Threads that a part is planned for if the user does not say how many: their stacks count when blocks are packed.
pub(crate) const PLANNED_THREADS: usize = 64;

/// The part of each block, from 1, in the order of the blocks.
///
/// The costliest block goes first, to the part that has the least so far (Graham's longest processing time first). The heaviest
/// part is then at most 1.5 times the mean, or as light as whole blocks allow: nine blocks of the same cost make one of eight
/// parts twice as heavy as the others, whoever assigns them. Which of several blocks of the same cost goes first is up to the
/// hash of the plan.
pub(crate) fn assign(loads: &[Load], parts: u32, plan_hash: &str) -> Vec<u32> {
    let mut order: Vec<usize> = (0..loads.len()).collect();
    order.sort_by_cached_key(|index| {
        let Load { block, milliseconds, .. } = &loads[*index];
        (Reverse(*milliseconds), hash::short(format!("{plan_hash} {block}").as_bytes()), block.clone())
    });
    let mut lightest: BinaryHeap<Reverse<(u64, u32)>> = (1..=parts).map(|part| Reverse((0, part))).collect();
    let mut assigned = vec![1; loads.len()];
    for index in order {
        let Some(Reverse((load, part))) = lightest.pop() else { break };
        assigned[index] = part;
        // What costs nothing is spread too.
        lightest.push(Reverse((load.saturating_add(loads[index].milliseconds.max(1)), part)));
    }
    assigned
}

/// What each part costs, given the part of each block.
pub(crate) fn shares(loads: &[Load], assigned: &[u32], parts: u32) -> Vec<Share> {
    let mut shares = vec![Share::default(); parts as usize];
    for (load, part) in loads.iter().zip(assigned) {
        let share = &mut shares[*part as usize - 1];
        share.milliseconds = share.milliseconds.saturating_add(load.milliseconds);
        share.bytes = share.bytes.max(load.bytes);
    }
    shares
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Partition, String> {
        /// Of one plan, more is a mistake.
        const MOST: u32 = 10_000;
        const RIGHT: &str = "parts are counted from 1: `3/8` is the third of eight";
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        let (part, of): (u32, u32) = numbers.ok_or_else(|| format!("it is not a part of a number of parts; {RIGHT}"))?;
        match part {
            _ if !(1..=MOST).contains(&of) => Err(format!("a plan has 1 to {MOST} parts, not {of}")),
            0 => Err(format!("there is no part 0; {RIGHT}")),
            part if part > of => Err(format!("there is no part {part} of {of}; {RIGHT}")),
            part => Ok(Partition { part, of }),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.part, self.of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads(milliseconds: &[u64]) -> Vec<Load> {
        let load = |(index, milliseconds): (usize, &u64)| Load {
            block: format!("decode at {index}"),
            milliseconds: *milliseconds,
            bytes: milliseconds % 97,
        };
        milliseconds.iter().enumerate().map(load).collect()
    }

    fn heaviest(loads: &[Load], assigned: &[u32], parts: u32) -> u64 {
        shares(loads, assigned, parts).into_iter().map(|share| share.milliseconds).max().unwrap()
    }

    /// What the heaviest part has at least, however whole blocks are assigned: the costliest block; and of the costliest
    /// `parts + i` blocks, if no part has three of them, one meets another of the `2 i` cheapest at the least.
    fn least(loads: &[Load], parts: u32) -> u64 {
        let parts = parts as usize;
        let mut costs: Vec<u64> = loads.iter().map(|load| load.milliseconds).collect();
        costs.sort_unstable_by_key(|cost| Reverse(*cost));
        let met = |last: usize| (costs[2 * parts - last] + costs[last - 1]).min(3 * costs[last - 1]);
        let pairs = (parts + 1..=2 * parts).take_while(|last| *last <= costs.len()).map(met).max();
        costs.first().copied().max(pairs).unwrap_or(0)
    }

    /// Costs of all sizes: nothing at all, the same many times over, and one that outweighs all others.
    fn any_costs() -> impl Strategy<Value = Vec<u64>> {
        prop_oneof![
            prop::collection::vec(0..u64::MAX / 200, 0..200),
            prop::collection::vec(0u64..4, 0..60),
            prop::collection::vec((0u32..48).prop_map(|power| 1 << power), 0..60),
            (0u64..1_000_000, 0usize..200).prop_map(|(cost, count)| vec![cost; count]),
        ]
    }

    /// Few parts, and more of them than blocks.
    fn any_parts() -> impl Strategy<Value = u32> {
        prop_oneof![1u32..20, 1u32..=10_000]
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_complete_and_balanced(
            costs in any_costs(),
            parts in any_parts(),
            plan_hash in "[0-9a-f]{16}",
        ) {
            let loads = loads(&costs);
            let assigned = assign(&loads, parts, &plan_hash);
            // Each block is in one part, and in one that exists.
            prop_assert_eq!(assigned.len(), loads.len());
            prop_assert!(assigned.iter().all(|part| (1..=parts).contains(part)));
            let all = shares(&loads, &assigned, parts);
            let total = costs.iter().sum::<u64>();
            prop_assert_eq!(all.iter().map(|share| share.milliseconds).sum::<u64>(), total);
            let heaviest = heaviest(&loads, &assigned, parts);
            prop_assert!(
                2 * u128::from(heaviest) * u128::from(parts) <= 3 * u128::from(total) || heaviest <= least(&loads, parts),
                "{heaviest} is heavier than 1.5 times the mean of {total} in {parts} parts and than {}", least(&loads, parts)
            );
        }

        /// The order in which blocks are told does not matter, whether they cost the same or not, nor does anything but their costs
        /// and the plan.
        #[test]
        fn the_same_plan_has_the_same_parts(
            (costs, order) in any_costs().prop_flat_map(|costs| {
                let order: Vec<usize> = (0..costs.len()).collect();
                (Just(costs), Just(order).prop_shuffle())
            }),
            parts in any_parts(),
        ) {
            let loads = loads(&costs);
            let assigned = assign(&loads, parts, "plan");
            let told: Vec<Load> = order.iter().map(|index| Load { bytes: 1, ..loads[*index].clone() }).collect();
            let expected: Vec<u32> = order.iter().map(|index| assigned[*index]).collect();
            prop_assert_eq!(assign(&told, parts, "plan"), expected);
        }
    }

    /// The bound that the property test holds against is one that no assignment passes below.
    #[test]
    fn the_least_is_a_bound() {
        for costs in [vec![7, 7, 6, 6, 5, 5, 4, 4, 4], vec![5, 5, 5, 5], vec![9, 1, 1, 1], vec![4, 3, 3, 3, 1, 1], vec![8, 8, 3, 2, 2, 2]] {
            for parts in [2u32, 3, 4] {
                let loads = loads(&costs);
                let assignments = (parts as u64).pow(costs.len() as u32);
                let assignment = |number: u64| -> Vec<u32> {
                    (0..costs.len() as u32).map(|digit| (number / u64::from(parts).pow(digit) % u64::from(parts)) as u32 + 1).collect()
                };
                let best = (0..assignments).map(|number| heaviest(&loads, &assignment(number), parts)).min().unwrap();
                assert!(least(&loads, parts) <= best, "{costs:?} in {parts}");
                let found = heaviest(&loads, &assign(&loads, parts, ""), parts);
                assert!(found as f64 <= best as f64 * 4.0 / 3.0, "{costs:?} in {parts}: {found} and not {best}");
            }
        }
    }

    #[test]
    fn blocks_of_the_same_cost_are_told_apart_by_the_plan() {
        let loads = loads(&[5; 12]);
        let parts: std::collections::BTreeSet<Vec<u32>> = ["a", "b", "c", "d"].iter().map(|plan| assign(&loads, 3, plan)).collect();
        assert!(parts.len() > 1);
        assert_eq!(assign(&self::loads(&[0; 4]), 4, "a").iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "spread");
        assert_eq!(shares(&self::loads(&[3, 5]), &[2, 2], 2), [Share::default(), Share { milliseconds: 8, bytes: 5 }]);
    }

    #[test]
    fn a_part_is_counted_from_one() {
        let read = |text: &str| text.parse::<Partition>();
        assert_eq!(read("3/8").unwrap(), Partition { part: 3, of: 8 });
        assert_eq!(read("3/8").unwrap().to_string(), "3/8");
        for (text, wrong) in [
            ("0/8", "no part 0"),
            ("9/8", "no part 9 of 8"),
            ("1/0", "1 to 10000 parts, not 0"),
            ("1/99999", "1 to 10000 parts"),
            ("3", "counted from 1"),
            ("3/", "counted from 1"),
            ("-1/8", "counted from 1"),
            ("a/b", "counted from 1"),
        ] {
            assert!(read(text).unwrap_err().contains(wrong), "{text}: {}", read(text).unwrap_err());
        }
    }
}
