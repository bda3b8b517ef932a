//! One launch: a process that fills every case and lets them take turns.

use kv_core::{Geometry, Registry};
use kv_kernels::KernelPath;
use kv_metrics::{BufferPages, set_buffer_pages};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::bandwidth::{ReadBuffer, last_level_cache};
use super::case::{Case, CaseError, Layout};
use crate::config::HugePages;

/// What a launch measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RooflineTask {
    /// Each model's name and shape.
    pub(crate) models: Vec<(String, Geometry)>,
    /// Keys of a sequence.
    pub(crate) tokens: usize,
    /// Times that everything takes its turn.
    pub(crate) rounds: usize,
    /// Seed of the order of turns.
    pub(crate) order_seed: u32,
    /// The pages of the caches.
    pub(crate) huge_pages: HugePages,
}

/// What a launch came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) threads: usize,
    pub(crate) kernel_path: String,
    /// The machine's read bandwidth, by the pages of the buffer.
    pub(crate) limits: Vec<Limit>,
    /// The same in every launch, in the same order.
    pub(crate) cases: Vec<CaseTimes>,
}

/// A read bandwidth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) pages: String,
    /// In each round.
    pub(crate) bytes_per_second: Vec<f64>,
}

/// A case's times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CaseTimes {
    pub(crate) model: String,
    pub(crate) format: String,
    pub(crate) layout: String,
    pub(crate) is_contiguous: bool,
    /// Whether it is the first case again.
    pub(crate) is_control: bool,
    /// Encoded bytes that attention reads in a layer.
    pub(crate) layer_bytes: usize,
    /// Of one layer, in each round.
    pub(crate) seconds: Vec<f64>,
}

/// Who takes a turn.
#[derive(Clone, Copy)]
enum Turn {
    Limit(usize),
    Case(usize),
}

/// Measures everything in turns, in an order drawn for every round. Calls `progress` with the rounds done and all.
///
/// # Errors
/// [`CaseError`] if a strategy that comes with kvlab is not registered, or refuses.
pub(crate) fn run(registry: &Registry, task: &RooflineTask, progress: impl Fn(usize, usize)) -> Result<Launch, CaseError> {
    let cache = last_level_cache();
    let buffers: Vec<(&str, ReadBuffer)> = [("2 MiB", BufferPages::Huge), ("4 KiB", BufferPages::Small)]
        .map(|(name, pages)| {
            set_buffer_pages(pages);
            (name, ReadBuffer::larger_than(cache))
        })
        .into();
    set_buffer_pages(task.huge_pages.buffer_pages());
    let mut limits: Vec<Limit> = buffers.iter().map(|(pages, _)| Limit { pages: (*pages).to_owned(), bytes_per_second: vec![] }).collect();
    let mut order = ChaCha8Rng::seed_from_u64(task.order_seed.into());
    let mut times = vec![];
    for (done, (model, geometry)) in task.models.iter().enumerate() {
        let mut cases = Case::all(registry, geometry, task.tokens)?;
        cases.push(Case::contiguous_f32(registry, geometry, task.tokens)?);
        let mut seconds: Vec<Vec<f64>> = vec![vec![]; cases.len()];
        for round in 0..task.rounds {
            let mut turns: Vec<Turn> = (0..limits.len()).map(Turn::Limit).chain((0..cases.len()).map(Turn::Case)).collect();
            turns.shuffle(&mut order);
            for turn in turns {
                match turn {
                    Turn::Limit(index) => limits[index].bytes_per_second.push(buffers[index].1.read_bytes_per_second()),
                    Turn::Case(index) => seconds[index].push(cases[index].attend()?.as_secs_f64()),
                }
            }
            progress(done * task.rounds + round + 1, task.models.len() * task.rounds);
        }
        let last = cases.len() - 1;
        times.extend(cases.iter().zip(seconds).enumerate().map(|(index, (case, seconds))| CaseTimes {
            model: model.clone(),
            format: case.format(),
            layout: case.layout().to_string(),
            is_contiguous: case.layout() == Layout::Contiguous,
            is_control: index == last,
            layer_bytes: case.layer_bytes(),
            seconds,
        }));
    }
    Ok(Launch { threads: rayon::current_num_threads(), kernel_path: KernelPath::current().to_string(), limits, cases: times })
}
