//! A chart as data. The PNG and the interactive figure are drawn from the same description.

/// A chart of lines, of points, or of bars.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// File name without extension.
    pub name: &'static str,
    /// The title.
    pub title: String,
    /// One or more sentences on how to read it.
    pub caption: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What the series are drawn as.
    pub form: Form,
    /// The lines, or the parts of bars.
    pub series: Vec<Series>,
}

/// What series are drawn as.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Lines through their points.
    Lines,
    /// One labeled point for each series, on logarithmic axes.
    Points {
        /// What each series' point has beside its place.
        marks: Vec<Mark>,
        /// The line through the points that no other is better than, in order of x.
        front: Vec<(f64, f64)>,
    },
    /// Bars over their names: the point `(0, y)` of a series is its part of the first, and so on.
    Bars {
        /// What stands under each bar, or under each group of bars.
        names: Vec<String>,
        /// How the parts of a name lie to each other.
        arrangement: Arrangement,
    },
}

/// What a point has beside its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Stands beside the point, and before the series' name in the legend.
    pub label: String,
    /// Stands behind the series' name in the legend: what the two axes do not show. May be empty.
    pub beside: String,
    /// Where the point lies along x with 95 %, if it is known.
    pub along_x: Option<(f64, f64)>,
}

/// How bars of one name lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// On top of each other: they add up.
    Stacked,
    /// Beside each other.
    Beside,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it is of, with its unit.
    pub label: String,
    /// How values map to distances.
    pub scale: Scale,
    /// What a page may do with its values.
    pub quantity: Quantity,
}

/// The quantities that charts and pages treat in ways of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// How many tokens a cache holds: a page shows those of one length.
    SequenceLength,
    /// An absolute time: it says something of the machine too, and one slow line hides the others.
    Time,
    /// Any other.
    Other,
}

impl Axis {
    /// An axis of any quantity.
    pub fn new(label: impl Into<String>, scale: Scale) -> Axis {
        Axis { label: label.into(), scale, quantity: Quantity::Other }
    }

    /// The same axis, of this quantity.
    #[must_use]
    pub fn of(self, quantity: Quantity) -> Axis {
        Axis { quantity, ..self }
    }
}

/// How values map to distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Linear, from zero.
    Linear,
    /// Logarithmic. Values must be positive.
    Log,
}

/// A line of the chart, one strategy instance; or a part of every bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Selects its color, dash and marker, the same in every chart of the report.
    pub style: usize,
    /// Its points, in order of x.
    pub points: Vec<(f64, f64)>,
    /// Where points lie with 95 %, for those of which it is known, in order of x.
    pub intervals: Vec<Interval>,
}

/// Where a point lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The point's place along x.
    pub x: f64,
    /// The lower end along y.
    pub low: f64,
    /// The upper end along y.
    pub high: f64,
}

impl Chart {
    /// Whether an axis has absolute times, which say something of the machine too.
    pub(crate) fn has_times(&self) -> bool {
        [&self.x, &self.y].into_iter().any(|axis| axis.quantity == Quantity::Time)
    }

    /// The measured lengths, as ticks of the horizontal axis. Empty if their labels would overlap.
    pub(crate) fn lengths(&self) -> Vec<f64> {
        if self.x.scale == Scale::Linear || self.form != Form::Lines {
            return vec![];
        }
        let mut lengths: Vec<f64> = self.series.iter().flat_map(|series| &series.points).map(|point| point.0).collect();
        lengths.sort_by(f64::total_cmp);
        lengths.dedup();
        let crowded = lengths.windows(2).any(|pair| pair[1] / pair[0] < 1.3);
        if crowded || lengths.len() > 14 { vec![] } else { lengths }
    }

    /// The names of lines beside which the others cannot be told apart: at most one, five times as high as all others, in a chart of times.
    pub(crate) fn outliers(&self) -> Vec<&str> {
        const TIMES: f64 = 5.0;
        // Where quality is drawn, what is far off is what the chart is about.
        if self.form != Form::Lines || self.series.len() < 3 || self.y.quantity != Quantity::Time {
            return vec![];
        }
        let top = |series: &Series| series.points.iter().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max);
        let Some(highest) = self.series.iter().max_by(|a, b| top(a).total_cmp(&top(b))) else { return vec![] };
        let of_others = self.series.iter().filter(|series| series.name != highest.name).map(top).fold(f64::NEG_INFINITY, f64::max);
        if of_others > 0.0 && top(highest) > TIMES * of_others { vec![&highest.name] } else { vec![] }
    }

    /// The extent of the points along x and y, or `None` if there are none.
    pub(crate) fn bounds(&self) -> Option<((f64, f64), (f64, f64))> {
        let ends = |interval: &Interval| [(interval.x, interval.low), (interval.x, interval.high)];
        let of_series = |series: &Series| series.points.iter().copied().chain(series.intervals.iter().flat_map(ends)).collect::<Vec<_>>();
        let points = || self.series.iter().flat_map(of_series).chain(self.ends_along_x());
        points().next()?;
        let extent = |of: fn((f64, f64)) -> f64| {
            let low = points().map(of).fold(f64::INFINITY, f64::min);
            let high = points().map(of).fold(f64::NEG_INFINITY, f64::max);
            (low, high)
        };
        Some((extent(|point| point.0), extent(|point| point.1)))
    }

    /// The ends of intervals along x.
    fn ends_along_x(&self) -> Vec<(f64, f64)> {
        let Form::Points { marks, .. } = &self.form else { return vec![] };
        let ends = |(series, mark): (&Series, &Mark)| {
            let (low, high) = mark.along_x?;
            let (_, y) = *series.points.first()?;
            Some([(low, y), (high, y)])
        };
        self.series.iter().zip(marks).filter_map(ends).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_a_chart_of_times_is_a_line_far_above_the_others_set_aside() {
        let line =
            |name: &str, top: f64| Series { name: name.into(), style: 0, points: vec![(128.0, 1.0), (256.0, top)], intervals: vec![] };
        let chart = |y: Axis, highest: f64| Chart {
            name: "test",
            title: String::new(),
            caption: String::new(),
            x: Axis::new("sequence length (tokens)", Scale::Log).of(Quantity::SequenceLength),
            y,
            form: Form::Lines,
            series: vec![line("a", 2.0), line("naive", highest), line("b", 3.0)],
        };
        let times = || Axis::new("the cache's part (ms)", Scale::Log).of(Quantity::Time);
        assert_eq!(chart(times(), 15.1).outliers(), ["naive"]);
        assert!(chart(times(), 14.9).outliers().is_empty());
        assert!(chart(times(), 15.1).has_times());
        // A perplexity five times as high is what its chart is about.
        let quality = chart(Axis::new("perplexity after some time", Scale::Log), 15.1);
        assert!(quality.outliers().is_empty() && !quality.has_times());
        let two = Chart { series: vec![line("a", 2.0), line("naive", 100.0)], ..chart(times(), 100.0) };
        assert!(two.outliers().is_empty(), "a line of two has only one to be compared with");
    }
}
