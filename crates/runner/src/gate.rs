//! The conformance gate: a strategy proves itself before a number about it is printed.

use std::collections::BTreeMap;

use kv_conformance::{Report, Subject, report};
use kv_core::Geometry;

use crate::plan::Cell;

/// The instances that failed, by label, with the checks they failed.
pub(crate) type Rejected = BTreeMap<String, String>;

/// What runs in the process beside the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing: heap bytes are counted over all threads.
    Nothing,
    /// Other tests: heap bytes are counted on the calling thread.
    #[cfg(test)]
    Tests,
}

/// Holds every instance of the plan against the suite, on a small model with rows of the real model's shape.
pub(crate) fn rejected(cells: &[Cell], geometry: &Geometry, beside: Beside) -> Rejected {
    let small = Geometry { layers: 3, heads: 6, kv_heads: 2, ..geometry.clone() };
    let mut checked = BTreeMap::new();
    for cell in cells {
        checked.entry(cell.label.clone()).or_insert_with(|| {
            let subject = Subject::new(cell.strategy, cell.config.clone(), small.clone());
            let subject = if beside == Beside::Nothing { subject.alone_in_its_process() } else { subject };
            let failed = |Report { check, outcome, tokens }| match outcome {
                Ok(_) => None,
                Err(failure) => Some(format!("{} (up to {tokens} tokens): {}", check.name, failure.what)),
            };
            report(&subject).into_iter().filter_map(failed).collect::<Vec<_>>().join("; ")
        });
    }
    checked.retain(|_, failures| !failures.is_empty());
    checked
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use kv_core::{CacheError, ConfigError, Guarantee, HeldRows, KvCache, Registry, SeqId, Strategy, Tensor, Usage, View};
    use kv_report::Status;

    use super::*;
    use crate::cell::{self, Setting};
    use crate::config::Workload;
    use crate::plan::Plan;

    /// Says that it is exact and forgets all but the last eight tokens.
    #[derive(Debug)]
    struct Forgetful(HeldRows);

    #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Config {}

    impl Strategy for Forgetful {
        const ID: &'static str = "forgetful";
        const SUMMARY: &'static str = "promises more than it keeps";
        type Config = Config;

        fn new(_: Config, geometry: &Geometry) -> Result<Forgetful, ConfigError> {
            Ok(Forgetful(HeldRows::new(geometry)))
        }
    }

    impl KvCache for Forgetful {
        fn open(&mut self) -> Result<SeqId, CacheError> {
            self.0.open()
        }

        fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
            self.0.close(seq)
        }

        fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
            self.0.seen(seq)
        }

        fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
            self.0.begin(seq, fresh)
        }

        fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
            self.0.append(seq, layer, keys, values)
        }

        fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
            self.0.attend(seq, layer, queries, |query, key| key + 8 > query)
        }

        fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
            self.0.commit(seq, |seen, position| position + 8 >= seen)
        }

        fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
            self.0.view(seq, layer, kv_head, |newest, key| key + 8 > newest)
        }

        fn usage(&self) -> Usage {
            self.0.usage()
        }

        fn guarantee(&self) -> Guarantee {
            Guarantee::Exact
        }
    }

    fn cell(registry: &Registry, id: &str) -> Cell {
        Cell {
            label: id.into(),
            strategy: *registry.get(id).unwrap(),
            config: toml::Table::new(),
            workload: Workload::Decode,
            seq_len: 16,
            batch: 1,
            recomputes: false,
        }
    }

    #[test]
    fn a_strategy_that_breaks_its_promise_is_a_row_and_not_a_number() {
        let registry = crate::builtin().with::<Forgetful>();
        let model = kv_model::Preset::find("tiny").unwrap();
        let model = model.build(Some(1), kv_kernels::WeightFormat::F32, 0, Default::default()).unwrap();
        let plan = Plan { cells: vec![cell(&registry, "forgetful"), cell(&registry, "paged")], decode_steps: 2, prefill_chunk: 8 };
        let rejected = rejected(&plan.cells, &model.decoder.config().geometry, Beside::Tests);
        assert_eq!(rejected.keys().collect::<Vec<_>>(), ["forgetful"]);
        assert!(rejected["forgetful"].contains("guarantee_holds (up to 9 tokens): the query at position"), "{rejected:?}");

        let setting = Setting { decoder: &model.decoder, model: "tiny", plan: &plan, seed: 0, rejected: &rejected };
        let outcomes: Vec<_> = plan.cells.iter().map(|cell| cell::run(&setting, cell)).collect();
        assert_eq!(outcomes[0].row.status, Status::Failed);
        assert!(outcomes[0].row.error.as_ref().unwrap().starts_with("not timed, because it fails the conformance suite"));
        assert!(outcomes[0].row.tpot_ms_p50.is_none() && outcomes[0].samples.is_empty());
        assert_eq!(outcomes[1].row.status, Status::Ok, "{:?}", outcomes[1].row.error);
    }
}
