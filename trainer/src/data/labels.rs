//! What label maps say together, or lose on the network's grid. For training and inspection alike.

use std::collections::{BTreeMap, BTreeSet};

use ldseg::image::Labels;
use ldseg::preprocess::labels_to_grid;

/// A structure that a label map has and the network's grid has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vanished {
    /// The label, as in the array that was shrunk.
    pub(super) label: u8,
    /// Its voxels there.
    pub(super) voxels: usize,
    /// The size of the array.
    pub(super) from: Vec<usize>,
    /// The size of the network's grid.
    pub(super) to: Vec<usize>,
}

impl Vanished {
    /// As a sentence goes on about what vanishes.
    pub(super) fn how(&self) -> String {
        let by = |size: &[usize]| size.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        format!("{} of {} voxels, none on the network's grid of {}", self.voxels, by(&self.from), by(&self.to))
    }
}

/// Labels above 0 that are in `labels` and not in `shrunk`, the same on another grid.
pub(super) fn vanished(labels: &Labels, shrunk: &Labels) -> Vec<Vanished> {
    let [before, after] = [labels, shrunk].map(|labels| {
        let mut counts = [0_usize; 256];
        labels.iter().for_each(|label| counts[usize::from(*label)] += 1);
        counts
    });
    let gone = (1..=255_u8).filter(|label| before[usize::from(*label)] > 0 && after[usize::from(*label)] == 0);
    let vanished = |label| Vanished {
        label,
        voxels: before[usize::from(label)],
        from: labels.shape().to_vec(),
        to: shrunk.shape().to_vec(),
    };
    gone.map(vanished).collect()
}

/// The same for a grid of `size`.
pub(super) fn vanished_at(labels: &Labels, size: &[usize]) -> Vec<Vanished> {
    vanished(labels, &labels_to_grid(labels, size))
}

/// A value n that is likely the same class as 255: some files hold n alone besides 0, others 255 alone, and none holds
/// both, as where binary masks come from two programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTwice {
    /// n.
    pub(super) value: u8,
    /// Number of cases that hold it, and the first of them.
    pub(super) with_value: (usize, String),
    /// The same of 255.
    pub(super) with_255: (usize, String),
}

impl StoredTwice {
    /// Looks at the values that each case holds.
    pub(super) fn find<'a>(cases: impl IntoIterator<Item = (&'a str, BTreeSet<u8>)>) -> Option<Self> {
        let mut alone = BTreeMap::<u8, (usize, String)>::new();
        let mut together = BTreeSet::new();
        for (name, values) in cases {
            let mut foreground = values.into_iter().filter(|value| *value > 0);
            match (foreground.next(), foreground.next()) {
                (Some(value), None) => alone.entry(value).or_insert((0, name.to_owned())).0 += 1,
                (Some(first), Some(second)) => together.extend([first, second].into_iter().chain(foreground)),
                _ => {}
            }
        }
        let with_255 = alone.remove(&u8::MAX)?;
        let mut others = alone.into_iter();
        match (others.next(), others.next()) {
            (Some((value, with_value)), None) if together.is_empty() => Some(Self { value, with_value, with_255 }),
            _ => None,
        }
    }

    /// What is suspicious, in a sentence.
    pub(super) fn finding(&self) -> String {
        let Self { value, with_value: (n, first), with_255: (n_255, first_255) } = self;
        format!(
            "the label values {value} ({n} cases, such as {first}) and 255 ({n_255} cases, such as {first_255}) never occur \
             in one label map: likely one class, stored in two ways"
        )
    }
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    #[test]
    fn what_vanishes_is_told_with_sizes() {
        let mut labels = Labels::zeros(IxDyn(&[512, 512]));
        labels[[100, 101]] = 2;
        labels[[101, 101]] = 2;
        labels.slice_mut(ndarray::s![200..300, 200..300]).fill(1);
        let found = vanished_at(&labels, &[64, 64]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].label, found[0].voxels), (2, 2));
        assert_eq!(found[0].how(), "2 of 512 x 512 voxels, none on the network's grid of 64 x 64");
        assert!(vanished_at(&labels, &[512, 512]).is_empty());
    }

    #[test]
    fn binary_masks_of_two_programs_are_found() {
        let find = |cases: &[&[u8]]| {
            let names = ["a", "b", "c"];
            StoredTwice::find(names.into_iter().zip(cases.iter().map(|values| values.iter().copied().collect())))
        };
        let found = find(&[&[0, 1], &[0, 255], &[0, 1]]).unwrap();
        assert_eq!((found.value, &found.with_value, &found.with_255), (1, &(2, "a".into()), &(1, "b".into())));
        assert_eq!(find(&[&[0, 1], &[0, 1, 255]]), None);
        assert_eq!(find(&[&[0, 1], &[0, 2], &[0, 255]]), None, "three classes, one a picture");
        assert_eq!(find(&[&[0, 1], &[0], &[0, 1]]), None);
        assert_eq!(find(&[&[0, 1], &[0, 1, 2], &[0, 255]]), None);
    }
}
