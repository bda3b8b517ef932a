//! The measurements as CSV.

use super::{Judged, Located, Roofline, RooflineRow};
use crate::spreadsheet::as_text;
use crate::table::{number, table};

/// The columns of `roofline.csv`.
const COLUMNS: [&str; 21] = [
    "model",
    "format",
    "layout",
    "layer_bytes",
    "bytes_per_second",
    "bytes_per_second_low",
    "bytes_per_second_high",
    "of_bandwidth",
    "of_bandwidth_low",
    "of_bandwidth_high",
    "layer_seconds",
    "layer_seconds_low",
    "layer_seconds_high",
    "time_over_f32",
    "time_over_f32_low",
    "time_over_f32_high",
    "time_over_f32_verdict",
    "time_over_contiguous",
    "time_over_contiguous_low",
    "time_over_contiguous_high",
    "time_over_contiguous_verdict",
];

/// `roofline.csv`: one row for each model, format and layout, in full precision. What is compared with itself has no ratio.
pub fn roofline_csv(roofline: &Roofline) -> Vec<u8> {
    table(&COLUMNS, roofline.rows.iter().map(fields))
}

fn fields(row: &RooflineRow) -> Vec<String> {
    let RooflineRow { model, format, layout, layer_bytes, bytes_per_second, of_bandwidth, layer_seconds, .. } = row;
    let mut fields = vec![as_text(model), as_text(format), as_text(layout), layer_bytes.to_string()];
    fields.extend([bytes_per_second, of_bandwidth, layer_seconds].into_iter().flat_map(|value| numbers(Some(*value))));
    for judged in [&row.time_over_f32, &row.time_over_contiguous] {
        let ratio = |Judged { ratio, interval, .. }: &Judged| Located { value: *ratio, interval: *interval };
        fields.extend(numbers(judged.as_ref().map(ratio)));
        fields.push(as_text(judged.as_ref().and_then(|judged| judged.verdict.as_deref()).unwrap_or_default()));
    }
    fields
}

/// A value and the ends of its interval.
fn numbers(located: Option<Located>) -> [String; 3] {
    let interval = located.and_then(|located| located.interval);
    [located.map(|located| located.value), interval.map(|(low, _)| low), interval.map(|(_, high)| high)].map(number)
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    fn column(csv: &[u8], name: &str) -> Vec<String> {
        let mut reader = csv::Reader::from_reader(csv);
        let index = reader.headers().unwrap().iter().position(|each| each == name).unwrap();
        reader.records().map(|record| record.unwrap()[index].to_owned()).collect()
    }

    #[test]
    fn every_format_and_layout_is_a_row_in_full_precision() {
        let mut roofline = example::roofline();
        roofline.rows[0].of_bandwidth.value = 0.123_456_789_012_345;
        let csv = roofline_csv(&roofline);
        assert_eq!(column(&csv, "layout"), ["contiguous", "paged 16", "contiguous", "paged 16"]);
        assert_eq!(column(&csv, "of_bandwidth")[0], "0.123456789012345");
        assert_eq!(column(&csv, "of_bandwidth_low")[1].parse::<f64>().unwrap(), 0.98 * 0.8);
        assert_eq!(column(&csv, "time_over_f32"), ["", "1.12", "0.64", "0.65"]);
        assert_eq!(column(&csv, "time_over_contiguous_verdict"), ["", "slower", "", "same"]);
        let without = roofline_csv(&example::of_two_launches());
        assert!(column(&without, "of_bandwidth_high").iter().all(String::is_empty));
        assert_eq!(column(&without, "time_over_f32"), column(&csv, "time_over_f32"));
    }

    #[test]
    fn no_name_is_a_formula() {
        let mut roofline = example::roofline();
        roofline.rows[0].model = "=1+1".into();
        roofline.rows[0].format = "@f32".into();
        let csv = roofline_csv(&roofline);
        assert_eq!((column(&csv, "model")[0].as_str(), column(&csv, "format")[0].as_str()), ("'=1+1", "'@f32"));
    }
}
