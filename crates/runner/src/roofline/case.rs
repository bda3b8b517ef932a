//! Caches that the strategies filled themselves, each with a query whose attention is timed.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use kv_core::{CacheError, ConfigError, Geometry, KvCache, Registry, RegistryError, Rows, SeqId, Tensor};
use kv_kernels::{Format, Formats};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Where the tokens of a sequence lie, and in which steps they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One run of memory per layer.
    Contiguous,
    /// Pages of a number of tokens, filled as a prompt is, in chunks.
    Paged(usize),
    /// The same, filled token by token.
    PagedSingly(usize),
    /// The same, filled token by token in turns with another sequence: no two pages follow each other.
    PagedInTurns(usize),
    /// A ring per layer that has wrapped round.
    Window,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Contiguous => f.write_str("contiguous"),
            Layout::Paged(tokens) => write!(f, "paged {tokens}"),
            Layout::PagedSingly(tokens) => write!(f, "paged {tokens}, single steps"),
            Layout::PagedInTurns(tokens) => write!(f, "paged {tokens}, batch of 2"),
            Layout::Window => f.write_str("window"),
        }
    }
}

/// Why a case cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaseError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// What one case reads: enough that a visit takes milliseconds.
const LEAST_BYTES: usize = 64 << 20;

/// Tokens of a prompt that are fed in one step.
const CHUNK: usize = 512;

/// What is measured: every format of ggml's group, and KIVI's.
const FORMATS: [&str; 9] = ["f32", "f16", "bf16", "fp8_e4m3", "q8_0", "q4_1", "q4_0", "kivi4", "kivi2"];

/// A cache with a sequence of random keys and values, and a query for it.
pub(crate) struct Case {
    geometry: Geometry,
    tokens: usize,
    format: Format,
    layout: Layout,
    cache: Box<dyn KvCache>,
    seq: SeqId,
    random: Rows,
}

impl Case {
    /// Every format contiguously, and every format of single rows in pages and as a window.
    ///
    /// # Errors
    /// [`CaseError`] if a strategy that comes with kvlab is not registered, or refuses.
    pub(crate) fn all(registry: &Registry, geometry: &Geometry, tokens: usize) -> Result<Vec<Case>, CaseError> {
        let cases: Vec<_> = Case::possible(geometry).collect();
        cases.into_par_iter().map(|(format, layout)| Case::new(registry, geometry, tokens, format, layout)).collect()
    }

    /// The contiguous layout in f32.
    ///
    /// # Errors
    /// As [`all`](Case::all).
    pub(crate) fn contiguous_f32(registry: &Registry, geometry: &Geometry, tokens: usize) -> Result<Case, CaseError> {
        Case::new(registry, geometry, tokens, Format::F32, Layout::Contiguous)
    }

    /// Bytes that all cases take together: they are filled at once, and a growing cache has room for twice its tokens.
    pub(crate) fn bytes_of_all(geometry: &Geometry, tokens: usize) -> usize {
        let bytes = |(format, layout)| {
            let sequences = if matches!(layout, Layout::PagedInTurns(_)) { 2 } else { 1 };
            let layer = layer_bytes(geometry, tokens, format);
            layer.saturating_mul(layers(geometry, layer)).saturating_mul(2 * sequences)
        };
        Case::possible(geometry).map(bytes).fold(0, usize::saturating_add)
    }

    fn possible(geometry: &Geometry) -> impl Iterator<Item = (Format, Layout)> {
        let formats: Vec<Format> = FORMATS.iter().map(|name| name.parse().expect("a known format")).collect();
        let formats = formats.into_iter().filter(|format| Formats::both(*format).check_dims(geometry.key_dim, geometry.value_dim).is_ok());
        let layouts =
            [Layout::Contiguous, Layout::Paged(16), Layout::PagedSingly(16), Layout::PagedInTurns(16), Layout::Paged(64), Layout::Window];
        let cases = formats.flat_map(move |format| layouts.map(|layout| (format, layout)));
        cases.filter(|(format, layout)| format.key_tokens() == 1 || *layout == Layout::Contiguous)
    }

    /// A cache of `tokens` tokens that its strategy filled itself.
    fn new(registry: &Registry, geometry: &Geometry, tokens: usize, format: Format, layout: Layout) -> Result<Case, CaseError> {
        let tokens = tokens.next_multiple_of(format.key_tokens());
        let layers = layers(geometry, layer_bytes(geometry, tokens, format));
        let geometry = Geometry { layers, context: geometry.context.max(2 * tokens), ..geometry.clone() };
        let (strategy, config) = strategy(layout, format, tokens);
        let mut cache = registry.get(strategy)?.build(&config, &geometry)?;
        let seq = cache.open()?;
        let beside = if matches!(layout, Layout::PagedInTurns(_)) { Some(cache.open()?) } else { None };
        let mut random = ChaCha8Rng::seed_from_u64(1);
        // Values that differ from layer to layer, and from chunk to chunk, would take longer to draw than to measure.
        let (heads, dim) = (geometry.heads.max(geometry.kv_heads), geometry.key_dim.max(geometry.value_dim));
        let values = (0..CHUNK * heads * dim).map(|_| random.random_range(-1.0..1.0)).collect();
        let mut case = Case { geometry, tokens, format, layout, cache, seq, random: Rows::new([CHUNK, heads, dim], values) };

        let chunk = if matches!(layout, Layout::PagedSingly(_) | Layout::PagedInTurns(_)) { 1 } else { CHUNK };
        // A ring wraps round in the middle.
        let fed = if layout == Layout::Window { tokens + tokens / 2 } else { tokens };
        for start in (0..fed).step_by(chunk) {
            for seq in [Some(seq), beside].into_iter().flatten() {
                case.feed(seq, start..(start + chunk).min(fed))?;
            }
        }
        Ok(case)
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn format(&self) -> String {
        self.format.to_string()
    }

    /// Encoded bytes that attention reads in a layer.
    pub(crate) fn layer_bytes(&self) -> usize {
        layer_bytes(&self.geometry, self.tokens, self.format)
    }

    /// The time of one more token's attention, of a layer on average. The step is never committed.
    ///
    /// # Errors
    /// Whatever the cache refuses.
    pub(crate) fn attend(&mut self) -> Result<Duration, CaseError> {
        let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = self.geometry;
        let seen = self.cache.seen(self.seq)?;
        self.cache.begin(self.seq, seen..seen + 1)?;
        let mut spent = Duration::ZERO;
        for layer in 0..layers {
            self.cache.append(self.seq, layer, self.rows(1, kv_heads, key_dim), self.rows(1, kv_heads, value_dim))?;
            let queries = self.rows(1, heads, key_dim);
            let started = Instant::now();
            std::hint::black_box(self.cache.attend(self.seq, layer, queries)?);
            spent += started.elapsed();
        }
        Ok(spent / layers as u32)
    }

    /// A step of these positions without attention.
    fn feed(&mut self, seq: SeqId, positions: Range<usize>) -> Result<(), CaseError> {
        let Geometry { layers, kv_heads, key_dim, value_dim, .. } = self.geometry;
        let tokens = self.cache.begin(seq, positions)?.len();
        for layer in 0..layers {
            self.cache.append(seq, layer, self.rows(tokens, kv_heads, key_dim), self.rows(tokens, kv_heads, value_dim))?;
        }
        Ok(self.cache.commit(seq)?)
    }

    /// Random rows.
    fn rows(&self, tokens: usize, heads: usize, dim: usize) -> Tensor<3> {
        Rows::new([tokens, heads, dim], self.random.values()[..tokens * heads * dim].to_vec()).into_tensor()
    }
}

/// The strategy that lays tokens out so, and its parameters.
fn strategy(layout: Layout, format: Format, tokens: usize) -> (&'static str, toml::Table) {
    let is_by_group = format.key_tokens() > 1;
    let format = ("format", toml::Value::String(format.to_string()));
    let count = |count: usize| toml::Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
    let (strategy, parameters) = match layout {
        // Keys that are encoded a group of tokens at a time.
        Layout::Contiguous if is_by_group => ("quantized", vec![format, ("residual", count(0))]),
        Layout::Contiguous => ("contiguous", vec![format]),
        Layout::Paged(page) | Layout::PagedSingly(page) | Layout::PagedInTurns(page) => {
            ("paged", vec![format, ("block_size", count(page))])
        }
        Layout::Window => ("sliding", vec![format, ("window", count(tokens))]),
    };
    (strategy, parameters.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Layers of which one case reads enough.
fn layers(geometry: &Geometry, layer_bytes: usize) -> usize {
    LEAST_BYTES.div_ceil(layer_bytes).clamp(1, geometry.layers)
}

fn layer_bytes(geometry: &Geometry, tokens: usize, format: Format) -> usize {
    tokens.saturating_mul(geometry.kv_heads * (format.row_bytes(geometry.key_dim) + format.row_bytes(geometry.value_dim)))
}
