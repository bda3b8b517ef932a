//! Which questions were answered.

use std::ops::Range;

use super::RecallQuestion;
use crate::{Accuracy, Side};

impl RecallQuestion {
    /// What is fed after the prompt: the question, and the answer but for its last token.
    pub fn fed(&self) -> &[u32] {
        &self.tokens[..self.tokens.len().saturating_sub(1)]
    }

    /// Whether each token of the answer is the most likely one after those before it, given `[fed, vocabulary]` logits: those
    /// after each token of [`fed`](RecallQuestion::fed). Greedy decoding would then have said the answer. Of equal logits the first counts.
    pub fn is_answered(&self, logits: &[f32], vocabulary: usize) -> bool {
        let rows: Vec<&[f32]> = logits.chunks_exact(vocabulary.max(1)).collect();
        let answer = &self.tokens[self.tokens.len() - self.answer..];
        let is_likeliest = |(row, token): (&&[f32], &u32)| {
            let token = *token as usize;
            row.get(token)
                .is_some_and(|logit| row[..token].iter().all(|other| other < logit) && row[token..].iter().all(|other| other <= logit))
        };
        rows.len() == self.fed().len() && rows[rows.len() - self.answer..].iter().zip(answer).all(is_likeliest)
    }
}

/// A question that both sides were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecallAnswer {
    /// Where the fact stands: tokens of the text before it.
    pub depth: usize,
    /// Whether the reference answered.
    pub reference: bool,
    /// Whether the candidate did.
    pub candidate: bool,
}

/// The answers of a reference and a candidate to the same questions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecallAnswers {
    answers: Vec<RecallAnswer>,
}

impl RecallAnswers {
    /// Adds an answer.
    pub fn add(&mut self, answer: RecallAnswer) {
        self.answers.push(answer);
    }

    /// How many a side answered.
    pub fn of(&self, side: Side) -> Accuracy {
        self.within(side, 0..usize::MAX)
    }

    /// How many a side answered about facts at these depths.
    pub fn within(&self, side: Side, depths: Range<usize>) -> Accuracy {
        let mut accuracy = Accuracy::default();
        for answer in self.answers.iter().filter(|answer| depths.contains(&answer.depth)) {
            accuracy.trials += 1;
            accuracy.correct += usize::from(match side {
                Side::Reference => answer.reference,
                Side::Candidate => answer.candidate,
            });
        }
        accuracy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_if_every_token_of_it_is_the_likeliest() {
        let question = RecallQuestion { tokens: vec![0, 1, 2, 3], answer: 2, depth: 0 };
        assert_eq!(question.fed(), [0, 1, 2]);
        let rows = |after_question: [f32; 4], after_first: [f32; 4]| [[9.0, 0.0, 0.0, 0.0], after_question, after_first].concat();
        let (two, three) = ([0.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.5, 1.0]);
        assert!(question.is_answered(&rows(two, three), 4), "what follows the question's own tokens does not matter");
        assert!(!question.is_answered(&rows(three, three), 4) && !question.is_answered(&rows(two, two), 4));
        assert!(question.is_answered(&rows(two, [0.0, 0.0, 0.5, 1.0]), 4));
        assert!(!question.is_answered(&rows([0.0, 1.0, 1.0, 0.0], three), 4), "of equal logits the first counts");
        assert!(question.is_answered(&rows([0.0, 0.0, 1.0, 1.0], three), 4));
        assert!(!question.is_answered(&rows(two, three)[..8], 4), "a row is missing");
        assert!(!question.is_answered(&rows(two, three)[..9], 3), "no such token");
    }

    #[test]
    fn answers_are_counted_by_side_and_depth() {
        let mut answers = RecallAnswers::default();
        for (depth, candidate) in [(3, false), (40, false), (41, true), (90, true)] {
            answers.add(RecallAnswer { depth, reference: true, candidate });
        }
        assert_eq!(answers.of(Side::Reference), Accuracy { correct: 4, trials: 4 });
        assert_eq!(answers.of(Side::Candidate).share(), Some(0.5));
        assert_eq!(answers.within(Side::Candidate, 0..41), Accuracy { correct: 0, trials: 2 });
        assert_eq!(answers.within(Side::Reference, 4..40).share(), None);
    }
}
