//! The runner with the built-in strategies.

#[global_allocator]
static ALLOCATOR: runner::CountingAllocator = runner::CountingAllocator;

fn main() -> std::process::ExitCode {
    runner::main(runner::builtin())
}
