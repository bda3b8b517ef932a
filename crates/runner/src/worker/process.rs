//! The runner's side of a worker process.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kv_report::Status;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};

use super::COMMAND;
use super::protocol::{Job, Message, PROTOCOL, Phase, Task, Work};
use crate::free_memory::size;
use crate::{Problem, interrupt, progress};

/// How a worker ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last phase that it began.
    pub(crate) phase: Option<Phase>,
    pub(crate) how: How,
}

/// See [`Ended`].
#[derive(Debug)]
pub(crate) enum How {
    /// It did its job.
    Finished,
    /// It died, or was ended because it took too long: a status and the reason in words.
    Died(Status, String, By),
    /// Ctrl-C.
    Interrupted,
}

/// Who ended a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Itself, or the runner.
    Itself,
    /// Somebody else: the system, because memory ran out, or a person. Another try is worth it, but only one.
    SomebodyElse,
}

/// When Ctrl-C ends a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// At once: what it does cannot be kept.
    AtOnce,
    /// After the next visit, and 10 seconds later at the latest.
    AfterVisit,
    /// When decode steps are no longer timed, and 10 seconds later at the latest: what comes before and after may take long.
    AfterDecoding,
}

impl OnInterrupt {
    /// Whether a worker that does this may go on for a while.
    fn waits_for(self, work: Option<&Work>) -> bool {
        match self {
            OnInterrupt::AtOnce => false,
            OnInterrupt::AfterVisit => true,
            OnInterrupt::AfterDecoding => work == Some(&Work::Decode),
        }
    }
}

/// How long what is in hand may go on after Ctrl-C: a launch of which only a part was timed is lost.
const GRACE: Duration = Duration::from_secs(10);

/// The shortest patience with a model that is being loaded.
const LOADING: Duration = Duration::from_secs(600);

#[expect(clippy::large_enum_variant, reason = "nearly every event is a message")]
enum Event {
    Message(Message),
    /// A line that is no message.
    Garbage(String),
    Closed,
    Interrupt,
}

/// Starts a worker, hands it its job and calls `hear` with every message, until it has ended. `patience` is the longest
/// silence: a worker says something at every phase and between long steps.
///
/// # Errors
/// A [`Problem`] if the process cannot be started, the worker's if it cannot do its job at all, or that of `hear`, which ends
/// the worker. That it dies is none.
pub(crate) fn run(
    program: &Program,
    job: &Job,
    patience: Duration,
    on_interrupt: OnInterrupt,
    mut hear: impl FnMut(Message) -> Result<(), Problem>,
) -> Result<Ended, Problem> {
    if interrupt::requested() {
        return Ok(Ended { phase: None, how: How::Interrupted });
    }
    let mut worker = Worker::start(program, job)?;
    let mut phase: Option<Phase> = None;
    let mut must_end: Option<Instant> = None;
    loop {
        let is_loading = phase.as_ref().is_none_or(|phase| phase.work == Work::Load);
        let patience = if is_loading { patience.max(LOADING) } else { patience };
        let left = must_end.map(|end| end.saturating_duration_since(Instant::now()));
        match worker.events.recv_timeout(left.map_or(patience, |left| left.min(patience))) {
            // Also between messages that keep coming.
            _ if left.is_some_and(|left| left.is_zero()) => {
                worker.kill();
                return Ok(Ended { phase, how: How::Interrupted });
            }
            Ok(Event::Message(Message::Phase(next))) => {
                let is_decoding = next.work == Work::Decode;
                phase = Some(next.clone());
                hear(Message::Phase(next))?;
                if interrupt::requested() && on_interrupt == OnInterrupt::AfterDecoding && !is_decoding {
                    worker.kill();
                    return Ok(Ended { phase, how: How::Interrupted });
                }
            }
            Ok(Event::Message(Message::Ready { protocol, .. })) if protocol != PROTOCOL => {
                worker.kill();
                if let Program::Other(path) = program {
                    let path = path.display();
                    return Err(Problem::new(format!(
                        "`{path}` cannot take turns with this build: its workers speak protocol {protocol}, and this program {PROTOCOL}"
                    ))
                    .help("build it from a commit with the same protocol; `runner compare` compares two runs, whatever wrote them"));
                }
                let reason = format!("the worker speaks protocol {protocol}, and the runner {PROTOCOL}: was the program replaced?");
                return Ok(Ended { phase, how: How::Died(Status::Failed, reason, By::Itself) });
            }
            // Nothing that it does after this matters, not even if it hangs.
            Ok(Event::Message(Message::Finished)) => {
                worker.kill();
                return Ok(Ended { phase, how: How::Finished });
            }
            Ok(Event::Message(Message::Refused(record))) => {
                worker.kill();
                let problem = Problem::of_record(record);
                return Err(match program {
                    Program::Own => problem,
                    Program::Other(path) => Problem::new(format!("a worker of `{}` cannot do its job", path.display())).caused_by(problem),
                });
            }
            Ok(Event::Message(message)) => {
                let was_visit = matches!(message, Message::Visit(_));
                hear(message)?;
                if was_visit && interrupt::requested() && on_interrupt == OnInterrupt::AfterVisit {
                    worker.kill();
                    return Ok(Ended { phase, how: How::Interrupted });
                }
            }
            Ok(Event::Garbage(line)) => {
                worker.kill();
                return Ok(Ended {
                    phase,
                    how: How::Died(Status::Failed, format!("it wrote `{line}` where the runner listens"), By::Itself),
                });
            }
            Ok(Event::Interrupt) => {
                if !on_interrupt.waits_for(phase.as_ref().map(|phase| &phase.work)) {
                    worker.kill();
                    return Ok(Ended { phase, how: How::Interrupted });
                }
                must_end.get_or_insert(Instant::now() + GRACE);
            }
            Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => {
                let how = match worker.end() {
                    Ok(status) => worker.death(status, job.memory_limit),
                    Err(error) => How::Died(Status::Failed, format!("nobody knows how it ended: {error}"), By::Itself),
                };
                return Ok(Ended { phase, how });
            }
            Err(RecvTimeoutError::Timeout) if must_end.is_some() => {}
            Err(RecvTimeoutError::Timeout) => {
                worker.kill();
                let reason = format!("nothing was heard of it for {}, and it was ended", progress::human(patience.as_secs_f64()));
                return Ok(Ended { phase, how: How::Died(Status::Timeout, reason, By::Itself) });
            }
        }
    }
}

/// Limits the memory of this process: heap, anonymous memory and stacks of threads that can be written to. What is merely
/// reserved does not count, so the address space is not what is limited.
///
/// # Errors
/// A [`Problem`] if the system refuses.
pub(crate) fn limit_memory(bytes: u64) -> Result<(), Problem> {
    let limit = getrlimit(Resource::Data);
    let limit = Rlimit { current: Some(limit.maximum.map_or(bytes, |most| most.min(bytes))), ..limit };
    setrlimit(Resource::Data, limit)
        .map_err(|error| Problem::new(format!("the memory cannot be limited to {}", size(bytes))).caused_by(error))
}

/// Is set in the environment of workers.
const MARK: &str = "KVLAB_WORKER";

/// The program whose workers are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// This one.
    Own,
    /// Another build of it.
    Other(PathBuf),
}

/// This program. On Linux by its process: the file may be replaced or removed while the runner lives.
pub(crate) fn own_program() -> std::io::Result<PathBuf> {
    let process = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && process.exists() { Ok(process.to_owned()) } else { std::env::current_exe() }
}

struct Worker {
    child: Child,
    events: Receiver<Event>,
    /// What it said on its error stream.
    heard: Arc<Mutex<Heard>>,
    /// Hears when its error stream has been read to the end.
    is_quiet: Receiver<()>,
}

impl Worker {
    fn start(program: &Program, job: &Job) -> Result<Worker, Problem> {
        let unstarted = |error: std::io::Error| Problem::new("cannot start a worker process").caused_by(error);
        if std::env::var_os(MARK).is_some() {
            // Each would start others without end.
            let message = format!("this program does not pass the command `{COMMAND}` on to `runner::main`");
            return Err(Problem::new(message).help("call `runner::main` before the program looks at its arguments, at least for that one"));
        }
        let path = match program {
            Program::Own => own_program().map_err(unstarted)?,
            Program::Other(path) => path.clone(),
        };
        let line = serde_json::to_string(job).map_err(|error| Problem::new("a worker cannot be told what to do").caused_by(error))?;
        let mut child = Command::new(path)
            .arg(COMMAND)
            .env(MARK, "1")
            .envs(allocator_settings(job))
            // Ctrl-C reaches the runner alone.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(unstarted)?;
        if let Some(stdin) = &mut child.stdin {
            // One that is dead already is noticed by the end of its output.
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
        let (sender, events) = channel();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (quiet, is_quiet) = channel();
        if let Some(stdout) = child.stdout.take() {
            let sender = sender.clone();
            std::thread::spawn(move || listen(BufReader::new(stdout), &sender));
        }
        if let Some(stderr) = child.stderr.take() {
            let heard = heard.clone();
            std::thread::spawn(move || {
                pass_on(BufReader::new(stderr), &heard);
                let _ = quiet.send(());
            });
        }
        let waiting = sender.clone();
        interrupt::wakes(move || {
            let _ = waiting.send(Event::Interrupt);
        });
        // It may have been pressed just before.
        if interrupt::requested() {
            let _ = sender.send(Event::Interrupt);
        }
        Ok(Worker { child, events, heard, is_quiet })
    }

    /// Ends it and all that it started.
    fn kill(&mut self) {
        self.kill_group();
        let _ = self.end();
    }

    fn kill_group(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Waits until it is gone.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        drop(self.child.stdin.take());
        let status = self.child.wait();
        // What it started may hold its streams open.
        self.kill_group();
        // What it left outside its group may hold the error stream open for ever.
        let _ = self.is_quiet.recv_timeout(Duration::from_millis(500));
        status
    }

    /// Why it died.
    fn death(&self, status: ExitStatus, limit: Option<u64>) -> How {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let of_limit = limit.map_or(String::new(), |limit| format!(" (its limit is {})", size(limit)));
        let last_words = heard.last_words();
        if let Some(line) = &heard.out_of_memory {
            return How::Died(Status::Oom, format!("out of memory{of_limit}: {line}"), By::Itself);
        }
        if heard.stack_overflow {
            return How::Died(Status::Failed, "it overflowed its stack".into(), By::Itself);
        }
        let (status, reason, by) = match (status.signal(), status.code()) {
            // The runner sends none of these four without saying so itself.
            (Some(1 | 2 | 15), _) => (Status::Failed, "somebody ended it with a signal".into(), By::SomebodyElse),
            (Some(9), _) => {
                (Status::Oom, format!("it was killed from outside, which the system does when memory runs out{of_limit}"), By::SomebodyElse)
            }
            (Some(6), _) => (Status::Failed, format!("it aborted{last_words}"), By::Itself),
            (Some(signal), _) => (Status::Failed, format!("signal {signal} ended it{last_words}"), By::Itself),
            (None, code) => {
                let code = code.map_or("an unknown exit code".into(), |code| format!("exit code {code}"));
                (Status::Failed, format!("it ended with {code} before it was done{last_words}"), By::Itself)
            }
        };
        How::Died(status, reason, by)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// What a worker said on its error stream, as far as it tells why it died.
#[derive(Debug, Default)]
struct Heard {
    /// The standard library's words for an allocation that failed.
    out_of_memory: Option<String>,
    stack_overflow: bool,
    /// The place and the message of the last panic.
    panic: Option<String>,
    last: Option<String>,
}

impl Heard {
    fn note(&mut self, line: &str) {
        if line.starts_with("memory allocation of") {
            self.out_of_memory.get_or_insert_with(|| line.to_owned());
        }
        self.stack_overflow |= line.contains("has overflowed its stack");
        if self.last.as_ref().is_some_and(|last| last.contains("panicked at")) {
            self.panic = Some(line.to_owned());
        }
        if !line.trim().is_empty() {
            self.last = Some(line.trim().to_owned());
        }
    }

    fn last_words(&self) -> String {
        self.panic.as_ref().or(self.last.as_ref()).map_or(String::new(), |line| format!(": {line}"))
    }
}

fn listen(output: impl BufRead, events: &Sender<Event>) {
    /// A visit of a long text has some hundred bytes per step.
    const LONGEST: u64 = 1 << 28;
    lines(output, LONGEST, |line| {
        let event = serde_json::from_str(&line).map_or_else(|_| Event::Garbage(line), Event::Message);
        let _ = events.send(event);
    });
    let _ = events.send(Event::Closed);
}

/// Shows what a worker says on its error stream, and notes it.
fn pass_on(errors: impl BufRead, heard: &Mutex<Heard>) {
    const LONGEST: u64 = 1 << 14;
    lines(errors, LONGEST, |line| {
        progress::say(&line);
        heard.lock().unwrap_or_else(PoisonError::into_inner).note(&line);
    });
}

/// Calls `hear` with every line, until the stream ends. A strategy writes what it likes: bytes that are no text are
/// replaced, and a line that is longer than `longest` bytes is cut into several.
fn lines(mut stream: impl BufRead, longest: u64, mut hear: impl FnMut(String)) {
    let mut line = vec![];
    while let Ok(1..) = stream.by_ref().take(longest).read_until(b'\n', &mut line) {
        hear(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
        line.clear();
    }
}

/// Settings of glibc's allocator where bytes are counted: all threads share one heap, so that it can give back what it keeps.
fn allocator_settings(job: &Job) -> Vec<(&'static str, &'static str)> {
    match job.task {
        Task::Memory(_) => vec![("MALLOC_ARENA_MAX", "1")],
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: &[u8], longest: u64) -> Vec<String> {
        let mut all = vec![];
        lines(bytes, longest, |line| all.push(line));
        all
    }

    #[test]
    fn whatever_is_written_is_lines() {
        assert_eq!(lines_of(b"one\r\n\ntwo", 64), ["one", "", "two"]);
        assert_eq!(lines_of(b"a\xffb\nlast\n", 64), ["a\u{fffd}b", "last"]);
        assert_eq!(lines_of(b"abcdefgh\nx", 3), ["abc", "def", "gh", "x"]);
        assert_eq!(lines_of(b"", 3), [""; 0]);
    }

    #[test]
    fn only_what_can_be_kept_is_waited_for() {
        let waits = |on: OnInterrupt| [Some(&Work::Load), Some(&Work::Decode), None].map(|work| on.waits_for(work));
        assert_eq!(waits(OnInterrupt::AtOnce), [false; 3]);
        assert_eq!(waits(OnInterrupt::AfterVisit), [true; 3]);
        assert_eq!(waits(OnInterrupt::AfterDecoding), [false, true, false]);
    }

    #[test]
    fn the_reason_of_a_death_is_heard_among_other_lines() {
        let mut heard = Heard::default();
        for line in ["memory allocation of 64 bytes failed", "stack backtrace:", "   0: main", "note: more"] {
            heard.note(line);
        }
        assert_eq!(heard.out_of_memory.as_deref(), Some("memory allocation of 64 bytes failed"));
        let mut heard = Heard::default();
        ["thread 'main' panicked at lib.rs:1:", "too bad", "note: run with", ""].iter().for_each(|line| heard.note(line));
        assert_eq!(heard.last_words(), ": too bad");
    }
}
