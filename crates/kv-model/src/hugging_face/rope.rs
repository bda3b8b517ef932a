//! The rotation that `config.json` asks for.

use kv_core::Rope;

use crate::LoadError;
use crate::hugging_face::document::Document;

/// The rotation of keys of `head_dim` values in a model of `context` positions.
///
/// As in transformers' `convert_rope_params_to_dict`: `rope_scaling` goes before `rope_parameters`, and a
/// `rope_theta` inside it before the one at the top.
pub(super) fn rope(config: &Document, head_dim: usize, context: usize) -> Result<Rope, LoadError> {
    let scaling = parameters(config)?;
    let within = scaling.as_ref().map(theta).transpose()?.flatten();
    let theta = within.or(theta(config)?).unwrap_or(10_000.0);
    let plain = Rope::new(theta, head_dim);
    let Some(scaling) = scaling else { return Ok(plain) };
    check_extras(&scaling)?;
    let required = |key: &str| {
        let value = scaling.number(key)?.filter(|value| *value > 0.0);
        value.ok_or_else(|| scaling.wrong(key, "is missing or not positive"))
    };
    let frequencies = plain.inverse_frequencies().iter();
    match rope_type(&scaling)?.as_deref() {
        None if scaling.value("factor").is_some() => {
            Err(scaling.wrong("rope_type", "is missing beside `factor`; known are default, linear and llama3"))
        }
        None | Some("default") => Ok(plain),
        Some("linear") => {
            let factor = required("factor")?;
            Ok(Rope::from_inverse_frequencies(frequencies.map(|frequency| frequency / factor).collect()))
        }
        Some("llama3") => {
            let factor = required("factor")?;
            let low = required("low_freq_factor")?;
            let high = required("high_freq_factor")?;
            if high <= low {
                return Err(scaling.wrong("high_freq_factor", format!("is {high:?}, not above `low_freq_factor`, {low:?}")));
            }
            const ORIGINAL: &str = "original_max_position_embeddings";
            let original = match config.number(ORIGINAL)? {
                Some(original) => original,
                None if scaling.value(ORIGINAL).is_some() => required(ORIGINAL)?,
                None => context as f64,
            };
            Ok(Rope::from_inverse_frequencies(frequencies.map(|frequency| llama3(*frequency, factor, low, high, original)).collect()))
        }
        Some(other) => Err(scaling.wrong("rope_type", format!("is `{other}`; known are default, linear and llama3"))),
    }
}

fn theta(document: &Document) -> Result<Option<f64>, LoadError> {
    const KEY: &str = "rope_theta";
    match document.number(KEY)? {
        Some(theta) if theta <= 0.0 => Err(document.wrong(KEY, format!("is {theta:?}, not positive"))),
        theta => Ok(theta),
    }
}

fn parameters(config: &Document) -> Result<Option<Document>, LoadError> {
    for key in ["rope_scaling", "rope_parameters"] {
        if let Some(parameters) = config.object(key)?
            && parameters.entries().next().is_some()
        {
            return Ok(Some(parameters));
        }
    }
    Ok(None)
}

/// Older files say `type`, newer ones `rope_type`, and some say both.
fn rope_type(scaling: &Document) -> Result<Option<String>, LoadError> {
    match (scaling.text("rope_type")?, scaling.text("type")?) {
        (Some(new), Some(old)) if new != old => Err(scaling.wrong("rope_type", format!("is `{new}`, and `type` beside it is `{old}`"))),
        (new, old) => Ok(new.or(old)),
    }
}

/// Refuses what no type known here has: rotations for each kind of layer, of a part of a key, or with a temperature.
fn check_extras(scaling: &Document) -> Result<(), LoadError> {
    for (key, value) in scaling.entries() {
        let neutral = match key.as_str() {
            "partial_rotary_factor" | "attention_factor" => value.is_null() || value.as_f64() == Some(1.0),
            "mrope_section" => value.is_null(),
            _ => !value.is_object(),
        };
        if !neutral {
            return Err(scaling.wrong(key, format!("is {value}, which this decoder cannot do")));
        }
    }
    Ok(())
}

/// Llama 3.1's scaling: planes that turn less than `low` times in the original context are slowed by
/// `factor`, those that turn more than `high` times are kept, and between the two it is interpolated
/// (`_compute_llama3_parameters` in transformers' `modeling_rope_utils.py`).
fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let turns = original * frequency / std::f64::consts::TAU;
    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    (1.0 - kept) * frequency / factor + kept * frequency
}
