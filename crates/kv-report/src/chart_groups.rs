//! The charts of a page, grouped by the workloads that they show.

use crate::page_figure::Figure;

/// Charts of the same workloads.
pub(crate) struct ChartGroup<'a> {
    /// What its heading says.
    pub(crate) name: String,
    /// Its place on the page.
    pub(crate) anchor: String,
    /// What the workload is, in a line.
    pub(crate) about: &'static str,
    /// All workloads that its charts show, with spaces between them: a page hides it with the last of its charts.
    pub(crate) workloads: String,
    pub(crate) figures: Vec<Figure<'a>>,
}

/// The charts in groups: those of several of the run's workloads first, then those of each in the order of `workloads`.
pub(crate) fn chart_groups<'a>(figures: Vec<Figure<'a>>, workloads: &[String]) -> Vec<ChartGroup<'a>> {
    let mut groups: Vec<(Vec<&str>, Vec<Figure<'a>>)> = vec![];
    for figure in figures {
        let shows = of_run(figure.workload, workloads);
        match groups.iter_mut().find(|(others, _)| *others == shows) {
            Some((_, members)) => members.push(figure),
            None => groups.push((shows, vec![figure])),
        }
    }
    groups.sort_by_key(|(shows, _)| if let [only] = shows[..] { workloads.iter().position(|workload| workload == only) } else { None });
    groups.into_iter().map(|(shows, figures)| ChartGroup::of(&shows, figures, workloads)).collect()
}

/// The run's workloads that a chart shows: all of them if it names none of them.
fn of_run<'a>(shown: &str, workloads: &'a [String]) -> Vec<&'a str> {
    let is_shown = |workload: &&str| shown.split(' ').any(|name| name == *workload);
    let all = || workloads.iter().map(String::as_str);
    let found: Vec<&str> = all().filter(is_shown).collect();
    if found.is_empty() { all().collect() } else { found }
}

impl<'a> ChartGroup<'a> {
    fn of(shows: &[&str], figures: Vec<Figure<'a>>, workloads: &[String]) -> ChartGroup<'a> {
        let (name, about) = match shows {
            [only] => ((*only).to_owned(), meaning(only)),
            _ if shows.len() == workloads.len() => ("all workloads".to_owned(), OF_SEVERAL),
            _ => (shows.join(" and "), OF_SEVERAL),
        };
        let mut shown: Vec<&str> = figures.iter().flat_map(|figure| figure.workload.split(' ')).collect();
        shown.sort_unstable();
        shown.dedup();
        ChartGroup { anchor: format!("charts-{}", shows.join("-")), name, about, workloads: shown.join(" "), figures }
    }
}

const OF_SEVERAL: &str = "What is the same whichever of these workloads is run.";

/// What a workload is, in a line.
fn meaning(workload: &str) -> &'static str {
    match workload {
        "decode" => "A prompt of each length, then single steps with that many tokens in the cache.",
        "generate" => "A text that is written from its first token on, one token at a time.",
        "chat" => "Several users share a system prompt, and each takes turns with the model.",
        "classify" => "Labels are scored after the same text, and nothing is generated.",
        "multimodal" => "An image is kept and asked about several times.",
        "serve" => "Requests join and leave under a memory limit.",
        "summarise" => "The decoder of an encoder–decoder model reads the encoder's keys and values.",
        "stream" => "A text far beyond a window and the model's context.",
        "speculative" => "Drafts of several tokens are checked in one step.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Chart, Edition, Form, Scale, Series, chart_names};

    fn chart(name: &'static str) -> Chart {
        let axis = || Axis::new("x", Scale::Linear);
        let series = vec![Series { name: "a".into(), style: 0, points: vec![(1.0, 1.0)], intervals: vec![] }];
        Chart { name, title: name.into(), caption: String::new(), x: axis(), y: axis(), form: Form::Lines, series }
    }

    /// The groups' names, each with those of its charts.
    fn grouped(charts: &[&'static str], workloads: &[&str]) -> Vec<(String, String)> {
        let charts: Vec<Chart> = charts.iter().map(|name| chart(name)).collect();
        let figures = charts.iter().map(|chart| Figure::new(chart, chart, Edition::Interactive).unwrap()).collect();
        let workloads: Vec<String> = workloads.iter().map(|&workload| workload.to_owned()).collect();
        let names = |group: &ChartGroup| group.figures.iter().map(|figure| figure.chart.name).collect::<Vec<_>>().join(" ");
        chart_groups(figures, &workloads).iter().map(|group| (group.name.clone(), names(group))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, charts)| ((*name).to_owned(), (*charts).to_owned())).collect()
    }

    #[test]
    fn charts_of_several_workloads_come_first_and_then_those_of_each() {
        let charts = ["chat-ttft", "latency", "memory", "steps", "ttft", "ledger"];
        let expected = [("decode", "latency ttft"), ("generate", "steps")];
        let all = [("all workloads", "memory ledger"), expected[0], expected[1]];
        assert_eq!(grouped(&charts[1..], &["decode", "generate"]), pairs(&all));
        let three = [("chat", "chat-ttft"), ("decode and generate", "memory ledger"), expected[0], expected[1]];
        assert_eq!(grouped(&charts, &["chat", "decode", "generate"]), pairs(&[three[1], three[0], three[2], three[3]]));
        let two = [("chat", "chat-ttft"), ("decode", "latency memory ledger")];
        assert_eq!(grouped(&["chat-ttft", "latency", "memory", "ledger"], &["chat", "decode"]), pairs(&two));
    }

    #[test]
    fn one_workload_is_one_group() {
        assert_eq!(grouped(&["latency", "memory", "front-bytes"], &["decode"]), pairs(&[("decode", "latency memory front-bytes")]));
        assert_eq!(grouped(&["memory"], &["classify", "serve"]), pairs(&[("all workloads", "memory")]));
        assert!(grouped(&[], &["decode"]).is_empty());
    }

    #[test]
    fn every_workload_that_has_a_chart_is_explained() {
        for workload in chart_names().flat_map(|name| crate::workload_charts::workload_of(name).split(' ')) {
            assert!(!meaning(workload).is_empty(), "{workload}");
        }
    }
}
