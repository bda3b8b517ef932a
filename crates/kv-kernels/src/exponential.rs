//! Powers of two in vectors.

use crate::lanes::Lanes;

/// Below this, powers are exactly 0.
const SMALLEST: f32 = -160.0;

/// Coefficients of the polynomial for `2ʳ`, `|r| ≤ ½`, from the fifth power down.
#[expect(clippy::approx_constant, reason = "nearly ln 2, and better than it here")]
const COEFFICIENTS: [f32; 6] = [1.326_472_7e-3, 9.671_513e-3, 5.550_734e-2, 0.240_222_42, 0.693_147, 1.0];

/// `2ˣ` for each `x ≤ 0`, within 3 units in the last place. On most paths it is 0 below −126, on others below the
/// smallest representable number.
///
/// `2ˣ = 2ⁿ · 2ʳ` with `n = round(x)` and `|r| ≤ ½`, and `2ʳ = 1 + r · p(r)`, where `p` is the polynomial of degree 4 with
/// the smallest maximum relative error, 9.2 · 10⁻⁸ (found by iteratively reweighted least squares).
#[inline(always)]
pub(crate) fn exp2<L: Lanes>(lanes: L, x: L::F32) -> L::F32 {
    let x = lanes.max(lanes.splat(SMALLEST), x);
    let n = lanes.round(x);
    let r = lanes.sub(x, n);
    let [highest, others @ ..] = COEFFICIENTS;
    let mut polynomial = lanes.splat(highest);
    for coefficient in others {
        polynomial = lanes.mul_add(polynomial, r, lanes.splat(coefficient));
    }
    lanes.times_power_of_two(polynomial, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelPath;
    use crate::lanes::Kernel;

    struct Exp2(Vec<f32>);

    impl Kernel for Exp2 {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<L: Lanes>(mut self, lanes: L) -> Vec<f32> {
            for values in self.0.chunks_exact_mut(L::WIDTH) {
                // SAFETY: `WIDTH` values.
                let x = unsafe { lanes.load_f32(values.as_ptr().cast()) };
                // SAFETY: as above.
                unsafe { lanes.store(exp2(lanes, x), values.as_mut_ptr()) };
            }
            self.0
        }
    }

    #[test]
    fn close_to_the_standard_library_on_every_path() {
        let inputs: Vec<f32> = (0..1_600_000).map(|step| -(step as f32) * 1e-4).collect();
        for path in KernelPath::available() {
            for unit in [1, 8, 16] {
                for (x, power) in inputs.iter().zip(path.run(unit, Exp2(inputs.clone()))) {
                    let exact = f64::from(*x).exp2();
                    let tolerance = exact * 2.5e-7 + f64::from(f32::MIN_POSITIVE);
                    assert!((f64::from(power) - exact).abs() <= tolerance, "2^{x} on {path}, unit {unit}: {power}");
                }
                let special = [0.0, -0.0, -1.0, -2.0, f32::NEG_INFINITY, -1e30, f32::NAN, -1000.0].repeat(2);
                let powers = path.run(unit, Exp2(special));
                assert_eq!(powers[..6], [1.0, 1.0, 0.5, 0.25, 0.0, 0.0], "{path}, unit {unit}");
                assert!(powers[6].is_nan() && powers[7] == 0.0, "{path}, unit {unit}");
            }
        }
    }
}
