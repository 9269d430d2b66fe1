//! Convolution of every channel with a filter of its own, at stride 1 and keeping the size, on plain slices.
//!
//! A matrix product has one row here, and gathering patches for it costs more than the product. Instead a channel is
//! copied between zeros; read as one long line, the output is then a sum of shifted copies of it. What the sum yields
//! between the rows of the output is dropped.

use super::conv::Geometry;
use super::simd::{sum, vectorised};

/// Outputs at a time, whose sums stay in vector registers.
const BLOCK: usize = 64;

/// Whether `g` is such a convolution.
pub(crate) fn applies(g: &Geometry) -> bool {
    g.groups == g.c_in
        && g.groups == g.c_out
        && g.stride == [1; 3]
        && g.input == g.output
        && (0..3).all(|axis| g.pad[axis] < g.kernel[axis])
}

/// A channel between zeros.
struct Line {
    size: [usize; 3],
    padded: [usize; 3],
    /// Where each number of the filter reads, relative to the output's place in the line; the kernel's order.
    taps: Vec<usize>,
    /// Length of the output's line, a multiple of [`BLOCK`].
    len: usize,
}

impl Line {
    fn new(g: &Geometry) -> Self {
        let padded: [usize; 3] = std::array::from_fn(|axis| g.input[axis] + g.kernel[axis] - 1);
        let place = |z: usize, y: usize, x: usize| (z * padded[1] + y) * padded[2] + x;
        let [depth, height, width] = g.kernel;
        let taps =
            (0..depth).flat_map(|z| (0..height).flat_map(move |y| (0..width).map(move |x| place(z, y, x)))).collect();
        let len = g.input.map(|n| n.saturating_sub(1));
        let len = (place(len[0], len[1], len[2]) + 1).next_multiple_of(BLOCK);
        Self { size: g.input, padded, taps, len }
    }

    /// Zeros for [`Self::put`].
    fn zeros(&self) -> Vec<f32> {
        vec![0.0; self.len + self.taps.last().copied().unwrap_or(0)]
    }

    /// Calls `row(place in the line, place in the channel)` for every row.
    fn for_each_row(&self, mut row: impl FnMut(usize, usize)) {
        for z in 0..self.size[0] {
            for y in 0..self.size[1] {
                row((z * self.padded[1] + y) * self.padded[2], (z * self.size[1] + y) * self.size[2]);
            }
        }
    }

    /// Copies a channel to `line`, behind `pad` zeros of each axis.
    fn put(&self, channel: &[f32], pad: [usize; 3], line: &mut [f32]) {
        let (start, width) = (self.start(pad), self.size[2]);
        self.for_each_row(|to, from| {
            line[start + to..start + to + width].copy_from_slice(&channel[from..from + width]);
        });
    }

    /// Copies what [`correlate`] wrote to a channel.
    fn take(&self, line: &[f32], channel: &mut [f32]) {
        let width = self.size[2];
        self.for_each_row(|from, to| channel[to..to + width].copy_from_slice(&line[from..from + width]));
    }

    fn start(&self, pad: [usize; 3]) -> usize {
        (pad[0] * self.padded[1] + pad[1]) * self.padded[2] + pad[2]
    }
}

/// y_i = bias + sum over the taps of w_t x_(i + t); `y` holds a multiple of [`BLOCK`].
fn correlate(x: &[f32], taps: &[usize], w: impl Iterator<Item = f32> + Clone, bias: f32, y: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (block, y) in y.chunks_exact_mut(BLOCK).enumerate() {
                let mut sums = [bias; BLOCK];
                for (tap, w) in taps.iter().zip(w.clone()) {
                    let x = &x[block * BLOCK + tap..][..BLOCK];
                    for lane in 0..BLOCK {
                        sums[lane] += w * x[lane];
                    }
                }
                y.copy_from_slice(&sums);
            }
        },
    );
}

/// One sample of [`super::conv::forward`].
pub(crate) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let line = Line::new(g);
    let (mut padded, mut out) = (line.zeros(), vec![0.0; line.len]);
    let len: usize = g.input.iter().product();
    let channels = x.chunks_exact(len).zip(y.chunks_exact_mut(len)).zip(w.chunks_exact(line.taps.len()));
    for (channel, ((x, y), w)) in channels.enumerate() {
        line.put(x, g.pad, &mut padded);
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        correlate(&padded, &line.taps, w.iter().copied(), bias, &mut out);
        line.take(&out, y);
    }
}

/// One sample of [`super::conv::backward`]: writes `dx`, which is empty where it isn't wanted, and adds to `dw`.
pub(crate) fn backward(g: &Geometry, [x, w, dy]: [&[f32]; 3], dx: &mut [f32], dw: &mut [f32]) {
    let line = Line::new(g);
    let (mut padded, mut gradient, mut out) = (line.zeros(), line.zeros(), vec![0.0; line.len]);
    let (len, taps) = (g.input.iter().product(), line.taps.len());
    // The input's gradient is the output's, correlated with the filter turned round.
    let pad = std::array::from_fn(|axis| g.kernel[axis] - 1 - g.pad[axis]);
    let channels = x.chunks_exact(len).zip(dy.chunks_exact(len));
    let weights = w.chunks_exact(taps).zip(dw.chunks_exact_mut(taps));
    for (channel, ((x, dy), (w, dw))) in channels.zip(weights).enumerate() {
        line.put(x, g.pad, &mut padded);
        line.put(dy, pad, &mut gradient);
        let dy = &gradient[line.start(pad)..];
        for (dw, tap) in dw.iter_mut().zip(&line.taps) {
            let x = &padded[*tap..];
            let n = x.len().min(dy.len());
            *dw += vectorised(|| sum(&dy[..n], &x[..n], |dy, x| dy * x)) as f32;
        }
        if !dx.is_empty() {
            correlate(&gradient, &line.taps, w.iter().rev().copied(), 0.0, &mut out);
            line.take(&out, &mut dx[channel * len..][..len]);
        }
    }
}
