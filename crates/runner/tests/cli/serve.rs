//! Requests that join and leave under a memory limit.

use super::scripted::{Ran, config, ran};
use crate::words;

const STRATEGIES: [(&str, &str); 3] = [
    ("reserved", "use = 'contiguous'\nconfig = { growth = { reserve = 256 }, format = 'f16' }"),
    ("paged", "use = 'paged'\nconfig = { format = 'f16', max_blocks = 96 }"),
    ("grown", "use = 'contiguous'\nconfig = { format = 'f16' }"),
];

/// 2 layers of 2 KV heads of 32 + 32 numbers in f16 are 512 bytes for a token, and the memory is that of 96 pages of 16.
const SECTION: &str = "requests = 24\nprompt_median = 64\noutput_median = 16\nmax_tokens = 256\nmemory = '768 KiB'";

fn whole(ran: &Ran, label: &str, metric: &str) -> f64 {
    ran.at(label, "served", metric, 0.0)
}

#[test]
fn all_requests_are_served_and_a_run_can_be_repeated() {
    let run = || ran(&config("serve", SECTION, &STRATEGIES), &[]).well();
    let (first, second) = (run(), run());
    for (label, _) in STRATEGIES {
        assert_eq!((whole(&first, label, "served"), whole(&first, label, "refused")), (24.0, 0.0), "{label}");
        for metric in ["steps", "waste", "running_mean", "running_most", "preempted", "free_pool_bytes"] {
            assert_eq!(whole(&first, label, metric), whole(&second, label, metric), "{label}: {metric}");
        }
        assert_eq!(first.along(label, "served", "running"), second.along(label, "served", "running"), "{label}");
        assert_eq!(first.along(label, "served", "heap_bytes"), second.along(label, "served", "heap_bytes"), "{label}");
        // No model ran, though there is one.
        let row = first.row(label);
        for absent in ["model_bytes", "model_ms_p50", "tokens_per_s", "model_ratio", "predicted_bytes"] {
            assert_eq!(row[absent], "", "{label}: {absent}");
        }
        assert_eq!(row["fill"], "generated");
    }
    assert!(whole(&first, "reserved", "waste") > 0.5);
    assert!(whole(&first, "paged", "waste") < whole(&first, "grown", "waste"));
    assert!(whole(&first, "paged", "running_mean") > whole(&first, "reserved", "running_mean"));
    // A reservation is there from the start, and a pool has no more pages than the memory, so the limit holds for the heap, but for
    // block tables.
    for (label, tables) in [("reserved", 0.0), ("paged", 16.0 * 1024.0)] {
        let most = first.along(label, "served", "heap_bytes").into_iter().map(|(_, bytes)| bytes).fold(0.0, f64::max);
        assert!(most <= 768.0 * 1024.0 + tables && most > 600.0 * 1024.0, "{label}: {most}");
    }
    let page = std::fs::read_to_string(first.report("index.html")).unwrap();
    assert!(page.contains("serve: paged serves 24 of 24 requests, "));
    assert!(first.report("serve-running.png").exists() && first.report("serve-bytes.png").exists());
}

#[test]
fn a_trace_is_served_as_it_says() {
    let section = "trace = 'trace.csv'\nmax_tokens = 256\nmemory = '1 MiB'";
    let trace = b"prompt_tokens,output_tokens\n40,8\n300,8\n20,30\n";
    let ran = ran(&config("serve", section, &STRATEGIES[1..2]), &[("trace.csv", trace)]).well();
    assert_eq!((whole(&ran, "paged", "served"), whole(&ran, "paged", "refused")), (2.0, 1.0));
    let notes = ran.row("paged")["notes"].clone();
    assert!(notes.contains("1 of 3 requests was refused, for more than the 256 tokens of `max_tokens`: up to 308"), "{notes}");
}

#[test]
fn bad_requests_and_memories_are_refused_with_what_would_be_right() {
    let refusal = |section: &str, files: &[(&str, &[u8])]| ran(&config("serve", section, &STRATEGIES[1..2]), files).refusal();
    let traced = |text: &[u8]| refusal("trace = 'trace.csv'", &[("trace.csv", text)]);
    let columns = traced(b"prompt,output_tokens\n4,4\n");
    assert!(
        columns.contains("in [serve], `trace`: `trace.csv` has no column `prompt_tokens`; its columns are prompt, output_tokens"),
        "{columns}"
    );
    let negative = traced(b"prompt_tokens,output_tokens\n4,-4\n");
    assert!(negative.contains("`trace.csv`, line 2: `output_tokens` is -4: a request has at least 1 of them"), "{negative}");
    assert!(refusal("requests = 1000001", &[]).contains("`requests` is 1000001: it must be 1000000 at most"));
    assert!(refusal("memory = 'much'", &[]).contains("`memory = \"much\"` is not a size"));
    let level = config("serve", SECTION, &STRATEGIES[1..2]).replace("[sweep]", "[sweep]\nlevel = 'attention'");
    assert!(ran(&level, &[]).refusal().contains("the workload `serve` generates rows for all layers of a shape, whatever `level` is"));
    // How much a request takes is the strategy's business: there it is a row.
    let none = ran(&config("serve", "requests = 3\nmemory = '1 KiB'", &STRATEGIES[1..2]), &[]);
    assert_eq!(none.output.status.code(), Some(2));
    let error = none.row("paged")["error"].clone();
    assert!(error.contains("not one request fits into `memory` (1.0 KiB): the smallest of 3 takes "), "{error}");
}

/// In a conversation nothing is queued: what does not fit is refused before anything is computed.
#[test]
fn more_users_of_a_chat_than_memory_holds_are_refused_with_both_numbers() {
    let section = "users = 4000\nsystem = 256\nturns = [16]\nanswer = 4";
    let config = config("chat", section, &STRATEGIES[2..]).replace("[sweep]", "[sweep]\nmemory_limit = '256 MiB'");
    let ran = ran(&config, &[]);
    let message = ran.refusal();
    assert!(message.contains("`grown` at length 276 with 4000 sequences at once: it needs 1.1 GiB of memory, "), "{message}");
    assert!(words(&message).contains("and 256 MiB are free for a worker (`memory_limit`)"), "{message}");
    assert!(message.contains("smaller numbers in [chat] need less"), "{message}");
}
