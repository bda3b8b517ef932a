//! The speed-up of keeping keys and values, as a chart and in sentences.

use crate::speed_up::{SpeedUp, SpeedUps};
use crate::spread::Spread;
use crate::{Axis, Chart, Form, Interval, Quantity, Scale, Series};

/// Where the ranges come from.
const RANGE: &str = "A range reaches from the shortest step that recomputed over the upper end of the baseline's 95 % interval to the longest over its lower end. Recomputing was timed in one process, for a few steps: a range is a spread, and no interval of 95 %.";

/// The speed-up against length, one line for each model and batch. `None` if nothing that recomputes was measured.
pub fn speed_up_chart(models: &[SpeedUps]) -> Option<Chart> {
    let series: Vec<Series> = lines(models)
        .enumerate()
        .map(|(style, Line { name, points, .. })| Series {
            name,
            style,
            points: points.iter().map(|point| (point.seq_len as f64, point.value())).collect(),
            intervals: (points.iter())
                .filter_map(|point| point.range().map(|(low, high)| Interval { x: point.seq_len as f64, low, high }))
                .collect(),
        })
        .collect();
    let first = models.iter().find_map(|model| model.points.first())?;
    Some(Chart {
        name: "speedup",
        title: "How much faster a decode step is for keys and values that are kept".into(),
        caption: format!(
            "Time per output token of {}, which recomputes and is timed in a block of its own, over that of the baseline, {}. Above 1, keeping saves time. {RANGE}",
            first.recomputed, first.baseline
        ),
        x: Axis::new("sequence length (tokens)", Scale::Log).of(Quantity::SequenceLength),
        y: Axis::new("times as fast", Scale::Log),
        form: Form::Lines,
        series,
    })
}

/// The points of one model and batch.
struct Line<'a> {
    /// In the legend.
    name: String,
    model: &'a SpeedUps,
    points: Vec<&'a SpeedUp>,
}

fn lines(models: &[SpeedUps]) -> impl Iterator<Item = Line<'_>> {
    let batches: Vec<usize> = models.iter().flat_map(|model| &model.points).map(|point| point.batch).collect();
    let several = batches.iter().any(|batch| *batch != batches[0]);
    models.iter().flat_map(move |model| {
        model.points.chunk_by(|one, other| one.batch == other.batch).map(move |points| {
            let of_batch = if several { format!(" ×{}", points[0].batch) } else { String::new() };
            let name = format!("{}, {}{of_batch}", model.name, millions(model.parameters));
            Line { name, model, points: points.iter().collect() }
        })
    })
}

/// A number of parameters in words.
pub(crate) fn millions(parameters: usize) -> String {
    match parameters as f64 {
        billions if billions >= 1e9 => format!("{:.2} billion", billions / 1e9),
        hundreds if hundreds >= 1e8 => format!("{:.0} million", hundreds / 1e6),
        few => format!("{:.1} million", few / 1e6),
    }
}

/// What the speed-ups show: of each model, whether the speed-up grows with length, and whether it grows with the size of the model,
/// where ranges tell.
pub fn speed_up_sentences(models: &[SpeedUps]) -> Vec<String> {
    let known: Vec<Line<'_>> = lines(models).collect();
    let mut sentences: Vec<String> = known.iter().filter_map(of_line).collect();
    let unknown = models.iter().filter(|model| model.points.is_empty()).map(|model| {
        format!(
            "Of {}, no speed-up is known: it takes a strategy that recomputes, such as `naive`, beside a baseline, in one part of a plan and on one machine.",
            model.name
        )
    });
    sentences.extend(unknown);
    if known.is_empty() {
        return sentences;
    }
    sentences.extend(saved_time(models));
    let (with_length, with_size) = (along_lengths(&known), along_sizes(&known));
    let grows = |steps: &[Step<'_>]| !steps.is_empty() && steps.iter().all(|step| step.change() == Change::Grows);
    if grows(&with_length) && grows(&with_size) {
        sentences.push("The speed-up grows with length and with the size of the model, at every step that was measured.".into());
    } else {
        sentences.extend(growth("with length", &with_length));
        sentences.extend(growth("with the size of the model", &with_size));
    }
    let mut weights: Vec<&str> = known.iter().map(|line| line.model.weights.as_str()).collect();
    weights.dedup();
    if !with_size.is_empty() && weights.len() > 1 {
        sentences.push("The models' weights are not in the same encoding, which changes the times too.".into());
    }
    sentences.push(RANGE.into());
    sentences
}

/// The speed-up of a line at its shortest and at its longest length.
fn of_line(line: &Line<'_>) -> Option<String> {
    let (first, last) = (line.points.first()?, line.points.last()?);
    let at = |point: &SpeedUp| format!("{} times as fast at {} tokens", shown_speed_up(point), point.seq_len);
    let both = if first.seq_len == last.seq_len { at(first) } else { format!("{} and {}", at(first), at(last)) };
    Some(format!(
        "Keeping keys and values makes a decode step {both}, on {} with {} parameters{}.",
        line.model.name,
        millions(line.model.parameters),
        of_batch(first)
    ))
}

/// The time that each model saves per step at the longest length that all have, and whether a larger one saves more.
fn saved_time(models: &[SpeedUps]) -> Option<String> {
    let mut models: Vec<&SpeedUps> = models.iter().filter(|model| !model.points.is_empty()).collect();
    models.sort_by_key(|model| model.parameters);
    let (first, others) = models.split_first().filter(|(_, others)| !others.is_empty())?;
    let is_shared = |point: &&SpeedUp| others.iter().all(|other| other.at(point.seq_len, point.batch).is_some());
    let longest = first.points.iter().filter(is_shared).max_by_key(|point| (point.seq_len, std::cmp::Reverse(point.batch)))?;
    let points: Vec<(&SpeedUps, &SpeedUp)> =
        models.iter().filter_map(|model| Some((*model, model.at(longest.seq_len, longest.batch)?))).collect();
    let told = points.iter().map(|(model, point)| {
        let range = point.saved_range().map_or(String::new(), |(low, high)| format!(" [{}, {}]", digits(low), digits(high)));
        format!("{}{range} ms on {}", digits(point.saved_ms()), model.name)
    });
    let spread = |point: &SpeedUp| Spread::new(point.saved_ms(), Some(point.saved_range()?));
    let grows = points.windows(2).all(|pair| match (spread(pair[0].1), spread(pair[1].1)) {
        (Some(smaller), Some(larger)) => smaller.is_below(&larger),
        _ => false,
    });
    let so = if grows { ": the larger the model, the more time" } else { "; that a larger model saves more does not show" };
    let at = format!("At {} tokens{}", longest.seq_len, of_batch(longest));
    Some(format!("{at}, a decode step with kept keys and values saves {}{so}.", told.collect::<Vec<_>>().join(", ")))
}

/// How many sequences a step of several decodes.
fn of_batch(point: &SpeedUp) -> String {
    if point.batch > 1 { format!(" and {} sequences", point.batch) } else { String::new() }
}

/// A speed-up with its range.
pub fn shown_speed_up(point: &SpeedUp) -> String {
    let range = point.range().map_or(String::new(), |(low, high)| format!(" [{}, {}]", digits(low), digits(high)));
    format!("{}{range}", digits(point.value()))
}

/// Three digits of a ratio.
fn digits(ratio: f64) -> String {
    match ratio {
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

/// From one point to a longer one, or to one of a larger model.
struct Step<'a> {
    place: String,
    from: &'a SpeedUp,
    to: &'a SpeedUp,
}

/// What a step shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Grows,
    Falls,
    /// The ranges overlap.
    Unclear,
    /// A range is missing.
    Unknown,
}

impl Step<'_> {
    fn change(&self) -> Change {
        let spread = |point: &SpeedUp| Spread::new(point.value(), Some(point.range()?));
        match (spread(self.from), spread(self.to)) {
            (Some(from), Some(to)) if from.is_below(&to) => Change::Grows,
            (Some(from), Some(to)) if to.is_below(&from) => Change::Falls,
            (Some(_), Some(_)) => Change::Unclear,
            _ => Change::Unknown,
        }
    }

    fn told(&self) -> String {
        let numbers = format!("{} and {}", shown_speed_up(self.from), shown_speed_up(self.to));
        let what = match self.change() {
            Change::Grows => "it grows",
            Change::Falls => "it falls",
            Change::Unclear => "the ranges overlap",
            Change::Unknown => "there are no ranges to tell by, with fewer than 3 launches",
        };
        format!("{} {what} ({numbers})", self.place)
    }
}

fn along_lengths<'a>(lines: &[Line<'a>]) -> Vec<Step<'a>> {
    let step = |line: &Line<'a>, from: &'a SpeedUp, to: &'a SpeedUp| Step {
        place: format!("from {} to {} tokens on {}{}", from.seq_len, to.seq_len, line.model.name, of_batch(from)),
        from,
        to,
    };
    lines.iter().flat_map(|line| line.points.windows(2).map(move |pair| step(line, pair[0], pair[1]))).collect()
}

/// The steps from each model to the next larger one that was measured at the same length and batch.
fn along_sizes<'a>(lines: &[Line<'a>]) -> Vec<Step<'a>> {
    let mut models: Vec<&SpeedUps> = lines.iter().map(|line| line.model).collect();
    models.sort_by_key(|model| model.parameters);
    let mut places: Vec<(usize, usize)> = lines.iter().flat_map(|line| &line.points).map(|point| (point.batch, point.seq_len)).collect();
    places.sort_unstable();
    places.dedup();
    let mut steps = vec![];
    for (batch, seq_len) in places {
        let mut there: Vec<(&SpeedUps, &SpeedUp)> = models.iter().filter_map(|model| Some((*model, model.at(seq_len, batch)?))).collect();
        there.dedup_by_key(|(model, _)| model.parameters);
        steps.extend(there.windows(2).map(|pair| Step {
            place: format!("at {seq_len} tokens from {} to {}{}", pair[0].0.name, pair[1].0.name, of_batch(pair[0].1)),
            from: pair[0].1,
            to: pair[1].1,
        }));
    }
    steps
}

/// Whether the speed-up grows along some steps, and where it does not. `None` without steps.
fn growth(along: &str, steps: &[Step<'_>]) -> Option<String> {
    const TOLD: usize = 4;
    let not: Vec<String> = steps.iter().filter(|step| step.change() != Change::Grows).map(Step::told).collect();
    let places = match not.len() {
        0 if steps.is_empty() => return None,
        0 => return Some(format!("The speed-up grows {along}, at every step that was measured.")),
        more if more > TOLD => format!("{}; and in {} more", not[..TOLD].join("; "), more - TOLD),
        _ => not.join("; "),
    };
    let everywhere = if not.len() < steps.len() { " everywhere" } else { "" };
    Some(format!("That the speed-up grows {along} does not show{everywhere}: {places}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speed_up::tests::of_lengths;

    fn told(models: &[SpeedUps], words: &str) -> String {
        let sentences = speed_up_sentences(models);
        sentences.iter().find(|sentence| sentence.contains(words)).unwrap_or_else(|| panic!("{words}: {sentences:?}")).clone()
    }

    #[test]
    fn where_all_ranges_are_apart_the_saving_grows_with_both() {
        let models =
            [of_lengths("large", 1_200_000_000, &[(64, 9.0), (128, 18.0)]), of_lengths("small", 2_600_000, &[(64, 3.0), (128, 6.0)])];
        assert_eq!(
            told(&models, "on small"),
            "Keeping keys and values makes a decode step 3.00 [2.85, 3.15] times as fast at 64 tokens and 6.00 [5.70, 6.30] times as fast at 128 tokens, on small with 2.6 million parameters."
        );
        assert_eq!(
            told(&models, "The speed-up"),
            "The speed-up grows with length and with the size of the model, at every step that was measured."
        );
        assert!(told(&models, "A range").contains("no interval of 95 %"));
        let one = &models[..1];
        assert_eq!(told(one, "The speed-up"), "The speed-up grows with length, at every step that was measured.");
        assert!(!speed_up_sentences(one).iter().any(|sentence| sentence.contains("size of the model")), "one model has one size");
    }

    #[test]
    fn the_time_saved_is_told_at_the_longest_length_of_all() {
        let small = of_lengths("small", 2_600_000, &[(64, 3.0), (128, 6.0), (256, 9.0)]);
        let mut large = of_lengths("large", 1_200_000_000, &[(64, 3.0), (128, 6.0)]);
        let same = told(&[large.clone(), small.clone()], "saves");
        assert!(same.contains("At 128 tokens") && same.ends_with("that a larger model saves more does not show."), "{same}");
        for point in &mut large.points {
            point.recomputed_ms *= 10.0;
            point.recomputed_steps = point.recomputed_steps.map(|(low, high)| (low * 10.0, high * 10.0));
        }
        let more = told(&[large, small.clone()], "saves");
        assert!(more.ends_with(": the larger the model, the more time."), "{more}");
        assert!(more.find("on small").unwrap() < more.find("on large").unwrap(), "{more}");
        assert!(!speed_up_sentences(&[small]).iter().any(|sentence| sentence.contains("saves")), "one model has one size");
    }

    #[test]
    fn where_it_does_not_grow_the_place_and_the_numbers_are_told() {
        let models =
            [of_lengths("small", 2_600_000, &[(64, 3.0), (128, 6.0)]), of_lengths("large", 1_200_000_000, &[(64, 3.1), (128, 2.0)])];
        assert_eq!(
            told(&models, "with length"),
            "That the speed-up grows with length does not show everywhere: from 64 to 128 tokens on large it falls (3.10 [2.95, 3.26] and 2.00 [1.90, 2.10])."
        );
        assert_eq!(
            told(&models, "with the size"),
            "That the speed-up grows with the size of the model does not show: at 64 tokens from small to large the ranges overlap (3.00 [2.85, 3.15] and 3.10 [2.95, 3.26]); at 128 tokens from small to large it falls (6.00 [5.70, 6.30] and 2.00 [1.90, 2.10])."
        );
    }

    #[test]
    fn without_ranges_nothing_is_claimed() {
        let mut models = [of_lengths("a", 1_000_000, &[(64, 3.0), (128, 60.0)])];
        models[0].points[1].baseline_interval = None;
        assert!(told(&models, "with length").contains("no ranges to tell by"), "{:?}", speed_up_sentences(&models));
        assert!(told(&models, "Keeping").contains("60.0 times as fast at 128 tokens, on a with 1.0 million parameters"));
    }

    #[test]
    fn a_model_without_one_that_recomputes_is_named() {
        let models = [of_lengths("a", 1_000_000, &[(64, 3.0)]), of_lengths("b", 2_000_000, &[])];
        assert!(told(&models, "Of b").contains("such as `naive`"));
        assert!(told(&models, "on a").ends_with("3.00 [2.85, 3.15] times as fast at 64 tokens, on a with 1.0 million parameters."));
        assert_eq!(speed_up_sentences(&models[1..]).len(), 1, "nothing else is known");
        assert_eq!(speed_up_chart(&models[1..]), None);
    }

    #[test]
    fn other_encodings_of_weights_are_told() {
        let mut models = [of_lengths("a", 1_000_000, &[(64, 3.0)]), of_lengths("b", 2_000_000, &[(64, 6.0)])];
        assert!(!speed_up_sentences(&models).iter().any(|sentence| sentence.contains("encoding")));
        models[1].weights = "f32".into();
        assert!(told(&models, "encoding").contains("not in the same encoding"));
    }

    #[test]
    fn the_chart_has_a_line_for_each_model_and_batch() {
        let mut models = [of_lengths("a", 135_000_000, &[(64, 3.0), (128, 6.0)]), of_lengths("b", 2_000_000, &[(64, 2.0)])];
        let chart = speed_up_chart(&models).unwrap();
        assert_eq!(chart.series.iter().map(|series| series.name.as_str()).collect::<Vec<_>>(), ["a, 135 million", "b, 2.0 million"]);
        assert_eq!((chart.series[0].points.as_slice(), chart.series[0].intervals.len()), ([(64.0, 3.0), (128.0, 6.0)].as_slice(), 2));
        assert!(
            chart
                .caption
                .contains("of naive, which recomputes and is timed in a block of its own, over that of the baseline, contiguous f16")
        );
        models[0].points[1].batch = 4;
        let names: Vec<String> = speed_up_chart(&models).unwrap().series.into_iter().map(|series| series.name).collect();
        assert_eq!(names, ["a, 135 million ×1", "a, 135 million ×4", "b, 2.0 million ×1"]);
    }
}
