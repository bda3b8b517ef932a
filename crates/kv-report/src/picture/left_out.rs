//! What a picture leaves out: names that the embedded font cannot draw, and lines that would hide the others.

use ab_glyph::{Font, FontRef};

use crate::style::tick_text;
use crate::{Chart, Form, Quantity};

/// Charts as they are drawn in pictures, and the names that are numbers in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    /// The same charts, in whose texts a name that the font lacks is its number in parentheses. A line over lengths beside which the
    /// others could not be told apart is not drawn, and its numbers are in the caption.
    pub charts: Vec<Chart>,
    /// The names, from number 1 on.
    pub names: Vec<String>,
}

/// What pictures of charts show. A name with a character that the embedded font lacks (Arabic, Chinese, an emoji) gets a number, the
/// same in all charts; any other such character becomes a question mark.
pub fn pictures(charts: &[Chart]) -> Pictures {
    let Ok(font) = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT) else {
        return Pictures { charts: charts.to_vec(), names: vec![] };
    };
    let can_draw = |text: &str| text.chars().all(|character| font.glyph_id(character).0 != 0);
    let mut lacking: Vec<&str> = charts.iter().flat_map(texts_of_lines).filter(|name| !can_draw(name)).collect();
    // "名, batch 4" is the name "名", and more.
    lacking.sort_by_key(|name| name.chars().count());
    let mut names: Vec<String> = vec![];
    for name in lacking {
        if !can_draw(&numbered(&names, name)) {
            names.push(name.into());
        }
    }
    let text = |text: &str| -> String {
        let drawn = |character: char| if font.glyph_id(character).0 == 0 { '?' } else { character };
        numbered(&names, text).chars().map(drawn).collect()
    };
    let charts = charts.iter().map(|chart| with_texts(without_outliers(chart), &text)).collect();
    Pictures { charts, names }
}

/// A text in which each of the names is its number. Of names that contain each other, the longer goes first.
fn numbered(names: &[String], text: &str) -> String {
    let numbers = names.iter().enumerate().rev();
    numbers.fold(text.into(), |text, (index, name)| text.replace(name.as_str(), &format!("({})", index + 1)))
}

fn texts_of_lines(chart: &Chart) -> impl Iterator<Item = &str> {
    let bars = match &chart.form {
        Form::Bars { names, .. } => names.as_slice(),
        Form::Lines | Form::Points { .. } => &[],
    };
    chart.series.iter().map(|series| series.name.as_str()).chain(bars.iter().map(String::as_str))
}

fn without_outliers(chart: &Chart) -> Chart {
    let mut drawn = chart.clone();
    // What recomputing adds up to is what a chart of the whole time is about.
    if chart.x.quantity != Quantity::SequenceLength {
        return drawn;
    }
    for name in chart.outliers() {
        let heights = || chart.series.iter().filter(|series| series.name == name).flat_map(|series| &series.points).map(|(_, y)| *y);
        let (low, high) = (heights().fold(f64::INFINITY, f64::min), heights().fold(f64::NEG_INFINITY, f64::max));
        drawn.series.retain(|series| series.name != name);
        drawn.caption.push_str(&format!(" Far above the others and not drawn: {name}, {} to {}.", tick_text(low), tick_text(high)));
    }
    drawn
}

fn with_texts(mut chart: Chart, text: &impl Fn(&str) -> String) -> Chart {
    let lines = chart.series.iter_mut().map(|series| &mut series.name);
    let bars = match &mut chart.form {
        Form::Bars { names, .. } => names.as_mut_slice(),
        Form::Lines | Form::Points { .. } => &mut [],
    };
    let others = [&mut chart.title, &mut chart.caption, &mut chart.x.label, &mut chart.y.label];
    lines.chain(bars).chain(others).for_each(|each| *each = text(each));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arrangement, Axis, Scale, Series};

    fn chart(names: &[&str], form: Form) -> Chart {
        let series = names.iter().map(|name| Series { name: (*name).into(), style: 0, points: vec![(1.0, 1.0)], intervals: vec![] });
        let axis = |label: &str| Axis::new(label, Scale::Linear);
        Chart {
            name: "test",
            title: "Of 日本語 and 漢".into(),
            caption: "Above the baseline, 日本.".into(),
            x: axis("x"),
            y: axis("ratio to 日本"),
            form,
            series: series.collect(),
        }
    }

    #[test]
    fn a_name_that_the_font_lacks_is_a_number_in_every_chart() {
        let lines = chart(&["paged", "日本語", "日本, batch 4", "日本", "سريع", "🚀 fast"], Form::Lines);
        let bars = chart(&["part"], Form::Bars { names: vec!["日本".into(), "×2 é".into()], arrangement: Arrangement::Beside });
        let drawn = pictures(&[lines, bars]);
        assert_eq!(drawn.names, ["日本", "日本語", "سريع", "🚀 fast"]);
        let names: Vec<_> = drawn.charts[0].series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["paged", "(2)", "(1), batch 4", "(1)", "(3)", "(4)"]);
        assert_eq!(drawn.charts[0].title, "Of (2) and ?");
        assert_eq!((drawn.charts[0].caption.as_str(), drawn.charts[0].y.label.as_str()), ("Above the baseline, (1).", "ratio to (1)"));
        let Form::Bars { names, .. } = &drawn.charts[1].form else { panic!("bars stay bars") };
        assert_eq!(names, &["(1)", "×2 é"]);
    }

    #[test]
    fn a_line_far_above_the_others_is_told_and_not_drawn() {
        let mut lines = chart(&["a", "naive", "b"], Form::Lines);
        lines.series[1].points = vec![(1.0, 100.0), (2.0, 331.0)];
        lines.y = Axis::new("time (ms)", Scale::Log).of(Quantity::Time);
        let whole = |lines: &Chart| pictures(std::slice::from_ref(lines)).charts.remove(0);
        assert_eq!(whole(&lines).series.len(), 3, "a time that adds up is drawn whole");
        lines.x = lines.x.of(Quantity::SequenceLength);
        let drawn = whole(&lines);
        assert_eq!(drawn.series.iter().map(|series| series.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(drawn.caption.ends_with("Far above the others and not drawn: naive, 100 to 331."), "{}", drawn.caption);
    }

    #[test]
    fn charts_that_can_be_drawn_stay_as_they_are() {
        let mut plain = chart(&["paged/16 q8_0", "×2 – naïve"], Form::Lines);
        plain.title = "Title".into();
        plain.caption = "Caption: 5 % ≤ x.".into();
        plain.y.label = "y".into();
        assert_eq!(pictures(std::slice::from_ref(&plain)), Pictures { charts: vec![plain], names: vec![] });
    }
}
