//! Runs conversations.

use kv_script::{Driver, Event, Name};

use super::order::Order;
use super::outcome::{Outcome, first_difference};
use super::refusal::{MayBeCaches, Refusal};
use super::stage::{Answers, Host, Stage, Took};
use crate::worker::protocol::ScriptSpec;
use crate::workloads::{Chat, random_tokens, tokens_of_part};

/// The system prompt is computed once, and every user's conversation is a fork.
const SHARED: &str = "shared prefix";
/// It is computed for each user.
const SEPARATE: &str = "separate";
/// Nothing is kept between turns: the history is computed again with every message.
const RECOMPUTED: &str = "recomputed";

/// What is said.
struct Talk<'a> {
    chat: &'a Chat,
    chunk: usize,
    system: Vec<u32>,
    /// Messages by user and turn.
    messages: Vec<Vec<Vec<u32>>>,
}

/// What conversations came to.
#[derive(Default)]
struct Told {
    /// The answers by user and turn.
    answers: Vec<Vec<Vec<u32>>>,
    /// Time to first token by turn: of each user.
    first_tokens: Vec<Vec<f64>>,
    /// Time of all users since the start by turn, from before the first.
    cumulative: Vec<f64>,
    /// Heap bytes by turn, from before the first.
    bytes: Vec<f64>,
    steps: Vec<(usize, Took)>,
}

/// What conversations came to in which nothing is kept between turns, by turn.
#[derive(Debug, Default)]
struct Recomputed {
    /// The first token of each answer to the first user.
    first: Vec<u32>,
    /// Time to it.
    prefill_ms: Vec<f64>,
    /// Time of the rest of the answers to all users.
    decode_ms: Vec<f64>,
}

pub(super) fn run<H: Host>(
    host: &H,
    chat: &Chat,
    script: &ScriptSpec,
    order: Order,
    progress: &dyn Fn(usize, usize),
) -> Result<Outcome, Refusal> {
    let talk = Talk::new(chat, script, host.vocabulary());
    let mut outcome = Outcome::default();
    let cold = || {
        let mut stage = host.stage()?;
        let opened = talk.open_each(&mut stage)?;
        talk.converse(&mut stage, &opened)
    };
    let (separate, shared) = order.both(cold, || talk.share(host, &mut outcome), || progress(1, 3))?;
    progress(2, 3);
    separate.put(SEPARATE, chat, &mut outcome);
    if let Some(shared) = &shared {
        shared.put(SHARED, chat, &mut outcome);
        if let Some(ratio) = ratios(&shared.first_tokens, &separate.first_tokens) {
            ratio.into_iter().enumerate().for_each(|(turn, ratio)| outcome.put(SHARED, "ttft_ratio", turn + 1, ratio));
        }
    }
    let warm_and_cold = shared.as_ref().and_then(|shared| first_difference(&shared.texts(), &separate.texts()));
    let (variant, kept) = shared.map_or((SEPARATE, separate), |shared| (SHARED, shared));
    if !kept.first_tokens.iter().flatten().any(|ms| *ms > 0.0) {
        return Ok(outcome);
    }
    let recomputed = talk.recompute(host, &kept.answers[0])?;
    let said_otherwise = kept.answers[0].iter().zip(&recomputed.first).position(|(answer, token)| answer.first() != Some(token));
    let differences = warm_and_cold.into_iter().chain(said_otherwise.map(|turn| turn * chat.answer));
    outcome.differs_after(differences.min());
    let cumulative = recomputed.cumulative(chat.users);
    for (turn, (ttft_ms, cumulative)) in (1..).zip(recomputed.prefill_ms.iter().zip(&cumulative)) {
        outcome.put(RECOMPUTED, "ttft_ms", turn, *ttft_ms);
        outcome.put(RECOMPUTED, "cumulative_ms", turn, *cumulative);
    }
    if let Some(turn) = break_even(&kept.cumulative[1..], &cumulative) {
        outcome.put(variant, "break_even_turn", 0, turn as f64);
    }
    outcome.compare_by(kept.steps);
    progress(3, 3);
    Ok(outcome)
}

impl<'a> Talk<'a> {
    fn new(chat: &'a Chat, script: &ScriptSpec, vocabulary: usize) -> Talk<'a> {
        let ScriptSpec { seed, prefill_chunk, .. } = *script;
        let drawn = |user: usize, turn: usize, tokens: usize| tokens_of_part(seed, user * chat.turns.len() + turn, vocabulary, tokens);
        let of_user = |user: usize| chat.turns.iter().enumerate().map(|(turn, tokens)| drawn(user, turn, *tokens)).collect();
        Talk {
            chat,
            chunk: prefill_chunk,
            system: random_tokens(seed, vocabulary, chat.system),
            messages: (0..chat.users).map(of_user).collect(),
        }
    }

    fn name(user: usize) -> Name {
        Name::new(&format!("user {user}"))
    }

    /// Opens a sequence for each user, with the system prompt in it. Answers what that took for each.
    fn open_each<D: Driver<Error: MayBeCaches> + Answers>(&self, stage: &mut Stage<'_, D>) -> Result<Vec<f64>, Refusal> {
        let open = |user: usize| {
            let mut took = stage.open(&Talk::name(user))?;
            took += stage.append(&Talk::name(user), &self.system, self.chunk)?;
            Ok(took.ms)
        };
        (0..self.chat.users).map(open).collect()
    }

    /// Computes the system prompt once and lets all users have it. `None` if the strategy cannot fork.
    fn share<H: Host>(&self, host: &H, outcome: &mut Outcome) -> Result<Option<Told>, Refusal> {
        let mut stage = host.stage()?;
        let system = Name::new("system");
        let mut prefix = stage.open(&system)?;
        prefix += stage.append(&system, &self.system, self.chunk)?;
        let mut opened = vec![];
        for user in 0..self.chat.users {
            let fork = Event::Fork { parent: system.clone(), sequence: Talk::name(user) };
            match stage.run(&fork) {
                Ok(took) => opened.push(took.ms),
                Err(Refusal::Unsupported(reason)) => {
                    outcome.notes.push(format!("no prefix is shared: {reason}"));
                    return Ok(None);
                }
                Err(failed) => return Err(failed),
            }
        }
        stage.run(&Event::Close { sequence: system })?;
        // The first user waits for the system prompt.
        opened[0] += prefix.ms;
        let told = self.converse(&mut stage, &opened)?;
        self.edit(&mut stage, outcome)?;
        Ok(Some(told))
    }

    /// All turns of all users. `opened` is what opening each user's sequence took.
    fn converse<D: Driver<Error: MayBeCaches> + Answers>(&self, stage: &mut Stage<'_, D>, opened: &[f64]) -> Result<Told, Refusal> {
        let users = self.chat.users;
        let mut told = Told { answers: vec![vec![]; users], cumulative: vec![opened.iter().sum()], ..Told::default() };
        told.bytes.extend(stage.heap_bytes());
        for turn in 0..self.chat.turns.len() {
            let mut elapsed = 0.0;
            let mut first_tokens = vec![];
            for (user, opened) in opened.iter().enumerate() {
                let name = Talk::name(user);
                let mut message = vec![];
                // The last token of an answer has not been fed.
                message.extend(told.answers[user].last().and_then(|answer| answer.last()).copied());
                message.extend(&self.messages[user][turn]);
                let mut took = stage.append(&name, &message, self.chunk)?;
                if turn == 0 {
                    took += stage.run(&Event::PromptEnd { sequence: name.clone() })?;
                }
                elapsed += took.ms;
                first_tokens.push(took.ms + if turn == 0 { *opened } else { 0.0 });
                told.answers[user].push(vec![stage.next_token(&name)]);
            }
            let sequences: Vec<Name> = (0..users).map(Talk::name).collect();
            let depth = self.chat.before(turn + 1) + self.chat.turns[turn] + usize::from(turn > 0);
            for step in 1..self.chat.answer {
                let took = stage.run(&Event::Step { sequences: sequences.clone() })?;
                elapsed += took.ms;
                told.steps.push((depth + step, took));
                for (answers, name) in told.answers.iter_mut().zip(&sequences) {
                    answers[turn].push(stage.next_token(name));
                }
            }
            told.first_tokens.push(first_tokens);
            let before = told.cumulative.last().copied().unwrap_or(0.0);
            told.cumulative.push(before + elapsed);
            told.bytes.extend(stage.heap_bytes());
        }
        Ok(told)
    }

    /// The first user takes a turn and all that followed back, and writes the message anew.
    fn edit<D: Driver<Error: MayBeCaches> + Answers>(&self, stage: &mut Stage<'_, D>, outcome: &mut Outcome) -> Result<(), Refusal> {
        let Some(turn) = self.chat.edited() else { return Ok(()) };
        let fed = self.chat.tokens() - 1;
        // With the last token of the answer before, which was fed with the message.
        let kept = self.chat.before(turn) - usize::from(turn > 1);
        let back = Event::Truncate { sequence: Talk::name(0), tokens: fed - kept };
        let mut took = match stage.run(&back) {
            Ok(took) => took,
            Err(Refusal::Unsupported(reason)) => {
                outcome.notes.push(format!("turn {turn} cannot be edited without computing the history again: {reason}"));
                return Ok(());
            }
            Err(failed) => return Err(failed),
        };
        let message: Vec<u32> = self.messages[0][turn - 1].iter().rev().copied().collect();
        took += stage.append(&Talk::name(0), &message, self.chunk)?;
        if stage.is_timed() {
            outcome.put(SHARED, "edit_ttft_ms", turn, took.ms);
        }
        Ok(())
    }

    /// The first user's conversation, if everything before a message is computed again. Answers are decoded for all users together,
    /// who have this history as forks; where that cannot be, one stands for those who have none.
    fn recompute<H: Host>(&self, host: &H, answers: &[Vec<u32>]) -> Result<Recomputed, Refusal> {
        let mut stage = host.stage()?;
        let mut history = self.system.clone();
        let mut recomputed = Recomputed::default();
        for (message, answer) in self.messages[0].iter().zip(answers) {
            history.extend(message);
            let first = Talk::name(0);
            let mut took = stage.open(&first)?;
            took += stage.append(&first, &history, self.chunk)?;
            took += stage.run(&Event::PromptEnd { sequence: first.clone() })?;
            recomputed.first.push(stage.next_token(&first));
            recomputed.prefill_ms.push(took.ms);
            let mut sequences = vec![first.clone()];
            for user in 1..self.chat.users {
                let fork = Event::Fork { parent: first.clone(), sequence: Talk::name(user) };
                match stage.run(&fork) {
                    Ok(_) => sequences.push(Talk::name(user)),
                    Err(Refusal::Unsupported(_) | Refusal::Full(_)) => break,
                    Err(failed) => return Err(failed),
                }
            }
            let mut decoded = Took::default();
            for _ in 1..self.chat.answer {
                decoded += stage.run(&Event::Step { sequences: sequences.clone() })?;
            }
            recomputed.decode_ms.push(decoded.ms * self.chat.users as f64 / sequences.len() as f64);
            sequences.into_iter().try_for_each(|sequence| stage.run(&Event::Close { sequence }).map(|_| ()))?;
            history.extend(answer);
        }
        Ok(recomputed)
    }
}

impl Recomputed {
    /// The time of all users since the start at the end of each turn.
    fn cumulative(&self, users: usize) -> Vec<f64> {
        let turns = self.prefill_ms.iter().zip(&self.decode_ms);
        let sum = |sum: &mut f64, (prefill, decode): (&f64, &f64)| {
            *sum += prefill * users as f64 + decode;
            Some(*sum)
        };
        turns.scan(0.0, sum).collect()
    }
}

/// The first turn, from 1, at whose end what is kept has taken no more time in all than computing again.
fn break_even(kept: &[f64], recomputed: &[f64]) -> Option<usize> {
    kept.iter().zip(recomputed).position(|(kept, recomputed)| kept <= recomputed).map(|turn| turn + 1)
}

impl Told {
    /// All answers to each user as one text.
    fn texts(&self) -> Vec<Vec<u32>> {
        self.answers.iter().map(|turns| turns.concat()).collect()
    }

    fn put(&self, variant: &str, chat: &Chat, outcome: &mut Outcome) {
        for (turn, first_tokens) in (1..).zip(&self.first_tokens) {
            if let Some(ms) = median(first_tokens).filter(|ms| *ms > 0.0) {
                outcome.put(variant, "ttft_ms", turn, ms);
            }
        }
        for (turn, ms) in self.cumulative.iter().enumerate().filter(|(_, ms)| **ms > 0.0) {
            outcome.put(variant, "cumulative_ms", turn, *ms);
        }
        for (turn, bytes) in self.bytes.iter().enumerate() {
            outcome.put(variant, "heap_bytes", turn, *bytes);
            outcome.put(variant, "heap_bytes_per_user", turn, bytes / chat.users as f64);
        }
    }
}

fn median(values: &[f64]) -> Option<f64> {
    kv_metrics::quantile(values, 0.5)
}

/// The median time of each turn over that of another way. `None` where times were not taken.
fn ratios(own: &[Vec<f64>], other: &[Vec<f64>]) -> Option<Vec<f64>> {
    let ratio = |(own, other): (&Vec<f64>, &Vec<f64>)| Some(median(own)? / median(other).filter(|ms| *ms > 0.0)?);
    own.iter().zip(other).map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recomputing_pays_its_prefill_for_each_user_and_its_answers_once() {
        let recomputed = Recomputed { first: vec![], prefill_ms: vec![10.0, 20.0, 30.0], decode_ms: vec![1.0, 2.0, 3.0] };
        assert_eq!(recomputed.cumulative(4), [41.0, 123.0, 246.0]);
        assert_eq!(recomputed.cumulative(1), [11.0, 33.0, 66.0]);
    }

    #[test]
    fn a_cache_breaks_even_at_the_first_turn_at_whose_end_it_has_taken_no_more_time() {
        let recomputed = [41.0, 123.0, 246.0];
        assert_eq!(break_even(&[50.0, 123.0, 130.0], &recomputed), Some(2));
        assert_eq!(break_even(&[40.0, 200.0, 300.0], &recomputed), Some(1));
        assert_eq!(break_even(&[50.0, 130.0, 250.0], &recomputed), None);
    }
}
