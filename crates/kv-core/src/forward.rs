//! Forwarding of a cache's methods.

/// Writes the methods of [`KvCache`](crate::KvCache) that it names, each of which calls the same method of a field: for what
/// wraps a cache, and for strategies over [`HeldRows`](crate::HeldRows). With `#[deny(clippy::missing_trait_methods)]`, an
/// implementation that must forward everything forgets nothing.
///
/// ```
/// # use std::ops::Range;
/// # use kv_core::{CacheError, KvCache, SeqId, Tensor, Usage, Guarantee, View};
/// /// Counts the steps.
/// #[derive(Debug)]
/// struct Counted {
///     inner: Box<dyn KvCache>,
///     steps: usize,
/// }
///
/// #[deny(clippy::missing_trait_methods)]
/// impl KvCache for Counted {
///     kv_core::forward!(inner: open close seen begin append attend read prompt_end);
///     kv_core::forward!(inner: fork truncate view usage least_bytes guarantee reach recomputes);
///
///     fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
///         self.steps += 1;
///         self.inner.commit(seq)
///     }
/// }
/// ```
#[macro_export]
#[rustfmt::skip]
macro_rules! forward {
    (@ $inner:tt open) => {
        fn open(&mut self) -> Result<$crate::SeqId, $crate::CacheError> { self.$inner.open() }
    };
    (@ $inner:tt close) => {
        fn close(&mut self, seq: $crate::SeqId) -> Result<(), $crate::CacheError> { self.$inner.close(seq) }
    };
    (@ $inner:tt seen) => {
        fn seen(&self, seq: $crate::SeqId) -> Result<usize, $crate::CacheError> { self.$inner.seen(seq) }
    };
    (@ $inner:tt begin) => {
        fn begin(&mut self, seq: $crate::SeqId, fresh: ::std::ops::Range<usize>) -> Result<::std::ops::Range<usize>, $crate::CacheError> {
            self.$inner.begin(seq, fresh)
        }
    };
    (@ $inner:tt append) => {
        fn append(
            &mut self, seq: $crate::SeqId, layer: usize, keys: $crate::Tensor<3>, values: $crate::Tensor<3>,
        ) -> Result<(), $crate::CacheError> {
            self.$inner.append(seq, layer, keys, values)
        }
    };
    (@ $inner:tt attend) => {
        fn attend(
            &mut self, seq: $crate::SeqId, layer: usize, queries: $crate::Tensor<3>,
        ) -> Result<$crate::Tensor<3>, $crate::CacheError> {
            self.$inner.attend(seq, layer, queries)
        }
    };
    (@ $inner:tt read) => {
        fn read(
            &mut self, seq: $crate::SeqId, layer: usize, queries: $crate::Tensor<3>,
        ) -> Result<$crate::Tensor<3>, $crate::CacheError> {
            self.$inner.read(seq, layer, queries)
        }
    };
    (@ $inner:tt commit) => {
        fn commit(&mut self, seq: $crate::SeqId) -> Result<(), $crate::CacheError> { self.$inner.commit(seq) }
    };
    (@ $inner:tt prompt_end) => {
        fn prompt_end(&mut self, seq: $crate::SeqId) -> Result<(), $crate::CacheError> { self.$inner.prompt_end(seq) }
    };
    (@ $inner:tt fork) => {
        fn fork(&mut self, seq: $crate::SeqId) -> Result<$crate::SeqId, $crate::CacheError> { self.$inner.fork(seq) }
    };
    (@ $inner:tt truncate) => {
        fn truncate(&mut self, seq: $crate::SeqId, len: usize) -> Result<(), $crate::CacheError> { self.$inner.truncate(seq, len) }
    };
    (@ $inner:tt view) => {
        fn view(&self, seq: $crate::SeqId, layer: usize, kv_head: usize) -> Result<$crate::View, $crate::CacheError> {
            self.$inner.view(seq, layer, kv_head)
        }
    };
    (@ $inner:tt usage) => {
        fn usage(&self) -> $crate::Usage { self.$inner.usage() }
    };
    (@ $inner:tt least_bytes) => {
        fn least_bytes(&self, tokens: usize) -> usize { self.$inner.least_bytes(tokens) }
    };
    (@ $inner:tt guarantee) => {
        fn guarantee(&self) -> $crate::Guarantee { self.$inner.guarantee() }
    };
    (@ $inner:tt reach) => {
        fn reach(&self, context: usize) -> Option<usize> { self.$inner.reach(context) }
    };
    (@ $inner:tt recomputes) => {
        fn recomputes(&self) -> bool { self.$inner.recomputes() }
    };
    ($inner:tt: $($method:ident)+) => {
        $( $crate::forward!(@ $inner $method); )+
    };
}
