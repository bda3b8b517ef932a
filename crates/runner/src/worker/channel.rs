//! A worker's end of the pipes.
//!
//! A strategy may print, and it must not reach the runner's ears: the worker keeps its pipes for itself, and gives the
//! rest of the process the error stream as its standard output and nothing as its standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use kv_report::Visit;

use super::protocol::{Message, Phase, Work};

/// Where a worker's messages go.
#[derive(Debug)]
pub(crate) struct Channel {
    to_runner: Mutex<File>,
}

impl Channel {
    /// Takes the standard streams over and reads the first line from the runner. Ends the process as soon as the runner
    /// has gone.
    ///
    /// # Errors
    /// If the streams cannot be taken over, or there is no line.
    pub(crate) fn take_over() -> io::Result<(Channel, String)> {
        let to_runner = File::from(own(io::stdout())?);
        rustix::stdio::dup2_stdout(io::stderr())?;
        let from_runner = File::from(own(io::stdin())?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let mut from_runner = BufReader::new(from_runner);
        let mut line = String::new();
        from_runner.read_line(&mut line)?;
        // What a new thread allocates must not be counted as a cache's.
        let has_begun = Arc::new(Barrier::new(2));
        let begins = has_begun.clone();
        std::thread::Builder::new().name("runner watch".into()).spawn(move || {
            begins.wait();
            // The runner says nothing more: this ends when it does, however it ends.
            let _ = io::copy(&mut from_runner.by_ref(), &mut io::sink());
            end_process();
        })?;
        has_begun.wait();
        Ok((Channel { to_runner: Mutex::new(to_runner) }, line))
    }

    /// Sends a message. A runner that has gone hears nothing, and the process ends.
    pub(crate) fn send(&self, message: &Message) {
        let mut line = serde_json::to_vec(message).unwrap_or_default();
        line.push(b'\n');
        let mut to_runner = self.to_runner.lock().unwrap_or_else(PoisonError::into_inner);
        if to_runner.write_all(&line).is_err() {
            end_process();
        }
    }

    /// Says that a phase begins.
    pub(crate) fn phase(&self, id: Option<&str>, work: Work) {
        self.send(&Message::Phase(Phase { id: id.map(str::to_owned), work }));
    }

    /// Says how far the phase is.
    pub(crate) fn progress(&self, done: usize, all: usize) {
        self.send(&Message::Progress { done, all });
    }

    /// Sends a visit.
    pub(crate) fn visit(&self, visit: Visit) {
        self.send(&Message::Visit(visit));
    }
}

/// A copy of a stream that processes which a strategy starts do not have: they could hold it open.
fn own(stream: impl AsFd) -> io::Result<OwnedFd> {
    /// The standard streams come before it.
    const LOWEST: i32 = 3;
    Ok(rustix::io::fcntl_dupfd_cloexec(stream, LOWEST)?)
}

/// Ends the process and what it started at once. Nothing that a strategy registered for the end of the process is waited
/// for.
fn end_process() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
}
