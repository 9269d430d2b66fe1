//! The exact Euclidean distance transform.

use super::mask::Mask;

/// The distance in mm of every voxel's centre to that of the nearest set voxel of `mask`; infinite where none is set.
///
/// The squared distance separates by axis: each pass takes, along lines of one axis, d(p) = min_q f(q) + s^2 (p - q)^2
/// with the spacing s, the lower envelope of parabolas (Felzenszwalb and Huttenlocher, Distance Transforms of Sampled
/// Functions, Theory of Computing 8, 2012, Algorithm 1). Linear in the number of voxels, exact up to rounding.
///
/// # Shapes
/// `spacing` in mm along the three axes of the mask; returns one distance a voxel, in the mask's order.
pub(super) fn distance_transform(mask: &Mask, spacing: [f64; 3]) -> Vec<f64> {
    let mut squared: Vec<f64> = mask.voxels.iter().map(|set| if *set { 0.0 } else { f64::INFINITY }).collect();
    let longest = mask.size.into_iter().max().unwrap_or(0);
    let (mut line, mut envelope) = (vec![0.0; longest], Envelope::default());
    let strides = mask.strides();
    for axis in mask.used_axes() {
        let (count, stride) = (mask.size[axis], strides[axis]);
        let line = &mut line[..count];
        for block in squared.chunks_exact_mut((count * stride).max(1)) {
            for start in 0..stride {
                let places = block[start..].iter().step_by(stride);
                line.iter_mut().zip(places).for_each(|(to, from)| *to = *from);
                envelope.build(line, spacing[axis]);
                envelope.sample(line, spacing[axis], block[start..].iter_mut().step_by(stride));
            }
        }
    }
    squared.iter_mut().for_each(|distance| *distance = distance.sqrt());
    squared
}

/// Which parabola is lowest where: `vertices[k]` from `starts[k]` up to `starts[k + 1]`, in voxels.
#[derive(Default)]
struct Envelope {
    vertices: Vec<usize>,
    starts: Vec<f64>,
}

impl Envelope {
    fn build(&mut self, f: &[f64], spacing: f64) {
        self.vertices.clear();
        self.starts.clear();
        let scale = spacing * spacing;
        // Where the parabola at q comes to lie below the one at v, v < q.
        let meet = |v: usize, q: usize| {
            let (at_v, at_q) = (v as f64, q as f64);
            ((f[q] - f[v]) / scale + at_q * at_q - at_v * at_v) / (2.0 * (at_q - at_v))
        };
        for q in (0..f.len()).filter(|&q| f[q].is_finite()) {
            let mut start = f64::NEG_INFINITY;
            while let (Some(&v), Some(&first)) = (self.vertices.last(), self.starts.last()) {
                start = meet(v, q);
                if start > first {
                    break;
                }
                self.vertices.pop();
                self.starts.pop();
            }
            self.vertices.push(q);
            self.starts.push(start);
        }
    }

    fn sample<'a>(&self, f: &[f64], spacing: f64, distances: impl Iterator<Item = &'a mut f64>) {
        if self.vertices.is_empty() {
            return;
        }
        let mut k = 0;
        for (p, distance) in distances.enumerate() {
            while self.starts.get(k + 1).is_some_and(|&start| start < p as f64) {
                k += 1;
            }
            let v = self.vertices[k];
            let away = spacing * (p as f64 - v as f64);
            *distance = away * away + f[v];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn place(voxel: usize, size: [usize; 3]) -> [f64; 3] {
        [voxel / (size[1] * size[2]), voxel / size[2] % size[1], voxel % size[2]].map(|at| at as f64)
    }

    #[test]
    fn equals_the_nearest_of_all_voxels() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (size, axes) in [([1, 9, 14], 2), ([5, 7, 6], 3), ([1, 6, 6], 3), ([1, 1, 30], 2)] {
            for part in [0.01, 0.1, 0.6] {
                let spacing = [0.0; 3].map(|_: f64| rng.random_range(0.2..3.0));
                let voxels = (0..size.iter().product()).map(|_| rng.random_bool(part)).collect();
                let mask = Mask { size, axes, voxels };
                let distances = distance_transform(&mask, spacing);
                for (voxel, distance) in distances.iter().enumerate() {
                    let here = place(voxel, size);
                    let away = |other: usize| {
                        let there = place(other, size);
                        (0..3).map(|a| (spacing[a] * (here[a] - there[a])).powi(2)).sum::<f64>().sqrt()
                    };
                    let set = (0..mask.voxels.len()).filter(|&other| mask.voxels[other]);
                    let nearest = set.map(away).fold(f64::INFINITY, f64::min);
                    assert!((distance - nearest).abs() < 1e-12 || *distance == nearest, "{distance} {nearest}");
                }
            }
        }
    }
}
