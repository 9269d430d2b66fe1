//! What an ultrasound file says of the parts of its frames.

use ldseg::image::Region;

/// A part of a frame that shows a two-dimensional ultrasound image, as the file says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UltrasoundRegion {
    /// Where it lies in the frame.
    pub area: Region,
    /// What it shows.
    pub kind: RegionKind,
    /// Pixel spacing in mm along (y, x), where the file tells it.
    pub spacing: Option<[f64; 2]>,
}

/// What a two-dimensional ultrasound image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionKind {
    /// Tissue.
    Tissue,
    /// Colour flow and all else that is drawn in two dimensions.
    Other,
}

/// A view counts beside the largest one where it has at least one part in so many of its area; what is smaller is an inset.
#[cfg(any(feature = "dicom", test))]
const INSET: usize = 4;

/// Brings the region that decides to the front: of those that are no insets tissue before all else, then the largest. Returns
/// how many views lie side by side: regions that are no insets and have less than half of themselves in one another.
#[cfg(any(feature = "dicom", test))]
pub(crate) fn order(regions: &mut [UltrasoundRegion]) -> usize {
    let pixels = |region: &UltrasoundRegion| region.area.height * region.area.width;
    let largest = regions.iter().map(pixels).max().unwrap_or(0);
    let inset = |region: &UltrasoundRegion| pixels(region) * INSET < largest;
    regions.sort_by_key(|region| (inset(region), region.kind != RegionKind::Tissue, std::cmp::Reverse(pixels(region))));
    let mut views: Vec<&UltrasoundRegion> = Vec::new();
    for region in regions.iter().filter(|region| !inset(region)) {
        let apart = |view: &&UltrasoundRegion| 2 * shared(region.area, view.area) < pixels(region).min(pixels(view));
        if views.iter().all(apart) {
            views.push(region);
        }
    }
    views.len()
}

/// Pixels that two areas share.
#[cfg(any(feature = "dicom", test))]
fn shared(a: Region, b: Region) -> usize {
    let overlap = |(a, a_size): (usize, usize), (b, b_size): (usize, usize)| {
        (a + a_size).min(b + b_size).saturating_sub(a.max(b))
    };
    overlap((a.top, a.height), (b.top, b.height)) * overlap((a.left, a.width), (b.left, b.width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(kind: RegionKind, [left, top, width, height]: [usize; 4]) -> UltrasoundRegion {
        UltrasoundRegion { area: Region { top, left, height, width }, kind, spacing: None }
    }

    #[test]
    fn insets_and_overlays_are_no_views() {
        use RegionKind::{Other, Tissue};
        let views = |regions: &[UltrasoundRegion]| {
            let mut ordered = regions.to_vec();
            let views = order(&mut ordered);
            (ordered.first().map(|first| first.area.left), views)
        };
        let whole = region(Tissue, [40, 0, 184, 224]);
        assert_eq!(views(&[]), (None, 0));
        assert_eq!(views(&[region(Tissue, [0, 0, 40, 40]), whole.clone()]), (Some(40), 1));
        // Colour flow in its tissue, and tissue beside colour flow that is larger.
        assert_eq!(views(&[region(Other, [60, 20, 160, 180]), whole.clone()]), (Some(40), 1));
        assert_eq!(views(&[region(Other, [0, 0, 120, 224]), region(Tissue, [120, 0, 100, 224])]), (Some(120), 2));
        // A little tissue does not outdo the image itself.
        assert_eq!(views(&[region(Tissue, [0, 0, 40, 40]), region(Other, [40, 0, 184, 224])]), (Some(40), 1));
        let quarters = [[0, 0], [50, 0], [0, 50], [50, 50]].map(|[x, y]| region(Tissue, [x, y, 50, 50]));
        assert_eq!(views(&quarters), (Some(0), 4));
    }
}
