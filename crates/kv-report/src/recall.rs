//! What a model finds of the facts that its prompt states, beside what it finds with an exact cache.

use std::collections::BTreeMap;

use crate::{Results, Row};

/// The fewest right answers with an exact cache at which a task tells caches apart. If a cache loses `n` of them and finds nothing
/// that the exact one did not, a sign test puts the chance of that at `2·0.5^n`: below 5 % from 6 on.
pub const FEWEST_RIGHT: usize = 6;

/// A task in which a model is asked for facts of its prompt, and the ids of its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// What it is called.
    pub name: &'static str,
    /// Its questions, in words.
    pub questions_name: &'static str,
    /// The share of questions that are answered.
    pub accuracy: &'static str,
    /// The same with an exact cache.
    pub dense: &'static str,
    /// The number of questions.
    pub questions: &'static str,
}

/// Sentences with facts, spread over a text.
pub const NEEDLE: Recall = Recall {
    name: "needle",
    questions_name: "questions about needles",
    accuracy: "model_needle_acc",
    dense: "model_needle_acc_dense",
    questions: "model_needle_questions",
};

/// Lines of names and numbers.
pub const LOOKUP: Recall =
    Recall { name: "lookup", questions_name: "lookups", accuracy: "lookup_acc", dense: "lookup_acc_dense", questions: "lookup_questions" };

/// All tasks.
pub const RECALLS: [Recall; 2] = [NEEDLE, LOOKUP];

/// How many questions were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Right answers.
    pub right: usize,
    /// Questions.
    pub questions: usize,
}

impl Recall {
    /// What a row's model answers with an exact cache. `None` if it was not asked.
    pub fn ceiling(&self, row: &Row) -> Option<Answered> {
        self.answered(row, self.dense)
    }

    /// What it answers with the row's own cache.
    pub fn own(&self, row: &Row) -> Option<Answered> {
        self.answered(row, self.accuracy)
    }

    fn answered(&self, row: &Row, share: &str) -> Option<Answered> {
        let questions = row.value(self.questions)?;
        Some(Answered { right: (row.value(share)? * questions).round() as usize, questions: questions as usize })
    }

    /// Whether a row's task can tell its cache from an exact one.
    pub fn discriminates(&self, row: &Row) -> bool {
        self.ceiling(row).is_some_and(|ceiling| ceiling.right >= FEWEST_RIGHT)
    }
}

/// What the model of a run can do at all: for each task a sentence on the lengths at which it can, and one on those at which the
/// task says nothing about caches. None if it was not asked.
pub fn recall_sentences(results: &Results) -> Vec<String> {
    RECALLS.iter().flat_map(|recall| of_task(recall, results)).collect()
}

fn of_task(recall: &Recall, results: &Results) -> Vec<String> {
    // The same for all caches of a length.
    let ceilings: BTreeMap<usize, Answered> =
        results.rows.iter().filter_map(|row| Some((row.cell.seq_len, recall.ceiling(row)?))).collect();
    let (able, unable): (Vec<_>, Vec<_>) = ceilings.into_iter().partition(|(_, ceiling)| ceiling.right >= FEWEST_RIGHT);
    let list = |ceilings: &[(usize, Answered)]| -> String {
        let mut parts: Vec<String> = (ceilings.iter())
            .map(|(length, Answered { right, questions })| format!("{right} of {questions} {} at {length} tokens", recall.questions_name))
            .collect();
        // Named once.
        for part in parts.iter_mut().skip(1) {
            *part = part.replace(&format!(" {}", recall.questions_name), "").replace(" tokens", "");
        }
        match parts.split_last() {
            Some((last, [_, ..])) => format!("{} and {last}", parts[..parts.len() - 1].join(", ")),
            _ => parts.concat(),
        }
    };
    let model = &results.run.model.name;
    let can = (!able.is_empty()).then(|| format!("With an exact cache, {model} answers {}.", list(&able)));
    let cannot = (!unable.is_empty()).then(|| {
        let there = if able.is_empty() { "here" } else { "there" };
        format!(
            "Even with an exact cache, {model} answers {}: this task says nothing about the caches {there}. With fewer than {FEWEST_RIGHT} right answers, a cache that lost them all could not be told from chance.",
            list(&unable)
        )
    });
    can.into_iter().chain(cannot).collect()
}

/// What a cache answers less than an exact one, task by task, where that says something.
pub(crate) fn losses(row: &Row) -> Vec<String> {
    let loss = |recall: &Recall| {
        let (own, dense) = recall.own(row).zip(recall.ceiling(row)).filter(|(own, dense)| own.right < dense.right)?;
        let Answered { right, questions } = own;
        let told = format!("answers {right} of {questions} {}, with an exact cache {}", recall.questions_name, dense.right);
        recall.discriminates(row).then_some(told)
    };
    RECALLS.iter().filter_map(loss).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, example_quality};

    /// What an exact cache and the window answer of 32 questions, by task and length.
    fn asked(right: &[(Recall, usize, usize, usize)]) -> Results {
        let mut results = example_quality::results();
        for row in &mut results.rows {
            for (recall, length, dense, window) in right.iter().filter(|(_, length, ..)| *length == row.cell.seq_len) {
                assert!(*length > 0);
                let own = if row.cell.label == "window 512" { window } else { dense };
                for (id, value) in [(recall.questions, 32.0), (recall.dense, *dense as f64 / 32.0), (recall.accuracy, *own as f64 / 32.0)] {
                    row.values.insert(id.into(), Value::from(value));
                }
            }
        }
        results
    }

    #[test]
    fn what_the_model_can_do_at_all_is_said_once_for_each_task() {
        let results =
            asked(&[(NEEDLE, 512, 31, 30), (NEEDLE, 1024, 20, 9), (NEEDLE, 2048, 6, 0), (LOOKUP, 512, 12, 0), (LOOKUP, 2048, 3, 0)]);
        assert_eq!(
            recall_sentences(&results),
            [
                "With an exact cache, tiny answers 31 of 32 questions about needles at 512 tokens, 20 of 32 at 1024 and 6 of 32 at 2048.",
                "With an exact cache, tiny answers 12 of 32 lookups at 512 tokens.",
                "Even with an exact cache, tiny answers 3 of 32 lookups at 2048 tokens: this task says nothing about the caches there. With fewer than 6 right answers, a cache that lost them all could not be told from chance.",
            ]
        );
        let never = recall_sentences(&asked(&[(LOOKUP, 512, 5, 0)]));
        assert!(never.len() == 1 && never[0].contains("nothing about the caches here."), "{never:?}");
        assert!(recall_sentences(&example_quality::results()).is_empty());
    }

    #[test]
    fn a_loss_is_told_where_the_task_discriminates() {
        let results = asked(&[(NEEDLE, 512, 31, 30), (NEEDLE, 2048, 5, 0), (LOOKUP, 512, 12, 12)]);
        let of = |label: &str, length: usize| {
            losses(results.rows.iter().find(|row| row.cell.label == label && row.cell.seq_len == length).unwrap())
        };
        assert_eq!(of("window 512", 512), ["answers 30 of 32 questions about needles, with an exact cache 31"]);
        assert!(of("window 512", 2048).is_empty(), "the task says nothing there");
        assert!(of("contiguous f32", 512).is_empty());
    }
}
