//! From the Dice that probabilities let expect to the Dice that is reached.

use serde::{Deserialize, Serialize};

/// Nearer to 0 or 1 than this no expected Dice is taken to be: its logit would be infinite.
const EDGE: f64 = 1e-6;
/// Newton steps; the loss is convex, and fewer are taken.
const STEPS: usize = 100;
/// A step as small as this is the last.
const SMALL: f64 = 1e-10;
/// Weight of the slope's distance from 1, in images: what keeps a slope finite that few images would let grow.
const PRIOR: f64 = 1e-3;

/// logit(Dice) = offset + slope logit(expected): monotone, and fitted to one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiceMap {
    /// The class, by its name in the manifest.
    pub class: String,
    /// Any number.
    pub offset: f64,
    /// 0 or more.
    pub slope: f64,
}

impl DiceMap {
    /// The Dice that is reached where `expected` is expected, both 0 to 1.
    pub fn apply(&self, expected: f64) -> f64 {
        sigmoid(self.offset + self.slope * logit(expected))
    }

    /// Fits pairs (expected, reached), 0 to 1, by the log loss of a fraction (Papke and Wooldridge 1996), whose minimum
    /// has the same mean of both. Pairs that are no numbers don't count; without any the map changes nothing.
    pub fn fit(class: &str, pairs: &[(f64, f64)]) -> Self {
        let known: Vec<(f64, f64)> =
            pairs.iter().filter(|(a, b)| a.is_finite() && b.is_finite()).map(|(a, b)| (logit(*a), *b)).collect();
        let (mut offset, mut slope) = (0.0, 1.0);
        for free in [true, false] {
            if !free {
                // Where better is expected and worse is found, only the mean is left to go by.
                slope = 0.0;
            }
            for _ in 0..STEPS {
                let [mut step_offset, mut step_slope] = newton(&known, offset, slope, free);
                // Far from the minimum a whole step may lead beyond it: half of it then, and half of that.
                let now = loss(&known, offset, slope);
                while loss(&known, offset + step_offset, slope + step_slope) > now && step_offset.abs() > SMALL {
                    (step_offset, step_slope) = (step_offset / 2.0, step_slope / 2.0);
                }
                offset += step_offset;
                slope += step_slope;
                if step_offset.abs().max(step_slope.abs()) < SMALL {
                    break;
                }
            }
            if slope >= 0.0 {
                break;
            }
        }
        Self { class: class.to_owned(), offset, slope }
    }
}

/// The log loss of a fraction, summed, and the prior of the slope.
fn loss(pairs: &[(f64, f64)], offset: f64, slope: f64) -> f64 {
    let of_pair = |&(x, reached): &(f64, f64)| {
        let z = offset + slope * x;
        // ln(1 + exp(z)), without a large power.
        z.max(0.0) + (-z.abs()).exp().ln_1p() - reached * z
    };
    pairs.iter().map(of_pair).sum::<f64>() + PRIOR / 2.0 * (slope - 1.0).powi(2)
}

/// One Newton step of the log loss, in offset and, where it is free, slope.
fn newton(pairs: &[(f64, f64)], offset: f64, slope: f64, free: bool) -> [f64; 2] {
    let (mut gradient, mut hessian) = ([0.0; 2], [[1e-9, 0.0], [0.0, 1e-9]]);
    for &(x, reached) in pairs {
        let p = sigmoid(offset + slope * x);
        let (error, weight) = (reached - p, p * (1.0 - p));
        gradient[0] += error;
        gradient[1] += error * x;
        hessian[0][0] += weight;
        hessian[0][1] += weight * x;
        hessian[1][1] += weight * x * x;
    }
    gradient[1] -= PRIOR * (slope - 1.0);
    hessian[1][1] += PRIOR;
    if !free {
        return [gradient[0] / hessian[0][0], 0.0];
    }
    let determinant = hessian[0][0] * hessian[1][1] - hessian[0][1] * hessian[0][1];
    [
        (hessian[1][1] * gradient[0] - hessian[0][1] * gradient[1]) / determinant,
        (hessian[0][0] * gradient[1] - hessian[0][1] * gradient[0]) / determinant,
    ]
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_that_was_there_is_found() {
        let true_map = DiceMap { class: "a".into(), offset: -0.7, slope: 0.6 };
        let pairs: Vec<_> = (1..100).map(|i| f64::from(i) / 100.0).map(|x| (x, true_map.apply(x))).collect();
        let found = DiceMap::fit("a", &pairs);
        assert!((found.offset + 0.7).abs() < 1e-3 && (found.slope - 0.6).abs() < 1e-3, "{found:?}");
        assert!(found.apply(0.0) < 0.001 && found.apply(1.0) > 0.998);
    }

    #[test]
    fn the_mean_is_that_of_what_was_reached() {
        // Too sure by some amount that differs from image to image.
        let pairs: Vec<_> =
            (0..160).map(|i| (0.9 + 0.0005 * f64::from(i), 0.8 + 0.02 * f64::from(i * 7 % 10))).collect();
        let map = DiceMap::fit("a", &pairs);
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / 160.0;
        let (expected, reached) =
            (mean(&mut pairs.iter().map(|pair| map.apply(pair.0))), mean(&mut pairs.iter().map(|pair| pair.1)));
        assert!((expected - reached).abs() < 1e-3, "{expected} {reached}");
    }

    #[test]
    fn a_map_never_falls() {
        let pairs: Vec<_> = (1..10).map(|i| (f64::from(i) / 10.0, 1.0 - f64::from(i) / 10.0)).collect();
        let map = DiceMap::fit("a", &pairs);
        assert_eq!(map.slope, 0.0);
        assert!((map.apply(0.3) - 0.5).abs() < 1e-6);
        let nothing = DiceMap::fit("a", &[(f64::NAN, 0.5)]);
        assert!((nothing.apply(0.8) - 0.8).abs() < 1e-9, "{nothing:?}");
    }
}
