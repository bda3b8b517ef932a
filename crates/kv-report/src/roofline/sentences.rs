//! What the measurements show, in sentences: what intervals and verdicts tell, and nothing else.

use super::chart::in_order;
use super::{Judged, Located, Roofline, RooflineRow};
use crate::spread::Spread;

/// Of which no number is told: it would pass for an effect.
const INCONCLUSIVE: &str = "inconclusive";

/// What a model's measurements show: the highest share, which formats and layouts take less or more time, and the noise.
pub(super) fn sentences(roofline: &Roofline, model: &str) -> Vec<String> {
    let rows = roofline.rows_of(model);
    let control = roofline.controls.iter().find(|(name, _)| name == model).map(|(_, control)| control);
    let is_judged = rows.iter().any(|row| row.time_over_f32.as_ref().is_some_and(|judged| judged.verdict.is_some()));
    let compared = if is_judged { [formats(&rows), layouts(&rows)] } else { [unjudged(roofline), None] };
    [highest(&rows)].into_iter().chain(compared).chain([control.map(noise)]).flatten().collect()
}

/// Which format and layout reaches the most of the bandwidth, and whether intervals tell it from the others.
fn highest(rows: &[&RooflineRow]) -> Option<String> {
    const MOST_NAMES: usize = 3;
    let best = rows.iter().max_by(|a, b| a.of_bandwidth.value.total_cmp(&b.of_bandwidth.value))?;
    let named = |row: &RooflineRow| format!("{} ({})", row.format, row.layout);
    let share = best.of_bandwidth;
    let reaches = format!("{} reaches the highest share of the read bandwidth, {}", named(best), share.shown(1.0, 2));
    let spread = |located: Located| Spread::new(located.value, located.interval);
    if share.interval.is_none() {
        return Some(format!("{reaches}."));
    }
    let overlaps = |row: &RooflineRow| spread(row.of_bandwidth).zip(spread(share)).is_some_and(|(one, other)| one.overlaps(&other));
    let others: Vec<String> = rows.iter().filter(|row| !std::ptr::eq(**row, *best) && overlaps(row)).map(|row| named(row)).collect();
    let rest = match others.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let told = others.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ") + &rest;
    Some(match others.as_slice() {
        [] => format!("{reaches}; the intervals of all others lie below its own."),
        _ => format!("{reaches}; by their intervals, these may reach as much: {told}."),
    })
}

/// How the formats compare with f32, all in the contiguous layout.
fn formats(rows: &[&RooflineRow]) -> Option<String> {
    let compared: Vec<(&str, &Judged)> =
        rows.iter().filter(|row| row.is_contiguous()).filter_map(|row| Some((row.format.as_str(), row.time_over_f32.as_ref()?))).collect();
    let group = |(verdict, group): (&str, Vec<(&str, &Judged)>)| {
        let is = if group.len() == 1 { "is" } else { "are" };
        let named = |(name, judged): &(&str, &Judged)| match verdict {
            INCONCLUSIVE => (*name).to_owned(),
            _ => format!("{name} ({})", judged.numbers()),
        };
        let names: Vec<String> = group.iter().map(named).collect();
        format!("{} {is} {}", names.join(", "), in_words(verdict))
    };
    let groups: Vec<String> = by_verdict(&compared).into_iter().map(group).collect();
    let has_faster = compared.iter().any(|(_, judged)| judged.verdict.as_deref() == Some("faster"));
    let none = if has_faster { "" } else { " None is shown to be faster." };
    (!groups.is_empty()).then(|| format!("Time over that of contiguous f32: {}.{none}", groups.join("; ")))
}

/// What each other layout costs over the contiguous one of the same format.
fn layouts(rows: &[&RooflineRow]) -> Option<String> {
    let others: Vec<&RooflineRow> = rows.iter().filter(|row| !row.is_contiguous()).copied().collect();
    let of_layout = |layout: &str| {
        let of_layout = others.iter().filter(|row| row.layout == layout);
        let compared: Vec<(&str, &Judged)> =
            of_layout.filter_map(|row| Some((row.format.as_str(), row.time_over_contiguous.as_ref()?))).collect();
        let group = |(verdict, group): (&str, Vec<(&str, &Judged)>)| {
            let ratios = || group.iter().map(|(_, judged)| judged.ratio);
            let (low, high) = (ratios().fold(f64::INFINITY, f64::min), ratios().fold(f64::NEG_INFINITY, f64::max));
            let range = match (verdict, group.len()) {
                (INCONCLUSIVE, _) => String::new(),
                (_, 1) => format!(" ({low:.2})"),
                _ => format!(" ({low:.2} to {high:.2})"),
            };
            format!("{} for {} of {} formats{range}", in_words(verdict), group.len(), compared.len())
        };
        format!("{layout}: {}", by_verdict(&compared).into_iter().map(group).collect::<Vec<_>>().join(", "))
    };
    let told: Vec<String> = in_order(&others, |row| &row.layout).into_iter().map(of_layout).collect();
    (!told.is_empty()).then(|| format!("Time over that of the contiguous layout in the same format: {}.", told.join("; ")))
}

/// That nothing is said of differences.
fn unjudged(roofline: &Roofline) -> Option<String> {
    let launches = if roofline.launches == 1 { "1 launch gives".to_owned() } else { format!("{} launches give", roofline.launches) };
    Some(format!(
        "{launches} neither intervals nor verdicts, so nothing is said of differences between formats or layouts: that takes 3 or more."
    ))
}

/// What the same takes of its own time.
fn noise(control: &Judged) -> String {
    let differs = control.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0);
    let suspect = if differs { " It differs from itself: distrust small differences." } else { "" };
    format!("The noise floor: contiguous f32, timed twice, takes {} of its own time.{suspect}", control.numbers())
}

/// Each verdict that there is, with those of whom it is said.
fn by_verdict<'a>(compared: &[(&'a str, &'a Judged)]) -> Vec<(&'static str, Vec<(&'a str, &'a Judged)>)> {
    let of = |verdict| compared.iter().filter(|(_, judged)| judged.verdict.as_deref() == Some(verdict)).copied().collect::<Vec<_>>();
    ["faster", "same", "slower", INCONCLUSIVE].map(|verdict| (verdict, of(verdict))).into_iter().filter(|(_, of)| !of.is_empty()).collect()
}

fn in_words(verdict: &str) -> &str {
    if verdict == "same" { "the same" } else { verdict }
}

#[cfg(test)]
mod tests {
    use super::super::example::{judged, located, of_two_launches, of_two_models, roofline};
    use super::*;

    #[test]
    fn a_clear_winner_is_told_with_what_formats_and_layouts_cost() {
        assert_eq!(
            sentences(&roofline(), "tiny"),
            [
                "f32 (contiguous) reaches the highest share of the read bandwidth, 0.90 [0.88, 0.92]; the intervals of all others lie below its own.",
                "Time over that of contiguous f32: f16 (0.64 [0.63, 0.65]) is faster.",
                "Time over that of the contiguous layout in the same format: paged 16: the same for 1 of 2 formats (1.01), slower for 1 of 2 formats (1.12).",
                "The noise floor: contiguous f32, timed twice, takes 1.00 [0.98, 1.02] of its own time.",
            ]
        );
    }

    #[test]
    fn a_tie_names_those_that_intervals_do_not_tell_apart() {
        let mut tied = roofline();
        for row in &mut tied.rows[1..] {
            row.of_bandwidth = located(0.89);
        }
        tied.rows[2].time_over_f32 = Some(judged(1.0, "same"));
        let told = sentences(&tied, "tiny");
        assert!(told[0].ends_with("these may reach as much: f32 (paged 16), f16 (contiguous), f16 (paged 16)."), "{told:?}");
        assert_eq!(told[1], "Time over that of contiguous f32: f16 (1.00 [0.98, 1.02]) is the same. None is shown to be faster.");
        let again = tied.rows[3].clone();
        tied.rows.push(RooflineRow { layout: "window".into(), ..again });
        assert!(sentences(&tied, "tiny")[0].ends_with("f16 (paged 16) and 1 more."));
    }

    #[test]
    fn an_inconclusive_ratio_is_no_number() {
        let mut noisy = roofline();
        noisy.rows[2].time_over_f32 = Some(judged(0.64, "inconclusive"));
        noisy.rows[3].time_over_contiguous = Some(judged(1.01, "inconclusive"));
        let told = sentences(&noisy, "tiny");
        assert_eq!(told[1], "Time over that of contiguous f32: f16 is inconclusive. None is shown to be faster.");
        assert!(told[2].ends_with("slower for 1 of 2 formats (1.12), inconclusive for 1 of 2 formats."), "{told:?}");
    }

    #[test]
    fn without_intervals_nothing_is_said_of_differences() {
        let mut few = of_two_launches();
        assert_eq!(
            sentences(&few, "tiny"),
            [
                "f32 (contiguous) reaches the highest share of the read bandwidth, 0.90.",
                "2 launches give neither intervals nor verdicts, so nothing is said of differences between formats or layouts: that takes 3 or more.",
                "The noise floor: contiguous f32, timed twice, takes 1.00 of its own time.",
            ]
        );
        few.launches = 1;
        assert!(sentences(&few, "tiny")[1].starts_with("1 launch gives neither"));
    }

    #[test]
    fn a_control_that_differs_from_itself_is_told_of_its_own_model() {
        let of = |model: &str| sentences(&of_two_models(), model).pop().unwrap();
        assert!(of("large").ends_with("It differs from itself: distrust small differences."), "{}", of("large"));
        assert!(of("tiny").ends_with("of its own time."), "{}", of("tiny"));
    }
}
