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

fn measured(setting: &Setting<'_>, cell: &Cell, latency: latency::Latency, memory: memory::Memory) -> Outcome {
    let decode = || latency.samples.iter().filter(|sample| sample.phase == latency::DECODE);
    let steps: Vec<f64> = decode().map(|sample| sample.step_ms).collect();
    let cache: Vec<f64> = decode().map(|sample| sample.cache_ms).collect();
    let model: Vec<f64> = decode().map(|sample| sample.step_ms - sample.cache_ms).collect();
    let tpot_ms_p50 = quantile(&steps, 0.5);
    let Usage { payload_bytes, metadata_bytes, slack_bytes, scratch_peak_bytes, seen_tokens, resident_tokens, .. } = latency.usage;
    let row = Row {
        guarantee: Some(latency.guarantee.to_string()),
        ttft_ms: Some(latency.ttft_ms),
        tpot_ms_p50,
        tpot_ms_p95: quantile(&steps, 0.95),
        cache_ms_p50: quantile(&cache, 0.5),
        model_ms_p50: quantile(&model, 0.5),
        tokens_per_s: tpot_ms_p50.map(|milliseconds| cell.batch as f64 * 1e3 / milliseconds),
        total_ms: Some(latency.samples.iter().map(|sample| sample.step_ms).sum()),
        payload_bytes: Some(payload_bytes),
        metadata_bytes: Some(metadata_bytes),
        slack_bytes: Some(slack_bytes),
        reserved_bytes: Some(latency.usage.reserved_bytes()),
        scratch_peak_bytes: Some(scratch_peak_bytes),
        heap_live_bytes: Some(memory.live_bytes),
        heap_peak_bytes: Some(memory.peak_bytes),
        bytes_per_token: Some(memory.live_bytes as f64 / seen_tokens.max(1) as f64),
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
        ..Row::default()
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").to_owned()
}
