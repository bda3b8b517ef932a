//! Serves requests under a memory limit.

use std::collections::{BTreeMap, VecDeque};

use kv_report::{counted, were};
use kv_script::{Event, Name};

use super::outcome::Outcome;
use super::refusal::Refusal;
use super::serve_bytes::{RowBytes, Taken};
use super::serve_record::Record;
use super::stage::{Host, Stage, Took};
use crate::free_memory::size;
use crate::worker::protocol::ScriptSpec;
use crate::workloads::{RequestLength, ServeScript};

/// A request that waits or is served.
#[derive(Debug)]
struct Request {
    name: Name,
    length: RequestLength,
    /// Tokens of its output so far: kept when it is closed before its end.
    written: usize,
}

impl Request {
    /// Tokens in the cache after its admission, or after its last step: nobody has fed the last token of the output.
    fn held(&self) -> usize {
        self.length.prompt + self.written - 1
    }

    fn is_done(&self) -> bool {
        self.written == self.length.output
    }
}

struct Server<'a, H: Host> {
    host: &'a H,
    stage: Stage<'a, H::Driver>,
    memory: usize,
    chunk: usize,
    waiting: VecDeque<Request>,
    /// In the order of their admission.
    running: Vec<Request>,
    /// Whether the cache was full before the memory was: nothing is admitted until a sequence has ended.
    is_full: bool,
    /// What a sequence takes by its tokens, as far as it was asked for.
    taken: BTreeMap<usize, Taken>,
    /// What its rows take.
    rows: RowBytes,
    record: Record,
    notes: Vec<String>,
}

pub(super) fn run<H: Host>(
    host: &H,
    serve: &ServeScript,
    script: &ScriptSpec,
    progress: &dyn Fn(usize, usize),
) -> Result<Outcome, Refusal> {
    let mut server = Server::new(host, serve, script)?;
    let requests = serve.drawn(script.seed);
    server.queue(&requests, serve)?;
    while !(server.waiting.is_empty() && server.running.is_empty()) {
        server.make_room()?;
        server.admit()?;
        server.step()?;
        progress(server.record.served + server.record.refused, requests.len());
    }
    let Server { record, notes, stage, .. } = server;
    let mut outcome = Outcome { notes, ..Outcome::default() };
    record.put_steps(&mut outcome);
    if stage.is_timed() {
        record.put_whole(requests.len(), &mut outcome);
    }
    Ok(outcome)
}

impl<'a, H: Host> Server<'a, H> {
    fn new(host: &'a H, serve: &ServeScript, script: &ScriptSpec) -> Result<Server<'a, H>, Refusal> {
        let stage = host.stage()?;
        let rows = RowBytes::of(host, stage.cache());
        Ok(Server {
            host,
            rows,
            stage,
            memory: usize::try_from(serve.memory).unwrap_or(usize::MAX),
            chunk: script.prefill_chunk,
            waiting: VecDeque::new(),
            running: vec![],
            is_full: false,
            taken: BTreeMap::new(),
            record: Record::default(),
            notes: vec![],
        })
    }

    /// Puts the requests that can be served into the queue.
    fn queue(&mut self, requests: &[RequestLength], serve: &ServeScript) -> Result<(), Refusal> {
        let keeps_to_most = |request: &RequestLength| request.tokens() <= serve.max_tokens;
        let (fit, too_long): (Vec<RequestLength>, Vec<RequestLength>) = requests.iter().copied().partition(keeps_to_most);
        if let Some(longest) = too_long.iter().map(|request| request.tokens()).max() {
            let (count, most) = (too_long.len(), serve.max_tokens);
            self.notes.push(format!(
                "{count} of {} {} refused, for more than the {most} tokens of `max_tokens`: up to {longest}",
                counted(requests.len(), "request"),
                were(count)
            ));
        }
        let (mut too_large, mut without_room) = (0, 0);
        let mut least = usize::MAX;
        for (index, length) in fit.into_iter().enumerate() {
            let tokens = length.tokens();
            if self.host.predicted_among_many(tokens).is_some() && self.host.predicted_bytes(tokens).is_none() {
                without_room += 1;
                continue;
            }
            let needed = self.bytes_of(tokens)?;
            least = least.min(needed);
            if needed > self.memory {
                too_large += 1;
                continue;
            }
            self.waiting.push_back(Request { name: Name::new(&format!("request {index}")), length, written: 0 });
        }
        self.record.refused = too_long.len() + too_large + without_room;
        let memory = size(self.memory as u64);
        if self.waiting.is_empty() && too_large > 0 {
            let least = size(least as u64);
            return Err(Refusal::Failed(format!(
                "not one request fits into `memory` ({memory}): the smallest of {} takes {least}",
                requests.len()
            )));
        }
        if self.waiting.is_empty() {
            let most = serve.max_tokens;
            return Err(Refusal::Failed(format!(
                "not one request keeps to `max_tokens` ({most}) and to what a sequence may have in this cache"
            )));
        }
        if without_room > 0 {
            self.notes.push(format!(
                "{without_room} of {} {} refused: a sequence of this cache has no room for as many tokens",
                counted(requests.len(), "request"),
                were(without_room)
            ));
        }
        if too_large > 0 {
            self.notes.push(format!(
                "{too_large} of {} {} refused: one alone would take more than `memory` ({memory})",
                counted(requests.len(), "request"),
                were(too_large)
            ));
        }
        Ok(())
    }

    /// What a sequence of so many tokens takes, memory reserved ahead included.
    fn taken_by(&mut self, tokens: usize) -> Result<Taken, Refusal> {
        if let Some(taken) = self.taken.get(&tokens) {
            return Ok(*taken);
        }
        let (predicted, least) = (self.host.predicted_among_many(tokens), self.stage.cache().least_bytes(tokens));
        if predicted.is_none() && least == 0 {
            let reason =
                "the strategy says in neither `predicted_bytes` nor `least_bytes` what a sequence takes, so nobody knows how many fit";
            return Err(Refusal::Unsupported(reason.into()));
        }
        let taken = Taken { predicted: predicted.unwrap_or_default(), least };
        self.taken.insert(tokens, taken);
        Ok(taken)
    }

    fn bytes_of(&mut self, tokens: usize) -> Result<usize, Refusal> {
        let Taken { predicted, least } = self.taken_by(tokens)?;
        Ok(predicted.total().max(least))
    }

    /// What all sequences take after their next step.
    fn bytes_after_step(&mut self) -> Result<usize, Refusal> {
        let held: Vec<usize> = self.running.iter().map(Request::held).collect();
        held.into_iter().try_fold(0usize, |sum, held| Ok(sum.saturating_add(self.bytes_of(held + 1)?)))
    }

    /// Closes the newest sequences until the next step of the others fits into the memory.
    fn make_room(&mut self) -> Result<(), Refusal> {
        while self.running.len() > 1 && self.bytes_after_step()? > self.memory {
            self.preempt()?;
        }
        Ok(())
    }

    /// Puts the newest sequence back to the front of the queue.
    fn preempt(&mut self) -> Result<(), Refusal> {
        let Some(newest) = self.running.pop() else { return Ok(()) };
        self.close(&newest.name)?;
        self.record.preempted += 1;
        self.waiting.push_front(newest);
        Ok(())
    }

    /// Admits requests from the front of the queue, as long as the next step of all fits into the memory.
    fn admit(&mut self) -> Result<(), Refusal> {
        if self.running.is_empty() {
            // Nothing is left that could end.
            self.is_full = false;
        }
        let mut taken = self.bytes_after_step()?;
        while let Some(next) = self.waiting.front() {
            let prompt = next.length.prompt + next.written;
            let needed = self.bytes_of(prompt + 1)?;
            // Alone, each fits: the others are not in the queue.
            if !self.running.is_empty() && (self.is_full || taken.saturating_add(needed) > self.memory) {
                break;
            }
            let Some(mut request) = self.waiting.pop_front() else { break };
            match self.compute(&request.name, prompt) {
                Ok(()) => {
                    request.written += 1;
                    taken += needed;
                    if request.is_done() { self.end(&request)? } else { self.running.push(request) }
                }
                Err(Refusal::Full(reason)) => {
                    self.close(&request.name)?;
                    self.put_off(request, &reason);
                }
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// Opens a sequence and feeds it its prompt and what it has written before.
    fn compute(&mut self, name: &Name, tokens: usize) -> Result<(), Refusal> {
        self.record.ms += self.stage.open(name)?.ms;
        // Rows do not depend on tokens.
        let prompt = self.stage.append(name, &vec![0; tokens], self.chunk)?;
        let end = self.stage.run(&Event::PromptEnd { sequence: name.clone() })?;
        self.record.ms += prompt.of_cache().ms + end.ms;
        Ok(())
    }

    /// What becomes of a request for which the cache has no room, though the memory has: it waits for others to end.
    fn put_off(&mut self, request: Request, reason: &str) {
        if self.running.is_empty() {
            self.record.refused += 1;
            self.notes.push(format!("a request of {} tokens was refused: {reason}", request.length.tokens()));
        } else {
            self.is_full = true;
            self.waiting.push_front(request);
        }
    }

    /// Lets all running sequences take a step together.
    fn step(&mut self) -> Result<(), Refusal> {
        let took = loop {
            if self.running.is_empty() {
                return Ok(());
            }
            let sequences = self.running.iter().map(|request| request.name.clone()).collect();
            match self.stage.run(&Event::Step { sequences }) {
                Ok(took) => break took.of_cache(),
                Err(Refusal::Full(_)) if self.running.len() > 1 => {
                    self.is_full = true;
                    self.preempt()?;
                }
                Err(Refusal::Full(reason)) => {
                    let Some(alone) = self.running.pop() else { return Ok(()) };
                    self.close(&alone.name)?;
                    self.put_off(alone, &reason);
                }
                Err(failed) => return Err(failed),
            }
        };
        self.running.iter_mut().for_each(|request| request.written += 1);
        self.note(took)?;
        let (done, running) = std::mem::take(&mut self.running).into_iter().partition(Request::is_done);
        self.running = running;
        done.iter().try_for_each(|request| self.end(request))
    }

    /// Ends a request that was served.
    fn end(&mut self, request: &Request) -> Result<(), Refusal> {
        self.close(&request.name)?;
        self.is_full = false;
        self.record.served += 1;
        self.record.written += request.written;
        Ok(())
    }

    fn close(&mut self, name: &Name) -> Result<(), Refusal> {
        self.record.ms += self.stage.run(&Event::Close { sequence: name.clone() })?.ms;
        Ok(())
    }

    /// Notes how things are after a step.
    fn note(&mut self, took: Took) -> Result<(), Refusal> {
        let held: Vec<usize> = self.running.iter().map(Request::held).collect();
        let running = held.len();
        let depth = held.iter().sum::<usize>() / running;
        self.record.ms += took.ms;
        self.record.compared.push((depth, took.share(running)));
        self.record.steps.push((running, self.stage.heap_bytes()));
        let mut taken = Taken::default();
        for held in held {
            taken += self.taken_by(held)?;
        }
        let usage = self.stage.cache().usage();
        self.record.note_memory(&usage, self.rows, taken);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::serve_record::SERVED;
    use super::super::stage::RowsHost;
    use super::super::testing::{Measured, instance, run, task};
    use super::*;
    use crate::workloads::{LogNormal, RequestLengths, Scripted};

    /// Bytes of a token in f32 in the shape of these tests: a key and a value of 16 numbers.
    const TOKEN: u64 = 128;

    fn served(lengths: RequestLengths, (memory, max_tokens): (u64, usize), strategy: (&str, &str)) -> Result<Outcome, Refusal> {
        run(Scripted::Serve(ServeScript { lengths, memory, max_tokens }), strategy, Measured::Times)
    }

    fn drawn(requests: usize) -> RequestLengths {
        let log_normal = |median| LogNormal { median, sigma: 0.6 };
        RequestLengths::Drawn { requests, prompt: log_normal(256), output: log_normal(64) }
    }

    fn traced(requests: &[(usize, usize)]) -> RequestLengths {
        RequestLengths::Traced(requests.iter().map(|(prompt, output)| RequestLength { prompt: *prompt, output: *output }).collect())
    }

    fn whole(outcome: &Outcome, metric: &str) -> f64 {
        outcome.at(SERVED, metric, 0).unwrap()
    }

    #[test]
    fn pages_waste_little_and_reservations_most_and_a_seed_serves_alike() {
        let memory = 8 * 1024 * TOKEN;
        let of = |strategy| served(drawn(48), (memory, 1024), strategy).unwrap();
        let (pages, reserved) = (of(("paged", "block_size = 16")), of(("contiguous", "growth = { reserve = 1024 }")));
        assert!(whole(&pages, "waste") < 0.04, "{}", whole(&pages, "waste"));
        assert!(whole(&reserved, "waste") > 0.6, "{}", whole(&reserved, "waste"));
        assert!(whole(&reserved, "running_most") < 8.0, "a reservation takes a little more than its rows");
        assert!(whole(&pages, "running_mean") > 2.0 * whole(&reserved, "running_mean"));
        assert!(whole(&reserved, "free_pool_bytes") == 0.0);
        for outcome in [&pages, &reserved] {
            assert_eq!((whole(outcome, "served"), whole(outcome, "refused")), (48.0, 0.0), "none is lost");
            assert!(whole(outcome, "served_tokens_per_s") > 0.0);
            let steps = whole(outcome, "steps");
            assert!(outcome.at(SERVED, "running", steps as usize).is_some(), "the last step is a point");
            assert_eq!(outcome.steps.len(), steps as usize);
        }
        let again = of(("paged", "block_size = 16"));
        let counted = |outcome: &Outcome| {
            let points = outcome.points.iter().filter(|point| !point.metric.ends_with("_per_s"));
            points.map(|point| (point.metric.clone(), point.at, point.value)).collect::<Vec<_>>()
        };
        assert_eq!(counted(&pages), counted(&again));
    }

    #[test]
    fn what_does_not_fit_any_more_is_computed_again_later_and_nothing_is_lost() {
        let requests = traced(&[(16, 200); 12]);
        for strategy in [("paged", "block_size = 8"), ("contiguous", ""), ("quantized", "format = 'q8_g16'"), ("sliding", "window = 100")] {
            let outcome = served(requests.clone(), (600 * TOKEN, 1024), strategy).unwrap();
            assert_eq!((whole(&outcome, "served"), whole(&outcome, "refused")), (12.0, 0.0), "{strategy:?}");
            if strategy.0 == "paged" {
                assert!(whole(&outcome, "preempted") > 0.0 && whole(&outcome, "running_most") > 2.0);
            }
        }
        // Nothing is kept, so all fit.
        let naive = served(traced(&[(16, 3); 5]), (1, 1024), ("naive", "")).unwrap();
        assert_eq!((whole(&naive, "served"), whole(&naive, "running_most")), (5.0, 5.0));
        assert_eq!(naive.at(SERVED, "waste", 0), None, "there is nothing to waste");
    }

    #[test]
    fn a_cache_that_is_full_before_the_memory_is_lets_requests_wait() {
        let requests = traced(&[(16, 60); 6]);
        // 12 pages of 8 tokens, where each request needs 10.
        let outcome = served(requests, (1 << 30, 1024), ("paged", "block_size = 8\nmax_blocks = 12")).unwrap();
        assert_eq!((whole(&outcome, "served"), whole(&outcome, "refused")), (6.0, 0.0));
        assert!(whole(&outcome, "preempted") > 0.0);
    }

    #[test]
    fn what_waits_for_a_full_cache_is_served_when_nothing_runs_any_more() {
        let serve = ServeScript { lengths: traced(&[(16, 3), (16, 3)]), memory: 1 << 20, max_tokens: 64 };
        let (registry, task, instance) = (crate::builtin(), task(Scripted::Serve(serve.clone())), instance(("paged", "")).unwrap());
        let host = RowsHost::timed(&registry, &task, &instance);
        let mut server = Server::new(&host, &serve, &task.script).unwrap();
        server.queue(&serve.drawn(0), &serve).unwrap();
        server.is_full = true;
        server.admit().unwrap();
        assert_eq!((server.running.len(), server.waiting.len(), server.is_full), (2, 0, false));
    }

    #[test]
    fn requests_that_can_never_fit_are_counted_and_said_with_numbers() {
        let requests = traced(&[(16, 8), (900, 200), (500, 8)]);
        let outcome = served(requests, (300 * TOKEN, 1024), ("paged", "block_size = 16")).unwrap();
        assert_eq!((whole(&outcome, "served"), whole(&outcome, "refused")), (1.0, 2.0));
        assert_eq!(
            outcome.notes,
            [
                "1 of 3 requests was refused, for more than the 1024 tokens of `max_tokens`: up to 1100",
                "1 of 3 requests was refused: one alone would take more than `memory` (37.5 KiB)",
            ]
        );
        let limited = served(traced(&[(16, 8), (100, 8)]), (1 << 30, 1024), ("contiguous", "growth = { reserve = 64 }")).unwrap();
        assert_eq!((whole(&limited, "served"), whole(&limited, "refused")), (1.0, 1.0));
        assert!(limited.notes[0].contains("a sequence of this cache has no room for as many tokens"), "{:?}", limited.notes);
        let none = served(traced(&[(16, 8)]), (1024, 1024), ("paged", "block_size = 16")).map(|_| ()).unwrap_err();
        assert!(none.reason().starts_with("not one request fits into `memory` (1.0 KiB): the smallest of 1 takes 4."), "{}", none.reason());
        assert_eq!(none.status(), kv_report::Status::Failed);
    }
}
