//! The tensors of a folder's safetensors files.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::hugging_face::family::Family;
use crate::hugging_face::files;
use crate::hugging_face::hyperparameters::Checkpoint;
use crate::{LoadError, TensorSource};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The tensors of a checkpoint, each from the one file that holds it.
pub(super) struct Source<'a> {
    checkpoint: &'a Checkpoint,
    tensors: BTreeMap<String, TensorView<'a>>,
    /// Tensors that the index leaves out of the files it names, and their file.
    unnamed: Vec<(String, TensorView<'a>, String)>,
    read: BTreeSet<String>,
}

impl<'a> Source<'a> {
    /// Finds every tensor: those that the index names, or else all.
    pub(super) fn new(checkpoint: &'a Checkpoint, shards: &'a [(String, Vec<u8>)], index: Option<&str>) -> Result<Source<'a>, LoadError> {
        let mut shards_by_name = BTreeMap::new();
        for (name, bytes) in shards {
            let shard = SafeTensors::deserialize(bytes)
                .map_err(|error| LoadError::File { format: "safetensors", reason: format!("`{name}`: {error}") })?;
            shards_by_name.insert(name.as_str(), shard);
        }
        let (tensors, unnamed) = match index {
            Some(index) => {
                let index = files::parse(index)?;
                (named(&index, &shards_by_name)?, unnamed(&index, &shards_by_name))
            }
            None => (all(&shards_by_name)?, vec![]),
        };
        Ok(Source { checkpoint, tensors, unnamed, read: BTreeSet::new() })
    }

    /// Refuses tensors of the model that the index leaves out of the files it names: transformers reads the whole of
    /// those files, and others only what is named.
    pub(super) fn check_unnamed(&self) -> Result<(), LoadError> {
        for (name, view, file) in &self.unnamed {
            let embedding = self.tensors.get(EMBEDDING);
            let is_other_head = name == HEAD && embedding.is_none_or(|embedding| differ(view, embedding));
            if is_other_head || self.concerns(name) {
                return Err(LoadError::tensor(name, format!("is in `{file}`, and the index does not name it")));
            }
        }
        Ok(())
    }

    /// Refuses tensors that were not read although they belong to the layers in use: a network that has them is
    /// another one. Other programs' tensors beside the decoder's are no concern of it.
    pub(super) fn check_unread(&self) -> Result<(), LoadError> {
        let Some(name) = self.tensors.keys().find(|name| !self.read.contains(*name) && self.concerns(name)) else { return Ok(()) };
        let unless = match self.checkpoint.family {
            Family::Llama | Family::Qwen3 if name.ends_with(".bias") && name.contains(".self_attn.") => " unless `attention_bias` is true",
            Family::Llama if name.ends_with(".bias") && name.contains(".mlp.") => " unless `mlp_bias` is true",
            _ => "",
        };
        Err(LoadError::tensor(name, format!("is stored, and a {} has no such tensor{unless}", self.checkpoint.family.name())))
    }

    fn concerns(&self, name: &str) -> bool {
        // Older checkpoints store the rotation's frequencies, which follow from the config.
        if name.ends_with("rotary_emb.inv_freq") || (name == HEAD && self.checkpoint.tied) {
            return false;
        }
        match name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((layer, _)) => layer.parse().is_ok_and(|layer: usize| layer < self.checkpoint.config.geometry.layers),
            None => ["model.embed_tokens.", "model.norm.", "lm_head."].iter().any(|part| name.starts_with(part)),
        }
    }

    /// Whether the head is stored with other values than the embedding it is tied to. transformers 5 then uses it
    /// (`tie_weights` in modeling_utils.py); earlier releases did not.
    fn has_head_of_its_own(&self) -> bool {
        match (self.tensors.get(HEAD), self.tensors.get(EMBEDDING)) {
            (Some(head), Some(embedding)) => differ(head, embedding),
            _ => false,
        }
    }
}

fn differ(a: &TensorView<'_>, b: &TensorView<'_>) -> bool {
    let stored = |view: &TensorView<'_>| (view.dtype(), view.shape().to_vec());
    stored(a) != stored(b) || a.data() != b.data()
}

impl TensorSource for Source<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        // Of tied tensors either may be the stored one.
        let stored = if name == EMBEDDING && self.checkpoint.tied && !self.tensors.contains_key(name) { HEAD } else { name };
        let tensor = self.tensors.get(stored).ok_or_else(|| {
            let why = if name == HEAD { ", and `tie_word_embeddings` is not true" } else { "" };
            LoadError::tensor(name, format!("is in none of the safetensors files{why}"))
        })?;
        self.read.insert(stored.to_owned());
        if tensor.shape() != shape {
            return Err(LoadError::tensor(name, format!("has shape {:?}, expected {shape:?}", tensor.shape())));
        }
        let halves = |decode: fn([u8; 2]) -> f32| tensor.data().as_chunks::<2>().0.iter().map(|bytes| decode(*bytes)).collect();
        match tensor.dtype() {
            Dtype::F32 => Ok(tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            Dtype::F16 => Ok(halves(|bytes| half::f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Ok(halves(|bytes| half::bf16::from_le_bytes(bytes).to_f32())),
            other => Err(LoadError::tensor(name, format!("has type {other:?}; supported: F32, F16, BF16"))),
        }
    }

    fn has(&self, name: &str) -> bool {
        match name.strip_suffix(".bias") {
            Some(projection) => self.checkpoint.biased.iter().any(|biased| projection.ends_with(biased)),
            None if name.ends_with("_norm.weight") => self.checkpoint.family.norms_heads(),
            None => name != HEAD || !self.checkpoint.tied || self.has_head_of_its_own(),
        }
    }
}

fn named<'a>(index: &files::Index, shards: &BTreeMap<&str, SafeTensors<'a>>) -> Result<BTreeMap<String, TensorView<'a>>, LoadError> {
    let mut tensors = BTreeMap::new();
    for (name, file) in index {
        let shard = shards.get(file.as_str()).ok_or_else(|| LoadError::files(format!("`{file}`, which the index names, is missing")))?;
        let view = shard.tensor(name).map_err(|_| LoadError::tensor(name, format!("is not in `{file}`, where the index puts it")))?;
        tensors.insert(name.clone(), view);
    }
    Ok(tensors)
}

fn unnamed<'a>(index: &files::Index, shards: &BTreeMap<&str, SafeTensors<'a>>) -> Vec<(String, TensorView<'a>, String)> {
    let mut unnamed = vec![];
    for (file, shard) in shards {
        let rest = shard.iter().filter(|(name, _)| !index.contains_key(*name));
        unnamed.extend(rest.map(|(name, view)| (name.to_owned(), view, (*file).to_owned())));
    }
    unnamed
}

fn all<'a>(shards: &BTreeMap<&str, SafeTensors<'a>>) -> Result<BTreeMap<String, TensorView<'a>>, LoadError> {
    let mut tensors = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (file, shard) in shards {
        for (name, view) in shard.tensors() {
            if let Some(other) = files.insert(name.clone(), *file) {
                return Err(LoadError::tensor(name, format!("is in two files, `{other}` and `{file}`")));
            }
            tensors.insert(name, view);
        }
    }
    Ok(tensors)
}
