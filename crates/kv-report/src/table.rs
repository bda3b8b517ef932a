//! Results and samples as CSV.
//!
//! A spreadsheet takes a text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula. Labels and
//! the names of models come from files, so such a text gets a `'` in front, which spreadsheets show as text; reading takes
//! it off again.

use serde::Serialize;

use crate::{ReportError, Row, Sample};

/// `results.csv`: one row per cell.
///
/// # Errors
/// [`ReportError::Csv`].
pub fn results_csv(rows: &[Row]) -> Result<Vec<u8>, ReportError> {
    to_csv(rows.iter().map(|row| Row {
        label: as_text(&row.label),
        strategy: as_text(&row.strategy),
        model: as_text(&row.model),
        error: row.error.as_deref().map(as_text),
        guarantee: row.guarantee.as_deref().map(as_text),
        ..row.clone()
    }))
}

/// `samples.csv`: one row per timed step.
///
/// # Errors
/// [`ReportError::Csv`].
pub fn samples_csv(samples: &[Sample]) -> Result<Vec<u8>, ReportError> {
    to_csv(samples.iter().map(|sample| Sample { label: as_text(&sample.label), ..sample.clone() }))
}

/// Reads `samples.csv` back.
///
/// # Errors
/// [`ReportError::Csv`] names the line.
pub fn read_samples(csv: &[u8]) -> Result<Vec<Sample>, ReportError> {
    let original = |sample: Sample| Sample { label: of_text(&sample.label).to_owned(), ..sample };
    csv::Reader::from_reader(csv).deserialize().map(|sample| Ok(original(sample?))).collect()
}

fn to_csv<T: Serialize + Default>(rows: impl ExactSizeIterator<Item = T>) -> Result<Vec<u8>, ReportError> {
    let is_empty = rows.len() == 0;
    let mut writer = csv::Writer::from_writer(vec![]);
    for row in rows {
        writer.serialize(row)?;
    }
    if is_empty {
        // The names of the columns come with the first row.
        writer.serialize(T::default())?;
    }
    let mut csv = writer.into_inner().map_err(|error| ReportError::Csv(error.into_error().into()))?;
    if is_empty {
        let header = csv.iter().position(|byte| *byte == b'\n').map_or(csv.len(), |end| end + 1);
        csv.truncate(header);
    }
    Ok(csv)
}

/// A text that no spreadsheet takes for a formula. One that would be read back as another gets a `'` as well.
fn as_text(text: &str) -> String {
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}") } else { text.to_owned() }
}

/// What [`as_text`] was made of.
fn of_text(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(original) if is_formula(original.trim_start_matches('\'')) => original,
        _ => text,
    }
}

fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{COLUMNS, Status};

    #[test]
    fn every_column_is_explained_in_order() {
        let row = Row {
            label: "a".into(),
            strategy: "b".into(),
            model: "c".into(),
            workload: "decode".into(),
            seq_len: 1,
            batch: 1,
            status: Status::Failed,
            error: Some("cache is full, \"really\"".into()),
            ..Row::default()
        };
        let csv = String::from_utf8(results_csv(&[row]).unwrap()).unwrap();
        let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(csv.lines().next().unwrap(), names.join(","));
        assert_eq!(csv.lines().nth(1).unwrap(), "a,b,c,decode,1,1,failed,\"cache is full, \"\"really\"\"\",,,,,,,,,,,,,,,,,,,,");
    }

    fn sample(label: &str) -> Sample {
        Sample {
            label: label.into(),
            workload: "decode".into(),
            seq_len: 128,
            batch: 2,
            phase: "decode".into(),
            step: 3,
            warm_up: false,
            position: 131,
            step_ms: 1.25,
            cache_ms: 0.5,
            seam_ms: 0.25,
        }
    }

    #[test]
    fn tables_without_rows_have_their_header() {
        let header = |csv: Vec<u8>| String::from_utf8(csv).unwrap().lines().next().unwrap().to_owned();
        let empty = samples_csv(&[]).unwrap();
        assert!(read_samples(&empty).unwrap().is_empty());
        assert_eq!(empty.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(header(empty), header(samples_csv(&[sample("a")]).unwrap()));
        assert_eq!(header(results_csv(&[]).unwrap()), header(results_csv(&[Row::default()]).unwrap()));
    }

    #[test]
    fn no_label_is_a_formula_and_every_label_comes_back() {
        for label in ["=1+1", "+1", "-5 degrees", "@SUM(A1)", "\tx", "\rx", "'=1", "''-1", "'quoted'", "'", "", "plain", "a=1"] {
            let csv = samples_csv(&[sample(label)]).unwrap();
            assert_eq!(read_samples(&csv).unwrap(), [sample(label)], "{label}");
            let row = Row { label: label.into(), model: label.into(), error: Some(label.into()), ..Row::default() };
            for csv in [csv, results_csv(&[row]).unwrap()] {
                let cells = csv::Reader::from_reader(csv.as_slice()).records().map(Result::unwrap).next().unwrap();
                assert!(!cells.iter().any(is_formula), "{label}: {cells:?}");
            }
        }
    }

    #[test]
    fn samples_come_back() {
        let sample = sample("paged/16");
        let csv = samples_csv(std::slice::from_ref(&sample)).unwrap();
        assert_eq!(read_samples(&csv).unwrap(), [sample]);
        assert!(read_samples(b"label,workload\nx,y\n").is_err());
    }
}
