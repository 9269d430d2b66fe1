//! DICOM Segmentation objects (PS3.3, A.51) of what was segmented in a DICOM image or cine, for archives and viewers.

mod elements;
mod object;
mod segments;
#[cfg(test)]
mod tests;

use std::path::Path;

use dicom_dictionary_std::{tags, uids};
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, OpenFileOptions};

use super::{chain, text, unreadable};
use crate::bundle::Class;
use crate::files::write_atomically;
use crate::image::Labels;
use crate::{Error, ErrorKind, Result, Tensor};

/// How probable a voxel of a fractional segmentation is whose stored value is the largest: 1.
const MAX_FRACTION: u16 = 255;

/// What the voxels of a segmentation object say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DicomSegKind {
    /// Whether a voxel belongs to the segment, one bit.
    Binary,
    /// How probable it is that a voxel belongs to the segment, 8 bits, 255 for 1.
    Fractional,
}

/// What segmented, for a segmentation object to tell.
#[derive(Debug, Clone)]
pub struct DicomSegAlgorithm {
    /// Its name, e.g. `ldseg echo`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its settings, in words.
    pub parameters: String,
    /// All that identifies the model, such as the hashes of its weights: object identifiers are made from it.
    pub identity: String,
}

/// A segmentation object in the making. Frames are added in the order of the source's.
#[derive(Debug)]
pub struct DicomSeg {
    kind: DicomSegKind,
    algorithm: DicomSegAlgorithm,
    segments: InMemElement,
    classes: usize,
    /// Attributes of the source, without its pixels.
    source: InMemDicomObject,
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
    pub fn new(source: &Path, kind: DicomSegKind, classes: &[Class], algorithm: DicomSegAlgorithm) -> Result<Self> {
        let segments = segments::segments(classes, &algorithm)?;
        let object = OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(source);
        let object = object.map_err(|e| unreadable(&e).in_file(source))?;
        let lossy = text(&object, tags::LOSSY_IMAGE_COMPRESSION).as_deref() == Some("01");
        let source_object = object.into_inner();
        let mut seg = Self {
            kind,
            algorithm,
            segments,
            classes: classes.len(),
            lossy,
            size: [0; 2],
            frames: 1,
            added: 0,
            pixels: Vec::new(),
            stored: 0,
            source: source_object,
        };
        seg.check_source().map_err(|e| e.in_file(source))?;
        Ok(seg)
    }

    fn check_source(&mut self) -> Result<()> {
        let whole = |tag| self.source.get(tag).and_then(|element| element.to_int::<u32>().ok());
        let lacks = |name: &str| Error::new(ErrorKind::Format, format!("lacks its {name}, expected a DICOM image"));
        let rows = whole(tags::ROWS).ok_or_else(|| lacks("Rows"))?;
        let columns = whole(tags::COLUMNS).ok_or_else(|| lacks("Columns"))?;
        self.size = [rows as usize, columns as usize];
        self.frames = whole(tags::NUMBER_OF_FRAMES).unwrap_or(1).max(1) as usize;
        for (tag, name) in [
            (tags::SOP_CLASS_UID, "SOP Class UID"),
            (tags::SOP_INSTANCE_UID, "SOP Instance UID"),
            (tags::STUDY_INSTANCE_UID, "Study Instance UID"),
            (tags::SERIES_INSTANCE_UID, "Series Instance UID"),
        ] {
            if text(&self.source, tag).is_none() {
                return Err(lacks(name));
            }
        }
        Ok(())
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
        let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let failed = |e: &dyn std::error::Error| {
            Error::new(ErrorKind::Io, format!("cannot be written as DICOM: {}", chain(e))).in_file(path)
        };
        let file = self.object().with_meta(meta).map_err(|e| failed(&e))?;
        write_atomically(path, |temporary| file.write_to_file(temporary).map_err(|e| failed(&e)))
    }
}
