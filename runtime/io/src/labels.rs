//! Label files: which files may hold classes, and which of their numbers counts.
//!
//! A label map has to be stored without loss: JPEG, AVI, and TIFF and DICOM with lossy compression are refused, whatever
//! the file is called. Its values are whole numbers from 0 to 255. In a picture with a palette (PNG, BMP, GIF, TIFF) the
//! value is the index, whatever colour it is shown in. Grey pictures of fewer than 8 bits are scaled to 8, as every reader
//! of PNG does: the 1 of a 1-bit picture is 255.

mod indexed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::image::ImageFormat;
use ndarray::{ArrayViewD, Axis};

use super::content::{self, Format};
use super::read_recording;
use ldseg::image::{Geometry, Image, Labels};
use ldseg::{Error, ErrorKind, Result, Tensor};

/// A label map as its file has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LabelFile {
    /// Values `[1, H, W]` or `[1, D, H, W]`, whole numbers from 0 to 255, with the file's geometry.
    pub image: Image,
    /// The colour of each value, where the file is a picture with a palette. Values beyond its end have none.
    pub palette: Option<Vec<[u8; 3]>>,
    /// What is odd about the file.
    pub notes: Vec<String>,
}

impl LabelFile {
    /// The values, `[H, W]` or `[D, H, W]`.
    pub fn labels(&self) -> Labels {
        self.image.data.index_axis(Axis(0), 0).mapv(|value| value as u8)
    }
}

/// Reads a label map with all that its file says of it. This is the one place that decides what a label file may be.
///
/// # Errors
/// As [`crate::read_image`], and [`ErrorKind::Format`] for lossy formats, coloured pictures without a palette, and values other
/// than whole numbers from 0 to 255.
pub fn read_label_file(path: &Path) -> Result<LabelFile> {
    super::guarded(|| read(path)).map_err(|e| e.in_file(path))
}

fn read(path: &Path) -> Result<LabelFile> {
    let (format, _) = content::format(path)?;
    if let Some(unfit) = unfit(path, format)? {
        let message = format!(
            "is {unfit}, which does not keep values as they are; expected a lossless label map, such as PNG or NIfTI"
        );
        return Err(Error::new(ErrorKind::Format, message));
    }
    let indexed = match format {
        Format::Picture(_) | Format::Gif => indexed::read(&whole(path)?)?,
        _ => None,
    };
    if let Some(indexed) = indexed {
        return Ok(LabelFile {
            image: Image { data: indexed.values, geometry: Geometry::default() },
            palette: Some(indexed.palette),
            notes: Vec::new(),
        });
    }
    let recording = read_recording(path)?;
    let notes = recording.notes().to_vec();
    let mut image = recording.into_still(path)?;
    let data = image.with_channels(1).map(|values| values.to_owned());
    let coloured =
        "is coloured, expected a label map of one channel, or a picture with a palette whose indices are the labels";
    image.data = data.map_err(|_| Error::new(ErrorKind::Format, coloured))?;
    check_values(image.data.view())?;
    Ok(LabelFile { image, palette: None, notes })
}

/// Reads a label map whose values are whole numbers from 0 to 255, `[H, W]` or `[D, H, W]`.
///
/// # Errors
/// As [`read_label_file`].
pub fn read_labels(path: &Path) -> Result<Labels> {
    Ok(read_label_file(path)?.labels())
}

/// Values as labels.
///
/// # Errors
/// [`ErrorKind::Format`] for values other than whole numbers from 0 to 255.
pub(super) fn whole_numbers(values: ArrayViewD<'_, f32>) -> Result<Labels> {
    check_values(values.view())?;
    Ok(values.mapv(|v| v as u8))
}

fn check_values(values: ArrayViewD<'_, f32>) -> Result<()> {
    match values.iter().find(|&&v| v.fract() != 0.0 || !(0.0..=255.0).contains(&v)) {
        None => Ok(()),
        Some(value) => {
            let message = format!("has the label {value}, expected whole numbers from 0 to 255");
            Err(Error::new(ErrorKind::Format, message))
        }
    }
}

/// The lossy format that a file is in, if it is.
fn unfit(path: &Path, format: Format) -> Result<Option<String>> {
    match format {
        Format::Picture(ImageFormat::Jpeg) => Ok(Some("a JPEG".into())),
        Format::Avi => Ok(Some("an AVI".into())),
        Format::Picture(ImageFormat::Tiff) => {
            Ok(indexed::lossy_tiff(&whole(path)?).map(|how| format!("a TIFF with {how} compression")))
        }
        #[cfg(feature = "dicom")]
        Format::Dicom => {
            super::dicom::not_labels(path, &super::Limits::default()).map(|unfit| unfit.map(str::to_owned))
        }
        _ => Ok(None),
    }
}

fn whole(path: &Path) -> Result<Vec<u8>> {
    super::Limits::default().read(path)
}

/// Finds palettes of one data set that contradict each other: one number that is shown in two colours may well stand for
/// two classes.
#[derive(Debug, Clone, Default)]
pub struct Palettes {
    /// The colour of each label, and the first file that has it.
    seen: BTreeMap<u8, ([u8; 3], PathBuf)>,
}

impl Palettes {
    /// Adds a file: its palette and the values that it holds. A file without a palette contradicts none.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], naming `path`, where an earlier file shows one of the values in another colour.
    pub fn add(
        &mut self,
        path: &Path,
        palette: Option<&[[u8; 3]]>,
        values: impl IntoIterator<Item = u8>,
    ) -> Result<()> {
        for value in values {
            let Some(colour) = palette.and_then(|palette| palette.get(usize::from(value))) else { continue };
            let (other, first) = self.seen.entry(value).or_insert_with(|| (*colour, path.to_path_buf()));
            if other != colour {
                let message = format!(
                    "shows the label {value} in the colour {colour:?}, but {} in {other:?}: the palettes differ, so one \
                     number may stand for two classes; expected one palette in all label maps, or none",
                    first.display()
                );
                return Err(Error::new(ErrorKind::Format, message).in_file(path));
            }
        }
        Ok(())
    }
}

/// One channel `[1, H, W]` of a picture's indices.
fn plane(indices: Vec<u8>, [h, w]: [usize; 2]) -> Result<Tensor> {
    let values = indices.into_iter().map(f32::from).collect();
    Tensor::from_shape_vec(vec![1, h, w], values)
        .map_err(|e| Error::with_source(ErrorKind::Format, "has another number of pixels than its size says", e))
}

#[cfg(test)]
mod tests;
