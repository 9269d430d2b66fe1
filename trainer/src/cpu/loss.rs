//! Softmax, cross-entropy and soft Dice over the classes, forward and backward, on plain slices.
//!
//! Composed of stock operations it goes through memory some thirty times, at the size of the input and once a class.

use rayon::prelude::*;

use super::simd::{exp, sum, vectorised};

/// Sizes of `[N, K, ...]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Samples in the batch.
    pub batch: usize,
    /// Classes.
    pub classes: usize,
    /// Elements of one class.
    pub len: usize,
}

/// Positions at a time.
const BLOCK: usize = 256;

/// Added to numerator and denominator of the soft Dice coefficient, so that an absent class that is not predicted
/// scores 1.
pub const SMOOTHING: f64 = 1.0;

/// What [`forward`] leaves for [`backward`].
#[derive(Debug, Clone)]
pub(crate) struct Probabilities {
    /// Softmax of the logits, `[N, K, ...]`.
    pub p: Vec<f32>,
    /// Soft Dice coefficient's numerator and denominator, for each sample and class.
    pub dice: Vec<[f64; 2]>,
}

/// Cross-entropy, averaged over samples and positions, and 1 - soft Dice, averaged over samples and classes.
pub(crate) fn forward(g: &Geometry, logits: &[f32], one_hot: &[f32]) -> ([f64; 2], Probabilities) {
    let span = g.classes * g.len;
    let mut p = vec![0.0; logits.len()];
    let samples: Vec<(f64, Vec<[f64; 2]>)> = p
        .par_chunks_mut(span)
        .zip(logits.par_chunks(span).zip(one_hot.par_chunks(span)))
        .map(|(p, (logits, one_hot))| vectorised(|| forward_sample(g, logits, one_hot, p)))
        .collect();
    let (mut cross_entropy, mut dice) = (0.0, Vec::with_capacity(g.batch * g.classes));
    for (sum, terms) in samples {
        cross_entropy += sum;
        dice.extend(terms);
    }
    let mean_dice = dice.iter().map(|[overlap, volume]| overlap / volume).sum::<f64>() / dice.len() as f64;
    ([cross_entropy / (g.batch * g.len) as f64, 1.0 - mean_dice], Probabilities { p, dice })
}

/// The sum of the cross-entropy over positions, and each class' numerator and denominator of the Dice coefficient.
#[inline(always)]
fn forward_sample(g: &Geometry, logits: &[f32], one_hot: &[f32], p: &mut [f32]) -> (f64, Vec<[f64; 2]>) {
    let mut cross_entropy = 0.0;
    let mut dice = vec![[SMOOTHING; 2]; g.classes];
    for first in (0..g.len).step_by(BLOCK) {
        let len = BLOCK.min(g.len - first);
        let of = |class: usize| class * g.len + first..class * g.len + first + len;
        let mut greatest = [f32::NEG_INFINITY; BLOCK];
        for class in 0..g.classes {
            greatest.iter_mut().zip(&logits[of(class)]).for_each(|(most, x)| *most = most.max(*x));
        }
        let mut total = [0.0f32; BLOCK];
        for class in 0..g.classes {
            let places = p[of(class)].iter_mut().zip(&logits[of(class)]);
            for ((p, x), (most, total)) in places.zip(greatest.iter().zip(&mut total)) {
                *p = exp(x - most);
                *total += *p;
            }
        }
        let log: f64 = total[..len].iter().zip(&greatest).map(|(total, most)| f64::from(total.ln() + most)).sum();
        cross_entropy += log;
        total.iter_mut().for_each(|total| *total = 1.0 / *total);
        for (class, [overlap, volume]) in dice.iter_mut().enumerate() {
            let (p, logits, y) = (&mut p[of(class)], &logits[of(class)], &one_hot[of(class)]);
            p.iter_mut().zip(&total).for_each(|(p, inverse)| *p *= inverse);
            *overlap += sum(p, y, |p, y| 2.0 * p * y);
            *volume += sum(p, y, |p, y| p + y);
            cross_entropy -= sum(logits, y, |x, y| x * y);
        }
    }
    (cross_entropy, dice)
}

/// Gradient of `weights[0]` times the cross-entropy plus `weights[1]` times the Dice loss with respect to the logits.
pub(crate) fn backward(g: &Geometry, state: &Probabilities, one_hot: &[f32], weights: [f32; 2]) -> Vec<f32> {
    let span = g.classes * g.len;
    let mut dx = vec![0.0; state.p.len()];
    dx.par_chunks_mut(span)
        .zip(state.p.par_chunks(span).zip(one_hot.par_chunks(span)))
        .zip(state.dice.par_chunks(g.classes))
        .for_each(|((dx, (p, one_hot)), dice)| vectorised(|| backward_sample(g, [p, one_hot], dice, weights, dx)));
    dx
}

#[inline(always)]
fn backward_sample(
    g: &Geometry,
    [p, one_hot]: [&[f32]; 2],
    dice: &[[f64; 2]],
    [of_cross_entropy, of_dice]: [f32; 2],
    dx: &mut [f32],
) {
    let of_cross_entropy = of_cross_entropy / (g.batch * g.len) as f32;
    let of_dice = -f64::from(of_dice) / (g.batch * g.classes) as f64;
    // d Dice / dp = 2 y / volume - overlap / volume^2.
    let slopes: Vec<[f32; 2]> = dice
        .iter()
        .map(|[overlap, volume]| [(of_dice * 2.0 / volume) as f32, (-of_dice * overlap / (volume * volume)) as f32])
        .collect();
    for first in (0..g.len).step_by(BLOCK) {
        let len = BLOCK.min(g.len - first);
        let of = |class: usize| class * g.len + first..class * g.len + first + len;
        let mut mean = [0.0f32; BLOCK];
        for (class, [of_label, constant]) in slopes.iter().enumerate() {
            for (mean, (p, y)) in mean.iter_mut().zip(p[of(class)].iter().zip(&one_hot[of(class)])) {
                *mean += p * (of_label * y + constant);
            }
        }
        for (class, [of_label, constant]) in slopes.iter().enumerate() {
            let places = dx[of(class)].iter_mut().zip(&mean).zip(p[of(class)].iter().zip(&one_hot[of(class)]));
            for ((dx, mean), (p, y)) in places {
                *dx = of_cross_entropy * (p - y) + p * (of_label * y + constant - mean);
            }
        }
    }
}
