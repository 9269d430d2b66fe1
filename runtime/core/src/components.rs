//! Connected parts of a picture.

use ndarray::ArrayView2;

/// The pixels (row, column) of the largest 4-connected part of `mask` `[H, W]`; of several as large, the first. Empty where
/// no pixel is set.
pub fn largest_component(mask: ArrayView2<'_, bool>) -> Vec<[usize; 2]> {
    let mut unseen = mask.to_owned();
    let mut largest = Vec::new();
    for (y, x) in ndarray::indices(mask.dim()) {
        if !std::mem::take(&mut unseen[(y, x)]) {
            continue;
        }
        let mut part = vec![[y, x]];
        let mut next = 0;
        while next < part.len() {
            for [y, x] in neighbours(part[next], mask.dim()) {
                if std::mem::take(&mut unseen[(y, x)]) {
                    part.push([y, x]);
                }
            }
            next += 1;
        }
        if part.len() > largest.len() {
            largest = part;
        }
    }
    largest
}

/// The four neighbours of a pixel that lie in the picture.
pub fn neighbours([y, x]: [usize; 2], (h, w): (usize, usize)) -> impl Iterator<Item = [usize; 2]> {
    let all = [[y.wrapping_sub(1), x], [y + 1, x], [y, x.wrapping_sub(1)], [y, x + 1]];
    all.into_iter().filter(move |[y, x]| *y < h && *x < w)
}
