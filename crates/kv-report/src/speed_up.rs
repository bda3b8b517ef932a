//! How much faster a decode step is for keys and values that are kept: recomputing over the baseline.

use crate::metric::known;
use crate::noise::is_baseline;
use crate::spreadsheet::as_text;
use crate::table::{number, table};
use crate::{Level, Metric, Pass, Results, Row, Status, StepTime};

const TPOT: &Metric = known("tpot_ms_p50");

/// What a model's run says of the speed-up.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeedUps {
    /// A short name of the model.
    pub name: String,
    /// The model, in full.
    pub model: String,
    /// Numbers in all its weights.
    pub parameters: usize,
    /// The encodings of its weights.
    pub weights: String,
    /// In order of batch and length. Empty if nothing that recomputes was measured beside a baseline, in the same part of the plan and
    /// on the same machine.
    pub points: Vec<SpeedUp>,
}

/// The speed-up at one length.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeedUp {
    /// Tokens in each sequence.
    pub seq_len: usize,
    /// Sequences decoded together.
    pub batch: usize,
    /// The label of the instance that recomputes, the first one of this length that was timed where the baseline was.
    pub recomputed: String,
    /// The label of the baseline of this length.
    pub baseline: String,
    /// Time per output token of what recomputes, in milliseconds.
    pub recomputed_ms: f64,
    /// The shortest and the longest of its counted steps, in milliseconds. They are few, and of one process. `None` if they are not known.
    pub recomputed_steps: Option<(f64, f64)>,
    /// Time per output token of the baseline, in milliseconds.
    pub baseline_ms: f64,
    /// Where that lies with 95 %. `None` with fewer than three launches.
    pub baseline_interval: Option<(f64, f64)>,
}

impl SpeedUp {
    /// How many times as fast a step is.
    pub fn value(&self) -> f64 {
        self.recomputed_ms / self.baseline_ms
    }

    /// From the shortest step that recomputes over the upper end of the baseline's interval, to the longest over its lower end. This is
    /// no interval of 95 %: what recomputes is timed in one process. `None` if one of the two is not known.
    pub fn range(&self) -> Option<(f64, f64)> {
        let ((shortest, longest), (low, high)) = (self.recomputed_steps?, self.baseline_interval?);
        (low > 0.0).then(|| (shortest / high, longest / low))
    }

    /// The time that a step saves, in milliseconds.
    pub fn saved_ms(&self) -> f64 {
        self.recomputed_ms - self.baseline_ms
    }

    /// Where the time saved lies, of the same ends as [`SpeedUp::range`].
    pub fn saved_range(&self) -> Option<(f64, f64)> {
        let ((shortest, longest), (low, high)) = (self.recomputed_steps?, self.baseline_interval?);
        Some((shortest - high, longest - low))
    }
}

impl SpeedUps {
    /// Of a run that calls its model by a short name. Caches alone have none: what recomputes needs its model.
    pub fn of(name: &str, results: &Results) -> SpeedUps {
        let model = &results.run.model;
        let formats: Vec<&str> = model.weight_formats.iter().map(|part| part.format.as_str()).collect();
        let mut points: Vec<SpeedUp> = match results.run.level {
            Level::Model => results.rows.iter().filter(|row| is_baseline(row)).filter_map(|row| speed_up(results, row)).collect(),
            Level::Attention { .. } => vec![],
        };
        points.sort_by_key(|point| (point.batch, point.seq_len));
        SpeedUps {
            name: name.to_owned(),
            model: model.name.clone(),
            parameters: model.geometry.parameters,
            weights: formats.join(", "),
            points,
        }
    }

    /// The point at a length and batch.
    pub(crate) fn at(&self, seq_len: usize, batch: usize) -> Option<&SpeedUp> {
        self.points.iter().find(|point| point.seq_len == seq_len && point.batch == batch)
    }
}

/// The speed-up of a baseline over the first that recomputes at its length.
fn speed_up(results: &Results, baseline: &Row) -> Option<SpeedUp> {
    let is_decoded = |row: &&Row| row.cell.workload == "decode" && row.status == Status::Ok;
    let baseline = Some(baseline).filter(is_decoded)?;
    let cell = &baseline.cell;
    // In the run of a model, only what recomputes is compared with nothing.
    let recomputes = |row: &&Row| row.cell.baseline.is_none() && row.cell.seq_len == cell.seq_len && row.cell.batch == cell.batch;
    // It is timed in a block of its own. Nothing is compared over machines, nor over parts that ran at other times.
    let is_comparable = |row: &&Row| results.run.origin_of(&row.cell.block) == results.run.origin_of(&cell.block);
    let recomputed = results.rows.iter().filter(is_decoded).filter(recomputes).find(is_comparable)?;
    let time = |row: &Row| row.value(TPOT.id).filter(|ms| *ms > 0.0 && ms.is_finite());
    Some(SpeedUp {
        seq_len: cell.seq_len,
        batch: cell.batch,
        recomputed: recomputed.cell.label.clone(),
        baseline: cell.label.clone(),
        recomputed_ms: time(recomputed)?,
        recomputed_steps: extremes(results, &recomputed.cell.id),
        baseline_ms: time(baseline)?,
        baseline_interval: baseline.values.get(TPOT.id).and_then(|value| value.interval),
    })
}

/// The shortest and the longest step of a cell, of those that count.
fn extremes(results: &Results, cell: &str) -> Option<(f64, f64)> {
    let is_timed =
        |visit: &&crate::Visit| visit.pass == Pass::Latency && visit.status == Status::Ok && !visit.control && visit.cell == cell;
    let counts = |step: &&StepTime| step.phase == "decode" && !step.warm_up;
    let steps = results.visits.iter().filter(is_timed).flat_map(|visit| visit.steps.iter().filter(counts)).map(|step| step.step_ms);
    steps.fold(None, |ends, ms| Some(ends.map_or((ms, ms), |(low, high): (f64, f64)| (low.min(ms), high.max(ms)))))
}

/// `speedup.csv`: one row for each model, batch and length.
pub fn speed_up_csv(models: &[SpeedUps]) -> Vec<u8> {
    const COLUMNS: [&str; 17] = [
        "name",
        "model",
        "parameters",
        "weights",
        "seq_len",
        "batch",
        "recomputed",
        "baseline",
        "recomputed_ms",
        "recomputed_ms_shortest",
        "recomputed_ms_longest",
        "baseline_ms",
        "baseline_ms_low",
        "baseline_ms_high",
        "speedup",
        "speedup_low",
        "speedup_high",
    ];
    let ends = |ends: Option<(f64, f64)>| [number(ends.map(|ends| ends.0)), number(ends.map(|ends| ends.1))];
    let row = |model: &SpeedUps, point: &SpeedUp| {
        let [shortest, longest] = ends(point.recomputed_steps);
        let [low, high] = ends(point.baseline_interval);
        let [range_low, range_high] = ends(point.range());
        vec![
            as_text(&model.name),
            as_text(&model.model),
            model.parameters.to_string(),
            as_text(&model.weights),
            point.seq_len.to_string(),
            point.batch.to_string(),
            as_text(&point.recomputed),
            as_text(&point.baseline),
            number(Some(point.recomputed_ms)),
            shortest,
            longest,
            number(Some(point.baseline_ms)),
            low,
            high,
            number(Some(point.value())),
            range_low,
            range_high,
        ]
    };
    table(&COLUMNS, models.iter().flat_map(|model| model.points.iter().map(move |point| row(model, point))))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Environment, OriginRecord, Value, Visit, example};

    /// A model's points at some lengths, with ranges of 5 % to both sides.
    pub(crate) fn of_lengths(name: &str, parameters: usize, speed_ups: &[(usize, f64)]) -> SpeedUps {
        let point = |(seq_len, value): &(usize, f64)| SpeedUp {
            seq_len: *seq_len,
            batch: 1,
            recomputed: "naive".into(),
            baseline: "contiguous f16".into(),
            recomputed_ms: *value,
            recomputed_steps: Some((*value * 0.975, *value * 1.025)),
            baseline_ms: 1.0,
            baseline_interval: Some((1.025f64.recip(), 0.975f64.recip())),
        };
        SpeedUps {
            name: name.into(),
            model: format!("{name} (random weights)"),
            parameters,
            weights: "q8_0".into(),
            points: speed_ups.iter().map(point).collect(),
        }
    }

    /// A run whose baseline took 1.25 ms at 128 tokens, beside one that recomputes in 20 ms.
    fn results() -> Results {
        let mut results = example::results();
        results.rows[0].values.get_mut(TPOT.id).unwrap().interval = Some((1.0, 1.5));
        let mut naive = results.rows[0].clone();
        naive.cell = crate::CellRecord { id: "n".into(), label: "naive".into(), baseline: None, ..naive.cell };
        naive.values.insert(TPOT.id.into(), Value::from(20.0));
        results.rows.push(naive);
        let of_steps = results.visits[0].steps.clone();
        let mut visit = Visit { steps: of_steps, ..Visit::passed("n", Pass::Latency) };
        visit.steps.push(visit.steps[2].clone());
        visit.steps.iter_mut().zip([500.0, 90.0, 18.0, 24.0]).for_each(|(step, ms)| step.step_ms = ms);
        results.visits.push(visit);
        results
    }

    #[test]
    fn a_step_that_recomputes_is_divided_by_the_baselines_and_its_spread_is_that_of_both() {
        let all = SpeedUps::of("tiny", &results());
        assert_eq!((all.parameters, all.model.as_str(), all.weights.as_str()), (1_500_000, "tiny", "f32"));
        let [point] = all.points.as_slice() else { panic!("{:?}", all.points) };
        assert_eq!((point.seq_len, point.batch, point.value()), (128, 1, 16.0));
        assert_eq!((point.recomputed.as_str(), point.baseline.as_str()), ("naive", "contiguous"));
        assert_eq!(point.recomputed_steps, Some((18.0, 24.0)), "neither the prompt nor the warm-up counts");
        assert_eq!(point.range(), Some((12.0, 24.0)));
    }

    #[test]
    fn what_is_not_known_has_no_range_and_what_was_not_measured_no_point() {
        let without = |change: fn(&mut Results)| {
            let mut results = results();
            change(&mut results);
            SpeedUps::of("tiny", &results).points
        };
        assert_eq!(without(|results| results.visits.clear())[0].range(), None);
        assert_eq!(without(|results| results.rows[0].values.get_mut(TPOT.id).unwrap().interval = None)[0].range(), None);
        assert!(without(|results| results.rows.last_mut().unwrap().status = Status::Oom).is_empty());
        assert!(without(|results| results.rows[0].status = Status::Failed).is_empty());
        assert!(without(|results| results.rows.last_mut().unwrap().cell.seq_len = 256).is_empty());
        assert!(without(|results| results.rows.iter_mut().for_each(|row| row.cell.baseline = None)).is_empty(), "of an older version");
        let alone = Level::Attention { rows: crate::RowsOrigin::Generated, seed: 0, measured_layers: 4 };
        let mut results = results();
        results.run.level = alone;
        assert!(SpeedUps::of("tiny", &results).points.is_empty(), "without a model, nothing is recomputed");
    }

    #[test]
    fn what_was_timed_elsewhere_is_not_divided() {
        let mut results = results();
        results.rows.last_mut().unwrap().cell.block = "decode 128, recomputed".into();
        let origin = |part: u32, block: &str| OriginRecord {
            part: Some(part),
            run_id: format!("run {part}"),
            order_seed: part,
            machine_id: Some(format!("machine {part}")),
            environment: Environment::default(),
            blocks: vec![block.into()],
        };
        let block = results.rows[0].cell.block.clone();
        results.run.origins = vec![origin(1, &block), origin(2, "decode 128, recomputed")];
        assert!(SpeedUps::of("tiny", &results).points.is_empty(), "of two machines");
        results.run.origins.remove(1);
        assert!(SpeedUps::of("tiny", &results).points.is_empty(), "one of them went on elsewhere");
        results.run.origins[0].blocks.push("decode 128, recomputed".into());
        assert_eq!(SpeedUps::of("tiny", &results).points.len(), 1);
    }

    #[test]
    fn the_table_has_a_row_for_each_point() {
        let csv = speed_up_csv(&[SpeedUps::of("=tiny", &results()), of_lengths("b", 7, &[(64, 2.0), (128, 4.0)])]);
        let mut reader = csv::Reader::from_reader(csv.as_slice());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!((&rows[0][0], &rows[0][2], &rows[0][14], &rows[0][15], &rows[0][16]), ("'=tiny", "1500000", "16", "12", "24"));
        assert_eq!((&rows[2][0], &rows[2][4], &rows[2][14]), ("b", "128", "4"));
    }
}
