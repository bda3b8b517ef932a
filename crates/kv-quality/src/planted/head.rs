//! What is planted in one KV head of one layer.

use std::collections::BTreeMap;
use std::ops::Range;

use kv_core::Rope;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Place, PlantedRetrieval, SLOW_TURN};
use crate::dense::dot;

/// Needles, their decoys, and the directions of their keys.
#[derive(Debug, Clone)]
pub(super) struct Head {
    needles: Vec<Needle>,
    /// Orthonormal, one for each needle: `[needles][key_dim]`.
    directions: Vec<Vec<f32>>,
    planted: BTreeMap<usize, Planted>,
}

/// A token that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needle {
    /// Indices into the plan's places and margins.
    pub(super) place: usize,
    pub(super) margin: usize,
    pub(super) word: usize,
}

/// A position that is not like any other.
#[derive(Debug, Clone, Copy)]
struct Planted {
    needle: usize,
    word: usize,
    is_decoy: bool,
}

impl Head {
    /// `index` counts heads over all layers, so that places and margins go round over all needles of all heads.
    pub(super) fn draw(source: &PlantedRetrieval, index: usize, mut random: ChaCha8Rng) -> Head {
        let (places, margins, words) = (&source.places, source.plan.margins.len(), source.codebook.len());
        let count = source.needles();
        let mut planted = BTreeMap::new();
        let mut needles = vec![];
        for needle in 0..count {
            let turn = index * count + needle;
            let (place, margin) = (turn % places.len(), turn / places.len() % margins);
            let word = random.random_range(0..words);
            let position = free_position(&planted, places[place].1.clone(), &mut random);
            planted.insert(position, Planted { needle, word, is_decoy: false });
            needles.push(Needle { place, margin, word });
        }
        for (needle, Needle { word, .. }) in needles.iter().enumerate() {
            for decoy in 0..source.plan.decoys {
                let word = (word + 1 + decoy % (words - 1)) % words;
                let position = free_position(&planted, source.plan.start..source.plan.tokens, &mut random);
                planted.insert(position, Planted { needle, word, is_decoy: true });
            }
        }
        let directions = directions(source, &needles, &mut random);
        Head { needles, directions, planted }
    }

    pub(super) fn needles(&self) -> &[Needle] {
        &self.needles
    }

    pub(super) fn direction(&self, needle: usize) -> &[f32] {
        &self.directions[needle]
    }

    /// The word at a position, if one was planted there.
    pub(super) fn word(&self, position: usize) -> Option<usize> {
        self.planted.get(&position).map(|planted| planted.word)
    }

    /// Makes the key of a position.
    pub(super) fn key(&self, source: &PlantedRetrieval, position: usize, random: &mut ChaCha8Rng, key: &mut [f32]) {
        match self.planted.get(&position) {
            Some(Planted { needle, is_decoy: false, .. }) => key.copy_from_slice(&self.directions[*needle]),
            Some(Planted { needle, .. }) => self.decoy(source, *needle, random, key),
            None => {
                fill_unit(random, key);
                self.limit(source, None, key);
            }
        }
        let norm = (key.len() as f32).sqrt();
        key.iter_mut().for_each(|value| *value *= norm);
    }

    /// A unit vector at the decoys' angle to a needle's direction.
    fn decoy(&self, source: &PlantedRetrieval, needle: usize, random: &mut ChaCha8Rng, key: &mut [f32]) {
        let direction = &self.directions[needle];
        let cosine = source.decoy_cosine(source.plan.margins[self.needles[needle].margin]);
        fill_unit(random, key);
        add_scaled(key, -dot(key, direction), direction);
        let rest = dot(key, key).sqrt();
        // In one dimension nothing is orthogonal to the needle.
        let scale = if rest > 1e-3 { ((1.0 - cosine * cosine).max(0.0)).sqrt() / rest } else { 0.0 };
        key.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        self.limit(source, Some(needle), key);
        add_scaled(key, cosine - dot(key, direction), direction);
    }

    /// Takes from a key what is too much like a needle, but for one.
    fn limit(&self, source: &PlantedRetrieval, but: Option<usize>, key: &mut [f32]) {
        let most = source.background_cosine();
        for (needle, direction) in self.directions.iter().enumerate().filter(|(needle, _)| Some(*needle) != but) {
            let cosine = dot(key, direction);
            if cosine > most {
                add_scaled(key, most - cosine, &self.directions[needle]);
            }
        }
    }
}

/// A position of a range at random where nothing is planted yet. There is one.
fn free_position(planted: &BTreeMap<usize, Planted>, range: Range<usize>, random: &mut ChaCha8Rng) -> usize {
    let offset = random.random_range(0..range.len());
    let mut positions = (0..range.len()).map(|step| range.start + (offset + step) % range.len());
    positions.find(|position| !planted.contains_key(position)).expect("a place has more positions than are planted in it")
}

/// Random orthonormal directions, those of start needles in slow channels (Gram and Schmidt's process, each step taken twice
/// against rounding).
fn directions(source: &PlantedRetrieval, needles: &[Needle], random: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    let key_dim = source.geometry.key_dim;
    let is_start = |needle: &Needle| source.places[needle.place].0 == Place::Start;
    let starts = needles.iter().filter(|needle| is_start(needle)).count();
    let slow = slow_channels(&source.geometry.rope, key_dim, source.plan.tokens);
    let is_confined = |needle: &Needle| is_start(needle) && slow.len() > starts;
    // The confined ones first: nothing else may use up their channels.
    let mut order: Vec<usize> = (0..needles.len()).collect();
    order.sort_by_key(|needle| !is_confined(&needles[*needle]));
    let mut made: Vec<(usize, Vec<f32>)> = vec![];
    for needle in order {
        let mut direction = vec![0.0; key_dim];
        fill_unit(random, &mut direction);
        if is_confined(&needles[needle]) {
            let confined = slow.iter().map(|channel| (*channel, direction[*channel])).collect::<Vec<_>>();
            direction.fill(0.0);
            confined.into_iter().for_each(|(channel, value)| direction[channel] = value);
        }
        for (_, other) in made.iter().chain(&made) {
            let product = dot(&direction, other);
            add_scaled(&mut direction, -product, other);
            normalize(&mut direction);
        }
        normalize(&mut direction);
        made.push((needle, direction));
    }
    made.sort_by_key(|(needle, _)| *needle);
    made.into_iter().map(|(_, direction)| direction).collect()
}

/// Channels that are turned by at most [`SLOW_TURN`] over so many positions.
pub(super) fn slow_channels(rope: &Rope, key_dim: usize, positions: usize) -> Vec<usize> {
    let planes = rope.inverse_frequencies().len();
    let is_slow = |plane: &usize| rope.inverse_frequencies()[*plane].abs() * positions as f64 <= SLOW_TURN;
    let turned = (0..planes).filter(is_slow).flat_map(|plane| [plane, plane + planes]);
    turned.chain(2 * planes..key_dim).collect()
}

fn fill_unit(random: &mut ChaCha8Rng, values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = random.random_range(-1.0f32..1.0));
    normalize(values);
}

fn normalize(values: &mut [f32]) {
    let norm = dot(values, values).sqrt();
    if norm > 0.0 {
        values.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
    }
}

fn add_scaled(values: &mut [f32], scale: f64, other: &[f32]) {
    values.iter_mut().zip(other).for_each(|(value, other)| *value += (scale * f64::from(*other)) as f32);
}
