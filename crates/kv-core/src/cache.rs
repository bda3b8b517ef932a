//! The cache trait.

use std::fmt;
use std::ops::Range;

use crate::{CacheError, Fresh, Guarantee, Tensor, Usage};

/// The id of an open sequence of one cache. Ids are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub(crate) u64);

impl fmt::Display for SeqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sequence {}", self.0)
    }
}

/// The decoded rows that the newest token's query sees in one KV head of one layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// The position at which each token was appended, in the order of the rows.
    pub positions: Vec<usize>,
    /// `[tokens, key_dim]`, rotated as the newest query sees them.
    pub keys: Vec<f32>,
    /// `[tokens, value_dim]`
    pub values: Vec<f32>,
}

impl View {
    /// Drops the rows at positions for which `keeps` is false.
    pub fn retain(&mut self, key_dim: usize, value_dim: usize, keeps: impl Fn(usize) -> bool) {
        let kept: Vec<usize> = (0..self.positions.len()).filter(|row| keeps(self.positions[*row])).collect();
        if kept.len() == self.positions.len() {
            return;
        }
        for (to, from) in kept.iter().enumerate() {
            self.positions[to] = self.positions[*from];
            self.keys.copy_within(from * key_dim..(from + 1) * key_dim, to * key_dim);
            self.values.copy_within(from * value_dim..(from + 1) * value_dim, to * value_dim);
        }
        self.positions.truncate(kept.len());
        self.keys.truncate(kept.len() * key_dim);
        self.values.truncate(kept.len() * value_dim);
    }

    /// Adds one KV head's rows of a step. The first row is at position `first`.
    pub fn extend(&mut self, first: usize, fresh: &Fresh, kv_head: usize) {
        let [tokens, ..] = fresh.keys.dims();
        for token in 0..tokens {
            self.positions.push(first + token);
            self.keys.extend(fresh.keys.row(token, kv_head));
            self.values.extend(fresh.values.row(token, kv_head));
        }
    }
}

/// The keys and values of all layers and all sequences of one model.
///
/// A step of a sequence is `begin`, then `append` and `attend` for each layer in order, then `commit`.
/// Steps of different sequences may interleave. Until `commit`, a layer sees every token of the step. Calling
/// `begin` again abandons the step in progress, which leaves no trace. Every error leaves the cache as it was.
///
/// Keys are already rotated to their absolute positions. Shapes are `[tokens, heads, dim]`.
pub trait KvCache: fmt::Debug + Send {
    /// Opens an empty sequence.
    ///
    /// # Errors
    /// [`CacheError::Full`] if the strategy reserves memory up front and has none left.
    fn open(&mut self) -> Result<SeqId, CacheError>;

    /// Closes a sequence and frees the rows that it alone holds.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    fn close(&mut self, seq: SeqId) -> Result<(), CacheError>;

    /// The number of tokens committed so far, which is also the position of the next token.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    fn seen(&self, seq: SeqId) -> Result<usize, CacheError>;

    /// Starts a step that adds the tokens at positions `fresh`. Returns the positions that the model must run:
    /// `fresh`, or more if the strategy does not hold the earlier ones. Capacity is checked here.
    ///
    /// # Errors
    /// [`CacheError::Full`], [`CacheError::Misplaced`], [`CacheError::Closed`].
    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError>;

    /// Takes one layer's rows for the positions that `begin` returned.
    ///
    /// # Shapes
    /// - keys: `[tokens, kv_heads, key_dim]`
    /// - values: `[tokens, kv_heads, value_dim]`
    ///
    /// # Errors
    /// [`CacheError::NoStep`], [`CacheError::LayerOrder`], [`CacheError::Shape`], [`CacheError::Closed`].
    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError>;

    /// Attention of the step's queries over the rows of the layer, including those of this step.
    ///
    /// # Shapes
    /// - queries: `[tokens, heads, key_dim]`, at the positions that `begin` returned
    /// - returns: `[tokens, heads, value_dim]`
    ///
    /// # Errors
    /// [`CacheError::Empty`] before the layer's `append`, [`CacheError::Shape`], [`CacheError::Closed`].
    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError>;

    /// Attention of queries over all committed rows of the layer, without a fresh row and without a causal mask: every
    /// query sees every row that `view` shows between steps. The decoder of an encoder–decoder model reads the encoder's
    /// rows so (cross-attention). Queries are taken as they are: a model that rotates its keys rotates them too.
    ///
    /// It needs no step. The rows of a step in progress are not seen, and the step goes on as if nothing had been read.
    /// The default is [`CacheError::Unsupported`].
    ///
    /// # Shapes
    /// - queries: `[tokens, heads, key_dim]`, of any number of tokens
    /// - returns: `[tokens, heads, value_dim]`
    ///
    /// # Errors
    /// [`CacheError::Unsupported`], [`CacheError::Empty`] before the first `commit`, [`CacheError::Shape`],
    /// [`CacheError::Closed`].
    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let _ = (layer, queries);
        self.seen(seq)?;
        Err(unsupported::<Self>("read"))
    }

    /// Ends the step. Eviction, sealing and quantization happen here and nowhere else.
    ///
    /// # Errors
    /// [`CacheError::NoStep`], [`CacheError::LayerOrder`] if layers are missing, [`CacheError::Closed`].
    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError>;

    /// Signals that the prompt is complete, for strategies that compress it once. Called between steps.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.seen(seq).map(|_| ())
    }

    /// Opens a sequence that starts with the committed tokens of another.
    ///
    /// # Errors
    /// [`CacheError::Unsupported`], [`CacheError::Full`], [`CacheError::Closed`].
    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        self.seen(seq)?;
        Err(unsupported::<Self>("fork"))
    }

    /// Truncates a sequence to its first `len` tokens and abandons a step in progress.
    ///
    /// # Errors
    /// [`CacheError::Unsupported`], [`CacheError::TruncateBeyondEnd`], [`CacheError::Closed`].
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        let _ = len;
        self.seen(seq)?;
        Err(unsupported::<Self>("truncate"))
    }

    /// The reference: the rows of one KV head that the newest token's query sees, including those of a step in
    /// progress. `attend` of a one-token step equals dense attention over these rows.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError>;

    /// Memory and tokens, over all sequences and pools.
    fn usage(&self) -> Usage;

    /// The least bytes that one sequence of `tokens` tokens takes, memory reserved ahead included. A caller compares it
    /// with the machine's memory before it opens a sequence. The default is 0: the strategy does not say.
    fn least_bytes(&self, tokens: usize) -> usize {
        let _ = tokens;
        0
    }

    /// The guarantee of this instance.
    fn guarantee(&self) -> Guarantee;

    /// How many positions a sequence may have in a model whose context is `context` tokens. `None` is any number.
    ///
    /// A model was trained on distances below `context` between a query and a key. A cache that keeps every row shows it
    /// longer ones in a longer sequence, so the default is the context. A cache answers `None` if no query of it is ever
    /// `context` or more positions away from a key, however long the sequence is: a window without sinks, or with sinks that
    /// move along, as long as the two together are no longer than the context.
    fn reach(&self, context: usize) -> Option<usize> {
        Some(context)
    }

    /// Whether `begin` always returns `0..fresh.end`. If so, a driver should not feed a prompt in chunks, because
    /// each chunk would rerun all tokens before it.
    fn recomputes(&self) -> bool {
        false
    }
}

fn unsupported<C: ?Sized>(operation: &'static str) -> CacheError {
    let reason = "the strategy does not implement it".into();
    CacheError::Unsupported { strategy: std::any::type_name::<C>(), operation, reason }
}
