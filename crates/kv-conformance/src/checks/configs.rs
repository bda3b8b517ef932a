//! The config.

use crate::failure::ensure;
use crate::{Outcome, Subject, Verdict};

/// The default config survives a TOML round trip, and an unknown key is refused by name.
///
/// # Errors
/// A failure if a misspelled key would be ignored.
pub fn config_is_strict(subject: &Subject) -> Outcome {
    const STRICT: &str = "mark the config `#[serde(default, deny_unknown_fields)]`";
    let entry = subject.entry();
    let geometry = subject.geometry();
    let defaults = entry.defaults();
    let text = toml::to_string(&defaults)
        .map_err(|error| crate::Failure::new(format!("the default config cannot be written as TOML: {error}"), STRICT))?;
    let read: toml::Table = toml::from_str(&text).map_err(|error| {
        crate::Failure::new(format!("the default config, written as TOML, cannot be read back: {error}\n{text}"), STRICT)
    })?;
    ensure!(read == defaults, STRICT, "the default config changes in a TOML round trip: {defaults:?} became {read:?}");
    entry.build(&defaults, geometry)?;
    let mut misspelt = defaults;
    misspelt.insert("no_such_key".into(), 1.into());
    match entry.build(&misspelt, geometry) {
        Ok(_) => Err(crate::Failure::new("the unknown key `no_such_key` was ignored", STRICT)),
        Err(error) => {
            ensure!(
                error.to_string().contains("no_such_key"),
                STRICT,
                "the error for the unknown key `no_such_key` does not name it: {error}"
            );
            Ok(Verdict::Passed)
        }
    }
}
