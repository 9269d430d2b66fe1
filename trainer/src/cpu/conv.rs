//! Convolution over 1 to 3 axes as a matrix product of patches (im2col), forward and backward, on plain slices; with one
//! filter a channel, see [`super::depthwise`].
//!
//! The stock backward pass computes the weight gradient as a convolution whose kernel is the whole output gradient,
//! which is an order of magnitude slower on a CPU. Samples run in parallel; sums over the batch are taken in a fixed
//! order, so results do not depend on the number of threads.

use std::cell::Cell;
use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

use super::depthwise;
use super::product::mat_mul;
use super::simd::{sum, vectorised};

/// Numbers of the patch matrix at a time, at most where one line allows: 512 KiB.
const TILE: usize = 128 * 1024;

/// Sizes of one convolution. Spatial axes are padded in front with 1 up to three; the slowest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Samples in the batch.
    pub batch: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Channel groups.
    pub groups: usize,
    /// Input size.
    pub input: [usize; 3],
    /// Output size.
    pub output: [usize; 3],
    /// Kernel size.
    pub kernel: [usize; 3],
    /// Stride.
    pub stride: [usize; 3],
    /// Zeros in front of the input; those behind follow from the output size.
    pub pad: [usize; 3],
}

impl Geometry {
    fn in_len(&self) -> usize {
        self.input.iter().product()
    }

    fn out_len(&self) -> usize {
        self.output.iter().product()
    }

    fn patch_len(&self) -> usize {
        self.c_in / self.groups * self.kernel.iter().product::<usize>()
    }

    /// A 1x1 convolution at stride 1 needs no patches: the input is already the matrix.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3]
    }

    /// Lines of the output, that is runs along its fastest axis.
    fn lines(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The lines, cut into tiles whose patches stay in a core's second-level cache.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let lines = self.lines();
        let per_tile = if self.is_pointwise() {
            lines
        } else {
            (TILE / (self.patch_len() * self.output[2]).max(1)).clamp(1, lines.max(1))
        };
        (0..lines).step_by(per_tile.max(1)).map(move |first| first..(first + per_tile).min(lines))
    }

    /// Calls `run` with room for the patches of one tile, which holds anything.
    fn with_tile_buffer<R>(&self, run: impl FnOnce(&mut [f32]) -> R) -> R {
        let widest = if self.is_pointwise() { 0 } else { self.tiles().next().map_or(0, |tile| tile.len()) };
        let len = self.patch_len() * widest * self.output[2];
        thread_local!(static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
        BUFFER.with(|kept| {
            let mut buffer = kept.take();
            buffer.resize(buffer.len().max(len), 0.0);
            let result = run(&mut buffer[..len]);
            kept.set(buffer);
            result
        })
    }

    /// Calls `row(run, input_row_offset, first, last, kx)` for every row of the patch matrix and every line of `tile`;
    /// positions `first..last` of the line read inside the input, the others read padding.
    fn for_each_row(&self, tile: &Range<usize>, mut row: impl FnMut(usize, Option<usize>, usize, usize, usize)) {
        let [_, in_h, in_w] = self.input;
        let [_, out_h, out_w] = self.output;
        let mut run = 0;
        for c in 0..self.c_in / self.groups {
            for kz in 0..self.kernel[0] {
                for ky in 0..self.kernel[1] {
                    for kx in 0..self.kernel[2] {
                        // Output positions whose input column lies inside: 0 <= ox * stride + kx - pad < in_w.
                        let first = self.pad[2].saturating_sub(kx).div_ceil(self.stride[2]).min(out_w);
                        let last = (in_w + self.pad[2]).saturating_sub(kx).div_ceil(self.stride[2]).min(out_w);
                        for line in tile.clone() {
                            let (oz, oy) = (line / out_h, line % out_h);
                            let iz = (oz * self.stride[0] + kz).checked_sub(self.pad[0]);
                            let iy = (oy * self.stride[1] + ky).checked_sub(self.pad[1]);
                            let offset = match (iz, iy) {
                                (Some(z), Some(y)) if z < self.input[0] && y < in_h => {
                                    Some(((c * self.input[0] + z) * in_h + y) * in_w)
                                }
                                _ => None,
                            };
                            row(run, offset, first, last.max(first), kx);
                            run += 1;
                        }
                    }
                }
            }
        }
    }

    /// The patches of a tile's output positions, one a column.
    fn im2col(&self, tile: &Range<usize>, x: &[f32], col: &mut [f32]) {
        let (out_w, stride, pad) = (self.output[2], self.stride[2], self.pad[2]);
        self.for_each_row(tile, |run, offset, first, last, kx| {
            let target = &mut col[run * out_w..(run + 1) * out_w];
            let Some(offset) = offset else {
                target.fill(0.0);
                return;
            };
            target[..first].fill(0.0);
            target[last..].fill(0.0);
            if first == last {
                return;
            }
            let start = offset + first * stride + kx - pad;
            if stride == 1 {
                target[first..last].copy_from_slice(&x[start..start + last - first]);
            } else {
                for (value, source) in target[first..last].iter_mut().zip(x[start..].iter().step_by(stride)) {
                    *value = *source;
                }
            }
        });
    }

    /// Adds each patch to where it was read from.
    fn col2im(&self, tile: &Range<usize>, col: &[f32], dx: &mut [f32]) {
        let (out_w, stride, pad) = (self.output[2], self.stride[2], self.pad[2]);
        self.for_each_row(tile, |run, offset, first, last, kx| {
            let Some(offset) = offset else { return };
            if first == last {
                return;
            }
            let source = &col[run * out_w + first..run * out_w + last];
            let start = offset + first * stride + kx - pad;
            if stride == 1 {
                for (sum, value) in dx[start..start + source.len()].iter_mut().zip(source) {
                    *sum += value;
                }
            } else {
                for (sum, value) in dx[start..].iter_mut().step_by(stride).zip(source) {
                    *sum += value;
                }
            }
        });
    }
}

fn matrix(data: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), data).expect("the slice was cut to rows x columns")
}

fn matrix_mut(data: &mut [f32], rows: usize, columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), data).expect("the slice was cut to rows x columns")
}

/// y = x * w + bias. `x` is `[N, C_in, ...]`, `w` `[C_out, C_in / groups, ...]`, `bias` `[C_out]`.
pub(crate) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (in_len, out_len, patch) = (g.in_len(), g.out_len(), g.patch_len());
    let (in_group, out_group) = (g.c_in / g.groups, g.c_out / g.groups);
    let mut y = vec![0.0; g.batch * g.c_out * out_len];
    y.par_chunks_mut(g.c_out * out_len).zip(x.par_chunks(g.c_in * in_len)).for_each(|(y, x)| {
        if depthwise::applies(g) {
            return depthwise::forward(g, x, w, bias, y);
        }
        g.with_tile_buffer(|col| {
            for (group, y) in y.chunks_mut(out_group * out_len).enumerate() {
                let x = &x[group * in_group * in_len..][..in_group * in_len];
                let w = matrix(&w[group * out_group * patch..][..out_group * patch], out_group, patch);
                if let Some(bias) = bias {
                    for (row, bias) in y.chunks_mut(out_len).zip(&bias[group * out_group..]) {
                        row.fill(*bias);
                    }
                }
                let mut y = matrix_mut(y, out_group, out_len);
                if g.is_pointwise() {
                    mat_mul(&w, &matrix(x, patch, out_len), &mut y, true);
                    continue;
                }
                for tile in g.tiles() {
                    let columns = tile.start * g.output[2]..tile.end * g.output[2];
                    let col = &mut col[..patch * columns.len()];
                    g.im2col(&tile, x, col);
                    let col = matrix(col, patch, columns.len());
                    mat_mul(&w, &col, &mut y.slice_mut(s![.., columns]), true);
                }
            }
        });
    });
    y
}

/// Gradients of a convolution.
pub(crate) struct Gradients {
    /// Of the input, where asked for.
    pub x: Option<Vec<f32>>,
    /// Of the weight.
    pub w: Vec<f32>,
    /// Of the bias.
    pub bias: Vec<f32>,
}

/// Number of partial sums over the batch. Fixed, so that the order of summation is too.
const PARTIAL_SUMS: usize = 4;

/// Gradients for the output gradient `dy` `[N, C_out, ...]`.
pub(crate) fn backward(g: &Geometry, x: &[f32], w: &[f32], dy: &[f32], with_x: bool) -> Gradients {
    let (in_len, out_len) = (g.in_len(), g.out_len());
    let mut dx = vec![0.0; if with_x { x.len() } else { 0 }];
    let samples = g.batch.div_ceil(PARTIAL_SUMS);
    // An empty `dx` still has to be zipped with the batch.
    let dx_chunks: Vec<&mut [f32]> = if with_x {
        dx.chunks_mut(samples * g.c_in * in_len).collect()
    } else {
        (0..g.batch.div_ceil(samples)).map(|_| &mut [][..]).collect()
    };
    let partials: Vec<(Vec<f32>, Vec<f32>)> = x
        .par_chunks(samples * g.c_in * in_len)
        .zip(dy.par_chunks(samples * g.c_out * out_len))
        .zip(dx_chunks)
        .map(|((x, dy), dx)| g.with_tile_buffer(|col| backward_samples(g, [x, w, dy], dx, col)))
        .collect();
    let mut partials = partials.into_iter();
    let (mut dw, mut bias) = partials.next().unwrap_or_else(|| (vec![0.0; w.len()], vec![0.0; g.c_out]));
    for (part_w, part_bias) in partials {
        dw.iter_mut().zip(part_w).for_each(|(sum, value)| *sum += value);
        bias.iter_mut().zip(part_bias).for_each(|(sum, value)| *sum += value);
    }
    Gradients { x: with_x.then_some(dx), w: dw, bias }
}

/// One after the other, the samples of one partial sum; `dx` is empty where it isn't wanted.
fn backward_samples(g: &Geometry, [x, w, dy]: [&[f32]; 3], dx: &mut [f32], col: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
    let (in_len, out_len, patch) = (g.in_len(), g.out_len(), g.patch_len());
    let (in_group, out_group) = (g.c_in / g.groups, g.c_out / g.groups);
    let mut dw = vec![0.0; w.len()];
    let mut dbias = vec![0.0; g.c_out];
    for (sample, (x, dy)) in x.chunks(g.c_in * in_len).zip(dy.chunks(g.c_out * out_len)).enumerate() {
        for (bias, row) in dbias.iter_mut().zip(dy.chunks(out_len)) {
            *bias += vectorised(|| sum(row, row, |x, _| x)) as f32;
        }
        if depthwise::applies(g) {
            let sample = sample * g.c_in * in_len;
            let dx = if dx.is_empty() { &mut [][..] } else { &mut dx[sample..sample + g.c_in * in_len] };
            depthwise::backward(g, [x, w, dy], dx, &mut dw);
            continue;
        }
        for group in 0..g.groups {
            let x = &x[group * in_group * in_len..][..in_group * in_len];
            let dy = matrix(&dy[group * out_group * out_len..][..out_group * out_len], out_group, out_len);
            let weights = group * out_group * patch..(group + 1) * out_group * patch;
            let mut dw = matrix_mut(&mut dw[weights.clone()], out_group, patch);
            let w = matrix(&w[weights], out_group, patch);
            let dx = match dx.is_empty() {
                true => &mut [][..],
                false => &mut dx[(sample * g.c_in + group * in_group) * in_len..][..in_group * in_len],
            };
            if g.is_pointwise() {
                mat_mul(&dy, &matrix(x, patch, out_len).t(), &mut dw, true);
                if !dx.is_empty() {
                    mat_mul(&w.t(), &dy, &mut matrix_mut(dx, patch, out_len), false);
                }
                continue;
            }
            for tile in g.tiles() {
                let columns = tile.start * g.output[2]..tile.end * g.output[2];
                let col = &mut col[..patch * columns.len()];
                let dy = dy.slice(s![.., columns.clone()]);
                g.im2col(&tile, x, col);
                mat_mul(&dy, &matrix(col, patch, columns.len()).t(), &mut dw, true);
                if !dx.is_empty() {
                    mat_mul(&w.t(), &dy, &mut matrix_mut(col, patch, columns.len()), false);
                    g.col2im(&tile, col, dx);
                }
            }
        }
    }
    (dw, dbias)
}
