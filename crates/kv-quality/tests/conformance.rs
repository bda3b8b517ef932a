//! A cache behind a pair must pass the suite as it does alone: the pair adds nothing and hides nothing.

use kv_contiguous::Contiguous;
use kv_core::{ConfigError, Geometry, KvCache, Strategy};
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
    kv_core::forward!(0: open close seen begin append attend read commit prompt_end fork truncate view usage);
    kv_core::forward!(0: least_bytes guarantee reach recomputes);
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
