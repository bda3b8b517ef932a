//! What is said of those that fit.

use crate::best::{Candidate, Question};
use crate::quality_axis::QualityAxis;
use crate::shown::{bytes, short};

/// By what rule the winner was found.
pub(crate) fn rule(question: &Question, axis: Option<&QualityAxis>) -> String {
    let fewest = "the fewest bytes win, then the shortest time per token";
    match axis.filter(|_| question.max_kld.is_none()) {
        Some(axis) => {
            format!("Of those that fit, the least {} wins; of those whose value lies within its interval, {fewest}.", axis.name())
        }
        None => format!("Of those that fit, {fewest}."),
    }
}

/// Why one that fits is not the winner.
pub(crate) fn behind(loser: &Candidate, winner: &Candidate, is_worse: bool, axis: Option<&QualityAxis>) -> String {
    let (own, least) = (loser.number_of_bytes(), winner.number_of_bytes());
    match (is_worse, loser.quality, axis) {
        (true, Some(quality), Some(axis)) => {
            let least = winner.quality.map_or(String::new(), |least| format!(", that of {} {}", winner.label, short(least)));
            format!("It fits, and its {} is {}{least}.", axis.name(), short(quality))
        }
        (true, ..) => "It fits, and its quality was not measured.".into(),
        _ if own > least && own.is_finite() => format!("It fits, and takes {} more than {}.", bytes(own - least), winner.label),
        _ if own > least => "It fits, and its bytes are not known.".into(),
        _ => match (loser.tpot_ms, winner.tpot_ms) {
            (Some(own), Some(least)) if own > least => {
                format!("It fits with the same bytes, and takes {} ms more per token than {}.", short(own - least), winner.label)
            }
            _ => format!("It fits as well as {}.", winner.label),
        },
    }
}
