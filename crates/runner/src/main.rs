//! The runner with the built-in strategies.

fn main() -> std::process::ExitCode {
    runner::main(runner::builtin())
}
