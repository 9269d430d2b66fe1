//! Sums of many numbers in f32 that lose no digits, however many there are.

/// Sum of `f(x_i, y_i)`: sixteen running sums within a block, so that they run in vector registers, f64 across blocks.
#[inline(always)]
pub fn sum<Y: Copy>(x: &[f32], y: &[Y], f: impl Fn(f32, Y) -> f32) -> f64 {
    const LANES: usize = 16;
    let mut total = 0.0;
    for (x, y) in x.chunks(1024).zip(y.chunks(1024)) {
        let mut lanes = [0.0f32; LANES];
        let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
        let tail: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| f(*x, *y)).sum();
        for (x, y) in xs.zip(ys) {
            for lane in 0..LANES {
                lanes[lane] += f(x[lane], y[lane]);
            }
        }
        total += f64::from(lanes.iter().sum::<f32>() + tail);
    }
    total
}
