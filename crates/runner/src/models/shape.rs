//! The shape of a model and the bytes of its weights, without reading a matrix.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use kv_kernels::WeightFormat;
use kv_model::{ModelConfig, Preset, ReadSeek, gguf, hugging_face};

use crate::Problem;
use crate::models::folders::ModelFolders;
use crate::models::small_file::read_small;
use crate::models::{ModelSource, config_of, fetched, folder_label, open, unusable};

/// A model of which no weights are needed.
#[derive(Debug)]
pub(crate) struct ModelShape {
    /// Its name.
    pub(crate) label: String,
    /// The hyperparameters.
    pub(crate) config: ModelConfig,
    /// Bytes of the weights. They saturate.
    pub(crate) weight_bytes: usize,
    /// What the weights are, for example `8030261248 in q8_0`.
    pub(crate) weights: String,
}

impl ModelShape {
    /// The shape that a command line names: the path of a config.json, a preset, or what [`ModelSource::of_argument`] takes.
    /// A path that exists goes first, then a model that was fetched, as for `generate`. Without `format`, presets have weights in f32, and other models in their own type.
    ///
    /// # Errors
    /// A [`Problem`] that names the file and the key, or lists what there is.
    pub(crate) fn of_argument(name: &str, format: Option<WeightFormat>, stores: &ModelFolders) -> Result<ModelShape, Problem> {
        let path = Path::new(name);
        if path.extension().is_some_and(|ending| ending == "json") {
            let text =
                read_small(path, MOST_BYTES)?.ok_or_else(|| Problem::new(format!("`{name}` is no file that exists")).help(DESCRIBE))?;
            return of_config(folder_label(&folder_of(path)), name, &text, format);
        }
        // A fetched model may be called as a preset is. Its shape is known before it is fetched.
        if let Some(preset) = Preset::find(name).filter(|_| !path.exists() && fetched(name).is_err()) {
            return Ok(of_preset(preset, format));
        }
        match ModelSource::of_argument(name, stores).map_err(|problem| problem.more_help(DESCRIBE))? {
            ModelSource::Preset(model) => Ok(of_preset(model.preset, format)),
            ModelSource::HuggingFace { label, path } => {
                let text = config_of(&path).map_err(|problem| problem.more_help(DESCRIBE))?;
                of_config(label, &path.display().to_string(), &text, format)
            }
            ModelSource::Small if format.is_none() => of_gguf(kv_model::SMALL.to_owned(), name, &mut Cursor::new(kv_model::SMALL_GGUF)),
            ModelSource::Gguf { label, path } if format.is_none() => of_gguf(label, &path.display().to_string(), &mut open(&path)?),
            ModelSource::Small | ModelSource::Gguf { .. } => {
                Err(Problem::new(format!("`--weights`: the file of `{name}` brings its own encodings"))
                    .help("leave `--weights` out; it belongs to a preset (`preset:NAME`) or a config.json"))
            }
        }
    }
}

/// What describes a model that is none of the presets.
const DESCRIBE: &str = "Any Llama, Mistral, Qwen2 or Qwen3 shape can be described by its Hugging Face config.json: \
                        `--model path/to/config.json`, or the folder with it.";

/// Longer than any config.json.
const MOST_BYTES: u64 = 1 << 24;

/// The folder that a file lies in.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn of_preset(preset: Preset, format: Option<WeightFormat>) -> ModelShape {
    of_count(preset.name.to_owned(), preset.config(None), preset.weights(None), format.unwrap_or(WeightFormat::F32))
}

fn of_config(label: String, shown: &str, text: &str, format: Option<WeightFormat>) -> Result<ModelShape, Problem> {
    let description = hugging_face::describe(text).map_err(|error| unusable(shown, error))?;
    let format = match (format, description.dtype.as_deref()) {
        (Some(format), _) => format,
        (None, Some("float32") | None) => WeightFormat::F32,
        (None, Some("float16")) => WeightFormat::F16,
        (None, Some("bfloat16")) => WeightFormat::Bf16,
        (None, Some(other)) => {
            let message = format!("`{shown}` has weights of the type `{other}`; known are float32, float16 and bfloat16");
            return Err(Problem::new(message).help("`--weights f16`, for example, says what to count with"));
        }
    };
    Ok(of_count(label, description.config, description.weights, format))
}

fn of_gguf(label: String, shown: &str, file: &mut dyn ReadSeek) -> Result<ModelShape, Problem> {
    let (config, weight_bytes) = gguf::describe(file).map_err(|error| unusable(shown, error))?;
    Ok(ModelShape { label, config, weight_bytes, weights: "as the file stores them".to_owned() })
}

fn of_count(label: String, config: ModelConfig, count: usize, format: WeightFormat) -> ModelShape {
    let (values, bytes) = format.block();
    let weight_bytes = (count / values).saturating_mul(bytes);
    ModelShape { label, config, weight_bytes, weights: format!("{count} in {format}") }
}
