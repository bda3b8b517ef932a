//! Where other programs keep the models that they download.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where Ollama's service keeps its models on Linux: in the home folder of a user of its own.
#[cfg(target_os = "linux")]
const OLLAMA_SERVICE: Option<&str> = Some("/usr/share/ollama/.ollama/models");
#[cfg(not(target_os = "linux"))]
const OLLAMA_SERVICE: Option<&str> = None;

/// The folders in which a model is looked for by its name. They need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelFolders {
    /// The cache of the Hugging Face hub; none if neither a variable nor a home folder says where it is.
    pub(super) hugging_face: Option<PathBuf>,
    /// Ollama's folders, in the order in which they are searched.
    pub(super) ollama: Vec<PathBuf>,
}

impl ModelFolders {
    /// The folders of this process: the one place where these variables are read.
    pub(crate) fn of_environment() -> ModelFolders {
        ModelFolders::of(|name| std::env::var_os(name), etcetera::home_dir().ok())
    }

    /// The folders that variables choose, as `huggingface_hub` and Ollama read them; an empty one counts as not set.
    fn of(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> ModelFolders {
        let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        // `huggingface_hub` expands a `~` in its variables, which a shell does not do within quotes.
        let expanded = |name: &str| {
            let path = folder(name)?;
            Some(match (path.strip_prefix("~"), &home) {
                (Ok(rest), Some(home)) => home.join(rest),
                _ => path,
            })
        };
        let home_of_hub = || {
            let caches = || expanded("XDG_CACHE_HOME").or_else(|| below_home(".cache"));
            expanded("HF_HOME").or_else(|| Some(caches()?.join("huggingface")))
        };
        let hugging_face =
            expanded("HF_HUB_CACHE").or_else(|| expanded("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(home_of_hub()?.join("hub")));
        let ollama = match folder("OLLAMA_MODELS") {
            Some(folder) => vec![folder],
            None => below_home(".ollama/models").into_iter().chain(OLLAMA_SERVICE.map(PathBuf::from)).collect(),
        };
        ModelFolders { hugging_face, ollama }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], home: Option<&str>) -> ModelFolders {
        let value = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value));
        ModelFolders::of(value, home.map(PathBuf::from))
    }

    #[test]
    fn the_variables_choose_the_hub_cache_in_the_order_of_huggingface_hub() {
        let home = Some("/home/ada");
        for (variables, expected) in [
            (&[][..], "/home/ada/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/caches")], "/caches/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/caches"), ("HF_HOME", "/hf")], "/hf/hub"),
            (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")], "/new"),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "~/hf")], "/home/ada/hf/hub"),
            (&[("HF_HUB_CACHE", "~")], "/home/ada/"),
        ] {
            assert_eq!(of(variables, home).hugging_face, Some(PathBuf::from(expected)), "{variables:?}");
        }
        assert_eq!(of(&[], None).hugging_face, None);
        assert_eq!(of(&[("HF_HOME", "/hf")], None).hugging_face, Some("/hf/hub".into()));
    }

    #[test]
    fn ollamas_variable_replaces_its_folders() {
        assert_eq!(of(&[("OLLAMA_MODELS", "/models")], Some("/home/ada")).ollama, [PathBuf::from("/models")]);
        let default = of(&[("OLLAMA_MODELS", "")], Some("/home/ada")).ollama;
        assert_eq!(default[0], PathBuf::from("/home/ada/.ollama/models"));
        assert_eq!(default[1..], OLLAMA_SERVICE.map(PathBuf::from).into_iter().collect::<Vec<_>>());
    }
}
