//! The overview of runs of several models by one config: what they show together, and where each report is.

use askama::Template;

use crate::embedded::Picture;
use crate::html::{CSS, counts, unfinished};
use crate::shown::bytes;
use crate::speed_up::{SpeedUp, SpeedUps};
use crate::speed_up_lines::{millions, shown_speed_up};
use crate::theme_switch::THEME_SCRIPT;
use crate::{ReportError, Results, RunRecord, pictures, speed_up_chart, speed_up_sentences};

/// Runs of several models.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// The config's title.
    pub title: String,
    /// The models, in the order of the config.
    pub models: Vec<OverviewModel>,
}

/// One of several models.
#[derive(Debug, Clone, PartialEq)]
pub struct OverviewModel {
    /// Its name in the config.
    pub name: String,
    /// The page of its report, from the folder of the overview. `None` if there is none.
    pub page: Option<String>,
    /// What was measured. `None` if nothing was.
    pub results: Option<Results>,
    /// What a reader must know of it: why nothing was measured, or that it belongs to an earlier run. A sentence without a stop.
    pub note: Option<String>,
}

impl Overview {
    /// The speed-ups of the models that were measured.
    pub fn speed_ups(&self) -> Vec<SpeedUps> {
        self.models.iter().filter_map(|model| Some(SpeedUps::of(&model.name, model.results.as_ref()?))).collect()
    }

    /// The results of the models that were measured.
    pub fn results(&self) -> Vec<&Results> {
        self.models.iter().filter_map(|model| model.results.as_ref()).collect()
    }
}

/// What the runs show together: speed-ups, and what a reader must know before comparing their numbers.
pub fn overview_sentences(overview: &Overview) -> Vec<String> {
    let notes = overview.models.iter().filter_map(|model| Some(format!("{}: {}.", model.name, model.note.as_ref()?)));
    speed_up_sentences(&overview.speed_ups()).into_iter().chain(notes).chain(unlike(&overview.results())).collect()
}

/// That the runs differ in more than the model.
fn unlike(runs: &[&Results]) -> Option<String> {
    let threads =
        |run: &RunRecord| run.environment.facts.iter().find(|fact| fact.name == "threads used").and_then(|fact| fact.value.clone());
    let kernels =
        |run: &RunRecord| run.environment.facts.iter().find(|fact| fact.name == "attention kernels").and_then(|fact| fact.value.clone());
    let first = &runs.first()?.run;
    let differs = |is_other: &dyn Fn(&RunRecord) -> bool| runs.iter().any(|results| is_other(&results.run));
    let what: Vec<&str> = [
        ("machines", differs(&|run| run.machine_id != first.machine_id)),
        ("builds", differs(&|run| run.build != first.build)),
        ("numbers of threads", differs(&|run| threads(run) != threads(first))),
        ("kernel paths", differs(&|run| kernels(run) != kernels(first))),
    ]
    .into_iter()
    .filter_map(|(what, differs)| differs.then_some(what))
    .collect();
    (!what.is_empty())
        .then(|| format!("The models were measured with different {}: times of one are not those of another.", what.join(" and ")))
}

/// The page of an overview, with its picture in it. It is small: it has no charts' library, and its only script changes the theme.
///
/// # Errors
/// [`ReportError::Page`], or [`ReportError::Draw`] if the picture cannot be drawn.
pub fn overview_html(overview: &Overview) -> Result<String, ReportError> {
    let speed_ups = overview.speed_ups();
    let drawn = pictures(&speed_up_chart(&speed_ups).into_iter().collect::<Vec<_>>());
    let page = Page {
        css: CSS,
        script: THEME_SCRIPT,
        title: &overview.title,
        sentences: overview_sentences(overview),
        pictures: drawn.charts.iter().map(Picture::of).collect::<Result<_, _>>()?,
        numbered: drawn.names,
        models: overview.models.iter().map(model).collect(),
        rows: speed_ups.iter().flat_map(|model| model.points.iter().map(move |point| speed_up(model, point))).collect(),
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page<'a> {
    css: &'static str,
    script: &'static str,
    title: &'a str,
    sentences: Vec<String>,
    pictures: Vec<Picture>,
    /// The names that are numbers in the pictures.
    numbered: Vec<String>,
    models: Vec<Model<'a>>,
    rows: Vec<[String; 6]>,
}

/// A row of the table of models.
struct Model<'a> {
    name: &'a str,
    page: Option<&'a str>,
    /// What is known of it, unless nothing was measured.
    known: Option<Known<'a>>,
}

struct Known<'a> {
    run: &'a RunRecord,
    parameters: String,
    weights: String,
    came_to: String,
}

fn model(model: &OverviewModel) -> Model<'_> {
    let known = model.results.as_ref().map(|results| {
        let record = &results.run.model;
        let formats: Vec<&str> = record.weight_formats.iter().map(|part| part.format.as_str()).collect();
        let weights =
            if formats.is_empty() { "-".to_owned() } else { format!("{}, {}", bytes(record.model_bytes as f64), formats.join(", ")) };
        let came_to = counts(results) + &unfinished(results).map_or(String::new(), |unfinished| format!(", {unfinished}"));
        Known { run: &results.run, parameters: millions(record.geometry.parameters), weights, came_to }
    });
    Model { name: &model.name, page: model.page.as_deref(), known }
}

/// A row of the table of speed-ups.
fn speed_up(model: &SpeedUps, point: &SpeedUp) -> [String; 6] {
    let ms = |ms: f64| format!("{ms:.2}");
    [
        model.name.clone(),
        point.seq_len.to_string(),
        point.batch.to_string(),
        ms(point.recomputed_ms),
        ms(point.baseline_ms),
        shown_speed_up(point),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn overview() -> Overview {
        let model = |name: &str, results: Option<Results>, note: Option<&str>| OverviewModel {
            name: name.into(),
            page: results.as_ref().map(|_| format!("{name}/index.html")),
            results,
            note: note.map(str::to_owned),
        };
        let models = vec![model("a", Some(example::results()), None), model("b", None, Some("it could not be loaded: no <such> file"))];
        Overview { title: "Sizes & <shapes>".into(), models }
    }

    #[test]
    fn the_page_leads_to_each_report_and_says_what_is_missing() {
        let page = overview_html(&overview()).unwrap();
        assert!(page.contains("<h1>Sizes &#38; &#60;shapes&#62;</h1>"), "{page}");
        assert!(page.contains("<a href=\"a/index.html\">a</a>") && !page.contains("href=\"b/"), "{page}");
        assert!(page.contains("2 cells measured, 1 timed out, 1 out of memory"), "{page}");
        assert!(page.contains("b: it could not be loaded: no &#60;such&#62; file."), "{page}");
        assert!(!page.contains("<img") && !page.contains("Times as fast"), "{page}");
        assert!(page.len() < 20_000);
    }

    #[test]
    fn the_page_is_one_file_that_can_be_read_by_all() {
        let page = overview_html(&overview()).unwrap();
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("file:"), "nothing is asked for: {page}");
        assert!(page.contains("id=\"theme\"") && page.contains("prefers-color-scheme: dark") && page.contains("@media print"), "{page}");
        assert_eq!(page.matches("<table").count(), page.matches("tabindex=\"0\" role=\"region\" aria-label=").count(), "{page}");
        assert_eq!(page.matches("<th ").count(), page.matches("<th scope=").count());
        assert!(!page.contains("<th>"), "{page}");
    }

    #[test]
    fn speed_ups_are_a_picture_and_a_table() {
        let mut overview = overview();
        let results = overview.models[0].results.as_mut().unwrap();
        let mut naive = results.rows[0].clone();
        naive.cell.baseline = None;
        naive.values.insert("tpot_ms_p50".into(), crate::Value::from(20.0));
        results.rows.push(naive);
        let page = overview_html(&overview).unwrap();
        let numbers = ["20.00", "1.25", "16.0"].map(|number| format!("<td class=\"number\">{number}</td>")).concat();
        assert!(page.contains(&numbers), "{page}");
        for paper in ["light", "dark"] {
            assert!(page.contains(&format!("<img class=\"picture {paper}\" src=\"data:image/svg+xml;base64,")), "{paper}: {page}");
        }
        assert!(page.matches(" alt=\"How much faster").count() == 2 && !page.contains("speedup.png"), "{page}");
        assert!(!page.contains("are numbers in the picture"), "{page}");
        assert_eq!(overview.results().len(), 1);
        overview.models[0].name = "日本語".into();
        assert!(overview_html(&overview).unwrap().contains("(1) is <bdi>日本語"), "the font has no such letters");
    }

    #[test]
    fn what_differs_beside_the_model_is_told() {
        let mut overview = overview();
        overview.models[1].results = overview.models[0].results.clone();
        assert_eq!(unlike(&overview.results()), None);
        let run = &mut overview.models[1].results.as_mut().unwrap().run;
        run.machine_id = None;
        run.build.dirty = Some(false);
        let told = overview_sentences(&overview).pop().unwrap();
        assert_eq!(told, "The models were measured with different machines and builds: times of one are not those of another.");
    }
}
