//! The segmentation under growing noise.

use super::panels::{Window, flat, intensities};
use super::{Column, Figure, Panel, View};
use crate::robustness::{Corruption, corrupt, dice};
use ldseg::image::{Image, Labels, Region};
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::overlay;
use ldseg_recording::segment_part;

/// What is studied.
#[derive(Debug, Clone, PartialEq)]
pub struct Study<'a> {
    /// Name of the image, by which its noise is drawn as in [`crate::robustness`].
    pub name: &'a str,
    /// What is done to it.
    pub corruption: Corruption,
    /// How strongly, one column each.
    pub strengths: Vec<f64>,
    /// Seed of the corruption.
    pub seed: u64,
    /// The part of a picture that is segmented, where it is not all of it.
    pub part: Option<Region>,
}

/// How good the segmentation is at one strength.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// The strength.
    pub strength: f64,
    /// Dice of each class above 0, then their mean, over the whole image or volume.
    pub dice: Vec<f64>,
}

/// The corrupted image, its segmentation with its mean Dice, and this over the image, for each strength.
///
/// # Errors
/// Those of [`Segmenter::segment`]; [`ErrorKind::ShapeMismatch`] where the reference has another size than the image;
/// [`ErrorKind::Setting`] for a view that does not fit the image.
pub fn robustness(
    segmenter: &mut Segmenter,
    image: &Image,
    reference: &Labels,
    study: &Study,
    options: &SegmentOptions,
    view: View,
) -> Result<(Figure, Vec<Level>)> {
    let size = &image.data.shape()[1..];
    if size != reference.shape() {
        let message = format!("has size {size:?}, but its label map has {:?}", reference.shape());
        return Err(Error::new(ErrorKind::ShapeMismatch, message));
    }
    let window = Window::new(view, image)?;
    let classes = segmenter.manifest().classes.len();
    let colours: Vec<[u8; 3]> = segmenter.manifest().classes.iter().map(|class| class.colour).collect();
    let (mut columns, mut levels) = (Vec::new(), Vec::new());
    for &strength in &study.strengths {
        let corrupted = corrupt(image, study.name, study.corruption, strength, study.seed);
        let found = segment_part(segmenter, &corrupted, study.part, options)?.labels;
        let dice = dice(&found, reference, classes);
        let (shown, labels) = (window.image(&corrupted)?, window.labels(&found));
        let mean = dice.last().copied().unwrap_or(f64::NAN);
        columns.push(Column {
            caption: caption(study.corruption, strength),
            panels: vec![
                Panel::plain(intensities(&shown, &colours)?),
                Panel { picture: flat(&labels, &colours), caption: format!("Dice {mean:.3}") },
                Panel::plain(overlay(&shown, &labels, &colours)?),
            ],
        });
        levels.push(Level { strength, dice });
    }
    let rows = ["image", "segmentation", "overlay"].map(str::to_owned).to_vec();
    Ok((Figure { rows, columns }, levels))
}

fn caption(corruption: Corruption, strength: f64) -> String {
    let name = match corruption {
        Corruption::Gaussian => "sigma",
        other => other.name(),
    };
    format!("{name} {strength:.3}")
}
