//! Matrix products on one thread.

use gemm::Parallelism;
use ndarray::{ArrayView2, ArrayViewMut2};

/// `c = a b`, or `c += a b` where `add` is set, for `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]`, with the widest vector
/// registers there are.
#[expect(
    unsafe_code,
    reason = "`gemm` takes pointers; the shapes are compared first, and a view never leaves what it borrows"
)]
pub(crate) fn mat_mul(a: &ArrayView2<f32>, b: &ArrayView2<f32>, c: &mut ArrayViewMut2<f32>, add: bool) {
    let ((m, k), (rows, n)) = (a.dim(), b.dim());
    assert!(rows == k && c.dim() == (m, n), "[{m}, {k}] x [{rows}, {n}] into {:?}", c.dim());
    let [(a_rs, a_cs), (b_rs, b_cs), (c_rs, c_cs)] =
        [a.strides(), b.strides(), c.strides()].map(|strides| (strides[0], strides[1]));
    // SAFETY: all three views are valid for reads, `c` for writes, over their whole extent with these strides, and `c`
    // is borrowed mutably, so it overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            c_cs,
            c_rs,
            add,
            a.as_ptr(),
            a_cs,
            a_rs,
            b.as_ptr(),
            b_cs,
            b_rs,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
