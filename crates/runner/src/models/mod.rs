//! Where models come from: presets, files, what `fetch` has brought, and what other programs keep.
//!
//! A name such as `org/name` could be a path too. It is a path if one exists, and a name otherwise.

mod catalog;
mod fetch;
mod folders;
mod hub_name;
mod hugging_face_cache;
mod identity;
mod kept_weights;
mod loading;
mod ollama;
mod random_model;
mod shape;
mod small_file;
mod snapshot;
mod stored;
mod text;

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use kv_kernels::WeightFormat;
use kv_model::{LoadError, LoadOptions, Model, ModelConfig, ReadSeek, gguf, hugging_face};

use crate::config::ModelChoice;
use crate::models::random_model::RandomModel;
use crate::models::small_file::read_small;
use crate::models::stored::StoredName;
use crate::problem::did_you_mean;
use crate::{Problem, free_memory};

pub(crate) use catalog::{CATALOG, Fetchable, cache_folder};
pub(crate) use fetch::fetch;
pub(crate) use folders::ModelFolders;
pub(crate) use loading::{Loaded, load};
pub(crate) use random_model::known_preset;
pub(crate) use shape::ModelShape;

/// Where a fetched model or text lies.
///
/// # Errors
/// A [`Problem`] if it is unknown or was not fetched.
pub fn fetched(name: &str) -> Result<PathBuf, Problem> {
    let item = Fetchable::find(name).ok_or_else(|| Problem::new(format!("nothing to fetch is called `{name}`")))?;
    let path = item.path()?;
    if !path.exists() {
        let message = format!("`{name}` has not been fetched: `{}` does not exist", path.display());
        return Err(Problem::new(message).help(format!("run `cargo run -p runner -- fetch {name}`")));
    }
    Ok(path)
}

/// A model that exists, not yet loaded.
#[derive(Debug, Clone)]
pub(crate) enum ModelSource {
    /// A known shape with random weights.
    Preset(RandomModel),
    /// The small trained model, which is in the program.
    Small,
    /// A GGUF file.
    Gguf { label: String, path: PathBuf },
    /// A Hugging Face folder.
    HuggingFace { label: String, path: PathBuf },
}

impl ModelSource {
    /// The model a config chooses; relative paths start at `folder`. What is no path is looked for in `stores`.
    ///
    /// # Errors
    /// A [`Problem`] that lists what there is.
    pub(crate) fn of_choice(choice: &ModelChoice, folder: &Path, stores: &ModelFolders) -> Result<ModelSource, Problem> {
        let ModelChoice { preset, fetched, gguf, hugging_face, .. } = choice;
        let named = [preset.is_some(), fetched.is_some(), gguf.is_some(), hugging_face.is_some()];
        if named.into_iter().filter(|named| *named).count() != 1 {
            return Err(Problem::new("[model] needs exactly one of `preset`, `fetched`, `gguf` and `hugging_face`")
                .help("`preset = \"tiny\"` needs no file; `runner list` names the others"));
        }
        let of_presets = [choice.layers.is_some(), choice.seed.is_some(), choice.weights.is_some(), choice.keep_weights.is_some()];
        if preset.is_none() && of_presets.contains(&true) {
            return Err(Problem::new(
                "`layers`, `seed`, `weights` and `keep_weights` belong to a `preset`; a file brings its own layers and weights",
            ));
        }
        match (preset, fetched, gguf, hugging_face) {
            (Some(name), ..) if name == kv_model::SMALL => ModelSource::small(&of_presets),
            (Some(name), ..) => RandomModel::of(name, choice.layers).map(|model| ModelSource::Preset(model.with(choice))),
            (_, Some(name), ..) => ModelSource::fetched(name),
            (_, _, Some(name), _) => ModelSource::of_key("gguf", name, folder, stores),
            (_, _, _, Some(name)) => ModelSource::of_key("hugging_face", name, folder, stores),
            _ => Err(Problem::new("[model] names no model")),
        }
    }

    /// The path or the name that a key of `[model]` holds. A path that exists is never taken as a name.
    fn of_key(key: &str, name: &str, folder: &Path, stores: &ModelFolders) -> Result<ModelSource, Problem> {
        let path = folder.join(name);
        if path.exists() {
            return ModelSource::file(&path);
        }
        match StoredName::parse(name)? {
            Some(stored) if stored.key() == key => stored.find(stores),
            Some(stored) if key == "gguf" => Err(Problem::new(format!("`gguf = \"{name}\"` names no file"))
                .help(format!("`gguf = \"{name}/FILE.gguf\"` names one; `{} = \"{name}\"` reads the model's safetensors", stored.key()))),
            Some(stored) => {
                Err(Problem::new(format!("`{key} = \"{name}\"` names a GGUF file")).help(format!("write `{} = \"{name}\"`", stored.key())))
            }
            None => ModelSource::file(&path),
        }
    }

    /// The model a command line names: a path that exists, a fetched model, the name of a model in `stores`, or a preset
    /// (`preset:NAME` if something else is called so too).
    ///
    /// # Errors
    /// A [`Problem`] that lists what there is.
    pub(crate) fn of_argument(name: &str, stores: &ModelFolders) -> Result<ModelSource, Problem> {
        if let Some(preset) = name.strip_prefix("preset:").filter(|preset| *preset != kv_model::SMALL) {
            return RandomModel::of(preset, None).map(ModelSource::Preset);
        }
        match () {
            () if Path::new(name).exists() => ModelSource::file(Path::new(name)),
            () if name.trim_start_matches("preset:") == kv_model::SMALL => Ok(ModelSource::Small),
            () if Fetchable::find(name).is_some_and(|item| item.is_model) => ModelSource::fetched(name),
            () => {
                StoredName::parse(name)?.map_or_else(|| RandomModel::of(name, None).map(ModelSource::Preset), |stored| stored.find(stores))
            }
        }
    }

    /// The small model, which has weights of its own. `chosen` says which keys about random weights were given.
    fn small(chosen: &[bool]) -> Result<ModelSource, Problem> {
        if chosen.contains(&true) {
            let message = format!(
                "`layers`, `seed`, `weights` and `keep_weights` belong to random weights; the preset `{}` was trained",
                kv_model::SMALL
            );
            return Err(Problem::new(message));
        }
        Ok(ModelSource::Small)
    }

    fn fetched(name: &str) -> Result<ModelSource, Problem> {
        let models: Vec<&str> = CATALOG.iter().filter(|item| item.is_model).map(|item| item.name).collect();
        let item = Fetchable::find(name).filter(|item| item.is_model).ok_or_else(|| {
            let problem = Problem::new(format!("no model to fetch is called `{name}`; known: {}", models.join(", ")));
            match did_you_mean(name, models.iter().copied()) {
                Some(help) => problem.help(help),
                None => problem,
            }
        })?;
        let path = fetched(item.name)?;
        Ok(ModelSource::Gguf { label: name.to_owned(), path })
    }

    fn file(path: &Path) -> Result<ModelSource, Problem> {
        let shown = path.display();
        if path.is_dir() {
            return Ok(ModelSource::HuggingFace { label: folder_label(path), path: path.to_owned() });
        }
        if !path.exists() {
            return Err(Problem::new(format!("the model file `{shown}` does not exist")).help(
                "paths in a config start at the config's folder; a file in the Hugging Face cache is `org/name/file.gguf`, and an \
                     Ollama model `ollama:name:tag`",
            ));
        }
        if path.extension().is_none_or(|ending| ending != "gguf") {
            return Err(Problem::new(format!("the model `{shown}` is neither a .gguf file nor a folder with config.json")));
        }
        let label = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(ModelSource::Gguf { label, path: path.to_owned() })
    }

    /// How results name the model.
    pub(crate) fn label(&self) -> String {
        match self {
            ModelSource::Preset(model) => model.label(),
            ModelSource::Small => kv_model::SMALL.to_owned(),
            ModelSource::Gguf { label, .. } | ModelSource::HuggingFace { label, .. } => label.clone(),
        }
    }

    /// The encoding and the bytes of the weights, if they are known without reading a file.
    pub(crate) fn known_weights(&self) -> Option<(WeightFormat, usize)> {
        match self {
            ModelSource::Preset(model) => Some((model.weights, model.bytes())),
            ModelSource::Small | ModelSource::Gguf { .. } | ModelSource::HuggingFace { .. } => None,
        }
    }

    /// The hyperparameters, if they are known without reading a file.
    pub(crate) fn known_config(&self) -> Option<ModelConfig> {
        match self {
            ModelSource::Preset(model) => Some(model.config()),
            ModelSource::Small | ModelSource::Gguf { .. } | ModelSource::HuggingFace { .. } => None,
        }
    }

    /// Refuses random weights that cannot fit. Those of files are looked at when they are opened.
    ///
    /// # Errors
    /// A [`Problem`] with the numbers.
    pub(crate) fn require_memory(&self) -> Result<(), Problem> {
        match self {
            ModelSource::Preset(model) => model.require_memory(),
            ModelSource::Small | ModelSource::Gguf { .. } | ModelSource::HuggingFace { .. } => Ok(()),
        }
    }

    /// Refuses a model that cannot write greedy text, before its weights are read: one without a tokenizer, or one
    /// whose files ask for another text.
    ///
    /// # Errors
    /// A [`Problem`] that names the missing file or the key.
    pub(crate) fn require_text(&self) -> Result<(), Problem> {
        match self {
            ModelSource::HuggingFace { path, .. } => {
                let unusable = |error| unusable(&path.display().to_string(), error);
                hugging_face::check(&config_of(path)?).map_err(unusable)?;
                text::require_tokenizer(path)?;
                optional(path, "generation_config.json")?.map_or(Ok(()), |file| hugging_face::check_generation(&file).map_err(unusable))
            }
            ModelSource::Preset(_) | ModelSource::Small | ModelSource::Gguf { .. } => Ok(()),
        }
    }

    /// Reads or makes the weights.
    ///
    /// # Errors
    /// A [`Problem`] that names the file and the key or tensor.
    pub(crate) fn load(&self, options: LoadOptions<'_>) -> Result<Model, Problem> {
        match self {
            ModelSource::Preset(model) => model.load(options),
            ModelSource::Small => {
                gguf::load(&mut Cursor::new(kv_model::SMALL_GGUF), options).map_err(|error| unusable(kv_model::SMALL, error))
            }
            ModelSource::Gguf { path, .. } => {
                let mut file = open(path)?;
                require_memory(&[&file])?;
                gguf::load(&mut file, options).map_err(|error| unusable(&path.display().to_string(), error))
            }
            ModelSource::HuggingFace { path, .. } => load_folder(path, options),
        }
    }
}

/// The folder's name. `.` and `..` are none: there it is that of the folder they lead to.
fn folder_label(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let led_to = || path.canonicalize().ok().as_deref().and_then(name);
    name(path).or_else(led_to).unwrap_or_else(|| path.display().to_string())
}

fn load_folder(path: &Path, options: LoadOptions<'_>) -> Result<Model, Problem> {
    let unusable = |error| unusable(&path.display().to_string(), error);
    let config = config_of(path)?;
    let tokenizer = optional(path, "tokenizer.json")?;
    let tokenizer_config = optional(path, "tokenizer_config.json")?;
    let generation_config = optional(path, "generation_config.json")?;
    let index = optional(path, "model.safetensors.index.json")?;
    let names = hugging_face::weight_files(&config, index.as_deref(), &safetensors_in(path)?).map_err(unusable)?;
    let files = names.iter().map(|name| open(&path.join(name))).collect::<Result<Vec<_>, _>>()?;
    require_memory(&files.iter().collect::<Vec<_>>())?;
    let shards = names.into_iter().zip(files).map(|(name, file)| (name, Box::new(file) as Box<dyn ReadSeek>)).collect();
    let directory = hugging_face::Directory {
        config: &config,
        generation_config: generation_config.as_deref(),
        tokenizer: tokenizer.as_deref(),
        tokenizer_config: tokenizer_config.as_deref(),
        index: index.as_deref(),
        shards,
    };
    hugging_face::load(directory, options).map_err(unusable)
}

/// A folder's `config.json`.
fn config_of(folder: &Path) -> Result<String, Problem> {
    optional(folder, "config.json")?.ok_or_else(|| Problem::new(format!("the folder `{}` has no config.json", folder.display())))
}

/// The text of a file of a folder, if there is one.
fn optional(folder: &Path, name: &str) -> Result<Option<String>, Problem> {
    /// The `tokenizer.json` of the largest vocabularies has some 35 MB.
    const MOST_BYTES: u64 = 1 << 28;
    read_small(&folder.join(name), MOST_BYTES)
}

/// The names of a folder's `.safetensors` files.
fn safetensors_in(path: &Path) -> Result<Vec<String>, Problem> {
    let entries = std::fs::read_dir(path).map_err(|error| Problem::new(format!("cannot list `{}`", path.display())).caused_by(error))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.ends_with(".safetensors")).collect())
}

/// Refuses weights that cannot fit: they take as much memory as their files.
fn require_memory(files: &[&File]) -> Result<(), Problem> {
    let bytes = files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).fold(0, u64::saturating_add);
    free_memory::require(usize::try_from(bytes).unwrap_or(usize::MAX), "the model")
}

fn open(path: &Path) -> Result<File, Problem> {
    let unopened = |error| Problem::new(format!("cannot open `{}`", path.display())).caused_by(error);
    // A pipe would be waited for.
    if !path.metadata().map_err(unopened)?.is_file() {
        return Err(Problem::new(format!("`{}` is not a file", path.display())));
    }
    File::open(path).map_err(unopened)
}

fn unusable(model: &str, error: LoadError) -> Problem {
    Problem::new(format!("cannot load the model `{model}`")).caused_by(error)
}
