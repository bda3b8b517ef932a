//! The attention level with generated rows: caches of a known shape without its model.
//!
//! A preset gives the shape. No weights are drawn, so the shape may be one whose weights no memory holds, and its context
//! does not limit the lengths. `layers` in `[model]` is the number of layers that are measured, for all of the shape's.

use kv_model::{ModelConfig, Preset};
use kv_report::ModelRecord;

use crate::cli::PagesChoice;
use crate::config::{ConfigFile, ModelChoice};
use crate::models::known_preset;
use crate::run_record::geometry_record;
use crate::{Problem, hash};

/// A shape whose caches are measured.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    preset: Preset,
    measured_layers: usize,
}

impl Shape {
    /// The shape that a config names.
    ///
    /// # Errors
    /// A [`Problem`] that points at `[model]`, if it names no preset or has keys that are about weights.
    pub(crate) fn of(file: &ConfigFile) -> Result<Shape, Problem> {
        Shape::of_choice(file.model().get_ref()).map_err(|problem| problem.within(file, file.model()))
    }

    fn of_choice(choice: &ModelChoice) -> Result<Shape, Problem> {
        let ModelChoice { preset, layers, seed, weights, keep_weights, .. } = choice;
        let of_weights = [("seed", seed.is_some()), ("weights", weights.is_some()), ("keep_weights", keep_weights.is_some())];
        if let Some((key, _)) = of_weights.into_iter().find(|(_, is_given)| *is_given) {
            return Err(Problem::new(format!("`{key}` in [model] is about weights, and `level = \"attention\"` has none"))
                .help("leave it out; the rows' seed is `seed` in [sweep]"));
        }
        let Some(name) = preset else {
            return Err(Problem::new("`level = \"attention\"` needs the name of a shape: `preset` in [model]")
                .help("`preset = \"tiny\"` is the smallest; `runner list` names them. Or name a model whose rows are recorded: `fetched`, `gguf` or `hugging_face`"));
        };
        let preset = known_preset(name)?;
        let all = preset.config(None).geometry.layers;
        let measured_layers = layers.unwrap_or(all);
        if !(1..=all).contains(&measured_layers) {
            return Err(Problem::new(format!(
                "`layers` is {measured_layers}: with `level = \"attention\"` it is how many of the {all} layers of `{name}` are measured, 1 to {all}"
            )));
        }
        Ok(Shape { preset, measured_layers })
    }

    /// The shape with the layers that are measured.
    pub(crate) fn config(&self) -> ModelConfig {
        self.preset.config(Some(self.measured_layers))
    }

    /// What a run's record says of the shape: all its layers, and no weights.
    ///
    /// # Errors
    /// A [`Problem`] if its hash cannot be made.
    pub(crate) fn record(&self) -> Result<ModelRecord, Problem> {
        /// Is raised when the same shape and seed would give other rows.
        const VERSION: u32 = 1;
        let Shape { preset, measured_layers } = self;
        let config = preset.config(None);
        let title = format!("kvlab generated rows {VERSION}: {:?}, {measured_layers} layers\n", config.geometry);
        let hash = hash::of_reader(title.as_bytes()).map_err(|error| Problem::new("cannot hash the shape").caused_by(error))?;
        Ok(ModelRecord {
            name: format!("{} (shape alone)", preset.name),
            hash: Some(hash),
            geometry: geometry_record(&config),
            ..ModelRecord::default()
        })
    }
}

/// Refuses pages for weights that do not exist.
///
/// # Errors
/// A [`Problem`] if the user asks for other pages than the usual ones.
pub(crate) fn require_no_pages(pages: PagesChoice) -> Result<(), Problem> {
    match pages {
        PagesChoice::Large => Ok(()),
        PagesChoice::Ordinary => Err(Problem::new("`--pages` is about the model's weights, and `level = \"attention\"` has none")
            .help("leave it out; `huge_pages` in [sweep] is about the caches' own buffers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, layers: Option<usize>) -> ModelChoice {
        ModelChoice { preset: Some(name.into()), layers, ..ModelChoice::default() }
    }

    #[test]
    fn a_shape_has_its_own_layers_and_those_that_are_measured() {
        let shape = Shape::of_choice(&choice("llama-3-8b", Some(4))).unwrap();
        assert_eq!(shape.config().geometry.layers, 4);
        let record = shape.record().unwrap();
        assert_eq!((record.geometry.layers, record.geometry.context, record.model_bytes), (32, 8192, 0));
        let all = Shape::of_choice(&choice("llama-3-8b", None)).unwrap();
        assert_eq!(all.config().geometry.layers, 32);
        assert_ne!(all.record().unwrap().hash, record.hash);
    }

    #[test]
    fn what_is_about_a_model_is_refused() {
        let weights = |change: fn(&mut ModelChoice)| {
            let mut choice = choice("tiny", None);
            change(&mut choice);
            choice
        };
        for (choice, expected) in [
            (choice("tiny", Some(5)), "how many of the 4 layers of `tiny` are measured, 1 to 4"),
            (choice("tiny", Some(0)), "`layers` is 0"),
            (choice("tinny", None), "no model is called `tinny`"),
            (ModelChoice::default(), "needs the name of a shape"),
            (weights(|choice| choice.seed = Some(1)), "`seed` in [model] is about weights"),
            (weights(|choice| choice.keep_weights = Some(false)), "`keep_weights` in [model] is about weights"),
        ] {
            let problem = Shape::of_choice(&choice).unwrap_err();
            assert!(problem.to_string().contains(expected), "{problem}");
        }
    }
}
