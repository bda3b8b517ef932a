//! The tensors of a folder's safetensors files.

use std::collections::{BTreeMap, BTreeSet};

use kv_kernels::WeightFormat;

use crate::hugging_face::family::Family;
use crate::hugging_face::files;
use crate::hugging_face::hyperparameters::Checkpoint;
use crate::hugging_face::shards::{Shards, StoredTensor};
use crate::{LoadError, TensorSource};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The tensors of a checkpoint, each from the one file that holds it.
pub(super) struct Source<'a> {
    checkpoint: &'a Checkpoint,
    shards: Shards<'a>,
    tensors: BTreeMap<String, StoredTensor>,
    /// Tensors that the index leaves out of the files it names, and their file.
    unnamed: Vec<(String, StoredTensor, String)>,
    /// Whether the head is stored with other values than the embedding it is tied to. transformers 5 then uses it
    /// (`tie_weights` in modeling_utils.py); earlier releases did not.
    has_head_of_its_own: bool,
    read: BTreeSet<String>,
}

/// The tensors of each file, by the file's name.
type ByFile = BTreeMap<String, Vec<(String, StoredTensor)>>;

impl<'a> Source<'a> {
    /// Finds every tensor: those that the index names, or else all.
    pub(super) fn new(checkpoint: &'a Checkpoint, mut shards: Shards<'a>, index: Option<&str>) -> Result<Source<'a>, LoadError> {
        let stored = shards.tensors()?;
        let by_file: ByFile = shards.names().map(str::to_owned).zip(stored).collect();
        let (tensors, unnamed) = match index {
            Some(index) => {
                let index = files::parse(index)?;
                (named(&index, &by_file)?, unnamed(&index, &by_file))
            }
            None => (all(&by_file)?, vec![]),
        };
        let has_head_of_its_own = match (tensors.get(HEAD), tensors.get(EMBEDDING)) {
            (Some(head), Some(embedding)) if checkpoint.tied => shards.differ([(HEAD, head), (EMBEDDING, embedding)])?,
            _ => false,
        };
        Ok(Source { checkpoint, shards, tensors, unnamed, has_head_of_its_own, read: BTreeSet::new() })
    }

    /// Refuses tensors of the model that the index leaves out of the files it names: transformers reads the whole of
    /// those files, and others only what is named.
    pub(super) fn check_unnamed(&mut self) -> Result<(), LoadError> {
        for (name, tensor, file) in &self.unnamed {
            let is_other_head = name == HEAD
                && match self.tensors.get(EMBEDDING) {
                    Some(embedding) => self.shards.differ([(name, tensor), (EMBEDDING, embedding)])?,
                    None => true,
                };
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

    /// Of tied tensors either may be the stored one.
    fn stored_name<'n>(&self, name: &'n str) -> &'n str {
        if name == EMBEDDING && self.checkpoint.tied && !self.tensors.contains_key(name) { HEAD } else { name }
    }

    fn stored(&self, name: &str) -> Result<&StoredTensor, LoadError> {
        self.tensors.get(self.stored_name(name)).ok_or_else(|| {
            let why = if name == HEAD { ", and `tie_word_embeddings` is not true" } else { "" };
            LoadError::tensor(name, format!("is in none of the safetensors files{why}"))
        })
    }
}

impl TensorSource for Source<'_> {
    fn has(&self, name: &str) -> bool {
        match name.strip_suffix(".bias") {
            Some(projection) => self.checkpoint.biased.iter().any(|biased| projection.ends_with(biased)),
            None if name.ends_with("_norm.weight") => self.checkpoint.family.norms_heads(),
            None => name != HEAD || !self.checkpoint.tied || self.has_head_of_its_own,
        }
    }

    fn format(&self, name: &str, shape: &[usize]) -> Result<WeightFormat, LoadError> {
        let tensor = self.stored(name)?;
        if tensor.shape != shape {
            return Err(LoadError::tensor(name, format!("has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        tensor.format(name)
    }

    fn read(&mut self, name: &str, _shape: &[usize], bytes: &mut [u8]) -> Result<(), LoadError> {
        let tensor = self.stored(name)?.clone();
        self.shards.read(name, &tensor, 0, bytes)?;
        self.read.insert(self.stored_name(name).to_owned());
        Ok(())
    }
}

fn named(index: &files::Index, by_file: &ByFile) -> Result<BTreeMap<String, StoredTensor>, LoadError> {
    let mut tensors = BTreeMap::new();
    for (name, file) in index {
        let stored = by_file.get(file).ok_or_else(|| LoadError::files(format!("`{file}`, which the index names, is missing")))?;
        let tensor = stored.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor.clone());
        let tensor = tensor.ok_or_else(|| LoadError::tensor(name, format!("is not in `{file}`, where the index puts it")))?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

fn unnamed(index: &files::Index, by_file: &ByFile) -> Vec<(String, StoredTensor, String)> {
    let mut unnamed = vec![];
    for (file, stored) in by_file {
        let rest = stored.iter().filter(|(name, _)| !index.contains_key(name));
        unnamed.extend(rest.map(|(name, tensor)| (name.clone(), tensor.clone(), file.clone())));
    }
    unnamed
}

fn all(by_file: &ByFile) -> Result<BTreeMap<String, StoredTensor>, LoadError> {
    let mut tensors = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (file, stored) in by_file {
        for (name, tensor) in stored {
            if let Some(other) = files.insert(name, file) {
                return Err(LoadError::tensor(name, format!("is in two files, `{other}` and `{file}`")));
            }
            tensors.insert(name.clone(), tensor.clone());
        }
    }
    Ok(tensors)
}
