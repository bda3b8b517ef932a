//! What a reader must know of the noise before comparing.

use crate::{Results, Row, Status, Value, counted};

/// What a reader must know of times, and ratios of times, from one process.
const ONE_LAUNCH: &str = "All times, and what is said of them, come from one launch of each strategy: how far another launch would be from it was not measured, so read small differences as none. With 3 `launches` or more there are intervals.";

/// What ratios are to, how much of them is noise, and that there is one launch alone, if so, in sentences.
pub fn noise(results: &Results) -> Vec<String> {
    one_launch(results).into_iter().chain(of_ratios(results)).collect()
}

/// None if nothing is compared.
fn of_ratios(results: &Results) -> Vec<String> {
    let Some(baseline) = baselines(results) else { return vec![] };
    let legend = format!(
        "Ratios are to {baseline}, paired by round. In a chart of strategies that are all alike, any interval excludes 1 with a probability of 5 %. same: within {} %; faster, slower: the interval excludes 1.",
        results.run.margin * 100.0
    );
    let is_judged = results.rows.iter().any(|row| row.values.get("tpot_ratio").is_some_and(|ratio| ratio.verdict.is_some()));
    let legend = if is_judged { legend } else { format!("Ratios are to {baseline}, paired by round.") };
    let lengths = results.rows.iter().filter(|row| is_baseline(row));
    let sentences = lengths.flat_map(|row| [floor(row), failed(row)]).flatten();
    [legend].into_iter().chain(sentences).chain(unjudged(results)).collect()
}

/// The labels of what others are compared with, in the order of their rows: usually one.
pub(crate) fn baselines(results: &Results) -> Option<String> {
    let mut labels: Vec<&str> = results.rows.iter().filter(|row| is_baseline(row)).map(|row| row.cell.label.as_str()).collect();
    labels.dedup();
    (!labels.is_empty()).then(|| labels.join(", then "))
}

/// Whether the others of its length are compared with this row.
pub fn is_baseline(row: &Row) -> bool {
    row.cell.baseline.as_ref() == Some(&row.cell.id)
}

/// That nobody knows how far the times of another process would be from these.
fn one_launch(results: &Results) -> Option<String> {
    let timed: Vec<usize> = results.rows.iter().map(|row| row.launches).filter(|launches| *launches > 0).collect();
    (!timed.is_empty() && timed.iter().all(|launches| *launches == 1)).then(|| ONE_LAUNCH.into())
}

/// That nothing is compared where the baseline failed.
fn failed(row: &Row) -> Option<String> {
    (row.status != Status::Ok).then(|| format!("No ratios, {}: the baseline failed there.", place(row)))
}

/// Why there are ratios without a verdict.
fn unjudged(results: &Results) -> Option<String> {
    let ratios = results.rows.iter().filter(|row| row.cell.baseline.is_some()).filter_map(|row| row.values.get("tpot_ratio"));
    let reason = ratios.filter(|ratio| ratio.verdict.is_none()).find_map(|ratio| ratio.reason.as_deref())?;
    Some(format!("Ratios without a verdict: {reason}."))
}

/// Where a row is in the charts.
fn place(row: &Row) -> String {
    let batch = if row.cell.batch > 1 { format!(" ×{}", row.cell.batch) } else { String::new() };
    format!("{} at {}{batch}", row.cell.workload, row.cell.seq_len)
}

/// What the baseline, timed twice, differs by from itself.
fn floor(row: &Row) -> Option<String> {
    let step = row.values.get("control_tpot_ratio")?;
    let cache = row.values.get("control_cache_ratio").map_or(String::new(), |value| format!(", and of the cache's part {}", ratio(value)));
    let freedom = step.degrees_of_freedom.map_or(String::new(), |freedom| format!(", {freedom:.1} degrees of freedom"));
    let excludes_one = |value: &Value| value.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0);
    let is_suspect = excludes_one(step) || row.values.get("control_cache_ratio").is_some_and(excludes_one);
    let suspect = if is_suspect { " It differs from itself: distrust small differences there." } else { "" };
    Some(format!(
        "Noise floor, {}: the baseline, timed twice, takes {} of its own time{cache}; {}{freedom}.{suspect}",
        place(row),
        ratio(step),
        counted(row.launches, "launch")
    ))
}

/// A ratio with its interval, if it has one.
pub fn ratio(value: &Value) -> String {
    match value.interval {
        Some((low, high)) => format!("{:.3} [{low:.3}, {high:.3}]", value.value),
        None => format!("{:.3}", value.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn one_launch_is_told_once_whether_anything_is_compared_or_not() {
        let mut results = example::results();
        results.rows.iter_mut().for_each(|row| row.launches = 1);
        assert_eq!(noise(&results).iter().filter(|sentence| *sentence == ONE_LAUNCH).count(), 1);
        results.rows.iter_mut().for_each(|row| row.cell.baseline = None);
        assert_eq!(noise(&results), [ONE_LAUNCH]);
        // What recomputes has one launch beside others with several.
        results.rows[0].launches = 3;
        assert_eq!(noise(&results), Vec::<String>::new());
    }

    #[test]
    fn the_noise_is_told_beside_what_is_compared() {
        let mut results = example::results();
        assert_eq!(noise(&results).len(), 1, "there is a baseline, and it was not timed twice");
        let control = Value { interval: Some((0.98, 1.015)), degrees_of_freedom: Some(18.0), ..Value::from(1.0) };
        results.rows[0].values.insert("control_tpot_ratio".into(), control);
        let sentences = noise(&results);
        assert_eq!(sentences[0], "Ratios are to contiguous, paired by round.", "nothing is judged");
        assert!(sentences[1].contains("takes 1.000 [0.980, 1.015] of its own time"), "{sentences:?}");
        assert!(sentences[1].ends_with("launches, 18.0 degrees of freedom."), "{sentences:?}");
        results.rows[0].values.get_mut("control_tpot_ratio").unwrap().interval = Some((1.01, 1.05));
        assert!(noise(&results)[1].ends_with("It differs from itself: distrust small differences there."));
        results.rows[0].values.remove("control_tpot_ratio");
        results.rows[0].status = Status::Failed;
        assert_eq!(noise(&results)[1], "No ratios, decode at 128: the baseline failed there.");
        let judged = Value { verdict: Some("same".into()), ..Value::from(1.0) };
        results.rows[0].values.insert("tpot_ratio".into(), judged);
        assert!(noise(&results)[0].contains("within 3 %"));
        results.rows.iter_mut().for_each(|row| row.cell.baseline = None);
        assert_eq!(noise(&results), Vec::<String>::new());
    }
}
