//! Conversations of several users.

use super::swept::{Row, Rows, sweep, table};
use crate::{run, text, words};

const CHAT: &str = "[chat]\nusers = 4\nsystem = 256\nturns = [20, 7, 1]\nanswer = 6\n";

const STRATEGIES: &str = "
[[strategy]]
label = 'f32'
use = 'contiguous'
[[strategy]]
label = 'paged'
use = 'paged'
[[strategy]]
label = 'window'
use = 'sliding'
config = { window = 32, sinks = 2 }
[[strategy]]
label = 'naive'
use = 'naive'
";

fn config(sections: &str, strategies: &str) -> String {
    format!("[model]\npreset = 'small'\n{sections}\n{strategies}")
}

/// The value of a strategy, in one way of doing the work, of a metric at a turn.
fn value(points: &Rows, label: &str, variant: &str, metric: &str, at: f64) -> Option<f64> {
    let is_it =
        |point: &&Row| point["label"] == label && point["variant"] == variant && point["metric"] == metric && point["at"].parse() == Ok(at);
    points.iter().find(is_it).map(|point| point["value"].parse().unwrap())
}

#[test]
fn warm_conversations_say_what_cold_ones_do_and_share_the_prefix_if_pages_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = sweep(folder.path(), &config(&format!("[sweep]\nworkloads = 'chat'\nlaunches = 1\n{CHAT}"), STRATEGIES), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = folder.path().join("report");
    let points = table(&report.join("workload.csv"));
    let rows = table(&report.join("results.csv"));
    assert_eq!(rows.iter().map(|row| row["status"].as_str()).collect::<Vec<_>>(), ["ok"; 4]);
    for exact in ["f32", "paged", "naive"] {
        let row = rows.iter().find(|row| row["label"] == exact).unwrap();
        assert_eq!(row["first_difference_tokens"], "", "{exact}: the same tokens, shared, separate and recomputed");
    }
    for label in ["f32", "paged", "window"] {
        for turn in [1.0, 2.0, 3.0] {
            for variant in ["shared prefix", "separate", "recomputed"] {
                assert!(value(&points, label, variant, "ttft_ms", turn).unwrap() > 0.0, "{label} {variant} {turn}");
            }
        }
        assert!(value(&points, label, "shared prefix", "ttft_ratio", 1.0).is_some());
        assert_eq!(value(&points, label, "separate", "break_even_turn", 0.0), None, "{label}: forks are what is kept");
    }
    // 256 tokens are 16 pages, and every user would have them.
    let heap = |label, variant| value(&points, label, variant, "heap_bytes", 0.0).unwrap();
    assert!((3.9..4.1).contains(&(heap("paged", "separate") / heap("paged", "shared prefix"))), "one prefix instead of four");
    assert!((0.95..1.05).contains(&(heap("f32", "separate") / heap("f32", "shared prefix"))), "contiguous copies it");
    assert!(value(&points, "paged", "shared prefix", "edit_ttft_ms", 2.0).is_some());
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.contains("chat: paged answers the first turn of users after the first in "), "{page}");
    assert!(
        words(&text(&output.stdout)).contains("turn 2 cannot be edited without computing the history again"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn what_makes_no_sense_in_a_conversation_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let one = "[[strategy]]\nlabel = 'f32'\nuse = 'contiguous'\n";
    let chat = |section: &str| format!("[sweep]\nworkloads = 'chat'\n[chat]\n{section}\n");
    for (sections, expected) in [
        (chat("users = 0"), "in [chat], `users` is 0: it must be at least 1"),
        (chat("turns = []"), "in [chat], `turns` must name the tokens of at least one message, and none of 0"),
        (chat("turns = [4, 0]"), "in [chat], `turns` must name the tokens of at least one message, and none of 0"),
        (chat("answer = 1"), "in [chat], `answer` is 1: it must be at least 2"),
        (chat("edited_turn = 9"), "in [chat], `edited_turn` is 9, and there are 4 `turns`"),
        (chat("system = 4000"), "the workload `chat` needs 4320 positions, and the model's context is 4096"),
        (chat("user = 3"), "users"),
        (chat("users = 1000000"), "are free for a worker"),
        (chat("answer = 9223372036854775807"), "the workload `chat` needs 18446744073709551615 positions"),
        (
            format!("[sweep]\nworkloads = 'chat'\nlengths = [64]\n{CHAT}"),
            "`lengths` in [sweep] is read by the workloads `decode` and `generate` alone",
        ),
        (
            format!("[sweep]\nworkloads = 'chat'\nbatch = 2\n{CHAT}"),
            "`batch` in [sweep] is read by the workloads `decode` and `generate` alone",
        ),
        (format!("[sweep]\nlengths = [64]\n{CHAT}"), "the section `[chat]` is about a workload that is not run"),
        (format!("[sweep]\nworkloads = ['chat', 'chat']\n{CHAT}"), "`sweep.workloads` names `chat` twice"),
        (format!("[sweep]\nworkloads = 'chat'\nlevel = 'attention'\n{CHAT}"), "the workload `chat` asks a model what follows"),
        ("[sweep]\nlaunches = 1".into(), "`lengths` is missing in [sweep]"),
    ] {
        let output = sweep(folder.path(), &config(&sections, one), &[]);
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{sections}: {message}");
        assert!(message.contains(expected), "{sections}: {message}");
    }
}

#[test]
fn workloads_are_listed_and_explained() {
    let listed = text(&run(&["list"]).stdout);
    assert!(
        listed.contains("chat           what a shared system prompt and kept turns save several users (users, system, turns"),
        "{listed}"
    );
    let explained = text(&run(&["describe", "chat"]).stdout);
    assert!(explained.contains("edited_turn") && explained.contains("workloads = [\"chat\"]"), "{explained}");
}
