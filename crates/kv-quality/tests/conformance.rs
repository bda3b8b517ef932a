//! A cache behind a pair must pass the suite as it does alone: the pair adds nothing and hides nothing.

use std::ops::Range;

use kv_contiguous::Contiguous;
use kv_core::{CacheError, ConfigError, Geometry, Guarantee, KvCache, SeqId, Strategy, Tensor, Usage, View};
use kv_quality::{Paired, Side};
use kv_quantized::Quantized;
use kv_sliding::Sliding;

/// The candidate of a pair whose reference stays empty.
#[derive(Debug)]
struct Candidate<C>(Paired, std::marker::PhantomData<C>);

impl<C: Strategy> Strategy for Candidate<C> {
    const ID: &'static str = C::ID;
    const SUMMARY: &'static str = C::SUMMARY;
    type Config = C::Config;

    fn new(config: C::Config, geometry: &Geometry) -> Result<Candidate<C>, ConfigError> {
        let reference = Box::new(Contiguous::new(Default::default(), geometry)?);
        let mut pair = Paired::new(geometry, reference, Box::new(C::new(config, geometry)?));
        pair.open_next_on(Side::Candidate);
        Ok(Candidate(pair, std::marker::PhantomData))
    }
}

impl<C: Strategy> KvCache for Candidate<C> {
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
        self.0.attend(seq, layer, queries)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.0.commit(seq)
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.0.prompt_end(seq)
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        self.0.fork(seq)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.0.truncate(seq, len)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.0.view(seq, layer, kv_head)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn least_bytes(&self, tokens: usize) -> usize {
        self.0.least_bytes(tokens)
    }

    fn guarantee(&self) -> Guarantee {
        self.0.guarantee()
    }

    fn recomputes(&self) -> bool {
        self.0.recomputes()
    }
}

mod quantized {
    use super::*;

    kv_conformance::conformance_tests!(Candidate<Quantized> {
        q4_0: "format = 'q4_0'\nresidual = 17",
    });
}

mod sliding {
    use super::*;

    kv_conformance::conformance_checks!(Candidate<Sliding> {
        sinks: "window = 40\nsinks = 4",
    });
}
