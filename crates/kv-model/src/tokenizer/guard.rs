//! Calls into the `tokenizers` library, which panics on some of the files it cannot use.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::LoadError;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a call whose panic this crate catches and reports as an error.
///
/// A panic hook that asks can stay silent: the panic is not the program's end.
pub fn panic_becomes_error() -> bool {
    GUARDED.get()
}

/// Calls the library; an error or a panic of it is [`LoadError::Tokenizer`].
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, LoadError> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    match outcome {
        Ok(answer) => answer.map_err(|error| unusable(error.to_string())),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(unusable(format!("the library `tokenizers` panicked: {}", message.unwrap_or("it gave no reason"))))
        }
    }
}

pub(super) fn unusable(reason: impl Into<String>) -> LoadError {
    LoadError::Tokenizer { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_library_is_an_error_with_its_message() {
        let outcome: Result<(), LoadError> = guarded(|| {
            assert!(panic_becomes_error());
            panic!("an index of {}", 7)
        });
        assert_eq!(outcome.unwrap_err().to_string(), "unusable tokenizer: the library `tokenizers` panicked: an index of 7");
        assert!(!panic_becomes_error());
    }

    #[test]
    fn a_long_reason_keeps_its_end() {
        let message = unusable(format!("`{}` is no token", "ア".repeat(100_000))).to_string();
        assert!(message.chars().count() < 700 && message.ends_with("ア` is no token"), "{message}");
    }
}
