//! What is judged of each cell, and the text that it is judged on.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use kv_report::FEWEST_RIGHT;
use toml::Spanned;

use crate::Problem;
use crate::config::{ConfigFile, Lengths, Level, Quality, Workload};
use crate::models::Fetchable;
use crate::plan::Cell;
use crate::text_file::read_text;
use crate::workloads::Scripted;

/// Quality, as a plan asks for it.
#[derive(Debug, Clone)]
pub struct QualityPlan {
    /// The lengths at which it is judged, ascending.
    pub lengths: Vec<usize>,
    /// Tokens that are judged after each length, prompt exact.
    pub steps: usize,
    /// Tokens of each window that are streamed; 0 if they are not.
    pub streamed: usize,
    /// Tokens of a step while streaming.
    pub chunk: usize,
    /// Parts of the text.
    pub windows: usize,
    /// Facts of each kind that the model is asked for at each length; 0 if it is asked for none.
    pub questions: usize,
    /// The text, if one is read.
    pub text: Option<TextSource>,
}

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextSource {
    /// The text beside the small model, which it was not trained on. It is in the program.
    HeldOut,
    /// A file.
    File(PathBuf),
}

/// The name of the text that is in the program.
const HELD_OUT: &str = "held-out";
/// The name of the text that the small model was trained on, but for its end.
const SEEN_BY_SMALL: &str = "moby-dick";

impl std::fmt::Display for TextSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TextSource::HeldOut => formatter.write_str(HELD_OUT),
            TextSource::File(path) => path.display().fmt(formatter),
        }
    }
}

impl QualityPlan {
    /// What a config asks for, with its cells, its workloads that are scripts of their own, and the positions that the model has.
    ///
    /// # Errors
    /// A [`Problem`] that points at a value that makes no sense.
    pub(crate) fn of(
        file: &ConfigFile,
        cells: &[Cell],
        scripted: &[(Workload, Scripted)],
        context: usize,
    ) -> Result<Option<QualityPlan>, Problem> {
        let Some(quality) = &file.config.quality else { return Ok(None) };
        let Quality { text, lengths, windows, steps, streamed, chunk, questions } = quality;
        let lengths = judged_lengths(file, lengths.as_ref(), cells, scripted)?;
        let longest = lengths.last().copied().unwrap_or(0);
        let at_least_one = |name: &str, value: &Spanned<usize>| match *value.get_ref() {
            0 => Err(file.problem(value, format!("`{name}` in [quality] is 0: it must be at least 1"))),
            number => Ok(number),
        };
        let plan = QualityPlan {
            steps: at_least_one("steps", steps)?,
            // One step of a text says nothing.
            streamed: streamed.as_ref().map_or(if longest > *chunk.get_ref() { longest } else { 0 }, |streamed| *streamed.get_ref()),
            chunk: at_least_one("chunk", chunk)?,
            windows: at_least_one("windows", windows)?,
            questions: *questions.get_ref(),
            text: text.as_ref().map(|text| text_source(file, text)).transpose()?,
            lengths,
        };
        let Some(text) = text else {
            // Left out, they have no place in the file.
            let given = |value: &Spanned<usize>| !value.span().is_empty();
            let of_text = [
                ("windows", Some(windows)),
                ("steps", Some(steps)),
                ("streamed", streamed.as_ref()),
                ("chunk", Some(chunk)),
                ("questions", Some(questions)),
            ];
            return match of_text.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| given(value))?))) {
                Some((name, value)) => Err(file
                    .problem(value, format!("`{name}` in [quality] is about a text, and none is named"))
                    .help("name a `text`, such as \"held-out\", or leave it out")),
                None => Ok(Some(plan)),
            };
        };
        if file.config.sweep.level == Level::Attention {
            let message = "`text` in [quality] is for a model to read, and `level = \"attention\"` has none at hand";
            return Err(file.problem(text, message).help("leave it out: attention is compared without it"));
        }
        if let Some(streamed) = streamed.as_ref().filter(|streamed| (1..=plan.chunk).contains(streamed.get_ref())) {
            let message = format!("`streamed` is {}: it must be more than `chunk`, {}", streamed.get_ref(), plan.chunk);
            return Err(file.problem(streamed, message).help("0 leaves it out"));
        }
        if (1..FEWEST_RIGHT).contains(&plan.questions) {
            let message =
                format!("`questions` in [quality] is {}: fewer than {FEWEST_RIGHT} right answers never tell caches apart", plan.questions);
            return Err(file.problem(questions, message).help("0 leaves them out"));
        }
        // The token that follows the last is judged, and is not fed.
        for (positions, key) in [(longest.saturating_add(plan.steps), steps), (plan.streamed, streamed.as_ref().unwrap_or(steps))] {
            if positions > context {
                let message = format!("quality needs {positions} positions, and the model's context is {context}");
                return Err(file.problem(key, message).help("shorter `lengths`, fewer `steps` or a smaller `streamed` in [quality]"));
            }
        }
        Ok(Some(plan))
    }

    /// Whether quality is judged in a cell: with one sequence after a prompt of one of the lengths.
    pub(crate) fn judges(&self, cell: &Cell) -> bool {
        is_judgeable(cell) && self.lengths.contains(&cell.seq_len)
    }

    /// Refuses what a workload would not read that reads the text and nothing else of `[quality]`.
    ///
    /// # Errors
    /// A [`Problem`] that points at the value.
    fn require_text_alone(file: &ConfigFile) -> Result<(), Problem> {
        let Some(Quality { text, lengths, windows, steps, streamed, chunk, questions }) = &file.config.quality else { return Ok(()) };
        if let Some(lengths) = lengths {
            let message = "`lengths` in [quality] is read where \"decode\" is among `workloads`, and here it is not";
            return Err(file.problem(lengths, message).help("leave it out: a stream reads the text from its beginning"));
        }
        let others = [
            ("windows", Some(windows)),
            ("steps", Some(steps)),
            ("streamed", streamed.as_ref()),
            ("chunk", Some(chunk)),
            ("questions", Some(questions)),
        ];
        // Left out, they have no place in the file.
        if let Some((name, value)) =
            others.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| !value.span().is_empty())?)))
        {
            let message = format!("`{name}` in [quality] is read where \"decode\" is among `workloads`, and here it is not");
            return Err(file.problem(value, message).help("leave it out: a stream reads the text from its beginning"));
        }
        match text {
            Some(_) => Ok(()),
            None => Err(file
                .problem_at(None, "[quality] names no `text`, and a stream reads nothing else of it")
                .help("name a `text`, such as \"held-out\", or leave [quality] out")),
        }
    }

    /// The beginning of a text.
    ///
    /// # Errors
    /// A [`Problem`] with both numbers if the text is too short.
    pub(crate) fn beginning(&self, tokens: &[u32], wanted: usize) -> Result<Vec<u32>, Problem> {
        let shown = self.text.as_ref().map_or(String::new(), TextSource::to_string);
        match tokens.get(..wanted) {
            Some(beginning) => Ok(beginning.to_vec()),
            None => Err(Problem::new(format!(
                "`{shown}` has {} tokens for this model, and the stream needs {wanted}, the one that follows its last included",
                tokens.len()
            ))
            .help("a longer text, or fewer `tokens` in [stream]; without [quality], tokens are drawn at random")),
        }
    }

    /// Tokens of a window, the one that follows the last included.
    fn window_tokens(&self) -> usize {
        (self.lengths.last().copied().unwrap_or(0) + self.steps).max(self.streamed) + 1
    }

    /// The windows of a text, spread evenly over it, the first at its beginning.
    ///
    /// # Errors
    /// A [`Problem`] with both numbers if the text is too short.
    pub(crate) fn cut(&self, tokens: &[u32]) -> Result<Vec<Vec<u32>>, Problem> {
        let width = self.window_tokens();
        let apart = tokens.len() / self.windows;
        if apart < width {
            let shown = self.text.as_ref().map_or(String::new(), TextSource::to_string);
            let message = format!(
                "`{shown}` has {} tokens for this model, and {} windows of {width} need {}",
                tokens.len(),
                self.windows,
                self.windows * width
            );
            return Err(Problem::new(message).help("a longer text, fewer `windows` in [quality], or shorter `lengths`"));
        }
        Ok((0..self.windows).map(|window| tokens[window * apart..][..width].to_vec()).collect())
    }

    /// That the small model reads a text that it was trained on, if it does.
    pub(crate) fn seen_before(&self, file: &ConfigFile) -> Option<String> {
        let is_small = file.model().get_ref().preset.as_deref() == Some(kv_model::SMALL);
        let Some(TextSource::File(path)) = self.text.as_ref().filter(|_| is_small) else { return None };
        let is_seen = Fetchable::find(SEEN_BY_SMALL)?.path().is_ok_and(|seen| seen == *path);
        is_seen.then(|| {
            format!("The model `small` was trained on `{SEEN_BY_SMALL}`, so its perplexity there is better than on a text that it does not know: it was not trained on `{HELD_OUT}`.")
        })
    }

    /// Reads the text that a config names.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(crate) fn read(file: &ConfigFile) -> Result<Option<String>, Problem> {
        let Some(text) = file.config.quality.as_ref().and_then(|quality| quality.text.as_ref()) else { return Ok(None) };
        let path = match text_source(file, text)? {
            TextSource::HeldOut => return Ok(Some(kv_model::HELD_OUT_TEXT.to_owned())),
            TextSource::File(path) => path,
        };
        let name = text.get_ref();
        if !path.exists() {
            return Err(file.problem(text, format!("`{name}` has not been fetched yet")).help(format!("run `runner fetch {name}` first")));
        }
        read_text(File::open(&path), &format!("the text in `{}`", path.display())).map(Some)
    }
}

fn is_judgeable(cell: &Cell) -> bool {
    cell.workload == Workload::Decode && cell.batch == 1
}

/// The lengths at which cells are judged, ascending.
fn judged_lengths(
    file: &ConfigFile,
    asked: Option<&Spanned<Lengths>>,
    cells: &[Cell],
    scripted: &[(Workload, Scripted)],
) -> Result<Vec<usize>, Problem> {
    if !cells.iter().any(is_judgeable) && scripted.iter().any(|(_, script)| script.text_tokens().is_some()) {
        QualityPlan::require_text_alone(file)?;
        return Ok(vec![]);
    }
    let swept = file.config.sweep.lengths.as_ref().map_or(&[][..], |lengths| &lengths.get_ref().0);
    if let Some(asked) = asked {
        let listed = |lengths: &[usize]| lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let unknown: Vec<usize> = asked.get_ref().0.iter().copied().filter(|length| !swept.contains(length)).collect();
        if asked.get_ref().0.is_empty() || !unknown.is_empty() {
            let message = match unknown.as_slice() {
                [] => "`lengths` in [quality] is empty: at least one is judged".to_owned(),
                unknown => format!("`lengths` in [quality] has {}, which [sweep] does not measure", listed(unknown)),
            };
            return Err(file.problem(asked, message).help(format!("[sweep] has {}", listed(swept))));
        }
    }
    let is_asked = |cell: &&Cell| asked.is_none_or(|asked| asked.get_ref().0.contains(&cell.seq_len));
    let judged: BTreeSet<usize> = cells.iter().filter(|cell| is_judgeable(cell)).filter(is_asked).map(|cell| cell.seq_len).collect();
    if judged.is_empty() {
        let at = if asked.is_some() { " of the lengths in [quality]" } else { "" };
        return Err(file
            .problem_at(
                file.config.sweep.batch.as_ref().map(Spanned::span),
                format!("quality is judged with one sequence after a prompt, and no cell{at} has one"),
            )
            .help("add 1 to `batch` and \"decode\" to `workloads`, or leave [quality] out"));
    }
    Ok(judged.into_iter().collect())
}

/// Where a text is: a path, the one in the program, or one of the catalog.
fn text_source(file: &ConfigFile, text: &Spanned<String>) -> Result<TextSource, Problem> {
    let name = text.get_ref();
    let path = file.folder().join(name);
    if path.exists() {
        return Ok(TextSource::File(path));
    }
    if name == HELD_OUT {
        return Ok(TextSource::HeldOut);
    }
    let Some(item) = Fetchable::find(name) else {
        let texts = Fetchable::texts().join(", ");
        return Err(file
            .problem(text, format!("there is no text `{}`", path.display()))
            .help(format!("name a file, `{HELD_OUT}` (in the program), or one of the texts that `runner fetch` brings: {texts}")));
    };
    if item.is_model {
        return Err(file.problem(text, format!("`{name}` is a model, not a text")));
    }
    Ok(TextSource::File(item.path()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_spread_evenly_and_a_short_text_is_refused() {
        let plan = QualityPlan {
            lengths: vec![2, 4],
            steps: 2,
            streamed: 0,
            chunk: 1,
            windows: 3,
            questions: 0,
            text: Some(TextSource::File("t".into())),
        };
        let tokens: Vec<u32> = (0..30).collect();
        let windows = plan.cut(&tokens).unwrap();
        assert_eq!(windows, [(0..7).collect::<Vec<u32>>(), (10..17).collect(), (20..27).collect()]);
        let error = QualityPlan { lengths: vec![8], ..plan.clone() }.cut(&tokens).unwrap_err().to_string();
        assert!(error.contains("`t` has 30 tokens for this model, and 3 windows of 11 need 33"), "{error}");
        assert_eq!(plan.beginning(&tokens, 30).unwrap(), tokens);
        let error = plan.beginning(&tokens, 31).unwrap_err().to_string();
        assert!(error.contains("`t` has 30 tokens for this model, and the stream needs 31"), "{error}");
        assert_eq!(QualityPlan { streamed: 9, ..plan }.cut(&tokens).unwrap()[1], (10..20).collect::<Vec<u32>>());
    }
}
