//! The folder of several models: each has the folder of a run in it, beside an overview of all.
//!
//! `models.json` says which models belong together, and how far each has come. Everything else in it is a view of the runs.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kv_report::{Overview, OverviewModel, ReportError};
use serde::{Deserialize, Serialize};

use crate::files::write_durably;
use crate::run_folder::{self, Left};
use crate::{Problem, sweep};

/// The file that makes a folder one of several models.
const MODELS: &str = "models.json";
const LOCK: &str = "lock";
/// The version of the file.
const SCHEMA: u32 = 1;

/// What belongs together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Models {
    pub(crate) schema: u32,
    /// The config's title.
    pub(crate) title: String,
    /// In the order of the config.
    pub(crate) models: Vec<Entry>,
}

/// One of the models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Its name, and that of its folder.
    pub(crate) name: String,
    /// A hash of what its run depends on.
    pub(crate) plan: String,
    pub(crate) state: State,
}

/// How far a model has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum State {
    /// Its run has not finished.
    Due,
    /// It was run.
    Finished,
    /// It could not be run, for this reason.
    Failed(String),
}

impl Models {
    pub(crate) fn new(title: String, models: Vec<Entry>) -> Models {
        Models { schema: SCHEMA, title, models }
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.name == name)
    }
}

/// The models of a folder. `None` if it is not one of several models.
///
/// # Errors
/// A [`Problem`] that names the file if it cannot be read.
pub(crate) fn read(folder: &Path) -> Result<Option<Models>, Problem> {
    let path = folder.join(MODELS);
    let unreadable = |error: &dyn std::error::Error| Problem::new(format!("cannot read `{}`: {error}", path.display()));
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let models: Models = serde_json::from_slice(&json).map_err(|error| unreadable(&error))?;
    if models.schema != SCHEMA {
        return Err(Problem::new(format!("`{}` has schema {}, and only schema {SCHEMA} can be read", path.display(), models.schema)));
    }
    Ok(Some(models))
}

/// The folder of several models while they are run: nobody else can take it.
#[derive(Debug)]
pub(crate) struct OverviewFolder {
    path: PathBuf,
    pub(crate) models: Models,
    _lock: File,
}

impl OverviewFolder {
    /// Takes a folder for these models. Nothing is noted in it yet: see [`save`](OverviewFolder::save).
    ///
    /// # Errors
    /// A [`Problem`] if others are written there, if it holds anything but an overview, or if nothing can be written.
    pub(crate) fn open(path: &Path, models: Models) -> Result<OverviewFolder, Problem> {
        if read(path)?.is_none() {
            require_empty(path)?;
        }
        let unusable = |error: std::io::Error| {
            Problem::new(format!("the reports cannot be written to `{}`", path.display()))
                .caused_by(error)
                .help("`--out FOLDER` puts them elsewhere; the folder is made if it does not exist")
        };
        fs::create_dir_all(path).map_err(unusable)?;
        let lock = run_folder::lock(path).map_err(unusable)?.ok_or_else(|| {
            Problem::new(format!("another run is writing to `{}`", path.display())).help("wait for it, or give another folder with `--out`")
        })?;
        Ok(OverviewFolder { path: path.to_owned(), models, _lock: lock })
    }

    /// Notes how far a model has come.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(crate) fn set(&mut self, name: &str, state: State) -> Result<(), Problem> {
        if let Some(entry) = self.models.models.iter_mut().find(|entry| entry.name == name) {
            entry.state = state;
        }
        self.save()
    }

    /// Writes down which models belong together, and how far they have come.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(crate) fn save(&self) -> Result<(), Problem> {
        let json = serde_json::to_vec_pretty(&self.models).map_err(|error| Problem::new("cannot convert the models").caused_by(error))?;
        write(&self.path, MODELS, &json)
    }

    /// Removes the folder if it holds nothing that was measured.
    pub(crate) fn discard_if_empty(self) {
        let is_own = |name: &str| matches!(name, MODELS | LOCK);
        let names = fs::read_dir(&self.path)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect::<Vec<_>>());
        if names.is_ok_and(|names| names.iter().all(|name| is_own(name))) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Drop for OverviewFolder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path.join(LOCK));
    }
}

/// Refuses a folder that exists and is not one of several models.
fn require_empty(path: &Path) -> Result<(), Problem> {
    let mut names =
        fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    match names.find(|name| name != LOCK) {
        None => Ok(()),
        Some(name) => Err(Problem::new(format!(
            "`{}` holds `{name}`, and not the reports of several models, which are to be written there",
            path.display()
        ))
        .help("give another folder with `--out`, or move what is there away")),
    }
}

/// What a folder of several models holds, for its overview.
///
/// # Errors
/// A [`Problem`] that names a file that cannot be read.
pub(crate) fn overview(folder: &Path, models: &Models) -> Result<Overview, Problem> {
    let models_of_page = models.models.iter().map(|entry| overview_model(folder, entry)).collect::<Result<Vec<_>, _>>()?;
    Ok(Overview { title: models.title.clone(), models: models_of_page })
}

/// The run of a model that its overview shows: the one in hand, or else the finished one.
fn overview_model(folder: &Path, entry: &Entry) -> Result<OverviewModel, Problem> {
    let found = found(folder, entry)?;
    let is_earlier = entry.state != State::Finished && found.as_ref().is_some_and(|(name, _)| *name == entry.name);
    let note = match (&entry.state, is_earlier) {
        (_, true) => Some("what is shown belongs to an earlier run".to_owned()),
        (State::Failed(reason), false) => Some(format!("it could not be run: {reason}")),
        (State::Due, false) if found.is_none() => Some("it has not been run".to_owned()),
        (State::Due | State::Finished, false) => None,
    };
    let page = found.as_ref().map(|(name, _)| format!("{name}/index.html")).filter(|page| folder.join(page).is_file());
    let results = found.map(|(_, left)| sweep::results(&left.run, &left.visits));
    Ok(OverviewModel { name: entry.name.clone(), page, results, note })
}

/// The folders of the runs that the overview shows.
///
/// # Errors
/// A [`Problem`] that names a file that cannot be read.
pub(crate) fn runs(folder: &Path, models: &Models) -> Result<Vec<PathBuf>, Problem> {
    let found = models.models.iter().map(|entry| found(folder, entry)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().map(|(name, _)| folder.join(name)).collect())
}

/// The folder of the run that stands for a model, by its name, and the run.
fn found(folder: &Path, entry: &Entry) -> Result<Option<(String, Left)>, Problem> {
    let target = folder.join(&entry.name);
    let unfinished = run_folder::unfinished_folder(&target)?;
    if entry.state != State::Finished
        && let Some(left) = run_folder::read(&unfinished)?.filter(|left| !left.visits.is_empty())
    {
        let name = unfinished.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Some((name, left)));
    }
    Ok(run_folder::read(&target)?.map(|left| (entry.name.clone(), left)))
}

/// Writes the files of an overview.
///
/// # Errors
/// A [`Problem`] that names the file or the chart.
pub(crate) fn draw(folder: &Path, overview: &Overview) -> Result<(), Problem> {
    let undrawn = |error: ReportError| Problem::new("cannot draw the overview").caused_by(error);
    let speed_ups = overview.speed_ups();
    write(folder, "results.csv", &kv_report::joined_csv(&overview.results()))?;
    write(folder, "speedup.csv", &kv_report::speed_up_csv(&speed_ups))?;
    if let Some(chart) = kv_report::speed_up_chart(&speed_ups) {
        for (name, bytes) in sweep::pictures(&[chart]).map_err(undrawn)? {
            write(folder, &name, &bytes)?;
        }
    }
    write(folder, "index.html", kv_report::overview_html(overview).map_err(undrawn)?.as_bytes())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Problem> {
    let path = folder.join(name);
    write_durably(&path, bytes).map_err(|error| Problem::new(format!("cannot write `{}`", path.display())).caused_by(error))
}
