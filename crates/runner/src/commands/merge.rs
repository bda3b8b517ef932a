//! `merge`: one run from the parts of a plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kv_report::{RunState, Status};

use super::print;
use super::report::require_complete;
use crate::join::{Found, Missing, join};
use crate::run_folder::{self, RunFolder, Unfinished, unfinished_folder};
use crate::run_record::quoted;
use crate::screen::printable;
use crate::summary::tables;
use crate::table::Format;
use crate::{Problem, exit, sweep};

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArguments {
    /// The folders of the parts, in any order.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Folder for the report; it is created if it does not exist.
    #[arg(long)]
    out: PathBuf,
    /// Join what is there if parts are missing or unfinished; the report says what is not there.
    #[arg(long)]
    allow_missing: bool,
    /// How the table is written.
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    format: Format,
}

pub(crate) fn merge(arguments: &MergeArguments) -> Result<ExitCode, Problem> {
    let MergeArguments { folders, out, allow_missing, format } = arguments;
    let missing = if *allow_missing { Missing::Allowed } else { Missing::Refused };
    let found: Vec<Found> =
        folders.iter().map(|folder| read(folder, missing)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    if folders.iter().chain(found.iter().map(|each| &each.folder)).any(|folder| is_same(folder, out)) {
        return Err(Problem::new(format!("`--out {}` is one of the parts: the report would take its place", out.display())));
    }
    let (run, visits) = join(found, missing, command(arguments))?;
    let (mut folder, _) = RunFolder::open(out, Unfinished::Refuse)?;
    let visits = folder.replace_visits(&visits)?;
    let results = sweep::results(&run, &visits);
    sweep::write_tables(&results, &folder)?;
    for (name, bytes) in sweep::draw(&results, &[], sweep::PAGE)? {
        folder.write(&name, &bytes)?;
    }
    folder.write_run(&run)?;
    let page = folder.finish()?.join("index.html");
    print(&tables(&results, *format))?;
    print(&format!("\nreport: {}\n", printable(&page.display().to_string())))?;
    let is_whole = run.state == RunState::Finished && results.rows.iter().all(|row| row.status == Status::Ok);
    Ok(if is_whole { exit::OK } else { exit::some_failed() })
}

/// The part in a folder, or the unfinished one beside it, or that of the only model in it. `None` if there is none and that is
/// allowed.
fn read(folder: &Path, missing: Missing) -> Result<Option<Found>, Problem> {
    let unfinished = unfinished_folder(folder)?;
    for place in [folder, &unfinished] {
        if let Some(left) = run_folder::read(place)? {
            require_complete(place, &left)?;
            return Ok(Some(Found { folder: place.to_owned(), run: left.run, visits: left.visits }));
        }
    }
    if let Some(model) = only_model(folder)? {
        return read(&model, missing);
    }
    match missing {
        Missing::Allowed => Ok(None),
        Missing::Refused => Err(Problem::new(format!("`{}` holds no part of a run: run.json is not there", folder.display()))
            .help("`--allow-missing` joins what is there, and the report says what is not")),
    }
}

/// The folder of the only model in a folder: a part of one of several models has the name of its model.
fn only_model(folder: &Path) -> Result<Option<PathBuf>, Problem> {
    let is_unfinished = |path: &Path| path.extension().is_some_and(|ending| ending == "unfinished");
    let target = |path: PathBuf| if is_unfinished(&path) { path.with_extension("") } else { path };
    let inside = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let models: BTreeSet<PathBuf> = inside.filter(|path| path.join("run.json").is_file()).map(target).collect();
    let mut models = models.into_iter();
    match (models.next(), models.next()) {
        (Some(one), Some(other)) => Err(Problem::new(format!("`{}` holds the parts of several models", folder.display())).help(format!(
            "give the folder of one of them, `{}` or `{}`",
            one.display(),
            other.display()
        ))),
        (only, _) => Ok(only),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The command that joins the same again.
fn command(arguments: &MergeArguments) -> String {
    let shown = |path: &PathBuf| path.display().to_string();
    let folders = arguments.folders.iter().map(shown);
    let missing = arguments.allow_missing.then(|| "--allow-missing".to_owned());
    quoted(["merge".to_owned()].into_iter().chain(folders).chain(["--out".to_owned(), shown(&arguments.out)]).chain(missing))
}
