//! Running one cell: a latency pass with the model, then a memory pass with the cache alone.

mod latency;
mod memory;

use std::panic::{AssertUnwindSafe, catch_unwind};

use kv_core::Usage;
use kv_metrics::quantile;
use kv_model::{Decoder, ModelError};
use kv_report::{Row, Sample, Status};

use crate::gate::Rejected;
use crate::plan::{Cell, Plan};

/// What a cell left behind.
pub(crate) struct Outcome {
    pub(crate) row: Row,
    pub(crate) samples: Vec<Sample>,
}

/// Why a cell has no numbers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CellError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Cache(#[from] kv_core::CacheError),
    #[error(transparent)]
    Config(#[from] kv_core::ConfigError),
    #[error("not timed, because it fails the conformance suite: {0}")]
    Rejected(String),
    #[error("the strategy panicked: {0}")]
    Panic(String),
}

/// What all cells of a sweep share.
pub(crate) struct Setting<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) model: &'a str,
    pub(crate) plan: &'a Plan,
    pub(crate) seed: u64,
    pub(crate) rejected: &'a Rejected,
}

/// Measures a cell; whatever goes wrong, a strategy's panic included, becomes a row with its reason.
pub(crate) fn run(setting: &Setting<'_>, cell: &Cell) -> Outcome {
    let passes = || -> Result<_, CellError> {
        if let Some(reason) = setting.rejected.get(&cell.label) {
            return Err(CellError::Rejected(reason.clone()));
        }
        let latency = latency::measure(setting, cell)?;
        let memory = memory::measure(setting, cell)?;
        Ok((latency, memory))
    };
    match catch_unwind(AssertUnwindSafe(passes)).unwrap_or_else(|panic| Err(CellError::Panic(panic_message(panic.as_ref())))) {
        Ok((latency, memory)) => measured(setting, cell, latency, memory),
        Err(error) => {
            Outcome { row: Row { status: Status::Failed, error: Some(error.to_string()), ..blank_row(setting, cell) }, samples: vec![] }
        }
    }
}

fn measured(setting: &Setting<'_>, cell: &Cell, latency: latency::Latency, memory: Option<memory::Memory>) -> Outcome {
    let decode = |part: fn(&Sample) -> f64| -> Vec<f64> {
        latency.samples.iter().filter(|sample| sample.phase == latency::DECODE && !sample.warm_up).map(part).collect()
    };
    let steps = decode(|sample| sample.step_ms);
    let tpot_ms_p50 = quantile(&steps, 0.5);
    let Usage { payload_bytes, metadata_bytes, slack_bytes, scratch_peak_bytes, seen_tokens, resident_tokens, .. } = latency.usage;
    let row = Row {
        guarantee: Some(latency.guarantee.to_string()),
        ttft_ms: Some(latency.ttft_ms),
        tpot_ms_p50,
        tpot_ms_p95: quantile(&steps, 0.95),
        cache_ms_p50: quantile(&decode(|sample| sample.cache_ms), 0.5),
        seam_ms_p50: quantile(&decode(|sample| sample.seam_ms), 0.5),
        model_ms_p50: quantile(&decode(|sample| sample.step_ms - sample.cache_ms - sample.seam_ms), 0.5),
        tokens_per_s: tpot_ms_p50.map(|milliseconds| cell.batch as f64 * 1e3 / milliseconds),
        total_ms: Some(latency.samples.iter().map(|sample| sample.step_ms).sum()),
        payload_bytes: Some(payload_bytes),
        metadata_bytes: Some(metadata_bytes),
        slack_bytes: Some(slack_bytes),
        reserved_bytes: Some(latency.usage.reserved_bytes()),
        scratch_peak_bytes: Some(scratch_peak_bytes),
        heap_live_bytes: memory.as_ref().map(|memory| memory.live_bytes),
        heap_peak_bytes: memory.as_ref().map(|memory| memory.peak_bytes),
        bytes_per_token: memory.as_ref().map(|memory| memory.live_bytes as f64 / seen_tokens.max(1) as f64),
        seen_tokens: Some(seen_tokens),
        resident_tokens: Some(resident_tokens),
        ..blank_row(setting, cell)
    };
    Outcome { row, samples: latency.samples }
}

fn blank_row(setting: &Setting<'_>, cell: &Cell) -> Row {
    Row {
        label: cell.label.clone(),
        strategy: cell.strategy.id().into(),
        model: setting.model.into(),
        workload: cell.workload.name().into(),
        seq_len: cell.seq_len,
        batch: cell.batch,
        model_bytes: Some(setting.decoder.weights().bytes()),
        ..Row::default()
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Workload;

    fn cell(config: &str, workload: Workload, batch: usize) -> Cell {
        Cell {
            label: "contiguous".into(),
            strategy: *crate::builtin().get("contiguous").unwrap(),
            config: toml::from_str(config).unwrap(),
            workload,
            seq_len: 16,
            batch,
            recomputes: false,
        }
    }

    fn outcome(cell: Cell) -> Outcome {
        let model = kv_model::Preset::find("tiny").unwrap().build(Some(1), kv_kernels::WeightFormat::F32, 0, Default::default()).unwrap();
        let plan = Plan { cells: vec![], decode_steps: 4, prefill_chunk: 8 };
        run(&Setting { decoder: &model.decoder, model: "tiny", plan: &plan, seed: 0, rejected: &Rejected::new() }, &cell)
    }

    #[test]
    fn room_for_the_cells_own_tokens_is_enough() {
        let row = outcome(cell("growth = { reserve = 16 }", Workload::Generate, 1)).row;
        assert_eq!((row.status, row.error), (Status::Ok, None));
        let row = outcome(cell("growth = { reserve = 15 }", Workload::Generate, 1)).row;
        assert_eq!(row.error.as_deref(), Some("cache is full: 1 more tokens needed, 0 free"));
    }

    #[test]
    fn the_first_decode_step_is_kept_and_left_out_of_the_medians() {
        let Outcome { row, samples } = outcome(cell("", Workload::Decode, 1));
        let marked: Vec<(&str, bool)> = samples.iter().map(|sample| (sample.phase.as_str(), sample.warm_up)).collect();
        assert_eq!(marked, [("prefill", false), ("decode", true), ("decode", false), ("decode", false), ("decode", false)]);
        let steps: Vec<f64> = samples[2..].iter().map(|sample| sample.step_ms).collect();
        assert_eq!(row.tpot_ms_p50, quantile(&steps, 0.5));
        assert_eq!(row.tpot_ms_p95, quantile(&steps, 0.95));
    }

    #[test]
    fn a_step_is_the_caches_the_seams_and_the_models() {
        let Outcome { row, samples } = outcome(cell("", Workload::Decode, 3));
        let parts = |sample: &Sample| sample.step_ms - sample.cache_ms - sample.seam_ms;
        assert!(samples.iter().all(|sample| sample.cache_ms > 0.0 && parts(sample) > 0.0), "{samples:?}");
        let model: Vec<f64> = samples[2..].iter().map(parts).collect();
        assert_eq!(row.model_ms_p50, quantile(&model, 0.5));
    }
}
