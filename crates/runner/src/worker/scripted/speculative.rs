//! Runs speculative decoding with a simulated draft.

use std::time::Instant;

use kv_model::argmax;
use kv_report::counted;
use kv_script::{Driver, Event, Name};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::order::Order;
use super::outcome::Outcome;
use super::refusal::{MayBeCaches, Refusal};
use super::stage::{Answers, Host, Stage, Took};
use crate::drivers::Keeps;
use crate::worker::milliseconds;
use crate::worker::protocol::ScriptSpec;
use crate::workloads::{Speculative, random_tokens};

/// Tokens that were written, and the steps that wrote them: the depth after each, and its times.
type PlainText = (Vec<u32>, Vec<(usize, Took)>);

/// Plain greedy decoding.
const PLAIN: &str = "plain";

pub(super) fn run<H: Host>(
    host: &H,
    speculative: &Speculative,
    script: &ScriptSpec,
    order: Order,
    progress: &dyn Fn(usize, usize),
) -> Result<Outcome, Refusal> {
    let prompt = random_tokens(script.seed, host.vocabulary(), speculative.prompt);
    let mut writer = Writer::begin(host.stage()?, &prompt, script.prefill_chunk)?;
    let mut outcome = Outcome::default();
    let (text, mut steps) = writer.write_plainly(speculative.plain_tokens())?;
    writer.stage.heap_bytes().into_iter().for_each(|bytes| outcome.put(PLAIN, "heap_bytes", 0, bytes));
    writer.close()?;
    if !writer.stage.is_timed() {
        // Rows choose no tokens, so no draft is right or wrong.
        return Ok(outcome);
    }
    let runs = speculative.acceptance.len() * speculative.draft.len();
    let (mut differences, mut costs) = (vec![], vec![]);
    for (index, acceptance) in speculative.acceptance.iter().enumerate() {
        let variant = format!("p = {acceptance}");
        let guesses = guesses(&text, *acceptance, script.seed, host.vocabulary());
        for (run, draft) in speculative.draft.iter().enumerate() {
            let written = writer.speculate(&guesses, *draft, speculative.tokens)?;
            writer.close()?;
            costs.push((variant.clone(), *draft, written.ms / (written.tokens.len() - 1) as f64));
            outcome.put(&variant, "accepted_share", *draft, written.accepted as f64 / written.judged as f64);
            outcome.put(&variant, "tokens_per_step", *draft, (written.tokens.len() - 1) as f64 / written.steps as f64);
            differences.extend(written.tokens.iter().zip(&text).position(|(own, plain)| own != plain));
            progress(index * speculative.draft.len() + run + 1, runs);
        }
    }
    if order == Order::Reversed {
        // Drafts need the text, so it is written again behind them.
        steps = writer.write_plainly(speculative.plain_tokens())?.1;
        writer.close()?;
    }
    let plain_ms = warm_mean(&steps);
    outcome.put(PLAIN, "cost_ms", 0, plain_ms);
    for (variant, draft, cost_ms) in costs {
        outcome.put(&variant, "cost_ms", draft, cost_ms);
        outcome.put(&variant, "speedup", draft, plain_ms / cost_ms);
    }
    outcome.differs_after(differences.iter().min().copied());
    if let Some(after) = differences.iter().min() {
        outcome.notes.push(format!(
            "with drafts its text differs from plain decoding's after {}, in {} of {}: the rows of a step are read as they were computed until it ends; from there on the draft guesses nothing",
            counted(*after, "token"),
            differences.len(),
            counted(runs, "text")
        ));
    }
    outcome.compare_by(steps);
    Ok(outcome)
}

/// The mean time of steps, without the first, which pays for what came before it.
fn warm_mean(steps: &[(usize, Took)]) -> f64 {
    let warm = steps.get(1..).unwrap_or_default();
    warm.iter().map(|(_, took)| took.ms).sum::<f64>() / warm.len() as f64
}

/// What a draft model that is right with this probability takes for the text: some of its tokens are others. A token that is
/// wrong with one probability is wrong with all smaller ones, so that they differ in nothing else.
fn guesses(text: &[u32], acceptance: f64, seed: u64, vocabulary: usize) -> Vec<u32> {
    // Not the tokens of the prompt.
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_d4af);
    let guess = |token: &u32| {
        let is_right = random.random_range(0.0..1.0) < acceptance;
        let other = (u64::from(*token) + random.random_range(1..vocabulary.max(2) as u64)) % vocabulary as u64;
        if is_right { *token } else { other as u32 }
    };
    text.iter().map(guess).collect()
}

/// A text that was written with drafts.
#[derive(Debug, Default)]
struct Written {
    /// The first is the prompt's answer, and no step's.
    tokens: Vec<u32>,
    ms: f64,
    steps: usize,
    accepted: usize,
    /// Drafted tokens up to the first wrong one of each draft.
    judged: usize,
}

/// Writes texts that follow the same prompt.
struct Writer<'a, D: Driver> {
    stage: Stage<'a, D>,
    prompt: &'a [u32],
    chunk: usize,
    /// The prompt's own sequence, of which texts are forks. `None` if the strategy cannot fork, or has no room.
    parent: Option<Name>,
    name: Name,
}

impl<'a, D: Driver<Error: MayBeCaches> + Answers> Writer<'a, D> {
    fn begin(stage: Stage<'a, D>, prompt: &'a [u32], chunk: usize) -> Result<Writer<'a, D>, Refusal> {
        let mut writer = Writer { stage, prompt, chunk, parent: None, name: Name::new("text") };
        // Where bytes are counted, those of one sequence are.
        if writer.stage.is_timed() {
            let parent = Name::new("prompt");
            writer.feed_prompt(&parent)?;
            writer.parent = Some(parent);
        }
        Ok(writer)
    }

    fn feed_prompt(&mut self, name: &Name) -> Result<(), Refusal> {
        self.stage.open(name)?;
        self.stage.append(name, self.prompt, self.chunk)?;
        self.stage.run(&Event::PromptEnd { sequence: name.clone() })?;
        Ok(())
    }

    /// Opens the text's sequence behind the prompt. Answers the first token.
    fn open(&mut self) -> Result<u32, Refusal> {
        let name = self.name.clone();
        if let Some(parent) = self.parent.clone() {
            match self.stage.run(&Event::Fork { parent, sequence: name.clone() }) {
                Ok(_) => return Ok(self.stage.next_token(&name)),
                Err(Refusal::Unsupported(_) | Refusal::Full(_)) => self.close_parent()?,
                Err(failed) => return Err(failed),
            }
        }
        self.feed_prompt(&name)?;
        Ok(self.stage.next_token(&name))
    }

    fn close(&mut self) -> Result<(), Refusal> {
        self.stage.run(&Event::Close { sequence: self.name.clone() })?;
        Ok(())
    }

    fn close_parent(&mut self) -> Result<(), Refusal> {
        if let Some(parent) = self.parent.take() {
            self.stage.run(&Event::Close { sequence: parent })?;
        }
        Ok(())
    }

    /// The first token and so many more, one a step. Answers the steps, each with the depth after it.
    fn write_plainly(&mut self, tokens: usize) -> Result<PlainText, Refusal> {
        match self.write_on(tokens) {
            // There is room for one sequence, and none for the prompt's beside it. No text with drafts is longer.
            Err(Refusal::Full(_)) if self.parent.is_some() => {
                self.close()?;
                self.close_parent()?;
                self.write_on(tokens)
            }
            written => written,
        }
    }

    fn write_on(&mut self, tokens: usize) -> Result<PlainText, Refusal> {
        let mut text = vec![self.open()?];
        let mut steps = vec![];
        for step in 1..=tokens {
            let took = self.stage.run(&Event::Step { sequences: vec![self.name.clone()] })?;
            steps.push((self.prompt.len() + step, took));
            text.push(self.stage.next_token(&self.name));
        }
        Ok((text, steps))
    }

    /// The first token and at least so many more, with drafts of `draft` tokens. `guesses` has a token for each place of the text.
    fn speculate(&mut self, guesses: &[u32], draft: usize, tokens: usize) -> Result<Written, Refusal> {
        let mut written = Written { tokens: vec![self.open()?], ..Written::default() };
        self.stage.driver().keep(Keeps::OfEach);
        while written.tokens.len() <= tokens {
            let drafted = &guesses[written.tokens.len()..][..draft];
            let fed: Vec<u32> = written.tokens.last().into_iter().chain(drafted).copied().collect();
            let mut took = self.stage.feed(&self.name, &fed)?;
            let began = Instant::now();
            let logits = self.stage.driver().take_logits().pop().unwrap_or_default();
            // What follows the last token is known from the step itself.
            let mut chosen: Vec<u32> = logits.chunks_exact((logits.len() / fed.len()).max(1)).take(draft).map(argmax).collect();
            chosen.extend((!logits.is_empty()).then(|| self.stage.next_token(&self.name)));
            let accepted = drafted.iter().zip(&chosen).take_while(|(drafted, chosen)| drafted == chosen).count();
            took.ms += milliseconds(began.elapsed());
            if accepted < draft {
                took += self.stage.run(&Event::Truncate { sequence: self.name.clone(), tokens: draft - accepted })?;
            }
            written.tokens.extend(&drafted[..accepted]);
            let own = chosen.get(accepted).ok_or_else(|| "there is no model to say what follows a draft".to_owned())?;
            written.tokens.push(*own);
            written.ms += took.ms;
            written.steps += 1;
            written.accepted += accepted;
            written.judged += draft.min(accepted + 1);
        }
        self.stage.driver().keep(Keeps::None);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use kv_kernels::WeightFormat;
    use kv_model::{Decoder, Preset};
    use proptest::prelude::*;

    use super::*;
    use crate::worker::protocol::InstanceSpec;
    use crate::worker::scripted::stage::ModelHost;

    const SEED: u64 = 5;

    fn decoder() -> Decoder {
        Preset::find("tiny").unwrap().build(Some(1), WeightFormat::F32, 0, Default::default()).unwrap().decoder
    }

    fn instance(strategy: &str, config: &str) -> InstanceSpec {
        InstanceSpec { id: strategy.into(), strategy: strategy.into(), config: toml::from_str(config).unwrap() }
    }

    /// A text that follows a random prompt, written plainly, and with drafts.
    fn written(
        decoder: &Decoder,
        instance: &InstanceSpec,
        (prompt, tokens, draft): (usize, usize, usize),
        acceptance: f64,
        seed: u64,
    ) -> Result<(Vec<u32>, Written), Refusal> {
        let registry = crate::builtin();
        let host = ModelHost { registry: &registry, instance, decoder };
        let prompt = random_tokens(seed, host.vocabulary(), prompt);
        let mut writer = Writer::begin(host.stage()?, &prompt, 16)?;
        let (text, _) = writer.write_plainly(tokens + draft)?;
        writer.close()?;
        let guesses = guesses(&text, acceptance, seed, host.vocabulary());
        Ok((text, writer.speculate(&guesses, draft, tokens)?))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn an_exact_cache_writes_the_same_text_with_any_draft(
            sizes in (1usize..48, 2usize..20, 1usize..10),
            acceptance in 0.0..=1.0,
            seed in any::<u64>(),
        ) {
            let decoder = decoder();
            for (strategy, config) in [("contiguous", ""), ("paged", "block_size = 4"), ("naive", ""), ("sliding", "window = 4096")] {
                let (text, drafted) = written(&decoder, &instance(strategy, config), sizes, acceptance, seed).unwrap();
                prop_assert!(drafted.tokens.len() > sizes.1, "{strategy}");
                prop_assert_eq!(&drafted.tokens, &text[..drafted.tokens.len()], "{}", strategy);
            }
        }
    }

    #[test]
    fn plain_steps_are_timed_before_the_drafts_or_behind_them() {
        let (decoder, registry, instance) = (decoder(), crate::builtin(), instance("contiguous", ""));
        let host = ModelHost { registry: &registry, instance: &instance, decoder: &decoder };
        let speculative = Speculative { prompt: 8, tokens: 6, draft: vec![2], acceptance: vec![0.5] };
        let script = ScriptSpec {
            workload: crate::config::Workload::Speculative,
            scripted: None,
            seq_len: 16,
            batch: 1,
            decode_steps: 2,
            prefill_chunk: 8,
            seed: SEED,
        };
        for order in [Order::Usual, Order::Reversed] {
            let outcome = run(&host, &speculative, &script, order, &|_, _| ()).unwrap();
            assert_eq!(outcome.steps.iter().map(|(depth, _)| *depth).collect::<Vec<_>>(), (9..=16).collect::<Vec<_>>(), "{order:?}");
            let (plain, drafts) = (outcome.at(PLAIN, "cost_ms", 0).unwrap(), outcome.at("p = 0.5", "cost_ms", 2).unwrap());
            assert_eq!(outcome.at("p = 0.5", "speedup", 2), Some(plain / drafts), "{order:?}");
            assert!(!outcome.values.contains_key("first_difference_tokens"), "{order:?}");
        }
    }

    #[test]
    fn the_first_step_does_not_count() {
        let steps: Vec<(usize, Took)> = [90.0, 1.0, 3.0].map(|ms| (1, Took { ms, ..Took::default() })).into();
        assert_eq!(warm_mean(&steps), 2.0);
    }

    #[test]
    fn steps_follow_from_what_is_accepted() {
        let decoder = decoder();
        let contiguous = instance("contiguous", "format = 'f16'");
        let of = |acceptance| written(&decoder, &contiguous, (20, 12, 3), acceptance, SEED).unwrap().1;
        let always = of(1.0);
        assert_eq!((always.steps, always.accepted, always.judged, always.tokens.len()), (3, 9, 9, 13));
        let never = of(0.0);
        assert_eq!((never.steps, never.accepted, never.judged, never.tokens.len()), (12, 0, 12, 13));
        assert!(always.ms > 0.0);
    }

    #[test]
    fn what_cannot_be_taken_back_is_not_supported() {
        let decoder = decoder();
        for (instance, reason) in
            [(instance("sliding", "window = 8\nsinks = 0"), "were evicted"), (instance("quantized", "residual = 4"), "are sealed")]
        {
            let refused = written(&decoder, &instance, (20, 12, 3), 0.0, SEED).unwrap_err();
            assert!(matches!(&refused, Refusal::Unsupported(why) if why.contains(reason)), "{refused:?}");
            // With nothing to take back, nothing is refused.
            assert!(written(&decoder, &instance, (20, 12, 3), 1.0, SEED).is_ok());
        }
        assert!(written(&decoder, &instance("sliding", "window = 64"), (20, 12, 3), 0.0, SEED).is_ok(), "nothing is evicted yet");
    }

    /// A pool with room for one sequence alone: the prompt is computed for every text.
    #[test]
    fn without_room_for_a_fork_the_prompt_is_computed_again() {
        let decoder = decoder();
        let (text, drafted) = written(&decoder, &instance("paged", "block_size = 4\nmax_blocks = 9"), (21, 12, 3), 0.5, SEED).unwrap();
        assert_eq!(drafted.tokens, text[..drafted.tokens.len()]);
    }

    #[test]
    fn a_draft_is_right_as_often_as_it_should_be_and_wrong_in_the_same_places() {
        let text = random_tokens(1, 100, 4000);
        let right = |acceptance: f64| -> Vec<bool> {
            guesses(&text, acceptance, SEED, 100).iter().zip(&text).map(|(guess, token)| guess == token).collect()
        };
        let share = |right: &[bool]| right.iter().filter(|is_right| **is_right).count() as f64 / right.len() as f64;
        assert_eq!((share(&right(0.0)), share(&right(1.0))), (0.0, 1.0));
        let (half, most) = (right(0.5), right(0.8));
        assert!((share(&half) - 0.5).abs() < 0.03 && (share(&most) - 0.8).abs() < 0.03);
        assert!(half.iter().zip(&most).all(|(half, most)| *most || !half));
        assert!(guesses(&text, 0.0, SEED, 100).iter().all(|guess| *guess < 100));
    }
}
