//! Planted retrieval: rows in which every query looks for a token whose place, score and answer are known.

mod head;
mod retrieval;

use std::ops::Range;

use kv_core::{CacheError, Geometry, GeometryError, KvCache, Rows, SeqId};
use kv_script::{Attention, RowSource, step_watched};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::evaluate::newest;
use head::Head;
pub use retrieval::{Accuracy, PlacedAccuracy, Retrieval};

/// The most that a start needle's channels are turned over the text, in radians.
pub const SLOW_TURN: f64 = 0.25;

/// The most words of the codebook. There are fewer where values have fewer than 4 channels.
const WORDS: usize = 16;
/// How far all tokens that are neither needle nor decoy stay below a needle's score, on top of the logarithm of their number.
const BACKGROUND_GAP: f64 = 4.0;

/// What is planted.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantedPlan {
    /// Tokens before the first question.
    pub tokens: usize,
    /// First positions that are a place of their own; 0 for none.
    pub start: usize,
    /// Ranges of equal length between the first and the newest positions.
    pub depths: usize,
    /// Newest positions before the first question that are a place of their own; 0 for none. Questions are asked in steps
    /// ([`PlantedRetrieval::steps`]), so a window that keeps them to the last is larger by that many.
    pub recent: usize,
    /// Logits by which a needle's score exceeds the score at which all its decoys together had as much weight as itself.
    pub margins: Vec<f64>,
    /// Needles of each KV head, at most. There are no more than a key has values, than half of the tokens allow with their
    /// decoys, and than fit in the places.
    pub needles: usize,
    /// Decoys of each needle.
    pub decoys: usize,
    /// Everything is drawn from it.
    pub seed: u64,
}

/// Where a needle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Among the first positions.
    Start,
    /// In this range of depths, counted from 0 at the beginning of the text.
    Depth(usize),
    /// Among the newest positions.
    Recent,
}

/// A plan that cannot be planted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlantedError {
    /// There are too few tokens.
    #[error("{tokens} tokens are too few for this plan: it needs at least {needed}")]
    Tokens {
        /// Tokens before the first question.
        tokens: usize,
        /// The fewest.
        needed: usize,
    },
    /// A margin is out of range.
    #[error("a margin of {margin} logits is out of range: from {least} to {most} an exact cache finds every needle")]
    Margin {
        /// The margin.
        margin: f64,
        /// The least.
        least: f64,
        /// The most.
        most: f64,
    },
    /// A count is 0.
    #[error("`{name}` is 0")]
    Zero {
        /// The count.
        name: &'static str,
    },
    /// The geometry is invalid.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

/// A source of rows in which every query looks for a token whose place, score and answer are known, and the judge of the answers.
///
/// - Every **key** is a vector of norm `√key_dim` or less. Each KV head has some *needles*, tokens whose keys are orthogonal to
///   each other. Keys are made as they are appended, rotated: scores are exactly as planned whatever the model's rotation is.
/// - A **query** points at a needle and gives it a score of `S = 16·√max(key_dim, 64)` logits.
/// - Each needle has *decoys*, tokens whose keys have a score of `S − ln(decoys) − margin` with its query. Next to the needle
///   they draw at most `e^−margin` of its weight together. All other tokens together draw at most `e^−4` of it. With an exact
///   cache the needle therefore has more than half of the attention.
/// - **Values** are words of a small codebook of signs. Needle and decoys have different ones. The answer is the word next to the
///   attention's output, which with an exact cache is the needle's, always.
///
/// `S` is large so that an error of the keys by a share ε moves a score by about `16·ε`: formats of 2 to 8 bits are told apart at
/// margins from 2 to 16. Keys have no outlier channels, which favor formats with one scale per channel.
///
/// Needles are spread over ranges of depth, over the newest tokens before the first question (*recent*: what was said last), and
/// over the first tokens (*start*: what sinks keep). The keys of the start needles lie in channels that the model's rotation turns
/// by at most [`SLOW_TURN`] over the whole text, if it has enough of them, so that a cache that moves its sinks still finds them.
/// Without such channels, moved sinks are not found.
#[derive(Debug, Clone)]
pub struct PlantedRetrieval {
    geometry: Geometry,
    plan: PlantedPlan,
    places: Vec<(Place, Range<usize>)>,
    /// `[layers][kv_heads]`
    heads: Vec<Vec<Head>>,
    /// Words of `value_dim` signs.
    codebook: Vec<Vec<f32>>,
    sharpness: f64,
    random: ChaCha8Rng,
}

/// What is drawn. The numbers are part of the rows' definition.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Codebook = 1,
    Layout = 2,
    Keys = 3,
    Values = 4,
}

impl PlantedPlan {
    /// The usual plan: 4 start positions, 8 ranges of depth, 16 recent positions, margins of 2, 4, 8 and 16, up to 32 needles of
    /// 7 decoys.
    pub fn new(tokens: usize, seed: u64) -> PlantedPlan {
        PlantedPlan { tokens, start: 4, depths: 8, recent: 16, margins: vec![2.0, 4.0, 8.0, 16.0], needles: 32, decoys: 7, seed }
    }

    fn places(&self) -> Vec<(Place, Range<usize>)> {
        let between = self.tokens.saturating_sub(self.start).saturating_sub(self.recent);
        let bound = |depth: usize| self.start + between * depth / self.depths;
        let mut places = vec![];
        places.extend((self.start > 0).then_some((Place::Start, 0..self.start)));
        places.extend((0..self.depths).map(|depth| (Place::Depth(depth), bound(depth)..bound(depth + 1))));
        places.extend((self.recent > 0).then_some((Place::Recent, self.tokens.saturating_sub(self.recent)..self.tokens)));
        places
    }

    fn check(&self, sharpness: f64) -> Result<(), PlantedError> {
        let counts = [("depths", self.depths), ("needles", self.needles), ("decoys", self.decoys), ("margins", self.margins.len())];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(PlantedError::Zero { name });
        }
        // Half of the tokens are neither needle nor decoy, and every place has a position.
        let special = self.decoys.saturating_add(1).saturating_mul(2);
        let placed = self.start.saturating_add(self.depths).saturating_add(self.recent);
        let needed = special.max(placed);
        if self.tokens < needed {
            return Err(PlantedError::Tokens { tokens: self.tokens, needed });
        }
        let (least, most) = (0.5, sharpness / 4.0);
        match self.margins.iter().find(|margin| !(least..=most).contains(*margin)) {
            Some(&margin) => Err(PlantedError::Margin { margin, least, most }),
            None => Ok(()),
        }
    }
}

impl PlantedRetrieval {
    /// Plants needles in rows of this shape.
    ///
    /// # Errors
    /// [`PlantedError`].
    pub fn new(geometry: &Geometry, plan: PlantedPlan) -> Result<PlantedRetrieval, PlantedError> {
        geometry.check()?;
        let sharpness = 16.0 * (geometry.key_dim.max(64) as f64).sqrt();
        plan.check(sharpness)?;
        let random = ChaCha8Rng::seed_from_u64(plan.seed);
        let mut planted = PlantedRetrieval {
            geometry: geometry.clone(),
            places: plan.places(),
            heads: vec![],
            codebook: vec![],
            plan,
            sharpness,
            random,
        };
        planted.codebook = planted.draw_codebook();
        let (layers, kv_heads) = (geometry.layers, geometry.kv_heads);
        let head =
            |layer: usize, kv_head: usize| Head::draw(&planted, layer * kv_heads + kv_head, planted.draw(Kind::Layout, layer, kv_head, 0));
        planted.heads = (0..layers).map(|layer| (0..kv_heads).map(|kv_head| head(layer, kv_head)).collect()).collect();
        Ok(planted)
    }

    /// Tokens before the first question.
    pub fn tokens(&self) -> usize {
        self.plan.tokens
    }

    /// Steps in which every needle is asked for once, each query head asking for one in each step. They are at the positions
    /// from [`tokens`](PlantedRetrieval::tokens) on.
    pub fn steps(&self) -> usize {
        self.needles().div_ceil(self.group())
    }

    /// Whether a cache that moves its first rows can still find the needles in them: the model's rotation has enough slow channels
    /// for a text of this length. Without them, moved sinks are not found, whoever moves them.
    pub fn finds_moved_starts(&self) -> bool {
        let starts = self.needles().div_ceil(self.places.len());
        self.plan.start > 0 && head::slow_channels(&self.geometry.rope, self.geometry.key_dim, self.plan.tokens).len() > starts
    }

    /// The accuracy of an answer that is a word at random.
    pub fn chance(&self) -> f64 {
        1.0 / self.codebook.len() as f64
    }

    /// Asks a sequence that holds the first [`tokens`](PlantedRetrieval::tokens) positions of this source for every needle, in
    /// [`steps`](PlantedRetrieval::steps) steps of one token. The sequence is longer afterwards.
    ///
    /// # Errors
    /// The cache's; [`CacheError::Misplaced`] if the sequence holds another number of tokens.
    pub fn ask(&mut self, cache: &mut dyn KvCache, seq: SeqId) -> Result<Retrieval, CacheError> {
        let mut retrieval = self.no_answers();
        for step in 0..self.steps() {
            let position = self.plan.tokens + step;
            let mut outputs = vec![];
            step_watched(cache, self, &[(seq, position..position + 1)], Attention::Run, |_, layer, of| outputs.push((layer, newest(&of))))?;
            outputs.iter().for_each(|(layer, outputs)| self.score(step, *layer, outputs, &mut retrieval));
        }
        Ok(retrieval)
    }

    /// The score of no answers, to add to.
    pub fn no_answers(&self) -> Retrieval {
        Retrieval::new(self.places.iter().map(|(place, _)| *place), &self.plan.margins)
    }

    /// Adds the answers of one layer in one step.
    ///
    /// # Shapes
    /// - outputs: `[1, heads, value_dim]`, those of the token at position `tokens + step`
    ///
    /// # Panics
    /// If there is no such layer, or the shape differs.
    pub fn score(&self, step: usize, layer: usize, outputs: &Rows, retrieval: &mut Retrieval) {
        for head in 0..self.geometry.heads {
            let asked = step * self.group() + head % self.group();
            // In the last step some heads may have nothing left to ask for.
            if let Some(needle) = self.head_of(layer, head).needles().get(asked) {
                let answer = self.nearest_word(outputs.row(0, head));
                retrieval.add(needle.place, needle.margin, answer == Some(needle.word));
            }
        }
    }

    fn needles(&self) -> usize {
        let PlantedPlan { tokens, needles, decoys, .. } = self.plan;
        let smallest = self.places.iter().map(|(_, positions)| positions.len()).min().unwrap_or(0);
        let most = [self.geometry.key_dim, tokens / (2 * (1 + decoys)), self.places.len() * smallest];
        most.into_iter().fold(needles, usize::min)
    }

    fn group(&self) -> usize {
        self.geometry.heads / self.geometry.kv_heads
    }

    /// What a query head asks.
    fn head_of(&self, layer: usize, head: usize) -> &Head {
        &self.heads[layer][head / self.group()]
    }

    /// The word whose signs are most like an output's. `None` for an output of zeros, or one that is not finite.
    fn nearest_word(&self, output: &[f32]) -> Option<usize> {
        if output.iter().any(|value| !value.is_finite()) || output.iter().all(|value| *value == 0.0) {
            return None;
        }
        let product = |word: &Vec<f32>| word.iter().zip(output).map(|(sign, value)| f64::from(sign * value)).sum::<f64>();
        let products: Vec<f64> = self.codebook.iter().map(product).collect();
        // All words have the same norm, so the nearest has the largest product.
        (0..products.len()).max_by(|a, b| products[*a].total_cmp(&products[*b]))
    }

    /// Different words: the first channels count them, the others are random.
    fn draw_codebook(&self) -> Vec<Vec<f32>> {
        let value_dim = self.geometry.value_dim;
        let words = WORDS.min(1 << value_dim.min(WORDS.ilog2() as usize));
        let mut random = self.draw(Kind::Codebook, 0, 0, 0);
        let bits = words.ilog2() as usize;
        let mut sign = |word: usize, channel: usize| {
            let is_set = if channel < bits { (word >> channel) & 1 == 1 } else { random.random() };
            if is_set { 1.0 } else { -1.0 }
        };
        (0..words).map(|word| (0..value_dim).map(|channel| sign(word, channel)).collect()).collect()
    }

    /// Random numbers of their own for each of these.
    fn draw(&self, kind: Kind, layer: usize, head: usize, position: usize) -> ChaCha8Rng {
        let mut random = self.random.clone();
        random.set_stream((kind as u64) << 60 | (layer as u64) << 46 | (head as u64) << 32 | position as u64);
        random
    }

    /// The largest cosine between a needle's key and one that is neither itself nor its decoy.
    fn background_cosine(&self) -> f64 {
        let positions = (self.plan.tokens + self.steps()) as f64;
        1.0 - (positions.ln() + BACKGROUND_GAP) / self.sharpness
    }

    /// The cosine between a needle's key and its decoys'.
    fn decoy_cosine(&self, margin: f64) -> f64 {
        1.0 - ((self.plan.decoys as f64).ln() + margin) / self.sharpness
    }
}

impl RowSource for PlantedRetrieval {
    type Error = CacheError;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        let Geometry { kv_heads, key_dim, .. } = self.geometry;
        let this = &*self;
        Ok(rows(positions, kv_heads, key_dim, |position, kv_head, key| {
            let mut random = this.draw(Kind::Keys, layer, kv_head, position);
            this.heads[layer][kv_head].key(this, position, &mut random, key);
        }))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        let Geometry { kv_heads, value_dim, .. } = self.geometry;
        let this = &*self;
        Ok(rows(positions, kv_heads, value_dim, |position, kv_head, value| {
            let planted = this.heads[layer][kv_head].word(position);
            let word = planted.unwrap_or_else(|| this.draw(Kind::Values, layer, kv_head, position).random_range(0..this.codebook.len()));
            value.copy_from_slice(&this.codebook[word]);
        }))
    }

    /// Before the first question, queries ask for needles in turn, and nobody judges the answers.
    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        let Geometry { heads, key_dim, .. } = self.geometry;
        let this = &*self;
        Ok(rows(positions, heads, key_dim, |position, head, query| {
            let step = (position + this.steps() - this.plan.tokens % this.steps()) % this.steps();
            let asked = (step * this.group() + head % this.group()) % this.needles();
            let direction = this.head_of(layer, head).direction(asked);
            query.iter_mut().zip(direction).for_each(|(query, part)| *query = (this.sharpness * f64::from(*part)) as f32);
        }))
    }
}

/// Rows of some heads. `fill` makes that of a position and a head.
fn rows(positions: Range<usize>, heads: usize, dim: usize, fill: impl Fn(usize, usize, &mut [f32]) + Sync) -> Rows {
    let mut values = vec![0.0; positions.len() * heads * dim];
    let rows = values.par_chunks_exact_mut(dim).enumerate();
    rows.for_each(|(row, values)| fill(positions.start + row / heads, row % heads, values));
    Rows::new([positions.len(), heads, dim], values)
}

#[cfg(test)]
mod tests;
