use kv_contiguous::Contiguous;
use kv_core::{Rope, Strategy};
use kv_naive::Naive;
use kv_quantized::Quantized;
use kv_script::step;
use kv_sliding::Sliding;

use super::*;
use crate::DenseReference;

fn geometry(layers: usize, heads: usize, kv_heads: usize, key_dim: usize, value_dim: usize, rotated: usize) -> Geometry {
    Geometry { layers, heads, kv_heads, key_dim, value_dim, rope: Rope::new(1e4, rotated), context: 4096 }
}

fn asked<C: Strategy>(config: &str, planted: &mut PlantedRetrieval) -> Retrieval {
    let mut cache = C::new(toml::from_str(config).unwrap(), &planted.geometry).unwrap();
    let seq = cache.open().unwrap();
    for first in (0..planted.tokens()).step_by(256) {
        let chunk = first..(first + 256).min(planted.tokens());
        step(&mut cache, planted, &[(seq, chunk)], Attention::Skipped).unwrap();
    }
    planted.ask(&mut cache, seq).unwrap()
}

fn planted(geometry: &Geometry, tokens: usize) -> PlantedRetrieval {
    PlantedRetrieval::new(geometry, PlantedPlan::new(tokens, 11)).unwrap()
}

#[test]
fn an_exact_cache_finds_every_needle() {
    for (geometry, tokens) in [
        (geometry(2, 6, 2, 64, 64, 64), 600),
        (geometry(2, 6, 2, 64, 64, 32), 600),
        (geometry(2, 4, 4, 64, 16, 0), 600),
        (geometry(3, 8, 1, 128, 128, 128), 400),
        (geometry(20, 2, 1, 1, 1, 0), 200),
        (geometry(10, 3, 3, 2, 3, 2), 200),
        (geometry(10, 4, 2, 3, 2, 2), 200),
        (geometry(6, 4, 2, 8, 5, 8), 200),
        (geometry(4, 4, 2, 16, 4, 8), 64),
    ] {
        let mut planted = planted(&geometry, tokens);
        let retrieval = asked::<Contiguous>("", &mut planted);
        let all = retrieval.of(|_| true);
        assert_eq!(all.trials, geometry.layers * geometry.kv_heads * planted.needles(), "{geometry:?}: every needle is asked for once");
        assert_eq!(all.share(), Some(1.0), "{geometry:?}: {retrieval:?}");
        // At the least margin that a plan may have, too.
        let plan = PlantedPlan { margins: vec![0.5], seed: 3, ..PlantedPlan::new(tokens, 0) };
        let mut planted = PlantedRetrieval::new(&geometry, plan).unwrap();
        assert_eq!(asked::<Contiguous>("", &mut planted).of(|_| true).share(), Some(1.0), "{geometry:?}");
    }
}

#[test]
fn scores_are_as_planned() {
    let geometry = geometry(2, 6, 2, 64, 64, 64);
    let mut planted = planted(&geometry, 500);
    let positions = 500 + planted.steps();
    let reference = DenseReference::build(&mut planted, positions).unwrap();
    let mut checked = 0;
    for (step, layer) in (0..planted.steps()).flat_map(|step| [(step, 0), (step, 1)]) {
        let queries = planted.queries(layer, 500 + step..501 + step).unwrap();
        let attention = reference.attend(layer, 500 + step, &queries).unwrap();
        for (head, weights) in attention.weights.iter().enumerate() {
            let Some(needle) = planted.head_of(layer, head).needles().get(step * 3 + head % 3) else { continue };
            let most = (0..weights.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).unwrap();
            assert!(planted.places[needle.place].1.contains(&most), "the needle is where it was planted");
            assert!(weights[most] > 0.5, "layer {layer}, head {head}: {}", weights[most]);
            // Logits below the needle's: the decoys first, and after a gap all others.
            let mut gaps: Vec<f64> = weights.iter().map(|weight| (weights[most] / weight).ln()).collect();
            gaps.sort_by(f64::total_cmp);
            let margin = planted.plan.margins[needle.margin];
            let decoys = margin + 7f64.ln();
            let others = (500.0 + planted.steps() as f64).ln() + BACKGROUND_GAP;
            let close = |gap: &&f64| (**gap - decoys).abs() < 1e-3;
            assert!(gaps.iter().filter(close).count() == 7, "margin {margin}: {:?}", &gaps[..12]);
            assert!(gaps.iter().skip(1).filter(|gap| !close(gap)).all(|gap| *gap > others - 1e-3), "margin {margin}: {:?}", &gaps[..12]);
            checked += 1;
        }
    }
    assert_eq!(checked, 2 * 2 * planted.needles());
}

#[test]
fn a_cache_that_dropped_the_needle_answers_by_chance() {
    let mut planted = planted(&geometry(8, 6, 2, 64, 64, 64), 1200);
    assert_eq!(planted.chance(), 1.0 / 16.0);
    let window = asked::<Sliding>("window = 60", &mut planted);
    let (low, high) = window.of(|cell| matches!(cell.place, Place::Depth(depth) if depth < 7)).interval().unwrap();
    assert!(low < 1.5 / 16.0 && high < 0.2, "{low} to {high}: {window:?}");
    assert_eq!(window.recency().share(), Some(1.0));
}

/// Which strategies the tasks tell apart.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are of interest, not only their order")]
fn formats_windows_and_sinks_are_told_apart() {
    // Half of the channels are not rotated, so that sinks keep their scores when they are moved.
    let geometry = geometry(12, 6, 2, 64, 64, 32);
    let mut planted = planted(&geometry, 1024);
    let at = |retrieval: &Retrieval, margin: f64| retrieval.of(|cell| cell.margin == margin).share().unwrap();
    let retrieve = |name: &str, retrieval: Retrieval| {
        let margins = [2.0, 4.0, 8.0, 16.0].map(|margin| at(&retrieval, margin));
        let share = |of: Accuracy| of.share().unwrap();
        let places = [retrieval.start(), retrieval.needle(), retrieval.recency()].map(share);
        println!("{name:12} margins 2, 4, 8, 16: {margins:.3?}; start, needle, recency: {places:.3?}");
        (margins, places)
    };
    let exact = retrieve("f32", asked::<Contiguous>("", &mut planted));
    let f16 = retrieve("f16", asked::<Contiguous>("format = 'f16'", &mut planted));
    let quantized = ["q8_0", "q4_0", "kivi4", "kivi2"].map(|format| {
        let retrieval = asked::<Quantized>(&format!("format = '{format}'"), &mut planted);
        retrieve(format, retrieval)
    });
    let window = retrieve("window", asked::<Sliding>("window = 128", &mut planted));
    let sinks = retrieve("window+sinks", asked::<Sliding>("window = 124\nsinks = 4", &mut planted));

    assert_eq!((exact.0, f16.0), ([1.0; 4], [1.0; 4]));
    let [q8, q4, _, kivi2] = quantized.map(|(margins, _)| margins);
    assert!(q8[0] > q4[0] && q4[0] > kivi2[0], "at the smallest margin: {q8:?}, {q4:?}, {kivi2:?}");
    assert!(q4[0] < 0.95 && q4[3] == 1.0 && kivi2[0] < 0.5 && kivi2[2] < 0.95, "{q4:?}, {kivi2:?}");
    for margins in [q8, q4, kivi2] {
        assert!(margins.is_sorted(), "a larger margin is easier: {margins:?}");
    }
    let ([window_start, window_needle, window_recency], [sinks_start, sinks_needle, sinks_recency]) = (window.1, sinks.1);
    assert_eq!((window_recency, sinks_recency, sinks_start), (1.0, 1.0, 1.0));
    assert!(window_start < 0.2 && window_needle < 0.3 && sinks_needle < 0.3, "{window_start}, {window_needle}, {sinks_needle}");
}

#[test]
fn recomputation_finds_them_too() {
    let mut planted = planted(&geometry(2, 4, 2, 16, 16, 16), 200);
    assert_eq!(asked::<Naive>("", &mut planted).of(|_| true).share(), Some(1.0));
}

#[test]
fn rows_are_a_function_of_the_seed_alone() {
    let geometry = geometry(2, 4, 2, 16, 8, 16);
    let rows = |planted: &mut PlantedRetrieval, chunk: usize| {
        let chunks = (0..120).step_by(chunk).map(|first| first..(first + chunk).min(120));
        let of = |positions: Range<usize>| {
            [planted.keys(1, positions.clone()), planted.values(1, positions.clone()), planted.queries(1, positions)].map(Result::unwrap)
        };
        chunks.map(of).fold(vec![vec![]; 3], |mut all, rows| {
            all.iter_mut().zip(&rows).for_each(|(all, rows)| all.extend_from_slice(rows.values()));
            all
        })
    };
    let on = |threads: usize, chunk: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| rows(&mut PlantedRetrieval::new(&geometry, PlantedPlan::new(100, seed)).unwrap(), chunk))
    };
    assert_eq!(on(1, 120, 1), on(2, 7, 1));
    assert!(on(1, 120, 1).iter().zip(on(1, 120, 2)).all(|(one, other)| *one != other));
}

#[test]
fn impossible_plans_are_refused() {
    let geometry = geometry(1, 1, 1, 4, 4, 4);
    let refused = |change: fn(&mut PlantedPlan)| {
        let mut plan = PlantedPlan::new(200, 1);
        change(&mut plan);
        PlantedRetrieval::new(&geometry, plan).err()
    };
    assert_eq!(refused(|_| {}), None);
    assert_eq!(refused(|plan| plan.tokens = 27), Some(PlantedError::Tokens { tokens: 27, needed: 28 }));
    assert_eq!(refused(|plan| plan.decoys = usize::MAX), Some(PlantedError::Tokens { tokens: 200, needed: usize::MAX }));
    assert_eq!(refused(|plan| plan.decoys = 0), Some(PlantedError::Zero { name: "decoys" }));
    assert_eq!(refused(|plan| plan.margins = vec![2.0, 33.0]), Some(PlantedError::Margin { margin: 33.0, least: 0.5, most: 32.0 }));
    assert!(matches!(refused(|plan| plan.margins = vec![f64::NAN]), Some(PlantedError::Margin { .. })));
    assert_eq!(refused(|plan| (plan.start, plan.recent) = (0, 0)), None);
}
