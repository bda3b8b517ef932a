//! The plainest strategy, through the macro that strangers use: its tests must run, each once.

kv_conformance::conformance_tests!(kv_conformance::doc::Plain);
