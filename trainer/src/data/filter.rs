//! A small smoothing filter, for the grain of noise.

/// Smooths a C-ordered array of `shape` along `axis` with (1, 2, 1)/4; the ends are repeated outwards.
pub(crate) fn smooth(values: &mut [f32], shape: &[usize], axis: usize) {
    let (count, stride) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let mut before = vec![0.0; stride];
    for block in values.chunks_exact_mut((count * stride).max(1)) {
        before.copy_from_slice(&block[..stride]);
        for at in 0..count {
            let after = (at + 1).min(count - 1) * stride;
            for (lane, before) in before.iter_mut().enumerate() {
                let here = block[at * stride + lane];
                block[at * stride + lane] = 0.25 * (*before + block[after + lane]) + 0.5 * here;
                *before = here;
            }
        }
    }
}

/// The variance that `passes` of [`smooth`] along one axis leave of white noise of unit variance.
///
/// The weights are the binomial coefficients of 2 p over 4^p, whose squares sum to C(4p, 2p) / 16^p.
pub(crate) fn smoothed_variance(passes: u32) -> f32 {
    (1..=2 * passes).map(|k| (2 * passes + k) as f32 / (4 * k) as f32).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_an_impulse_along_one_axis() {
        let mut values = [0.0, 0.0, 0.0, 0.0, 16.0, 0.0, 0.0, 0.0, 0.0];
        smooth(&mut values, &[3, 3], 0);
        assert_eq!(values, [0.0, 4.0, 0.0, 0.0, 8.0, 0.0, 0.0, 4.0, 0.0]);
        smooth(&mut values, &[3, 3], 1);
        assert_eq!(values, [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0]);
        smooth(&mut values[..3], &[3], 0);
        assert_eq!(values[..3], [1.25, 1.5, 1.25]);
    }

    #[test]
    fn knows_the_variance_it_leaves() {
        assert_eq!(smoothed_variance(0), 1.0);
        assert_eq!(smoothed_variance(1), 6.0 / 16.0);
        assert!((smoothed_variance(2) - (1.0 + 16.0 + 36.0 + 16.0 + 1.0) / 256.0).abs() < 1e-6);
    }
}
