//! Texts with facts in them, and questions that a model answers from its cache.

mod answers;
mod filler;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use answers::{RecallAnswer, RecallAnswers};
pub use filler::filler;

/// What a model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecallTask {
    /// Sentences that state a number, between the lines of a text.
    Needle,
    /// Lines of a name and its number, and nothing else.
    Lookup,
}

/// A text of lines, some or all of which state facts. Its beginnings are texts with facts too.
///
/// Facts are numbers of five digits under invented names, which no two share, so that a guess is not a right answer. A question is
/// the beginning of the fact's own line, as a plain continuation of the text: a model that was not taught to answer questions can
/// go on with it.
///
/// A tokenizer gives the tokens of a text that stands behind another one.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallText {
    tokens: Vec<u32>,
    /// How many tokens the text has after each of its lines.
    line_ends: Vec<usize>,
    facts: Vec<Fact>,
}

#[derive(Debug, Clone, PartialEq)]
struct Fact {
    /// Tokens of the text before its line, and with it.
    start: usize,
    end: usize,
    question: Vec<u32>,
    answer: Vec<u32>,
}

/// A question and its answer, to be fed after the beginning of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallQuestion {
    /// The question's tokens, and the answer's after them.
    pub tokens: Vec<u32>,
    /// How many of them are the answer's.
    pub answer: usize,
    /// Where the fact's line begins: tokens of the text before it.
    pub depth: usize,
}

/// A beginning of a text, and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallPrompt {
    /// Tokens of the text that are the prompt.
    pub tokens: usize,
    /// Questions in order of depth.
    pub questions: Vec<RecallQuestion>,
}

impl RecallText {
    /// Lines of names and numbers: at most `tokens` tokens.
    ///
    /// # Errors
    /// Whatever the tokenizer refuses.
    pub fn lookup<E>(
        tokens: usize,
        seed: u64,
        stream: u64,
        tokenize: impl FnMut(&str, &str) -> Result<Vec<u32>, E>,
    ) -> Result<RecallText, E> {
        let mut writer = Writer::new(RecallTask::Lookup, tokens, seed, stream, tokenize);
        while writer.state_fact()? {}
        Ok(writer.text)
    }

    /// Sentences between the lines of `filler`: at most `tokens` tokens. For each of the lengths, there are up to `facts` of them
    /// spread over a text of that length, but never more than leaves half of the tokens to the filler. The text ends with the filler.
    ///
    /// # Errors
    /// Whatever the tokenizer refuses.
    pub fn needle<'a, E>(
        (lengths, facts): (&[usize], usize),
        filler: impl IntoIterator<Item = &'a str>,
        seed: u64,
        stream: u64,
        tokenize: impl FnMut(&str, &str) -> Result<Vec<u32>, E>,
    ) -> Result<RecallText, E> {
        // In the middle of each of `facts` parts of each length.
        let places = |length: &usize| (0..facts).map(|part| (2 * part + 1) * length / (2 * facts)).collect::<Vec<_>>();
        let mut due: Vec<usize> = lengths.iter().flat_map(places).collect();
        due.sort_unstable();
        let tokens = lengths.iter().copied().max().unwrap_or(0);
        let mut writer = Writer::new(RecallTask::Needle, tokens, seed, stream, tokenize);
        let mut due = due.into_iter().peekable();
        let mut filled = usize::MAX;
        for line in filler {
            let at = writer.text.tokens.len();
            if due.peek().is_some_and(|place| *place <= at) && filled >= writer.last_fact_tokens() {
                if !writer.state_fact()? {
                    break;
                }
                while due.next_if(|place| *place <= at).is_some() {}
                filled = 0;
            }
            let before = writer.text.tokens.len();
            if !writer.add_line(line)? {
                break;
            }
            filled = filled.saturating_add(writer.text.tokens.len() - before);
        }
        Ok(writer.text)
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The beginning of the text that has room for a question and its answer within `length` tokens, and up to `most` questions
    /// about facts that are spread over it.
    pub fn prompt(&self, length: usize, most: usize) -> RecallPrompt {
        let question = self.facts.iter().map(|fact| fact.question.len() + fact.answer.len()).max().unwrap_or(0);
        let tokens = self.line_ends.iter().copied().filter(|end| end + question <= length).max().unwrap_or(0);
        let told = |fact: &&Fact| fact.end <= tokens;
        let nearest = |part: usize| {
            let (from, to) = (part * tokens / most, (part + 1) * tokens / most);
            let within = self.facts.iter().filter(told).filter(|fact| (from..to).contains(&fact.start));
            within.min_by_key(|fact| (2 * fact.start).abs_diff(from + to))
        };
        let asked = |fact: &Fact| RecallQuestion {
            tokens: [fact.question.as_slice(), &fact.answer].concat(),
            answer: fact.answer.len(),
            depth: fact.start,
        };
        RecallPrompt { tokens, questions: (0..most).filter_map(nearest).map(asked).collect() }
    }
}

/// Writes a text line by line.
struct Writer<T> {
    task: RecallTask,
    most_tokens: usize,
    random: ChaCha8Rng,
    names: BTreeSet<String>,
    tokenize: T,
    text: RecallText,
}

impl<E, T: FnMut(&str, &str) -> Result<Vec<u32>, E>> Writer<T> {
    fn new(task: RecallTask, most_tokens: usize, seed: u64, stream: u64, tokenize: T) -> Writer<T> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        let text = RecallText { tokens: vec![], line_ends: vec![], facts: vec![] };
        Writer { task, most_tokens, random, names: BTreeSet::new(), tokenize, text }
    }

    /// Adds a line, if there is room for it.
    fn add_line(&mut self, line: &str) -> Result<bool, E> {
        let tokens = (self.tokenize)("\n", &format!("{line}\n"))?;
        if tokens.is_empty() || self.text.tokens.len() + tokens.len() > self.most_tokens {
            return Ok(false);
        }
        self.text.tokens.extend(tokens);
        self.text.line_ends.push(self.text.tokens.len());
        Ok(true)
    }

    /// Adds a fact, if there is room for it.
    fn state_fact(&mut self) -> Result<bool, E> {
        let (name, number) = (self.unused_name(), self.random.random_range(10_000..100_000));
        let (question, end) = match self.task {
            RecallTask::Needle => (format!("The password of {name} is"), "."),
            RecallTask::Lookup => (format!("{name}:"), ""),
        };
        let start = self.text.tokens.len();
        if !self.add_line(&format!("{question} {number}{end}"))? {
            return Ok(false);
        }
        let answer = (self.tokenize)(&format!("\n{question}"), &format!(" {number}"))?;
        let mut both = (self.tokenize)("\n", &format!("{question} {number}"))?;
        both.truncate(both.len().saturating_sub(answer.len()));
        self.text.facts.push(Fact { start, end: self.text.tokens.len(), question: both, answer });
        Ok(true)
    }

    fn last_fact_tokens(&self) -> usize {
        self.text.facts.last().map_or(0, |fact| fact.end - fact.start)
    }

    fn unused_name(&mut self) -> String {
        loop {
            let name = invented_name(&mut self.random);
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// Three syllables, such as "Banoki".
fn invented_name(random: &mut ChaCha8Rng) -> String {
    const CONSONANTS: &[u8] = b"bdfgklmnprstvz";
    const VOWELS: &[u8] = b"aeiou";
    let mut letter = |of: &[u8]| char::from(of[random.random_range(0..of.len())]);
    let letters: String = (0..3).flat_map(|_| [letter(CONSONANTS), letter(VOWELS)]).collect();
    letters[..1].to_uppercase() + &letters[1..]
}
