//! Texts with facts under a tokenizer of one token per byte.

use std::convert::Infallible;

use super::*;
use crate::Side;

fn bytes(_: &str, text: &str) -> Result<Vec<u32>, Infallible> {
    Ok(text.bytes().map(u32::from).collect())
}

fn lookup(tokens: usize, stream: u64) -> RecallText {
    RecallText::lookup(tokens, 7, stream, bytes).unwrap()
}

/// Lines of 41 bytes between facts of 34.
fn needle(lengths: &[usize]) -> RecallText {
    let line = "x".repeat(40);
    RecallText::needle((lengths, 8), std::iter::repeat_n(line.as_str(), 1000), 7, 0, bytes).unwrap()
}

/// Every question and its answer are the beginning of a line of the prompt, and fit behind it.
fn assert_asked(text: &RecallText, length: usize) -> RecallPrompt {
    let prompt = text.prompt(length, 8);
    for question in &prompt.questions {
        assert!(question.depth < prompt.tokens && prompt.tokens + question.tokens.len() <= length, "{question:?}");
        assert!(text.tokens()[question.depth..prompt.tokens].starts_with(&question.tokens), "{question:?}");
        assert_eq!(question.answer, " 12345".len());
    }
    assert!(prompt.questions.is_sorted_by(|a, b| a.depth < b.depth));
    prompt
}

#[test]
fn a_lookup_is_asked_for_in_every_part_of_every_length() {
    let text = lookup(400, 0);
    assert_eq!((text.tokens().len(), text.facts.len()), (28 * 14, 28));
    for length in [200, 400] {
        assert_eq!(assert_asked(&text, length).questions.len(), 8);
    }
    // The prompt of a shorter length is the beginning of the same text.
    assert_eq!(text.prompt(200, 8).tokens, 13 * 14);
    assert_eq!((lookup(400, 0), lookup(400, 1) == text), (text, false));
}

#[test]
fn needles_leave_more_than_half_of_a_text_to_the_lines_between_them() {
    let text = needle(&[300, 1200]);
    let of_facts: usize = text.facts.iter().map(|fact| fact.end - fact.start).sum();
    assert!(2 * of_facts < text.tokens().len() && text.tokens().len() <= 1200);
    assert!(assert_asked(&text, 1200).questions.len() >= 6);
    assert!(assert_asked(&text, 300).questions.len() >= 2);
}

#[test]
fn a_length_without_room_has_no_questions() {
    assert_eq!(lookup(400, 0).prompt(20, 8), RecallPrompt { tokens: 0, questions: vec![] });
    assert!(lookup(400, 0).prompt(400, 0).questions.is_empty());
    let no_lines = RecallText::needle((&[300], 8), [], 7, 0, bytes).unwrap();
    assert!(no_lines.tokens().is_empty() && no_lines.prompt(300, 8).questions.is_empty());
}

/// The logits of a reader that goes on as the text that it sees went on behind the same tokens.
fn reader(seen: &[u32], fed: &[u32]) -> Vec<f32> {
    let mut logits = vec![];
    for end in 1..=fed.len() {
        let mut row = vec![0.0; 256];
        let place = seen.windows(end).rposition(|tokens| tokens == &fed[..end]);
        if let Some(next) = place.and_then(|place| seen.get(place + end)) {
            row[*next as usize] = 1.0;
        }
        logits.extend(row);
    }
    logits
}

#[test]
fn who_sees_the_end_alone_answers_for_it_alone() {
    let text = lookup(400, 0);
    let prompt = text.prompt(400, 8);
    let all = &text.tokens()[..prompt.tokens];
    let window = prompt.tokens - 100;
    let mut answers = RecallAnswers::default();
    for question in &prompt.questions {
        let is_right = |seen: &[u32]| question.is_answered(&reader(seen, question.fed()), 256);
        answers.add(RecallAnswer { depth: question.depth, reference: is_right(all), candidate: is_right(&all[window..]) });
    }
    assert_eq!(answers.of(Side::Reference).share(), Some(1.0));
    assert_eq!(answers.within(Side::Candidate, 0..window).share(), Some(0.0));
    assert_eq!(answers.within(Side::Candidate, window..prompt.tokens).share(), Some(1.0));
}
