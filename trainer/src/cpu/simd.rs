//! Vector code for the processor at hand.

pub(crate) use ldseg::sum::sum;

/// Runs `op` compiled for the widest vector registers there are. What it calls has to be inlined to profit.
pub(crate) fn vectorised<R>(op: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(op)
}

/// exp(x) for x within -87 to 87, beyond which it stays what it is there, with a range reduction and a polynomial that
/// the compiler turns into vector code. Relative error below 2e-7.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    // exp(x) = 2^k * exp(r), r in [-ln2/2, ln2/2]; Cody and Waite (1980) split ln 2 in two.
    let k = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = (x - k * 0.693_359_4) + k * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_3e-1;
    // |k| is at most 126, so that 2^k is a normal number.
    let scale = f32::from_bits((((k as i32) + 127) << 23) as u32);
    (p * r * r + r + 1.0) * scale
}
