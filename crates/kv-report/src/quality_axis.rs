//! What the quality of all instances of a run is judged by.

use crate::instances::Instance;
use crate::metric::known;
use crate::spread::Spread;
use crate::{Axis, Metric, Protocol, Row, Scale};

pub(crate) const KLD: &Metric = known("kld_mean");
pub(crate) const ATTENTION: &Metric = known("attn_rel_l2");
const KLD_FLOOR: &Metric = known("kld_floor");
/// The divergence in words, with its protocol.
pub(crate) const KLD_NAME: &str = "KL divergence (prompt exact)";

/// A KL divergence below this many nats is rounding on any machine.
const LEAST_KLD: f64 = 1e-9;
/// How far above the divergence of an exact cache from itself nothing can be told.
const ABOVE_FLOOR: f64 = 10.0;
/// Below this error, attention is exact: sums of `f32` in another order differ by about as much.
const LEAST_ERROR: f64 = 1e-6;

/// One metric for all instances, never two in one chart, and the value below which nothing can be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct QualityAxis {
    pub(crate) metric: &'static Metric,
    pub(crate) floor: f64,
}

impl QualityAxis {
    /// `kld_mean` if any row has one that can be ranked, else `attn_rel_l2`. `None` if quality was not measured.
    pub(crate) fn of(instances: &[Instance<'_>]) -> Option<QualityAxis> {
        let rows = || instances.iter().flat_map(|instance| &instance.rows);
        let has = |metric: &Metric| rows().any(|row| ranked(row, metric).is_some());
        if has(KLD) {
            let floor = rows().filter_map(|row| row.value(KLD_FLOOR.id)).map(|floor| ABOVE_FLOOR * floor).fold(LEAST_KLD, f64::max);
            return Some(QualityAxis { metric: KLD, floor });
        }
        has(ATTENTION).then_some(QualityAxis { metric: ATTENTION, floor: LEAST_ERROR })
    }

    /// A row's quality. What is below the floor lies on it.
    pub(crate) fn spread(&self, row: &Row) -> Option<Spread> {
        Some(ranked(row, self.metric)?.at_least(self.floor))
    }

    /// How it was measured.
    pub(crate) fn protocol(&self) -> Protocol {
        if self.metric == KLD { Protocol::PromptExact } else { Protocol::Rows }
    }

    /// The quantity in words, with its protocol.
    pub(crate) fn name(&self) -> &'static str {
        if self.metric == KLD { KLD_NAME } else { "error of attention (rows alone)" }
    }

    /// What the protocol is, in a sentence.
    pub(crate) fn protocol_caption(&self) -> &'static str {
        if self.metric == KLD {
            "Quality is that of prompt exact: the exactly computed prompt was put into the cache, and the model read on."
        } else {
            "Quality is that of attention on rows alone: no model read a text."
        }
    }

    /// The axis of charts.
    pub(crate) fn axis(&self) -> Axis {
        let label =
            if self.metric == KLD { "mean KL divergence, prompt exact (nats)" } else { "relative L2 error of attention, rows alone" };
        Axis::new(label, Scale::Log)
    }

    /// What charts say of values on the floor.
    pub(crate) fn floor_caption(&self) -> String {
        let (floor, exact) = (crate::shown::short(self.floor), "is exact as far as can be told, and drawn there");
        let floor = if self.metric == KLD { format!("{floor} nats") } else { floor };
        format!("What is at or below {floor} {exact}.")
    }
}

/// A row's value of a metric of quality, unless it cannot be ranked.
fn ranked(row: &Row, metric: &Metric) -> Option<Spread> {
    let spread = row.values.get(metric.id).and_then(Spread::of)?;
    (metric != KLD || row.unranked().is_none()).then_some(spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::instances;
    use crate::{Results, UNRANKED, Value, example};

    fn axis(results: &Results) -> Option<QualityAxis> {
        QualityAxis::of(&instances(results))
    }

    #[test]
    fn divergences_come_first_and_their_floor_is_ten_times_that_of_an_exact_cache() {
        let mut results = example::results();
        assert_eq!(axis(&results), None);
        let mut put = |id: &str, value: f64| {
            results.rows[0].values.insert(id.into(), Value::from(value));
            axis(&results).unwrap()
        };
        assert_eq!(put("attn_rel_l2", 0.5), QualityAxis { metric: ATTENTION, floor: 1e-6 });
        assert_eq!(put("kld_mean", 0.5), QualityAxis { metric: KLD, floor: 1e-9 });
        assert_eq!(put("kld_floor", 1e-12).floor, 1e-9);
        let axis = put("kld_floor", 2e-8);
        assert_eq!(axis.floor, 2e-7);
        assert_eq!(axis.floor_caption(), "What is at or below 2.0e-7 nats is exact as far as can be told, and drawn there.");
    }

    #[test]
    fn a_divergence_that_cannot_be_ranked_is_no_axis() {
        let mut results = example::results();
        results.rows[0].values.insert("kld_mean".into(), Value::from(0.5));
        results.rows[0].notes.push(format!("{UNRANKED}: the model does not know this text"));
        assert_eq!(axis(&results), None);
        results.rows[0].values.insert("attn_rel_l2".into(), Value::from(1e-9));
        let axis = axis(&results).unwrap();
        assert_eq!(axis.spread(&results.rows[0]).unwrap().value, 1e-6);
    }
}
