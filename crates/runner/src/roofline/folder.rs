//! The folder of a roofline report.
//!
//! It grows beside the folder that it is meant for, and takes that folder's place as a whole when it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use kv_model::Preset;
use kv_report::{ReportError, RooflineReport, Theme, roofline_charts, roofline_csv, roofline_html};

use crate::Problem;
use crate::files::write_durably;
use crate::sweep::picture_files;
use crate::whole_folder::{beside, replace, replaced_folder, require_report, unusable};

/// A folder that a report will be written to. Without one, nothing is left of it.
#[derive(Debug)]
pub(crate) struct RooflineFolder {
    target: PathBuf,
    growing: PathBuf,
}

/// What makes a folder one of a roofline report.
const MEASUREMENTS: &str = "roofline.json";
const TABLE: &str = "roofline.csv";
const PAGE: &str = "index.html";
const CHARTS: &str = "roofline";

impl RooflineFolder {
    /// Takes the place beside the folder, so that it is known before anything is measured whether a report can be written.
    ///
    /// # Errors
    /// A [`Problem`] if the folder holds anything but an earlier roofline report, or if nothing can be written.
    pub(crate) fn open(target: &Path) -> Result<RooflineFolder, Problem> {
        // A link stays one: what is replaced is the folder that it leads to.
        let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
        // Two processes may write the same report. One of them wins.
        let growing = beside(&target, &format!(".{}.new", std::process::id()))?;
        for folder in [&target, &replaced_folder(&target)] {
            require_roofline(folder)?;
        }
        fs::create_dir_all(&growing).map_err(|error| unusable(&growing, error))?;
        Ok(RooflineFolder { target, growing })
    }

    /// Writes the report and puts it where it is meant to be, in place of an earlier one. Answers its page.
    ///
    /// # Errors
    /// A [`Problem`] that names the file or the chart.
    pub(crate) fn finish(self, report: &RooflineReport) -> Result<PathBuf, Problem> {
        let files = files(report).map_err(|error| Problem::new("cannot draw the report").caused_by(error))?;
        for (name, bytes) in files {
            let path = self.growing.join(&name);
            write_durably(&path, &bytes).map_err(|error| Problem::new(format!("cannot write `{}`", path.display())).caused_by(error))?;
        }
        // Files that came into it in the meantime are somebody's.
        require_roofline(&self.target)?;
        // Of a process that was killed while it took the place of an earlier report.
        let _ = fs::remove_dir_all(replaced_folder(&self.target));
        replace(&self.growing, &self.target).map_err(|error| unusable(&self.target, error))?;
        Ok(self.target.join(PAGE))
    }
}

impl Drop for RooflineFolder {
    fn drop(&mut self) {
        // It is not there any more if it took its place.
        let _ = fs::remove_dir_all(&self.growing);
    }
}

/// The files of a report, the page last.
fn files(report: &RooflineReport) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let roofline = &report.roofline;
    let json = serde_json::to_vec_pretty(report).map_err(|source| ReportError::Json { file: MEASUREMENTS, source })?;
    let mut files = vec![(MEASUREMENTS.to_owned(), json), (TABLE.to_owned(), roofline_csv(roofline))];
    for (name, chart) in roofline_charts(roofline) {
        files.extend(picture_files(&name, &chart)?);
    }
    files.push((PAGE.to_owned(), roofline_html(report)?.into_bytes()));
    Ok(files)
}

fn require_roofline(folder: &Path) -> Result<(), Problem> {
    require_report(folder, |name| name == MEASUREMENTS, is_of_a_report)
}

/// Whether a report has a file of this name.
fn is_of_a_report(name: &str) -> bool {
    let picture = name.strip_suffix(".png").or(name.strip_suffix(".svg"));
    let is_chart = |chart: &str| chart == CHARTS || chart.strip_prefix("roofline-").is_some_and(|model| Preset::find(model).is_some());
    let is_picture = picture.is_some_and(|name| Theme::ALL.iter().filter_map(|theme| name.strip_suffix(theme.suffix())).any(is_chart));
    is_picture || matches!(name, MEASUREMENTS | TABLE | PAGE)
}

#[cfg(test)]
mod tests {
    use super::super::tests::roofline;
    use super::*;
    use crate::{environment, run_record};

    fn report(models: &[&str]) -> RooflineReport {
        RooflineReport {
            command: "runner roofline".into(),
            started: run_record::now(),
            machine_id: run_record::machine_id(),
            build: run_record::build_record(),
            environment: environment::read(2),
            warnings: vec![],
            roofline: roofline(models),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_roofline_report_replaces_an_earlier_one_as_a_whole() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("report");
        let write = |models: &[&str]| RooflineFolder::open(&target).unwrap().finish(&report(models)).unwrap();
        assert_eq!(write(&["tiny", "llama-3.2-1b"]), target.join("index.html"));
        let of = |model: &str| ["-dark.png", "-dark.svg", ".png", ".svg"].map(|ending| format!("roofline-{model}{ending}"));
        let several = [vec!["index.html".to_owned()], of("llama-3.2-1b").into(), of("tiny").into()].concat();
        let several = [several, vec!["roofline.csv".into(), "roofline.json".into()]].concat();
        let mut found = names(&target);
        found.sort_by_key(|name| several.iter().position(|other| other == name));
        assert_eq!(found, several);
        write(&["tiny"]);
        let one = ["index.html", "roofline-dark.png", "roofline-dark.svg", "roofline.csv", "roofline.json", "roofline.png", "roofline.svg"];
        assert_eq!(names(&target), one);
        assert_eq!(names(place.path()), ["report"], "nothing is left beside it");
        let json: serde_json::Value = serde_json::from_slice(&fs::read(target.join("roofline.json")).unwrap()).unwrap();
        assert_eq!(json["build"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(json["rows"].is_array() && json["environment"]["facts"].is_array(), "{json}");
    }

    #[test]
    fn a_folder_of_anything_but_a_roofline_report_is_refused_before_anything_is_measured() {
        let place = tempfile::tempdir().unwrap();
        for (name, is_refused) in [("notes.md", true), ("run.json", true), ("roofline-mine.png", true), ("roofline-tiny-dark.svg", false)] {
            let target = place.path().join(name).join("report");
            drop(RooflineFolder::open(&target).unwrap());
            assert!(!target.exists(), "a report that never came leaves nothing");
            fs::create_dir_all(&target).unwrap();
            fs::write(target.join(name), "mine").unwrap();
            assert!(RooflineFolder::open(&target).is_err(), "{name} alone is no report");
            fs::write(target.join(MEASUREMENTS), "{}").unwrap();
            assert_eq!(RooflineFolder::open(&target).is_err(), is_refused, "{name}");
            assert_eq!(fs::read(target.join(name)).unwrap(), b"mine");
        }
    }
}
