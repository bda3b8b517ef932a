//! The config.

use crate::failure::ensure;
use crate::{Outcome, Subject, Verdict};

/// The default config survives TOML, and an unknown key is refused by its name.
///
/// # Errors
/// A failure if a misspelt key would be silently ignored.
pub fn config_is_strict(subject: &Subject) -> Outcome {
    const STRICT: &str = "mark the config `#[serde(default, deny_unknown_fields)]`";
    let entry = subject.entry();
    let geometry = subject.geometry();
    let defaults = entry.defaults();
    let text =
        toml::to_string(&defaults).map_err(|error| crate::Failure::new(format!("the default config is no TOML: {error}"), STRICT))?;
    let read: toml::Table = toml::from_str(&text).map_err(|error| crate::Failure::new(format!("{text} is no TOML: {error}"), STRICT))?;
    ensure!(read == defaults, STRICT, "the default config changes on its way through TOML: {defaults:?} became {read:?}");
    entry.build(&defaults, geometry)?;
    let mut misspelt = defaults;
    misspelt.insert("no_such_key".into(), 1.into());
    match entry.build(&misspelt, geometry) {
        Ok(_) => Err(crate::Failure::new("the unknown key `no_such_key` was ignored", STRICT)),
        Err(error) => {
            ensure!(error.to_string().contains("no_such_key"), STRICT, "an unknown key is refused without its name: {error}");
            Ok(Verdict::Passed)
        }
    }
}
