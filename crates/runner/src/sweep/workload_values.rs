//! The numbers of workloads that are scripts of their own, over launches.

use kv_metrics::{geometric_mean, quantile};
use kv_report::{Value, Visit, WorkloadPoint, WorkloadValue, workload_metric};

/// The numbers of a script: of times the geometric mean over launches, with its interval; of others the median.
pub(super) fn workload_values<'v>(visits: impl Iterator<Item = &'v Visit>) -> Vec<WorkloadValue> {
    let mut places: Vec<(&WorkloadPoint, Vec<f64>)> = vec![];
    for point in visits.flat_map(|visit| &visit.workload) {
        match places.iter_mut().find(|(other, _)| other.is_where(point)) {
            Some((_, values)) => values.push(point.value),
            None => places.push((point, vec![point.value])),
        }
    }
    let of_place = |(point, values): (&WorkloadPoint, Vec<f64>)| {
        let is_timed = workload_metric(&point.metric).is_some_and(|metric| metric.machine_bound);
        let mean = geometric_mean(&values).filter(|_| is_timed);
        let (value, interval, statistic) = match mean {
            Some((mean, interval)) => (mean, Some(interval), Some("geometric mean over launches".to_owned())),
            None => (quantile(&values, 0.5)?, None, (values.len() > 1).then(|| "p50".to_owned())),
        };
        let value = Value { statistic, interval, samples: Some(values.len()), ..Value::from(value) };
        Some(WorkloadValue { variant: point.variant.clone(), metric: point.metric.clone(), at: point.at, value })
    };
    places.into_iter().filter_map(of_place).collect()
}
