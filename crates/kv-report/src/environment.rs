//! The machine and the program of a run, as facts to show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Facts about the machine and the program, in display order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The facts. An unknown one has a reason instead of a value.
    pub facts: Vec<Fact>,
}

/// A fact about the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// The name.
    pub name: String,
    /// The value. `None` if it could not be read.
    pub value: Option<String>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
