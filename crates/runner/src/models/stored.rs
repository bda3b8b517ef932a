//! Models that another program keeps, by the name that it gives them.

use crate::Problem;
use crate::models::folders::ModelFolders;
use crate::models::hub_name::HubName;
use crate::models::ollama::{self, OllamaName};
use crate::models::{ModelSource, hugging_face_cache};

/// The name of a model in the Hugging Face cache or in Ollama's folder.
#[derive(Debug)]
pub(super) enum StoredName<'a> {
    HuggingFace(HubName<'a>),
    Ollama(OllamaName<'a>),
}

impl<'a> StoredName<'a> {
    /// Takes a name apart; `None` if it can only be a path or the name of something else.
    ///
    /// # Errors
    /// A [`Problem`] if it begins with `ollama:` and is no name of a model there.
    pub(super) fn parse(name: &'a str) -> Result<Option<StoredName<'a>>, Problem> {
        match name.strip_prefix(ollama::PREFIX) {
            Some(name) => OllamaName::parse(name).map(|name| Some(StoredName::Ollama(name))),
            None => Ok(HubName::parse(name).map(StoredName::HuggingFace)),
        }
    }

    /// The key of `[model]` that takes the name.
    pub(super) fn key(&self) -> &'static str {
        match self {
            StoredName::HuggingFace(name) if !name.is_file() => "hugging_face",
            StoredName::HuggingFace(_) | StoredName::Ollama(_) => "gguf",
        }
    }

    /// The model, labeled by its name. Nothing is downloaded.
    ///
    /// # Errors
    /// A [`Problem`] that names the folder searched and the command that brings the model.
    pub(super) fn find(&self, folders: &ModelFolders) -> Result<ModelSource, Problem> {
        match self {
            StoredName::HuggingFace(name) => {
                let path = hugging_face_cache::find(name, folders.hugging_face.as_deref())?;
                let label = name.written.to_owned();
                Ok(if name.is_file() { ModelSource::Gguf { label, path } } else { ModelSource::HuggingFace { label, path } })
            }
            StoredName::Ollama(name) => Ok(ModelSource::Gguf { label: name.written.to_owned(), path: name.find(&folders.ollama)? }),
        }
    }
}
