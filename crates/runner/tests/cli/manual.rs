//! Completions, the man page, and what a narrow screen shows.

use unicode_width::UnicodeWidthStr;

use crate::{run, runner, text};

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = text(&run(&["--help"]).stdout);
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0.to_owned();
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    list.lines().filter(is_name).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn completions_and_man_pages_name_every_command() {
    let commands = commands();
    assert!(commands.len() >= 18 && commands.contains(&"compare".to_owned()) && !commands.contains(&"worker".to_owned()), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        assert!(script.contains("fail-on"), "{shell}");
    }
    let page = text(&run(&["man"]).stdout);
    assert!(page.contains(".TH runner 1") && page.contains("Exit codes"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&["man", folder.path().join("man").to_str().unwrap()]).status.success());
    for command in commands.iter().filter(|command| *command != "help") {
        assert!(page.contains(&format!("runner\\-{command}(1)")), "{command}: {page}");
        let own = std::fs::read_to_string(folder.path().join(format!("man/runner-{command}.1"))).unwrap();
        assert!(own.contains(&format!("runner\\-{command}")), "{own}");
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(1));
}

#[test]
fn the_end_of_a_run_fits_a_screen_of_80_columns() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let arguments = ["bench-configs/smoke.toml", "--unchecked", "--only", "{paged,contiguous}", "--out", folder];
    let output = runner(&arguments).env("COLUMNS", "80").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(!shown.contains('\u{1b}'), "no colors: {shown}");
    let path = shown.lines().last().unwrap();
    assert!(path.starts_with("report: ") && path.ends_with("index.html"), "{shown}");
    for line in shown.lines().filter(|line| *line != path) {
        assert!(line.width() <= 80, "{line}");
    }
    let header = shown.lines().next().unwrap();
    assert!(["label", "length", "token (ms)", "of baseline's", "verdict"].iter().all(|column| header.contains(column)), "{header}");
    assert!(shown.contains("contiguous is the baseline: at 48 tokens it takes"), "{shown}");
}
