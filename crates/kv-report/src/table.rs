//! Results and samples as CSV.

use serde::Serialize;

use crate::{ReportError, Row, Sample};

/// `results.csv`: one row per cell.
///
/// # Errors
/// [`ReportError::Csv`].
pub fn results_csv(rows: &[Row]) -> Result<Vec<u8>, ReportError> {
    to_csv(rows)
}

/// `samples.csv`: one row per timed step.
///
/// # Errors
/// [`ReportError::Csv`].
pub fn samples_csv(samples: &[Sample]) -> Result<Vec<u8>, ReportError> {
    to_csv(samples)
}

/// Reads `samples.csv` back.
///
/// # Errors
/// [`ReportError::Csv`] names the line.
pub fn read_samples(csv: &[u8]) -> Result<Vec<Sample>, ReportError> {
    csv::Reader::from_reader(csv).deserialize().map(|sample| sample.map_err(ReportError::from)).collect()
}

fn to_csv<T: Serialize>(rows: &[T]) -> Result<Vec<u8>, ReportError> {
    let mut writer = csv::Writer::from_writer(vec![]);
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|error| ReportError::Csv(error.into_error().into()))
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
        assert_eq!(csv.lines().nth(1).unwrap(), "a,b,c,decode,1,1,failed,\"cache is full, \"\"really\"\"\",,,,,,,,,,,,,,,,,,,");
    }

    #[test]
    fn samples_come_back() {
        let sample = Sample {
            label: "paged/16".into(),
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
        };
        let csv = samples_csv(std::slice::from_ref(&sample)).unwrap();
        assert_eq!(read_samples(&csv).unwrap(), [sample]);
        assert!(read_samples(b"label,workload\nx,y\n").is_err());
    }
}
