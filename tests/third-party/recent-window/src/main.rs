fn main() -> std::process::ExitCode {
    runner::main(runner::builtin().with::<recent_window::RecentWindow>())
}
