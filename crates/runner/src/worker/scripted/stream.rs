//! Runs streams.

use std::borrow::Cow;
use std::ops::Range;

use kv_report::counted;
use kv_script::{Driver, Name};
use rayon::prelude::*;

use super::outcome::Outcome;
use super::refusal::{MayBeCaches, Refusal};
use super::stage::{Answers, Host, Stage, Took};
use crate::drivers::Keeps;
use crate::free_memory::size;
use crate::worker::protocol::ScriptSpec;
use crate::workloads::{Steps, StreamScript, random_tokens};

/// How a stream is fed, in the words of a report.
const IN_CHUNKS: &str = "in chunks";
const ONE_BY_ONE: &str = "one by one";

/// Single steps before a depth with a cache that recomputes: each takes as long as a prefill.
const RECOMPUTED_STEPS: usize = 3;

pub(super) fn run<H: Host>(
    host: &H,
    stream: &StreamScript,
    script: &ScriptSpec,
    text: &[u32],
    progress: &dyn Fn(usize, usize),
) -> Result<Outcome, Refusal> {
    let mut feed = Feed::begin(host, stream, script, text)?;
    let context = host.context();
    let variant = if stream.steps == Steps::Each { ONE_BY_ONE } else { IN_CHUNKS };
    let mut outcome = Outcome::default();
    let (mut compared, mut medians) = (vec![], vec![]);
    for depth in stream.depths() {
        let before = feed.fed;
        let (steps, ended) = match feed.go_on(stream, depth) {
            Ok(steps) => (steps, None),
            Err(Refusal::Full(reason)) => (vec![], Some(reason)),
            Err(refusal) => return Err(refusal),
        };
        let counted = steps.get(1..).unwrap_or_default();
        if let Some(ms) = kv_metrics::quantile(&counted.iter().map(|(_, took)| took.ms).collect::<Vec<_>>(), 0.5).filter(|ms| *ms > 0.0) {
            outcome.put(variant, "tpot_ms", feed.fed, ms);
            medians.push(ms);
        }
        // The first step of all is marked as a warm-up, and does not count either.
        let steps = steps.get(usize::from(!compared.is_empty())..).unwrap_or_default();
        compared.extend(steps.iter().filter(|(depth, _)| *depth <= context));
        if feed.fed > before {
            feed.judge((variant, "ppl", feed.fed), before..feed.fed, &mut outcome);
            feed.stage.heap_bytes().into_iter().for_each(|bytes| outcome.put(variant, "heap_bytes", feed.fed, bytes));
        }
        progress(feed.fed, stream.tokens);
        if let Some(reason) = ended {
            end(host, stream, &feed, &reason, &mut outcome);
            break;
        }
    }
    if let [first, .., last] = medians.as_slice() {
        outcome.put(variant, "tpot_growth", 0, last / first);
    }
    let within = feed.fed.min(context);
    feed.judge((variant, "ppl_within_context", 0), 0..within, &mut outcome);
    feed.judge((variant, "ppl_beyond_context", 0), within..feed.fed, &mut outcome);
    outcome.compare_by(compared);
    Ok(outcome)
}

/// Says where a stream ended before its end.
fn end<H: Host>(host: &H, stream: &StreamScript, feed: &Feed<'_, H::Driver>, reason: &str, outcome: &mut Outcome) {
    // Rows are not refused by a model: what times say of the end is right.
    if !feed.stage.is_timed() {
        return;
    }
    outcome.values.insert("ended_at_tokens", feed.fed as f64);
    let mut note = format!("ended at {}: {reason}", counted(feed.fed, "token"));
    // A cache that keeps nothing needs nothing.
    if let Some(bytes) = host.needed_bytes(stream.tokens).filter(|bytes| *bytes > 0) {
        outcome.values.insert("needed_bytes", bytes as f64);
        note.push_str(&format!("; it would have needed {} for all {}", size(bytes), stream.tokens));
        if feed.stage.cache().reach(host.context()).is_some_and(|reach| feed.fed >= reach) {
            note.push_str(", and its bytes are not what ended it");
        }
    }
    outcome.notes.push(note);
}

/// A stream under way.
struct Feed<'a, D: Driver> {
    stage: Stage<'a, D>,
    name: Name,
    /// What is fed, and the token that follows.
    tokens: Cow<'a, [u32]>,
    fed: usize,
    /// Positions that a sequence may have, where there is no model to refuse more.
    most: Option<usize>,
    /// The negative log-likelihoods of the tokens that follow those fed, in nats. Empty without a text.
    losses: Vec<f64>,
}

impl<'a, D: Driver<Error: MayBeCaches> + Answers> Feed<'a, D> {
    fn begin<H: Host<Driver = D>>(
        host: &'a H,
        stream: &StreamScript,
        script: &ScriptSpec,
        text: &'a [u32],
    ) -> Result<Feed<'a, D>, Refusal> {
        let mut stage = host.stage()?;
        let name = Name::new("stream");
        stage.open(&name)?;
        let tokens = if text.is_empty() {
            random_tokens(script.seed, host.vocabulary(), stream.tokens.saturating_add(1)).into()
        } else {
            stage.driver().keep(Keeps::OfEach);
            text.into()
        };
        let most = if stage.is_timed() { None } else { stage.cache().reach(host.context()) };
        Ok(Feed { stage, name, tokens, fed: 0, most, losses: vec![] })
    }

    /// Goes on to a depth. Answers the single steps before it, each with the depth after it. What was fed before a refusal stays.
    fn go_on(&mut self, stream: &StreamScript, depth: usize) -> Result<Vec<(usize, Took)>, Refusal> {
        let recomputes = self.stage.cache().recomputes();
        let single = match stream.steps {
            Steps::Each => depth - self.fed,
            Steps::Bursts if recomputes => stream.burst.min(RECOMPUTED_STEPS),
            Steps::Bursts => stream.burst,
        };
        self.fill(depth - single, if recomputes { stream.segment() } else { stream.chunk })?;
        (0..single).map(|_| self.feed(1).map(|took| (self.fed, took))).collect()
    }

    /// Goes on to a depth in chunks. One that is refused for want of room is fed in parts, to the last token that fits.
    fn fill(&mut self, depth: usize, mut chunk: usize) -> Result<(), Refusal> {
        while self.fed < depth {
            let tokens = chunk.min(depth - self.fed);
            match self.feed(tokens) {
                Err(Refusal::Full(_)) if tokens > 1 => chunk = tokens / 2,
                fed => _ = fed?,
            }
        }
        Ok(())
    }

    /// Feeds so many tokens in one step.
    fn feed(&mut self, tokens: usize) -> Result<Took, Refusal> {
        let end = self.fed + tokens;
        if self.most.is_some_and(|most| end > most) {
            return Err(Refusal::Full("the cache reaches no further".into()));
        }
        let took = self.stage.feed(&self.name, &self.tokens[self.fed..end])?;
        if let Some(logits) = self.stage.driver().take_logits().first() {
            let rows = logits.par_chunks_exact(logits.len() / tokens).zip(&self.tokens[self.fed + 1..=end]);
            let losses = rows.map(|(logits, next)| kv_quality::log_probability(logits, *next).map(|probability| -probability));
            self.losses.extend(losses.collect::<Result<Vec<f64>, _>>().map_err(|error| error.to_string())?);
        }
        self.fed = end;
        Ok(took)
    }

    /// Adds the perplexity of the tokens that follow those fed between two depths, if there is a text. What is no number is a note.
    fn judge(&self, (variant, metric, at): (&str, &str, usize), fed: Range<usize>, outcome: &mut Outcome) {
        let Range { start, end } = fed;
        match perplexity(self.losses.get(fed).unwrap_or_default()) {
            Some(perplexity) if perplexity.is_finite() => outcome.put(variant, metric, at, perplexity),
            Some(_) => outcome.notes.push(format!("{metric} of the tokens {start} to {end} is beyond counting")),
            None => {}
        }
    }
}

/// The perplexity of tokens with these losses. `None` if there are none.
fn perplexity(losses: &[f64]) -> Option<f64> {
    (!losses.is_empty()).then(|| (losses.iter().sum::<f64>() / losses.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use kv_kernels::WeightFormat;
    use kv_model::{Decoder, Preset};

    use super::*;
    use crate::config::Workload;
    use crate::worker::protocol::InstanceSpec;
    use crate::worker::scripted::stage::ModelHost;
    use crate::workloads::Stream;

    const TOKENS: usize = 60;

    fn decoder() -> Decoder {
        Preset::find("tiny").unwrap().build(Some(1), WeightFormat::F32, 0, Default::default()).unwrap().decoder
    }

    /// What a stream of a text comes to.
    fn streamed(decoder: &Decoder, strategy: &str, config: &str, keys: &str) -> Outcome {
        let registry = crate::builtin();
        let instance = InstanceSpec { id: strategy.into(), strategy: strategy.into(), config: toml::from_str(config).unwrap() };
        let host = ModelHost { registry: &registry, instance: &instance, decoder };
        let stream: Stream = toml::from_str(&format!("tokens = {TOKENS}\nbursts = 3\n{keys}")).unwrap();
        let stream = stream.of_model(decoder.config().geometry.context, 16).unwrap();
        let text = random_tokens(3, host.vocabulary(), TOKENS + 1);
        run(&host, &stream, &script(), &text, &|_, _| ()).unwrap()
    }

    fn script() -> ScriptSpec {
        ScriptSpec { workload: Workload::Stream, scripted: None, seq_len: TOKENS, batch: 1, decode_steps: 2, prefill_chunk: 16, seed: 0 }
    }

    fn points<'o>(outcome: &'o Outcome, metric: &'o str) -> Vec<(f64, f64)> {
        outcome.points.iter().filter(|point| point.metric == metric).map(|point| (point.at, point.value)).collect()
    }

    #[test]
    fn a_text_is_read_alike_in_chunks_and_one_by_one() {
        let decoder = decoder();
        for (strategy, config) in [("contiguous", ""), ("paged", ""), ("sliding", "window = 12\nsinks = 4"), ("naive", "")] {
            let chunks = points(&streamed(&decoder, strategy, config, "burst = 4"), "ppl");
            let single = points(&streamed(&decoder, strategy, config, "steps = 'each'"), "ppl");
            assert_eq!(chunks.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [20.0, 40.0, 60.0], "{strategy}");
            for ((_, chunks), (_, single)) in chunks.iter().zip(&single) {
                assert!((chunks / single - 1.0).abs() < 1e-4, "{strategy}: {chunks} and {single}");
            }
        }
    }

    /// By hand: the logits of each prefix.
    #[test]
    fn perplexity_is_that_of_the_next_tokens() {
        let decoder = decoder();
        let outcome = streamed(&decoder, "contiguous", "", "burst = 4");
        let text = random_tokens(3, decoder.config().vocabulary, TOKENS + 1);
        let registry = crate::builtin();
        let mut cache = registry.get("contiguous").unwrap().build(&toml::Table::new(), &decoder.config().geometry).unwrap();
        let mut sequence = kv_model::Sequence::open(cache.as_mut()).unwrap();
        let mut losses = vec![];
        for (token, next) in text.iter().zip(&text[1..]) {
            let fresh = kv_model::Fresh::Tokens(std::slice::from_ref(token));
            let logits = decoder.step(cache.as_mut(), &mut [kv_model::StepInput { sequence: &mut sequence, fresh }]).unwrap();
            let total: f64 = logits[0].iter().map(|logit| f64::from(*logit).exp()).sum();
            losses.push(total.ln() - f64::from(logits[0][*next as usize]));
        }
        let expected = |losses: &[f64]| (losses.iter().sum::<f64>() / losses.len() as f64).exp();
        for (metric, at, losses) in [("ppl", 20.0, &losses[..20]), ("ppl", 60.0, &losses[40..]), ("ppl_within_context", 0.0, &losses[..])] {
            let found = points(&outcome, metric).into_iter().find(|point| point.0 == at).unwrap().1;
            assert!((found / expected(losses) - 1.0).abs() < 1e-4, "{metric} at {at}: {found}");
        }
        assert_eq!(points(&outcome, "ppl_beyond_context"), []);
        // Four single steps before each depth, of which the first counts as what it is: a warm-up.
        assert_eq!(outcome.steps.iter().map(|(depth, _)| *depth).collect::<Vec<_>>(), [17, 18, 19, 20, 38, 39, 40, 58, 59, 60]);
        assert!(outcome.values["read_bytes"] > 0.0);
    }

    #[test]
    fn a_full_cache_ends_at_its_last_token_and_says_what_all_would_need() {
        let decoder = decoder();
        for (strategy, config, keys) in [
            ("contiguous", "growth = { reserve = 33 }", "burst = 4"),
            ("contiguous", "growth = { reserve = 33 }", "steps = 'each'"),
            ("paged", "block_size = 3\nmax_blocks = 11", "burst = 4"),
        ] {
            let outcome = streamed(&decoder, strategy, config, keys);
            assert_eq!(outcome.values["ended_at_tokens"], 33.0, "{strategy}");
            let rows = TOKENS * decoder.config().geometry.values_per_token() * size_of::<f32>();
            let needed = outcome.values["needed_bytes"] / rows as f64;
            assert!((1.0..1.2).contains(&needed), "{strategy}: the rows, and tables: {needed}");
            assert!(outcome.notes[0].ends_with("for all 60"), "{:?}", outcome.notes);
            assert!(outcome.notes[0].starts_with("ended at 33 tokens: cache is full: 1 more tokens needed, 0 free"), "{:?}", outcome.notes);
            assert_eq!(points(&outcome, "tpot_ms").len(), 1, "{strategy}");
            assert_eq!(points(&outcome, "ppl").last().unwrap().0, 33.0, "what was read is judged");
        }
    }

    #[test]
    fn a_perplexity_that_is_no_number_is_said() {
        let decoder = decoder();
        let (registry, stream) = (crate::builtin(), toml::from_str::<Stream>("tokens = 8\nbursts = 1").unwrap().of_model(64, 8).unwrap());
        let instance = InstanceSpec { id: "naive".into(), strategy: "naive".into(), config: toml::Table::new() };
        let host = ModelHost { registry: &registry, instance: &instance, decoder: &decoder };
        let mut feed = Feed::begin(&host, &stream, &script(), &[]).unwrap();
        let mut outcome = Outcome::default();
        feed.losses = vec![1.0, 1.0, 1e4];
        feed.judge((IN_CHUNKS, "ppl", 2), 0..2, &mut outcome);
        feed.judge((IN_CHUNKS, "ppl", 3), 2..3, &mut outcome);
        assert_eq!(points(&outcome, "ppl"), [(2.0, 1f64.exp())]);
        assert_eq!(outcome.notes, ["ppl of the tokens 2 to 3 is beyond counting"]);
    }
}
