//! A strategy with one of the bugs that real caches have shipped with. Its config selects the bug.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use kv_core::{
    CacheError, ConfigError, ErrorBound, Geometry, Guarantee, KvCache, PredictedBytes, Rows, SeqId, Sequences, Strategy, Tensor, Usage,
    View, reference,
};
use memmap2::MmapMut;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which mistake is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bug {
    /// No bug. The base of the other variants must pass.
    #[default]
    None,
    /// After eviction, keys are rotated to their index in the cache, and queries are not.
    PositionsAfterEviction,
    /// `truncate` sets the length but leaves the rows.
    RollbackResurrects,
    /// Rows are rounded only when a step has several tokens.
    QuantiserIdleInDecode,
    /// Bits are reported as bytes, and those of a block as those of a value.
    BytesThirtyTwoFold,
    /// Drops the last row of each block of 16.
    BlockBoundary,
    /// A write to a prefix shared with a fork changes both sequences.
    SharedPrefixWritten,
    /// A new sequence starts with the rows of a closed one.
    LeaksGenerations,
    /// Stores one row per query head.
    RowPerQueryHead,
    /// A ring buffer overwrites tokens that earlier queries of the step still see.
    RingOverwritesWithinStep,
    /// Recomputation runs only the fresh tokens.
    BaselineForgets,
    /// The check that should trim to the window never fires.
    WindowNeverTrims,
    /// A new cache starts with the state of an earlier one.
    WarmAcrossCells,
    /// A refused step empties the sequence.
    OverflowLoses,
    /// The rows of an abandoned step stay.
    AbandonedStepStays,
    /// The mask multiplies instead of replacing.
    MaskMultiplies,
    /// Query heads are assigned to KV heads round-robin.
    HeadsDealtInTurn,
    /// Rounding depends on earlier calls in the process.
    Unseeded,
    /// `seen` is the number of rows held.
    SeenIsResident,
    /// An evicting cache masks one token too many from the start.
    WindowOneShort,
    /// A lossy cache loses all but the last 288 tokens.
    LossyForgets,
    /// The same, and only in the layers above the first.
    UpperLayersForget,
    /// A lossy cache attends only to the step's own tokens if there are several.
    LossyChunksForget,
    /// What is sealed at the 1000th token is sealed wrongly.
    SealsWronglyLate,
    /// `prompt_end` drops the last token, though nothing may be lost.
    PromptEndForgets,
    /// Steps of more than 32 tokens are refused as if there were no room for them.
    FullByStepSize,
    /// No sequence can be opened, as if there were no room for one.
    FullFromTheStart,
    /// No sequence can be forked, as if there were no room for one.
    FullForForks,
    /// `commit` refuses for want of room, when everything has been fed.
    FullAtCommit,
    /// The tokens of a second sequence count tenfold against the limit.
    FullBeforeItIs,
    /// Rows are copied on another thread, kept, and not reported.
    BytesOfAnotherThread,
    /// A few bytes of every step are never freed, and not reported.
    Leaks,
    /// Half of the rows' bytes are reported.
    ReportsHalf,
    /// It says that the rows of a fork are its parent's, and has copied them.
    ForksForFree,
    /// Rows are copied into memory that is mapped beside the heap, and not reported.
    MapsBesideTheHeap,
    /// The bytes of the values are not predicted.
    PredictsKeysOnly,
    /// The bytes of one sequence are predicted, however many there are.
    PredictsOneSequence,
    /// The capacity of a grown `Vec` is predicted to be its length.
    PredictsNoSlack,
    /// Whatever the cache, all bytes that can be counted are predicted.
    PredictsEverything,
    /// The same, as slack.
    PredictsAnySlack,
    /// `read` has a causal mask, as if its queries were the sequence's first.
    ReadIsCausal,
    /// `read` sees the rows of the step in progress.
    ReadSeesStep,
    /// `read` abandons the step in progress.
    ReadEndsStep,
    /// `read` of a sequence without rows gives numbers.
    ReadsNothing,
    /// Keeps every row where it is, and says that positions may go on.
    ReachesTooFar,
    /// The same for a window, one row wider than the context that it says it fits into.
    ReachesOneTooFar,
}

/// The mistake, by its name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Which mistake is made.
    pub bug: Bug,
}

const WINDOW: usize = 24;
const LIMIT: usize = 700;

static LEFT_BEHIND: Mutex<Option<Layers>> = Mutex::new(None);
static ROUNDINGS: AtomicU32 = AtomicU32::new(0);

/// One view per layer and KV head.
type Layers = Vec<Vec<View>>;

#[derive(Debug)]
pub(crate) struct Broken {
    bug: Bug,
    sequences: Sequences<Layers>,
    closed: Option<Layers>,
    forks: Vec<(SeqId, SeqId)>,
    /// The copies for the other query heads of each KV head.
    copies: Vec<f32>,
    /// What another thread allocated.
    hidden: Vec<Vec<f32>>,
    /// What was mapped beside the heap.
    mapped: Vec<MmapMut>,
}

impl Strategy for Broken {
    const ID: &'static str = "broken";
    const SUMMARY: &'static str = "makes the mistake its config names";
    type Config = Config;

    fn new(config: Config, geometry: &Geometry) -> Result<Broken, ConfigError> {
        Ok(Broken {
            bug: config.bug,
            sequences: Sequences::new(geometry),
            closed: None,
            forks: vec![],
            copies: vec![],
            hidden: vec![],
            mapped: vec![],
        })
    }

    fn predicted_bytes(config: &Config, geometry: &Geometry, tokens: usize, sequences: usize) -> Option<PredictedBytes> {
        let Geometry { layers, kv_heads, key_dim, value_dim, .. } = *geometry;
        let (keys, values) = (tokens * key_dim, tokens * value_dim);
        let payload = (keys + values) * size_of::<f32>();
        let metadata = grown(tokens) * size_of::<usize>() + size_of::<View>();
        let slack = (grown(keys) + grown(values)) * size_of::<f32>() - payload;
        let one = PredictedBytes { payload, metadata, slack }.times(kv_heads).times(layers);
        let one = PredictedBytes { metadata: one.metadata + layers * size_of::<Vec<View>>(), ..one };
        match config.bug {
            Bug::None => Some(one.times(sequences)),
            Bug::PredictsKeysOnly => Some(PredictedBytes { payload: keys * size_of::<f32>() * kv_heads * layers, ..one }.times(sequences)),
            Bug::PredictsOneSequence => Some(one),
            Bug::PredictsNoSlack => Some(PredictedBytes { slack: 0, ..one }.times(sequences)),
            Bug::PredictsEverything => Some(PredictedBytes { payload: usize::MAX, metadata: usize::MAX, slack: usize::MAX }),
            Bug::PredictsAnySlack => Some(PredictedBytes { slack: usize::MAX, ..one.times(sequences) }),
            // The bytes of the other mistakes are not those of the base.
            _ => None,
        }
    }
}

/// The capacity of a table of `len` entries, whatever the steps in which it grew.
fn grown(len: usize) -> usize {
    if len == 0 { 0 } else { len.next_power_of_two() }
}

fn add<T: Copy>(table: &mut Vec<T>, entries: &[T]) {
    let len = table.len() + entries.len();
    table.reserve_exact(grown(len).saturating_sub(table.len()));
    table.extend(entries);
}

impl Broken {
    fn window(&self) -> usize {
        let windowed = matches!(
            self.bug,
            Bug::PositionsAfterEviction
                | Bug::RingOverwritesWithinStep
                | Bug::WindowNeverTrims
                | Bug::SeenIsResident
                | Bug::WindowOneShort
                | Bug::ReachesOneTooFar
        );
        if windowed { WINDOW } else { usize::MAX }
    }

    fn dims(&self) -> (usize, usize) {
        let Geometry { key_dim, value_dim, .. } = *self.sequences.geometry();
        (key_dim, value_dim)
    }

    /// All held and fresh rows of one head.
    fn all(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let mut view = self.sequences.state(seq)?[layer][kv_head].clone();
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)?
            && self.bug != Bug::AbandonedStepStays
        {
            view.extend(first, fresh, kv_head);
        }
        Ok(view)
    }

    /// Those of these rows that the newest query sees, as it sees them.
    fn shown(&self, mut view: View) -> View {
        let (key_dim, value_dim) = self.dims();
        let newest = view.positions.iter().max().copied().unwrap_or_default();
        view.retain(key_dim, value_dim, |position| self.sees(newest, position));
        if self.bug == Bug::PositionsAfterEviction {
            for row in 0..view.positions.len() {
                let turns = self.sequences.geometry().rope.turns(row as i64 - view.positions[row] as i64);
                let key = &mut view.keys[row * key_dim..(row + 1) * key_dim];
                for (plane, (sin, cos)) in turns.iter().enumerate() {
                    let (x, y) = (key[plane], key[plane + turns.len()]);
                    key[plane] = x * cos - y * sin;
                    key[plane + turns.len()] = y * cos + x * sin;
                }
            }
        }
        view
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        let short = usize::from(self.bug == Bug::WindowOneShort && query > 2);
        key <= query && key.saturating_add(self.window()) > query + short
    }
}

impl KvCache for Broken {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        if self.bug == Bug::FullFromTheStart {
            return Err(CacheError::Full { needed: 1, free: 0 });
        }
        let Geometry { layers, kv_heads, .. } = *self.sequences.geometry();
        let empty = vec![vec![View::default(); kv_heads]; layers];
        let left = match self.bug {
            Bug::LeaksGenerations => self.closed.take(),
            Bug::WarmAcrossCells => LEFT_BEHIND.lock().unwrap().take(),
            _ => None,
        };
        Ok(self.sequences.open(0, left.unwrap_or(empty)))
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let layers = self.sequences.close(seq)?;
        match self.bug {
            Bug::LeaksGenerations => self.closed = Some(layers),
            Bug::WarmAcrossCells => *LEFT_BEHIND.lock().unwrap() = Some(layers),
            _ => {}
        }
        if self.sequences.iter().next().is_none() {
            self.copies = vec![];
        }
        Ok(())
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.sequences.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.sequences.check_begin(seq, &fresh)?;
        if self.bug == Bug::OverflowLoses && fresh.end > LIMIT {
            self.sequences.state_mut(seq)?.iter_mut().flatten().for_each(|view| *view = View::default());
            return Err(CacheError::Full { needed: fresh.len(), free: LIMIT - fresh.start });
        }
        let others: usize = self.sequences.iter().map(|(_, seen)| seen).sum::<usize>() - fresh.start;
        let free = match self.bug {
            Bug::FullByStepSize => 32,
            Bug::FullBeforeItIs => LIMIT.saturating_sub(fresh.start + 10 * others),
            _ => usize::MAX,
        };
        if fresh.len() > free {
            return Err(CacheError::Full { needed: fresh.len(), free });
        }
        self.sequences.begin(seq, fresh)
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let (key_dim, value_dim) = self.dims();
        let last = self.sequences.seen(seq)?.wrapping_sub(1);
        if self.bug == Bug::PromptEndForgets {
            let views = self.sequences.state_mut(seq)?.iter_mut().flatten();
            views.for_each(|view| view.retain(key_dim, value_dim, |position| position != last));
        }
        Ok(())
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.sequences.append(seq, layer, keys, values)?;
        if self.bug == Bug::AbandonedStepStays {
            let kv_heads = self.sequences.geometry().kv_heads;
            for kv_head in 0..kv_heads {
                let mut view = self.sequences.state(seq)?[layer][kv_head].clone();
                let (first, fresh) = self.sequences.fresh(seq, layer)?;
                view.extend(first, fresh, kv_head);
                self.sequences.state_mut(seq)?[layer][kv_head] = view;
            }
        }
        Ok(())
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries: Rows = self.sequences.queries(seq, layer, queries)?;
        let (first_query, _) = self.sequences.fresh(seq, layer)?;
        let geometry = self.sequences.geometry().clone();
        let (key_dim, value_dim) = self.dims();
        let mut views = (0..geometry.kv_heads)
            .map(|kv_head| match self.bug {
                Bug::PositionsAfterEviction => self.view(seq, layer, kv_head),
                _ => self.all(seq, layer, kv_head),
            })
            .collect::<Result<Vec<View>, _>>()?;
        match self.bug {
            Bug::RingOverwritesWithinStep => {
                let newest = views[0].positions.iter().max().copied().unwrap_or_default();
                views.iter_mut().for_each(|view| view.retain(key_dim, value_dim, |position| position + WINDOW > newest));
            }
            Bug::MaskMultiplies if views.iter().any(|view| view.keys.iter().any(|value| value.is_nan())) => {
                let [tokens, heads, _] = queries.dims();
                return Ok(Rows::new([tokens, heads, value_dim], vec![f32::NAN; tokens * heads * value_dim]).into_tensor());
            }
            Bug::LossyChunksForget if queries.dims()[0] > 1 => {
                views.iter_mut().for_each(|view| view.retain(key_dim, value_dim, |position| position >= first_query));
            }
            Bug::HeadsDealtInTurn => {
                let by_query_head: Vec<View> = (0..geometry.heads).map(|head| views[head % geometry.kv_heads].clone()).collect();
                let wide = Geometry { kv_heads: geometry.heads, ..geometry };
                return Ok(reference::attend_views(&wide, first_query, &queries, &by_query_head, reference::causal).into_tensor());
            }
            _ => {}
        }
        Ok(reference::attend_views(&geometry, first_query, &queries, &views, |query, key| self.sees(query, key)).into_tensor())
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let geometry = self.sequences.geometry().clone();
        let (heads, value_dim) = (geometry.heads, geometry.value_dim);
        if self.bug == Bug::ReadsNothing && self.sequences.seen(seq)? == 0 {
            return Ok(Rows::new([1, heads, value_dim], vec![0.0; heads * value_dim]).into_tensor());
        }
        let (_, queries) = self.sequences.read_queries(seq, layer, queries)?;
        let views: Vec<View> = match self.bug {
            Bug::ReadSeesStep => (0..geometry.kv_heads).map(|kv_head| self.view(seq, layer, kv_head)).collect::<Result<_, _>>()?,
            _ => self.sequences.state(seq)?[layer].iter().map(|view| self.shown(view.clone())).collect(),
        };
        if self.bug == Bug::ReadEndsStep && self.sequences.is_in_step(seq)? {
            let seen = self.sequences.seen(seq)?;
            self.sequences.truncate(seq, seen)?;
        }
        let is_causal = self.bug == Bug::ReadIsCausal;
        Ok(reference::attend_views(&geometry, 0, &queries, &views, |query, key| !is_causal || key <= query).into_tensor())
    }

    fn reach(&self, context: usize) -> Option<usize> {
        match self.bug {
            Bug::ReachesTooFar => None,
            Bug::ReachesOneTooFar => (WINDOW > context + 1).then_some(context),
            _ => Some(context),
        }
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        if self.bug == Bug::FullAtCommit && self.sequences.seen(seq)? > 25 {
            return Err(CacheError::Full { needed: 1, free: 0 });
        }
        let (key_dim, value_dim) = self.dims();
        let (bug, window) = (self.bug, self.window());
        let Geometry { heads, kv_heads, .. } = *self.sequences.geometry();
        let (step, layers) = self.sequences.commit(seq)?;
        let mut committed = vec![];
        for (layer, (views, fresh)) in layers.iter_mut().zip(step.layers.iter().flatten()).enumerate() {
            for (kv_head, view) in views.iter_mut().enumerate() {
                let mut added = View::default();
                if !matches!(bug, Bug::AbandonedStepStays | Bug::BaselineForgets) {
                    added.extend(step.run.start, fresh, kv_head);
                }
                match bug {
                    Bug::LossyForgets | Bug::UpperLayersForget | Bug::LossyChunksForget => {
                        added.values.iter_mut().for_each(|value| *value = (*value * 64.0).round() / 64.0)
                    }
                    Bug::SealsWronglyLate => {
                        if let Some(row) = added.positions.iter().position(|position| *position == 999) {
                            added.values[row * value_dim..(row + 1) * value_dim].fill(0.0);
                        }
                    }
                    Bug::QuantiserIdleInDecode if step.run.len() > 1 => {
                        added.values.iter_mut().for_each(|value| *value = (*value * 64.0).round() / 64.0)
                    }
                    Bug::Unseeded => {
                        let nudge = ROUNDINGS.fetch_add(1, Ordering::Relaxed) % 7;
                        added.values.iter_mut().for_each(|value| *value += nudge as f32 * 1e-4);
                    }
                    Bug::BlockBoundary => {
                        for (row, position) in added.positions.iter().enumerate().filter(|(_, position)| *position % 16 == 15) {
                            let _ = position;
                            added.values[row * value_dim..(row + 1) * value_dim].fill(0.0);
                        }
                    }
                    _ => {}
                }
                add(&mut view.positions, &added.positions);
                add(&mut view.keys, &added.keys);
                add(&mut view.values, &added.values);
                if bug == Bug::LossyForgets || bug == Bug::UpperLayersForget && layer > 0 {
                    view.retain(key_dim, value_dim, |position| position + 288 >= step.run.end);
                }
                if bug != Bug::WindowNeverTrims {
                    view.retain(key_dim, value_dim, |position| position.saturating_add(window) >= step.run.end);
                }
                committed.push(added);
            }
        }
        if bug == Bug::RowPerQueryHead {
            let rows = committed.iter().flat_map(|added| added.keys.iter().chain(&added.values));
            let copied: Vec<f32> = rows.copied().collect();
            (1..heads / kv_heads).for_each(|_| self.copies.extend(&copied));
        }
        // Few, so that what starting a thread allocates on this one stays within what is allowed.
        if bug == Bug::BytesOfAnotherThread && step.run.start == 0 {
            let rows: Vec<f32> = committed.iter().flat_map(|added| &added.values).copied().collect();
            let copy = std::thread::scope(|scope| scope.spawn(|| rows.clone()).join());
            self.hidden.push(copy.unwrap());
        }
        if bug == Bug::Leaks {
            std::mem::forget(vec![0u8; 2048]);
        }
        if bug == Bug::MapsBesideTheHeap && step.run.start == 0 {
            let mut mapped = MmapMut::map_anon(2 << 20).unwrap();
            mapped.fill(1);
            self.mapped.push(mapped);
        }
        if bug == Bug::SharedPrefixWritten {
            let others: Vec<SeqId> = self.forks.iter().filter(|(parent, _)| *parent == seq).map(|(_, fork)| *fork).collect();
            for other in others {
                let Ok(layers) = self.sequences.state_mut(other) else { continue };
                for (view, added) in layers.iter_mut().flatten().zip(&committed) {
                    for (row, position) in added.positions.iter().enumerate() {
                        if let Some(theirs) = view.positions.iter().position(|held| held == position) {
                            let (ours, theirs) = (row * value_dim, theirs * value_dim);
                            view.values[theirs..theirs + value_dim].copy_from_slice(&added.values[ours..ours + value_dim]);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let layers = self.sequences.state(seq)?.clone();
        if self.bug == Bug::FullForForks {
            return Err(CacheError::Full { needed: 1, free: 0 });
        }
        let seen = self.sequences.seen(seq)?;
        let fork = self.sequences.open(seen, layers);
        self.forks.push((seq, fork));
        Ok(fork)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.sequences.check_truncate(seq, len)?;
        if self.window() != usize::MAX {
            let reason = "tokens were evicted".into();
            return Err(CacheError::Unsupported { strategy: Broken::ID, operation: "truncate", reason });
        }
        let (key_dim, value_dim) = self.dims();
        let bug = self.bug;
        let layers = self.sequences.truncate(seq, len)?;
        if bug != Bug::RollbackResurrects {
            layers.iter_mut().flatten().for_each(|view| view.retain(key_dim, value_dim, |position| position < len));
        }
        Ok(())
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        Ok(self.shown(self.all(seq, layer, kv_head)?))
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage {
            payload_bytes: self.copies.len() * size_of::<f32>(),
            slack_bytes: (self.copies.capacity() - self.copies.len()) * size_of::<f32>(),
            ..Usage::default()
        };
        for (layers, seen) in self.sequences.iter() {
            let resident = layers[0][0].positions.len();
            usage.resident_tokens += resident;
            usage.seen_tokens += if self.bug == Bug::SeenIsResident { resident } else { seen };
            usage.metadata_bytes += layers.capacity() * size_of::<Vec<View>>();
            for views in layers {
                usage.metadata_bytes += views.capacity() * size_of::<View>();
                for View { positions, keys, values } in views {
                    usage.payload_bytes += (keys.len() + values.len()) * size_of::<f32>();
                    usage.slack_bytes += (keys.capacity() - keys.len() + values.capacity() - values.len()) * size_of::<f32>();
                    usage.metadata_bytes += positions.capacity() * size_of::<usize>();
                }
            }
        }
        match self.bug {
            Bug::BytesThirtyTwoFold => usage.payload_bytes *= 32,
            Bug::ReportsHalf => usage.payload_bytes /= 2,
            Bug::ForksForFree if !self.forks.is_empty() => usage.payload_bytes = usage.payload_bytes * 2 / 3,
            _ => {}
        }
        usage
    }

    fn guarantee(&self) -> Guarantee {
        match self.bug {
            Bug::QuantiserIdleInDecode | Bug::Unseeded | Bug::LossyForgets | Bug::UpperLayersForget | Bug::LossyChunksForget => {
                Guarantee::Lossy(ErrorBound::of_rows(0.01, 0.01))
            }
            _ if self.window() != usize::MAX => Guarantee::Evicts(None),
            _ => Guarantee::Exact,
        }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if self.bug == Bug::WarmAcrossCells
            && let Some((layers, _)) = self.sequences.iter().last()
        {
            *LEFT_BEHIND.lock().unwrap() = Some(layers.clone());
        }
    }
}
