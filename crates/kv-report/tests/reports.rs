//! The reports that the documents cite can be drawn again, into cargo's temporary folder for tests.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use kv_report::{Edition, Theme, charts, html, metrics_csv, pictures, png, read_old, results_csv, samples_csv, svg};

#[test]
fn every_report_of_the_repository_can_be_drawn_again() {
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports");
    let folders = fs::read_dir(reports).unwrap().map(|entry| entry.unwrap().path());
    // The folders of one's own, which git ignores, may be unfinished.
    let cited = |folder: &Path| {
        let is_dated = folder.is_dir() && folder.file_name().unwrap().to_string_lossy().starts_with("20");
        // Later ones have tables and pictures alone: their logs have megabytes.
        is_dated && folder.join("results.json").is_file()
    };
    let mut drawn = 0;
    for folder in folders.filter(|folder| cited(folder)) {
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        let results = read_old(&read("results.json"), &read("samples.csv")).unwrap();
        let charts = charts(&results, &[]);
        let page = html(&results, &charts, &[], Edition::Interactive).unwrap();
        assert!(!charts.is_empty(), "{} has no charts", folder.display());
        assert_eq!(page.matches("<figure>").count(), charts.len(), "{}", folder.display());
        // There are more charts than there were then.
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_drawn = || charts.iter().any(|chart| path.file_stem().unwrap() == chart.name);
            assert!(path.extension().unwrap() != "png" || is_drawn(), "{} is drawn no more", path.display());
        }
        for chart in &pictures(&charts).charts {
            for theme in Theme::ALL {
                assert!(!png(chart, theme).unwrap().is_empty() && !svg(chart, theme).unwrap().is_empty());
            }
        }
        assert_same_values(&read("results.csv"), &results_csv(&results));
        assert_same_values(&read("samples.csv"), &samples_csv(&results));
        assert!(metrics_csv(&results).len() > results_csv(&results).len());
        let name = folder.file_name().unwrap();
        fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("html"), page).unwrap();
        drawn += 1;
    }
    assert!(drawn > 0, "no report was drawn");
}

/// A table has the columns of an old one, with the same values under the same names. `serde_json` reads a number to within
/// a few units in the last place.
fn assert_same_values(old: &[u8], new: &[u8]) {
    let (mut old, mut new) = (csv::Reader::from_reader(old), csv::Reader::from_reader(new));
    let names = new.headers().unwrap().clone();
    let places: Vec<usize> =
        old.headers().unwrap().iter().map(|name| names.iter().position(|each| each == name).unwrap_or_else(|| panic!("{name}"))).collect();
    let (old, new): (Vec<_>, Vec<_>) = (old.records().map(Result::unwrap).collect(), new.records().map(Result::unwrap).collect());
    assert_eq!(old.len(), new.len());
    for (old, new) in old.iter().zip(&new) {
        for (field, place) in old.iter().zip(&places) {
            let same = match (field.parse::<f64>(), new[*place].parse::<f64>()) {
                (Ok(a), Ok(b)) => (a - b).abs() <= 1e-14 * a.abs(),
                _ => *field == new[*place],
            };
            assert!(same, "{field} became {} in {new:?}", &new[*place]);
        }
    }
}
