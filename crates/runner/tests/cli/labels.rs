//! Labels and names in tables and on the terminal.

use std::path::Path;

use unicode_width::UnicodeWidthStr;

use crate::{config, run, text, words};

fn written(folder: &Path, labels: &[&str]) -> String {
    let strategies: String = labels.iter().map(|label| format!("[[strategy]]\nlabel = {label}\nuse = 'contiguous'\n")).collect();
    let path = folder.join("labels.toml");
    std::fs::write(&path, config("lengths = [16]\ndecode_steps = 2\nworkloads = ['decode', 'generate']", &strategies)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_label_with_control_characters_is_refused_and_shown_harmlessly() {
    let folder = tempfile::tempdir().unwrap();
    // As TOML spells it, and raw, which TOML forbids.
    for label in ["\"a\\u001b[31mb\"", "\"a\\rb\"", "\"a\\nb\"", "\"a\\u009bb\"", "\"a\u{1b}[31mb\"", "\"a\u{9b}b\""] {
        let output = run(&[&written(folder.path(), &[label]), "--dry-run"]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{label}: {message}");
        assert!(!message.contains(|c: char| c.is_control() && c != '\n'), "{message:?}");
    }
}

#[test]
fn names_from_the_command_line_and_from_files_are_shown_harmlessly() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("a\u{1b}[31mb.gguf");
    std::fs::write(&gguf, "no model").unwrap();
    for arguments in [
        &["generate", "--model", "a\u{1b}[31mb", "--prompt", "x"][..],
        &["generate", "--model", gguf.to_str().unwrap(), "--prompt", "x"],
        &["a\u{1b}[31mb.toml"],
        &["describe", "a\u{1b}[31mb"],
        &["bench-configs/smoke.toml", "--set", "a\u{1b}[31mb"],
        &["report", "a\u{1b}[31mb"],
    ] {
        let output = run(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(!message.contains('\u{1b}') && message.contains("\\u{1b}"), "{message:?}");
    }
}

#[test]
fn a_label_that_a_spreadsheet_would_run_is_a_text_in_the_tables_and_itself_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let labels = ["=1+1", "+1", "-1 bit", "@now"];
    let quoted = labels.map(|label| format!("'{label}'"));
    let config = written(folder.path(), &quoted.each_ref().map(String::as_str));
    let output = run(&[&config, "--unchecked", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for name in ["results.csv", "samples.csv"] {
        let table = std::fs::read_to_string(out.join(name)).unwrap();
        for label in labels {
            assert!(table.contains(&format!("\n'{label},")) && !table.contains(&format!("\n{label},")), "{name}: {table}");
        }
    }
    let picture = || std::fs::read(out.join("cumulative.png")).unwrap();
    let drawn = picture();
    std::fs::remove_file(out.join("cumulative.png")).unwrap();
    assert!(run(&["report", out.to_str().unwrap()]).status.success());
    assert!(picture() == drawn, "what is read back is what was measured");
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    // Behind it are the tables that a reader can save.
    let (page, tables) = page.split_once("<script type=\"application/json\"").unwrap();
    assert!(page.contains("-1 bit") && !page.contains("'-1 bit") && tables.contains("'-1 bit"));
}

#[test]
fn a_wide_label_leaves_the_columns_in_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = written(folder.path(), &["'缓存记住了'", "'plain'", "\"e\u{301}té\""]);
    let output = run(&[&config, "--unchecked", "--out", folder.path().join("out").to_str().unwrap()]);
    let summary = text(&output.stdout);
    let tables: Vec<&str> = summary.split("Memory ledger").collect();
    assert_eq!(tables.len(), 2, "{summary}");
    for table in tables {
        let rows: Vec<&str> =
            table.lines().filter(|line| ["workload", "decode", "generate"].iter().any(|start| line.starts_with(start))).collect();
        assert_eq!(rows.len(), 7, "{table}");
        let length = |row: &str| row.find(" 16 ").map(|at| row[..at].width());
        assert!(rows[1..].iter().all(|row| length(row).is_some() && length(row) == length(rows[1])), "{table}");
    }
    assert!(words(&summary).contains("缓存记住了 16 1"), "{summary}");
}
