//! `fetch`: a model or a text through the user's own package managers.

use std::process::ExitCode;

use super::print;
use crate::models::{self, CATALOG, Fetchable};
use crate::problem::did_you_mean;
use crate::progress::say;
use crate::{Problem, exit};

pub(crate) fn fetch(name: &str) -> Result<ExitCode, Problem> {
    let item = Fetchable::find(name).ok_or_else(|| {
        let names = CATALOG.map(|item| item.name);
        let help = did_you_mean(name, names).unwrap_or_else(|| "`runner list` shows what each is".into());
        Problem::new(format!("nothing to fetch is called `{name}`; known: {}", names.join(", "))).help(help)
    })?;
    say(&format!("fetching {}: {}", item.name, item.summary));
    let path = models::fetch(item)?;
    print(&format!("{}\n", path.display()))?;
    Ok(exit::OK)
}
