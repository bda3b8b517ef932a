//! The files of one snapshot in the Hugging Face cache, and whether they make up a model.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::Problem;
use crate::models::hub_name::is_gguf;
use crate::models::small_file::read_small;

/// Folders within folders are searched to this depth, which repositories of GGUF files do not exceed.
const DEPTH: usize = 4;

/// An index of a model with a hundred thousand tensors has 10 MB.
const MOST_INDEX_BYTES: u64 = 64 << 20;

/// What lies in a snapshot, by names relative to it, with `/` between their parts.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    present: BTreeSet<String>,
    /// Links to files that are not there.
    dangling: BTreeSet<String>,
    index: Option<String>,
}

impl Snapshot {
    /// Lists a snapshot's folder.
    ///
    /// # Errors
    /// A [`Problem`] that names the folder or file that cannot be read.
    pub(super) fn read(folder: &Path) -> Result<Snapshot, Problem> {
        let mut snapshot =
            Snapshot { index: read_small(&folder.join("model.safetensors.index.json"), MOST_INDEX_BYTES)?, ..Default::default() };
        snapshot.list(folder, "", DEPTH)?;
        Ok(snapshot)
    }

    fn list(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), Problem> {
        let unreadable = |error| Problem::new(format!("cannot list `{}`", folder.display())).caused_by(error);
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // The type of the entry itself: a link to a folder is not followed, so that no circle is.
            if entry.file_type().map_err(unreadable)?.is_dir() {
                if depth > 0 {
                    self.list(&entry.path(), &format!("{name}/"), depth - 1)?;
                }
            } else if entry.path().exists() {
                self.present.insert(name);
            } else {
                self.dangling.insert(name);
            }
        }
        Ok(())
    }

    /// The GGUF files, in the folder and below it.
    pub(super) fn gguf_files(&self) -> Vec<&str> {
        self.present.iter().map(String::as_str).filter(|name| is_gguf(name)).collect()
    }

    /// Whether a file is only a link that leads nowhere.
    pub(super) fn is_dangling(&self, name: &str) -> bool {
        self.dangling.contains(name)
    }

    /// Whether all weights are GGUF files.
    pub(super) fn has_only_gguf(&self) -> bool {
        let is_other = |name: &String| name.ends_with(".safetensors");
        self.index.is_none() && !self.gguf_files().is_empty() && !self.present.iter().chain(&self.dangling).any(is_other)
    }

    /// What a model's folder needs and the snapshot does not have, in words; `None` if it has everything that it
    /// says it consists of.
    pub(super) fn lacks(&self) -> Option<String> {
        let is_read = |name: &&String| !name.contains('/') && (name.ends_with(".json") || name.ends_with(".safetensors"));
        if let Some(name) = self.dangling.iter().find(is_read) {
            return Some(format!("`{name}` is a link to a file that does not exist"));
        }
        if !self.present.contains("config.json") {
            return Some("config.json is missing".into());
        }
        let missing: Vec<String> = self.named_by_index().into_iter().filter(|name| !self.present.contains(name)).collect();
        if let Some(first) = missing.first() {
            return Some(format!(
                "{} of the files that `model.safetensors.index.json` names are missing, the first is `{first}`",
                missing.len()
            ));
        }
        let has_weights = self.present.iter().any(|name| !name.contains('/') && name.ends_with(".safetensors"));
        (!has_weights).then(|| match self.present.iter().find(|name| name.ends_with(".bin")) {
            Some(other) => format!("it has no .safetensors file; `{other}` is in a format that is not read"),
            None => "it has no .safetensors file".into(),
        })
    }

    /// The files that the index names. What is wrong with an index is said when the model is loaded.
    fn named_by_index(&self) -> BTreeSet<String> {
        let index: Option<Value> = self.index.as_deref().and_then(|text| serde_json::from_str(text.trim_start_matches('\u{feff}')).ok());
        let map = index.as_ref().and_then(|index| index.get("weight_map")?.as_object());
        map.into_iter().flat_map(|map| map.values()).filter_map(|file| file.as_str().map(str::to_owned)).collect()
    }
}
