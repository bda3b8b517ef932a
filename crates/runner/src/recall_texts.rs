//! The texts that state facts, which a model is asked for.

use kv_model::{LoadError, TextTokenizer};
use kv_quality::{RecallPrompt, RecallTask, RecallText, filler};

use crate::Problem;
use crate::plan::Plan;

/// Questions about one text: more would stand next to each other in a short one.
const QUESTIONS_OF_A_TEXT: usize = 16;

/// A text that states facts, and how many the model is asked for at each length.
#[derive(Debug, Clone)]
pub(crate) struct RecallSource {
    pub(crate) task: RecallTask,
    pub(crate) text: RecallText,
    pub(crate) questions: usize,
}

impl RecallSource {
    /// The beginning of the text that is the prompt of a cell of this length.
    pub(crate) fn prompt(&self, seq_len: usize) -> RecallPrompt {
        self.text.prompt(seq_len, self.questions)
    }
}

/// The texts of a plan, drawn from its seed, with the lines of `text` between the needles.
///
/// # Errors
/// A [`Problem`] if the tokenizer refuses a text.
pub(crate) fn recall_texts(plan: &Plan, text: &str, tokenizer: &TextTokenizer) -> Result<Vec<RecallSource>, Problem> {
    let Some(quality) = plan.quality.as_ref().filter(|quality| !quality.lengths.is_empty()) else { return Ok(vec![]) };
    let (all, lengths) = (quality.questions, &quality.lengths);
    let longest = lengths.last().copied().unwrap_or(0);
    let lines = filler(text);
    let texts = all.div_ceil(QUESTIONS_OF_A_TEXT);
    let tokens = |before: &str, text: &str| tokenizer.continuation(before, text);
    let write = |(task, index): (RecallTask, usize)| -> Result<RecallSource, LoadError> {
        let questions = all * (index + 1) / texts - all * index / texts;
        let text = match task {
            RecallTask::Needle => {
                // Each text begins elsewhere, and goes on at the beginning where the lines end.
                let begin = lines.len() * index / texts;
                let filler = lines.iter().cycle().skip(begin).take(longest).map(String::as_str);
                RecallText::needle((lengths, questions), filler, plan.seed, index as u64, tokens)?
            }
            RecallTask::Lookup => RecallText::lookup(longest, plan.seed, index as u64, tokens)?,
        };
        Ok(RecallSource { task, text, questions })
    };
    let tasks = [RecallTask::Needle, RecallTask::Lookup].into_iter().flat_map(|task| (0..texts).map(move |index| (task, index)));
    let written: Result<Vec<RecallSource>, LoadError> = tasks.map(write).collect();
    let mut written =
        written.map_err(|error| Problem::new("the facts that the model is asked for in [quality] cannot be tokenized").caused_by(error))?;
    // All lengths may be shorter than a line.
    written.retain(|source| !source.text.tokens().is_empty());
    Ok(written)
}
