//! How many planted needles a cache found.

use serde::{Deserialize, Serialize};

use super::Place;

/// Answers by place and margin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    places: usize,
    /// Margin by margin, the places of each in order.
    cells: Vec<PlacedAccuracy>,
}

/// The answers for one place and margin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlacedAccuracy {
    /// Where the needles were.
    pub place: Place,
    /// How far they stood out, in logits.
    pub margin: f64,
    /// How many were found.
    pub accuracy: Accuracy,
}

/// Right answers among some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Right answers.
    pub correct: usize,
    /// Answers.
    pub trials: usize,
}

impl Accuracy {
    /// The share of right answers. `None` without answers.
    pub fn share(self) -> Option<f64> {
        (self.trials > 0).then(|| self.correct as f64 / self.trials as f64)
    }

    /// Where the share lies with 95 %: Wilson's score interval (doi:10.1080/01621459.1927.10502953), for independent answers.
    /// `None` without answers.
    pub fn interval(self) -> Option<(f64, f64)> {
        const Z: f64 = 1.959_963_984_540_054;
        let (share, trials) = (self.share()?, self.trials as f64);
        let spread = Z * (share * (1.0 - share) / trials + Z * Z / (4.0 * trials * trials)).sqrt();
        let (center, scale) = (share + Z * Z / (2.0 * trials), 1.0 + Z * Z / trials);
        // Rounding must not leave the share outside.
        Some((((center - spread) / scale).max(0.0).min(share), ((center + spread) / scale).min(1.0).max(share)))
    }
}

impl Retrieval {
    pub(super) fn new(places: impl Iterator<Item = Place>, margins: &[f64]) -> Retrieval {
        let places: Vec<Place> = places.collect();
        let cell = |margin: &f64, place: &Place| PlacedAccuracy { place: *place, margin: *margin, accuracy: Accuracy::default() };
        let cells = margins.iter().flat_map(|margin| places.iter().map(move |place| cell(margin, place))).collect();
        Retrieval { places: places.len(), cells }
    }

    pub(super) fn add(&mut self, place: usize, margin: usize, is_correct: bool) {
        let accuracy = &mut self.cells[margin * self.places + place].accuracy;
        accuracy.correct += usize::from(is_correct);
        accuracy.trials += 1;
    }

    /// Every place and margin.
    pub fn cells(&self) -> &[PlacedAccuracy] {
        &self.cells
    }

    /// The needle task: over all ranges of depth and all margins.
    pub fn needle(&self) -> Accuracy {
        self.of(|cell| matches!(cell.place, Place::Depth(_)))
    }

    /// The recency task: over the newest positions and all margins.
    pub fn recency(&self) -> Accuracy {
        self.of(|cell| cell.place == Place::Recent)
    }

    /// Over the first positions and all margins.
    pub fn start(&self) -> Accuracy {
        self.of(|cell| cell.place == Place::Start)
    }

    /// Over the cells that are asked for.
    pub fn of(&self, wanted: impl Fn(&PlacedAccuracy) -> bool) -> Accuracy {
        self.cells.iter().filter(|cell| wanted(cell)).fold(Accuracy::default(), |all, cell| Accuracy {
            correct: all.correct + cell.accuracy.correct,
            trials: all.trials + cell.accuracy.trials,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_where_they_belong() {
        let mut retrieval = Retrieval::new([Place::Start, Place::Depth(0), Place::Depth(1), Place::Recent].into_iter(), &[2.0, 4.0]);
        for (place, margin, is_correct) in [(0, 0, true), (1, 0, false), (1, 1, true), (2, 1, true), (3, 1, false)] {
            retrieval.add(place, margin, is_correct);
        }
        assert_eq!(retrieval.needle(), Accuracy { correct: 2, trials: 3 });
        assert_eq!(retrieval.start(), Accuracy { correct: 1, trials: 1 });
        assert_eq!(retrieval.recency(), Accuracy { correct: 0, trials: 1 });
        assert_eq!(retrieval.of(|cell| cell.margin == 4.0).share(), Some(2.0 / 3.0));
        assert_eq!(retrieval.cells().len(), 8);
    }

    #[test]
    fn intervals_of_wilson() {
        assert_eq!((Accuracy::default().share(), Accuracy::default().interval()), (None, None));
        let (low, high) = Accuracy { correct: 8, trials: 10 }.interval().unwrap();
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} to {high}");
        let (low, high) = Accuracy { correct: 10, trials: 10 }.interval().unwrap();
        assert!((low - 0.7225).abs() < 1e-4 && high > 1.0 - 1e-12, "{low} to {high}");
    }
}
