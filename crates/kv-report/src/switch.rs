//! What a reader of a page can switch off: strategies, and other engines.

use crate::Chart;
use crate::charts::Line;
use crate::peer_lines::peer_lines;
use crate::shown::shortened;
use crate::style::colour;

/// The switch of a strategy, or of another engine.
pub(crate) struct Switch {
    pub(crate) label: String,
    pub(crate) color: String,
}

impl Switch {
    /// One for each strategy, in the order of the config, with the color of its first line.
    pub(crate) fn strategies(lines: &[Line]) -> Vec<Switch> {
        Switch::each(lines.iter().map(|line| (line.label.as_str(), line.style)))
    }

    /// One for each other engine that is drawn beside these lines.
    pub(crate) fn peers(charts: &[Chart], lines: &[Line]) -> Vec<Switch> {
        let all = charts.iter().flat_map(|chart| peer_lines(chart, lines).map(|(_, series)| (series.name.as_str(), series.style)));
        Switch::each(all)
    }

    /// Its label, cut if it is very long.
    pub(crate) fn short(&self) -> String {
        shortened(&self.label)
    }

    /// One for each label.
    fn each<'a>(all: impl Iterator<Item = (&'a str, usize)>) -> Vec<Switch> {
        let mut switches: Vec<Switch> = vec![];
        for (label, style) in all {
            if switches.iter().all(|other| other.label != label) {
                let (red, green, blue) = colour(style);
                switches.push(Switch { label: label.to_owned(), color: format!("rgb({red},{green},{blue})") });
            }
        }
        switches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charts::lines;
    use crate::{Series, charts, example};

    #[test]
    fn an_engine_has_one_switch_for_all_charts_in_the_color_of_its_line() {
        let results = example::results();
        let lines = lines(&results);
        let mut all = charts(&results, &[]);
        assert!(Switch::peers(&all, &lines).is_empty());
        for (chart, name, style) in [(0, "engine", 0), (0, "another", 1), (1, "engine", 0)] {
            let style = lines.len() + style;
            all[chart].series.push(Series { name: name.into(), style, points: vec![(128.0, 1.0)], intervals: vec![] });
        }
        let of = |switches: Vec<Switch>| switches.into_iter().map(|switch| switch.label).collect::<Vec<_>>();
        assert_eq!(of(Switch::peers(&all, &lines)), ["engine", "another"]);
        assert_eq!(of(Switch::strategies(&lines)), ["contiguous", "slow", "large"]);
        let (red, green, blue) = colour(lines.len());
        assert_eq!(Switch::peers(&all, &lines)[0].color, format!("rgb({red},{green},{blue})"));
    }
}
