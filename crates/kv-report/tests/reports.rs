//! The reports that the documents cite can be drawn again, into cargo's temporary folder for tests.

use std::fs;
use std::path::Path;

use kv_report::{Results, charts, html, read_samples};

#[test]
fn every_report_of_the_repository_can_be_drawn_again() {
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports");
    let folders = fs::read_dir(reports).unwrap().map(|entry| entry.unwrap().path());
    // The folders of one's own, which git ignores, may be unfinished.
    let cited = |folder: &Path| folder.is_dir() && folder.file_name().unwrap().to_string_lossy().starts_with("20");
    let mut drawn = 0;
    for folder in folders.filter(|folder| cited(folder)) {
        let results: Results = serde_json::from_slice(&fs::read(folder.join("results.json")).unwrap()).unwrap();
        let samples = read_samples(&fs::read(folder.join("samples.csv")).unwrap()).unwrap();
        let charts = charts(&results, &samples, &[]);
        let page = html(&results, &charts).unwrap();
        assert!(!charts.is_empty(), "{} has no charts", folder.display());
        assert_eq!(page.matches("<figure>").count(), charts.len(), "{}", folder.display());
        let name = folder.file_name().unwrap();
        fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("html"), page).unwrap();
        drawn += 1;
    }
    assert!(drawn > 0, "no report was drawn");
}
