//! DICOM Segmentation objects (PS3.3, A.51) of what was segmented in a DICOM image or cine, for archives and viewers.

mod object;
mod segments;
#[cfg(test)]
mod tests;

use std::path::Path;

use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;

use super::derived::{self, Derived, DicomAlgorithm, lacks};
use super::text;
use ldseg::bundle::Class;
use ldseg::image::Labels;
use ldseg::{Error, ErrorKind, Result, Tensor};

/// The stored value of a fractional segmentation that stands for a probability of 1.
const MAX_FRACTION: u16 = 255;

/// What the voxels of a segmentation object say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DicomSegKind {
    /// Whether a voxel belongs to the segment, one bit.
    Binary,
    /// How probable it is that a voxel belongs to the segment, 8 bits, 255 for 1.
    Fractional,
}

/// A segmentation object in the making. Frames are added in the order of the source's.
#[derive(Debug)]
pub struct DicomSeg {
    kind: DicomSegKind,
    derived: Derived,
    segments: InMemElement,
    classes: usize,
    lossy: bool,
    size: [usize; 2],
    frames: usize,
    added: usize,
    pixels: Vec<u8>,
    /// Voxels stored so far; bits are packed without a gap between frames.
    stored: usize,
}

impl DicomSeg {
    /// For the DICOM image or cine in `source`. `classes` holds the background first, as bundles do; every other one becomes
    /// a segment, whose number is the label.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::Format`], naming the file, where it cannot be read, is no DICOM, or lacks an
    /// identifier that a segmentation has to refer to; [`ErrorKind::Setting`] where there is no class but the background.
    pub fn new(source: &Path, kind: DicomSegKind, classes: &[Class], algorithm: DicomAlgorithm) -> Result<Self> {
        let segments = segments::segments(classes, &algorithm)?;
        let derived = Derived::open(source, format!("{kind:?}"), algorithm)?;
        let whole = |tag| derived.source.get(tag).and_then(|element| element.to_int::<u32>().ok());
        let needed = |tag, name: &str| whole(tag).ok_or_else(|| lacks(name).in_file(source));
        let size = [needed(tags::ROWS, "Rows")? as usize, needed(tags::COLUMNS, "Columns")? as usize];
        Ok(Self {
            kind,
            segments,
            classes: classes.len(),
            lossy: text(&derived.source, tags::LOSSY_IMAGE_COMPRESSION).as_deref() == Some("01"),
            size,
            frames: whole(tags::NUMBER_OF_FRAMES).unwrap_or(1).max(1) as usize,
            added: 0,
            pixels: Vec::new(),
            stored: 0,
            derived,
        })
    }

    /// What had to be assumed of the source's texts, for the user to know.
    pub fn notes(&self) -> &[String] {
        &self.derived.notes
    }

    /// Adds the next frame: its labels `[H, W]` are stored by a binary segmentation, its class probabilities `[K, H, W]`, in
    /// [0, 1], by a fractional one.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the sizes are not the source's or the number of classes is another one.
    pub fn add(&mut self, labels: &Labels, probabilities: &Tensor) -> Result<()> {
        let [rows, columns] = self.size;
        if labels.shape() != self.size || probabilities.shape() != [self.classes, rows, columns] {
            let message = format!(
                "the frame has labels {:?} and probabilities {:?}, expected [{rows}, {columns}] and {} classes",
                labels.shape(),
                probabilities.shape(),
                self.classes
            );
            return Err(Error::new(ErrorKind::ShapeMismatch, message));
        }
        self.added += 1;
        for class in 1..self.classes {
            match self.kind {
                DicomSegKind::Binary => labels.iter().for_each(|&label| self.push_bit(usize::from(label) == class)),
                DicomSegKind::Fractional => {
                    let values = probabilities.index_axis(ndarray::Axis(0), class);
                    let stored = values.iter().map(|p| (p.clamp(0.0, 1.0) * f32::from(MAX_FRACTION)).round() as u8);
                    self.pixels.extend(stored);
                }
            }
        }
        Ok(())
    }

    /// The first voxel is the lowest bit (PS3.5, 8.1.1).
    fn push_bit(&mut self, set: bool) {
        if self.stored.is_multiple_of(8) {
            self.pixels.push(0);
        }
        if let (true, Some(last)) = (set, self.pixels.last_mut()) {
            *last |= 1 << (self.stored % 8);
        }
        self.stored += 1;
    }

    /// Writes the object. The same source, frames, algorithm and settings give the same bytes. The file appears whole or
    /// not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where another number of frames was added than the source has, [`ErrorKind::Io`] where the
    /// file cannot be written.
    pub fn write(mut self, path: &Path) -> Result<()> {
        if self.added != self.frames {
            let message = format!("{} frames were segmented, the source has {}", self.added, self.frames);
            return Err(Error::new(ErrorKind::Setting, message).in_file(path));
        }
        if !self.pixels.len().is_multiple_of(2) {
            self.pixels.push(0);
        }
        derived::write(self.object(), path)
    }
}
