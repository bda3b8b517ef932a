//! A test that runs again in a process of its own, because what it measures belongs to the whole process.

use std::process::Command;

use crate::subject::say;
use crate::{Outcome, Subject, assert_passes};

/// Set in the process that was started for one test.
const MARK: &str = "KV_CONFORMANCE_OWN_PROCESS";

/// [`assert_passes`] in a process in which nothing else runs. `test` is the path of the calling test with its crate.
///
/// # Panics
/// If the check fails, or its process cannot be started or runs another number of tests than one.
#[doc(hidden)]
pub fn assert_passes_in_own_process(subject: Subject, test: &str, name: &str, check: fn(&Subject) -> Outcome) {
    if std::env::var_os(MARK).is_some() {
        return assert_passes(&subject.alone_in_its_process(), name, check);
    }
    // The test harness leaves the crate's name out.
    let (_, test) = test.split_once("::").unwrap_or(("", test));
    let program = std::env::current_exe().expect("a test knows its program");
    let child = Command::new(program).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, "1").output();
    let child = child.expect("a test can start its own program");
    let [out, errors] = [&child.stdout, &child.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(child.status.success() && out.contains("1 passed"), "`{test}` in a process of its own: {out}{errors}");
    if !errors.trim().is_empty() {
        say(errors.trim());
    }
}
