//! The rotation that `config.json` asks for.

use std::collections::BTreeMap;

use kv_core::Rope;
use serde_json::Value;

use crate::LoadError;
use crate::hugging_face::document::Document;

/// The rotation of keys of `head_dim` values in a model of `context` positions.
///
/// As in transformers' `convert_rope_params_to_dict`, a `rope_theta` within goes before the one at the top.
pub(super) fn rope(config: &Document, head_dim: usize, context: usize) -> Result<Rope, LoadError> {
    let (scaling, within) = parameters(config)?;
    let theta = within.or(theta(config)?).unwrap_or(10_000.0);
    let plain = Rope::new(theta, head_dim);
    let Some(scaling) = scaling else { return Ok(plain) };
    check_extras(&scaling)?;
    let required = |key: &str| positive(&scaling, key)?.ok_or_else(|| scaling.wrong(key, "is missing"));
    let frequencies = plain.inverse_frequencies().iter();
    match rope_type(&scaling)?.as_deref() {
        None if scaling.value("factor").is_some() => {
            Err(scaling.wrong("rope_type", "is missing beside `factor`; supported: default, linear, llama3"))
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
            let original = match positive(config, ORIGINAL)? {
                Some(original) => original,
                None => positive(&scaling, ORIGINAL)?.unwrap_or(context as f64),
            };
            Ok(Rope::from_inverse_frequencies(frequencies.map(|frequency| llama3(*frequency, factor, low, high, original)).collect()))
        }
        Some(other) => Err(scaling.wrong("rope_type", format!("is `{other}`; supported: default, linear, llama3"))),
    }
}

fn positive(document: &Document, key: &str) -> Result<Option<f64>, LoadError> {
    match document.number(key)? {
        Some(number) if number <= 0.0 => Err(document.wrong(key, format!("is {number:?}, not positive"))),
        number => Ok(number),
    }
}

/// The object that describes the rotation, and the base within either. Which of the two keys counts differs between
/// programs and their releases, so that they must say the same; one may have the base alone.
fn parameters(config: &Document) -> Result<(Option<Document>, Option<f64>), LoadError> {
    let (old, new) = (config.object("rope_scaling")?, config.object("rope_parameters")?);
    let thetas = (old.as_ref().map(theta).transpose()?.flatten(), new.as_ref().map(theta).transpose()?.flatten());
    if let (Some(old), Some(new)) = thetas
        && old != new
    {
        return Err(config.wrong("rope_scaling.rope_theta", format!("is {old:?}, and `rope_parameters.rope_theta` is {new:?}")));
    }
    let theta = thetas.1.or(thetas.0);
    let [old, new] = [old, new].map(|object| object.filter(|object| !settings(object).is_empty()));
    match (old, new) {
        (Some(old), Some(new)) if settings(&old) != settings(&new) => {
            let shown = |key: &str| config.value(key).map(ToString::to_string).unwrap_or_default();
            let reason = format!("is {}, and `rope_parameters` is {}", shown("rope_scaling"), shown("rope_parameters"));
            Err(config.wrong("rope_scaling", format!("{reason}; the two must agree, or one of them must be absent")))
        }
        (old, new) => Ok((new.or(old), theta)),
    }
}

/// What an object says beside the base, so that the same settings compare as equal: `type` is the older name of
/// `rope_type`, and whole numbers may have a fraction of 0.
fn settings(object: &Document) -> BTreeMap<&str, Setting> {
    let said = object.entries().filter(|(key, value)| *key != THETA && !value.is_null());
    said.map(|(key, value)| {
        let key = if key == "type" { "rope_type" } else { key };
        (key, value.as_f64().map_or_else(|| Setting::Other(value.clone()), Setting::Number))
    })
    .collect()
}

#[derive(PartialEq)]
enum Setting {
    Number(f64),
    Other(Value),
}

const THETA: &str = "rope_theta";

fn theta(document: &Document) -> Result<Option<f64>, LoadError> {
    positive(document, THETA)
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
            // Ministral 3 scales its queries by it.
            "llama_4_scaling_beta" => value.is_null() || value.as_f64() == Some(0.0),
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
