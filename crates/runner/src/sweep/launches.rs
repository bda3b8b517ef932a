//! How many launches a block gets.

use kv_metrics::{Judgement, LEAST_LAUNCHES, Pooled};

use super::Sweep;
use super::build_pairs::Pairs;
use super::observations::{BlockVisits, Part};
use crate::block::Block;

/// Launches that are added at a time.
const MORE: u32 = 2;

impl Sweep<'_> {
    /// The launches that a block needs, as far as is known now. It follows from the visits alone, so a run that is resumed needs
    /// the same.
    ///
    /// A launch that was disturbed is repeated, and kept. Where times spread so much that the widest interval exceeds the margin,
    /// more are added; where two builds take turns, also the interval between them counts. Both end at twice the planned number.
    pub(super) fn launches_due(&self, block: &Block) -> u32 {
        let of_both = self.visits.iter().chain(&self.other_visits);
        let visits = of_both.filter(|visit| visit.block.as_ref() == Some(&block.name)).count();
        let known = self.due.borrow().get(&block.name).copied();
        if let Some((_, due)) = known.filter(|(before, _)| *before == visits) {
            return due;
        }
        let due = self.count_launches(block);
        self.due.borrow_mut().insert(block.name.clone(), (visits, due));
        due
    }

    fn count_launches(&self, block: &Block) -> u32 {
        let planned = self.prediction.launches(block);
        let Some(baseline) = block.baseline.filter(|_| planned as usize >= LEAST_LAUNCHES) else { return planned };
        let visits = BlockVisits::new(&block.name, &self.ids[baseline], &self.visits);
        let pairs = self.setting.other.is_some().then(|| Pairs::new(&block.name, &self.visits, &self.other_visits));
        let most = 2 * planned;
        let of_pairs = pairs.as_ref().map_or(0, |pairs| pairs.disturbed().len());
        let disturbed = visits.disturbed().len().max(of_pairs) as u32;
        let mut due = (planned + disturbed).min(most);
        while due < most && visits.launches().len() as u32 >= due {
            let counted = visits.counted().into_iter().filter(|launch| *launch < due).collect();
            let of_pairs = pairs.as_ref().and_then(|pairs| {
                let counted = pairs.counted().into_iter().filter(|launch| *launch < due).collect();
                pairs.of_part(Part::Step, &counted).pooled
            });
            let judgement = Judgement { margin: self.plan.margin, ..Judgement::default() };
            let is_wide = |pooled: Pooled| judgement.wants_more_launches(pooled, self.comparisons_of_chart(block));
            let of_block = visits.observations(Part::Step, &counted).pooled;
            if !of_block.into_iter().chain(of_pairs).any(is_wide) {
                break;
            }
            due = (due + MORE).min(most);
        }
        due
    }

    /// Comparisons that are judged together with those of a block: of its workload, the controls included.
    fn comparisons_of_chart(&self, block: &Block) -> usize {
        let workload = |block: &Block| self.cell(block.cells[0]).workload;
        let is_shown = |other: &&Block| other.baseline.is_some() && workload(other) == workload(block);
        let compared =
            |block: &Block| block.cells.iter().filter(|cell| Some(**cell) != block.baseline).count() + block.control.iter().count();
        self.prediction.blocks.iter().filter(is_shown).map(compared).sum()
    }
}
