//! `multimodal`: an image that is asked about several times.

use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Load, at_least_one};
use crate::hash;

/// An image that is asked about several times. Its patches are rows of the model's hidden size, which are fed in the place of
/// tokens. They are computed once, and each question is asked in a fork. Beside that, image and question are computed again for
/// each question, in one step. Answers are decoded greedily, one question after the other. Questions are drawn from the sweep's
/// seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Multimodal {
    /// Patches of the image: positions that it takes. 576 are the 24 × 24 of LLaVA-1.5 (arXiv:2310.03744).
    pub patches: usize,
    /// A file with the patches: for each as many little-endian f32 as the model's hidden size, and nothing else. The path starts at
    /// the config's folder if it is relative. Left out, patches are drawn from the sweep's seed, as large as the model's token
    /// embeddings are.
    pub embeddings: Option<String>,
    /// Questions.
    pub questions: usize,
    /// Tokens of each question.
    pub question_tokens: usize,
    /// Tokens of each answer, at least 2.
    pub answer_tokens: usize,
}

impl Default for Multimodal {
    fn default() -> Multimodal {
        Multimodal { patches: 576, embeddings: None, questions: 4, question_tokens: 16, answer_tokens: 16 }
    }
}

/// What a cell does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MultimodalScript {
    pub(crate) settings: Multimodal,
    pub(crate) image: Option<ImageFile>,
}

/// A file of patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageFile {
    /// Of its bytes. Where it lies makes no difference.
    hash: String,
    #[serde(skip)]
    pub(crate) path: PathBuf,
}

impl Multimodal {
    /// The image a config names, checked against the model. Relative paths start at `folder`.
    ///
    /// # Errors
    /// What is wrong with a key or with the file.
    pub(super) fn script(self, folder: &Path, hidden: usize) -> Result<MultimodalScript, String> {
        self.check()?;
        let file = |name: &String| {
            let path = folder.join(name);
            let bytes = self.read(name, &path, hidden)?;
            Ok(ImageFile { hash: hash::short(&bytes), path: std::path::absolute(&path).unwrap_or(path) })
        };
        let image = self.embeddings.as_ref().map(file).transpose().map_err(|wrong: String| format!("`embeddings`: {wrong}"))?;
        Ok(MultimodalScript { settings: self, image })
    }

    fn check(&self) -> Result<(), String> {
        at_least_one("patches", self.patches)?;
        at_least_one("questions", self.questions)?;
        at_least_one("question_tokens", self.question_tokens)?;
        if self.answer_tokens < 2 {
            return Err(format!(
                "`answer_tokens` is {}: it must be at least 2, the first token and one that is decoded after it",
                self.answer_tokens
            ));
        }
        Ok(())
    }

    /// The bytes of a file that has to have as many as the patches of a model of this hidden size.
    fn read(&self, name: &str, path: &Path, hidden: usize) -> Result<Vec<u8>, String> {
        let patches = self.patches;
        let wanted = patches.saturating_mul(hidden).saturating_mul(size_of::<f32>());
        let unreadable = |error: std::io::Error| format!("cannot read `{name}`: {error}");
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        let mut bytes = vec![];
        file.take(wanted as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.starts_with(b"\x93NUMPY") {
            return Err(format!("`{name}` is a .npy file, and bare values are read: `array.astype('<f4').tofile('{name}')` writes them"));
        }
        if bytes.len() != wanted {
            let of = |unit: usize| (len % unit as u64 == 0).then_some(len / unit as u64);
            let meant = match (of(patches.saturating_mul(size_of::<f32>())), of(hidden * size_of::<f32>())) {
                (Some(width), _) => format!("{width} values for each of the {patches} patches, and the model's hidden size is {hidden}"),
                (_, Some(rows)) => format!("{rows} rows of the model's hidden size {hidden}, and `patches` is {patches}"),
                _ => format!("no whole rows of the model's hidden size {hidden}"),
            };
            return Err(format!("`{name}` has {len} bytes: {meant}; {patches} × {hidden} values in f32 are {wanted} bytes"));
        }
        let wrong = values(&bytes).position(|value| !value.is_finite());
        match wrong {
            Some(index) => {
                Err(format!("`{name}` has a value that is no finite number: value {} of patch {}", index % hidden, index / hidden))
            }
            None => Ok(bytes),
        }
    }

    /// Tokens of the prompt of a question, the image's included.
    pub(crate) fn prompt(&self) -> usize {
        self.patches.saturating_add(self.question_tokens)
    }

    /// Tokens of a sequence in the end.
    pub(crate) fn tokens(&self) -> usize {
        self.prompt().saturating_add(self.answer_tokens)
    }
}

impl MultimodalScript {
    pub(super) fn load(&self) -> Load {
        let settings = &self.settings;
        Load {
            prompt_tokens: settings.prompt().saturating_mul(settings.questions.saturating_add(1)),
            steps: (settings.answer_tokens - 1).saturating_mul(2),
            depth: settings.tokens(),
            sequences: settings.questions.saturating_mul(2),
        }
    }
}

impl ImageFile {
    /// The values of all patches.
    ///
    /// # Errors
    /// What became of the file since the plan.
    pub(crate) fn rows(&self, path: &Path) -> Result<Vec<f32>, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        if hash::short(&bytes) != self.hash {
            return Err(format!("`{}` was changed since the run began", path.display()));
        }
        Ok(values(&bytes).collect())
    }
}

/// Little-endian numbers.
fn values(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_what_would_be_right() {
        let check = |keys: &str| toml::from_str::<Multimodal>(keys).unwrap().check();
        assert_eq!(check("patches = 1"), Ok(()));
        for (keys, expected) in [
            ("patches = 0", "`patches` is 0: it must be at least 1"),
            ("questions = 0", "`questions` is 0: it must be at least 1"),
            ("question_tokens = 0", "`question_tokens` is 0: it must be at least 1"),
            ("answer_tokens = 1", "`answer_tokens` is 1: it must be at least 2"),
        ] {
            let error = check(keys).unwrap_err();
            assert!(error.starts_with(expected), "{keys}: {error}");
        }
    }

    #[test]
    fn a_file_of_patches_has_the_models_width_and_finite_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let script = |bytes: &[u8]| {
            std::fs::write(folder.path().join("image.f32"), bytes).unwrap();
            let settings = Multimodal { patches: 6, embeddings: Some("image.f32".into()), ..Multimodal::default() };
            settings.script(folder.path(), 4)
        };
        let of = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let right: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let image = script(&of(&right)).unwrap().image.unwrap();
        assert_eq!(image.rows(&image.path).unwrap(), right);
        let other = script(&of(&[&right[..23], &[0.5]].concat())).unwrap().image.unwrap();
        assert!(image.rows(&image.path).unwrap_err().ends_with("was changed since the run began"));
        assert_ne!(image.hash, other.hash);
        for (bytes, expected) in [
            (
                of(&[0.0; 30]),
                "`image.f32` has 120 bytes: 5 values for each of the 6 patches, and the model's hidden size is 4; 6 × 4 values in f32 are 96 bytes",
            ),
            (of(&[0.0; 20]), "`image.f32` has 80 bytes: 5 rows of the model's hidden size 4, and `patches` is 6;"),
            (vec![0; 97], "`image.f32` has 97 bytes: no whole rows of the model's hidden size 4;"),
            (
                of(&[&[0.0; 9][..], &[f32::NAN], &[0.0; 14]].concat()),
                "`image.f32` has a value that is no finite number: value 1 of patch 2",
            ),
            (b"\x93NUMPY\x01\x00".to_vec(), "`image.f32` is a .npy file"),
        ] {
            let error = script(&bytes).unwrap_err();
            assert!(error.starts_with(&format!("`embeddings`: {expected}")), "{error}");
        }
        let missing = Multimodal { embeddings: Some("no.f32".into()), ..Multimodal::default() };
        assert!(missing.script(folder.path(), 4).unwrap_err().starts_with("`embeddings`: cannot read `no.f32`: "));
    }
}
