//! Images with their reference and their segmentation.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::evaluation::remarkable;
use super::found::Evaluation;
use super::html::Html;
use crate::render::{Comparison, comparison};
use crate::scoring::{ClassSpec, labels_of, pair};
use ldseg::metrics::{dice_per_class, nanmean};
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::png_bytes;
use ldseg_recording::{Prepared, Wish, segment_part};

/// Longest side of a picture, pixels.
const SIZE: usize = 360;
/// Greatest difference of a Dice from the evaluation's that may be rounding.
const SAME: f64 = 1e-3;

/// Where the images and their label maps lie.
#[derive(Debug, Clone)]
pub struct Images {
    /// Folder of images.
    pub images: PathBuf,
    /// Folder of label maps.
    pub labels: PathBuf,
    /// Which stored values stand for which class; indices where there is `None`.
    pub classes: Option<Vec<ClassSpec>>,
    /// What the user says of every image.
    pub wish: Wish,
}

/// Best, median and worst case of the evaluation, segmented anew by the bundle with its own sampler and steps.
pub(super) fn examples(found: &Evaluation, images: &Images, segmenter: &mut Segmenter, html: &mut Html) -> Result<()> {
    let pairs = pair(&images.images, &images.labels)?.pairs;
    let mut files: HashMap<String, _> = pairs.into_iter().map(|pair| (pair.name, pair.files)).collect();
    for (what, case, ranked) in remarkable(found) {
        let files = files.remove(&case.name).ok_or_else(|| {
            let message = format!("holds no image of the evaluation's case {}", case.name);
            Error::new(ErrorKind::Io, message).in_file(&images.images)
        })??;
        let (shown, dice, notes) = segmented((&files.0, &files.1), images, segmenter)?;
        html.element("div", &[("class", &"example")], |html| {
            html.line("h3", &format!("{what}: {}, Dice {:.3}", case.name, nanmean(&dice)));
            let classes = segmenter.manifest().classes.iter().skip(1);
            let each: Vec<_> = classes.zip(&dice).map(|(class, dice)| format!("{} {dice:.3}", class.name)).collect();
            html.line("p", &format!("{}.", each.join(", ")));
            if (nanmean(&dice) - ranked).abs() > SAME {
                html.missing(&format!("The evaluation has Dice {ranked:.3}: it scored another segmentation, of other samples, steps or seed."));
            }
            notes.iter().for_each(|note| html.missing(&format!("The image {note}.")));
            panels(&shown, &case.name, html);
        });
    }
    Ok(())
}

type Shown = [(&'static str, Vec<u8>); 3];

/// Three pictures, the Dice of each class above 0, and what was noted of the image.
type Example = (Shown, Vec<f64>, Vec<String>);

fn segmented((image, labels): (&Path, &Path), images: &Images, segmenter: &mut Segmenter) -> Result<Example> {
    let manifest = segmenter.manifest();
    let (options, count) = (SegmentOptions::defaults(manifest), manifest.classes.len());
    let prepared = Prepared::open(&[image.to_path_buf()], manifest.channels, &images.wish)?;
    let image_data = prepared.still()?;
    let reference = labels_of(&image_data, image, labels, images.classes.as_deref(), count)?;
    let part = prepared.decisions().part();
    let drawn = segment_part(segmenter, &image_data, part, &options).and_then(|result| {
        let Comparison { image, reference: expected, found } =
            comparison(&image_data, &reference, &result.labels, &segmenter.manifest().classes, SIZE)?;
        let shown =
            [("image", png_bytes(&image)?), ("reference", png_bytes(&expected)?), ("segmentation", png_bytes(&found)?)];
        let dice = dice_per_class(&result.labels, &reference, count).split_off(1);
        Ok((shown, dice, prepared.decisions().notes()))
    });
    drawn.map_err(|e| e.in_file(image))
}

fn panels(shown: &Shown, name: &str, html: &mut Html) {
    html.element("div", &[("class", &"panels")], |html| {
        for (what, png) in shown {
            html.element("figure", &[], |html| {
                html.png(png, &format!("{name}: {what}"));
                html.line("figcaption", what);
            });
        }
    });
}
