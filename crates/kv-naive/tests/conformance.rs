//! The naive strategy against the suite.

kv_conformance::conformance_tests!(kv_naive::Naive);
