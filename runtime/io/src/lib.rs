//! Files to images and back: images in, label maps out, in the file's own grid and geometry.
//!
//! Read: PNG, BMP, JPEG, TIFF, NIfTI-1 (`.nii`, `.nii.gz`) and MetaImage (`.mhd`, `.mha`), cines as GIF and AVI, and with
//! feature `dicom` both as DICOM (`.dcm`). Nothing in a file is believed before it is checked: sizes against the bytes that are there, values against being finite.

mod avi;
mod channels;
mod content;
#[cfg(feature = "dicom")]
mod dicom;
mod form;
mod gif;
mod labels;
mod limits;
mod metaimage;
mod nifti;
mod overlay;
mod picture;
mod recording;
mod regions;
mod sector;
mod stack;
mod voxels;
mod write;

use std::path::Path;

pub use channels::{channel_files, read_channels, read_files, read_files_within, split_channel};
pub use content::{FolderContent, LABEL_SUFFIXES, case_name, images_in, is_image_file, output_name};
#[cfg(feature = "dicom")]
pub use dicom::{DicomAlgorithm, DicomChamber, DicomMeasurement, DicomQuantity, DicomReport, DicomSeg, DicomSegKind};
pub use form::OutputForm;
pub use gif::write_cine;
pub use labels::{LabelFile, Palettes, read_label_file, read_labels};
pub use limits::Limits;
pub use overlay::{overlay, png_bytes, write_picture};
pub use recording::Recording;
pub use regions::{RegionKind, UltrasoundRegion};
pub use stack::{PROBABILITIES, SAMPLES, read_label_stack, read_stack, write_label_stack, write_scalar_stack};
pub use write::{output_extension, write_labels, write_scalar};

use content::{Format, format, split_name};
use ldseg::image::{Geometry, Image, Labels};
use ldseg::{Error, ErrorKind, Result, catch_panic};

/// Reads a still image. The content says which format; where it is of none that is known, the name says which one is missed.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be read, [`ErrorKind::Format`] where it is of no known format, damaged,
/// truncated, empty, transparent, holds several images or a value that isn't finite, or asks for more than [`Limits`].
pub fn read_image(path: &Path) -> Result<Image> {
    read_recording(path)?.into_still(path)
}

/// Reads an image, or a cine where the file holds more than one frame.
///
/// # Errors
/// As [`read_image`], but for several frames of one size.
pub fn read_recording(path: &Path) -> Result<Recording> {
    read_recording_within(path, &Limits::default())
}

/// [`read_recording`] with other limits than the default ones.
///
/// # Errors
/// As [`read_recording`].
pub fn read_recording_within(path: &Path, limits: &Limits) -> Result<Recording> {
    let read = || {
        let (format, note) = format(path)?;
        let recording = match format {
            Format::Gif => gif::read(path, limits),
            Format::Avi => avi::read(path, limits),
            #[cfg(feature = "dicom")]
            Format::Dicom => dicom::read(path, limits),
            Format::Picture(format) => {
                picture::read(path, format, limits).map(|image| Recording::still(image, OutputForm::picture()))
            }
            Format::Nifti { compressed } => nifti::read(path, compressed, limits),
            Format::MetaImage => metaimage::read(path, limits),
        }?;
        Ok(recording.noted(note.into_iter().collect()))
    };
    guarded(read).map_err(|e: Error| e.in_file(path))
}

/// Runs a decoder: where it panics, its file cannot be read.
fn guarded<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_panic(ErrorKind::Format, "cannot be decoded, the decoder failed", decode)
}

/// Reads a file that is an output of ours, and forgets what it holds: whether it is there as a whole.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be read, [`ErrorKind::Format`] where it is damaged, cut off, or of another format
/// than its name says.
pub fn check_whole(path: &Path) -> Result<()> {
    let check = || {
        let (format, note) = format(path)?;
        if let Some(note) = note {
            return Err(Error::new(ErrorKind::Format, note));
        }
        match format {
            Format::Nifti { compressed } => nifti::read_stack(path, compressed).map(drop),
            #[cfg(feature = "dicom")]
            Format::Dicom => dicom::check_whole(path),
            // The decoder does not miss the end.
            Format::Picture(::image::ImageFormat::Png) if !picture::png_has_end(&Limits::default().read(path)?) => {
                Err(Error::new(ErrorKind::Format, "is not a readable PNG: it ends before its end chunk"))
            }
            _ => read_recording(path).map(drop),
        }
    };
    guarded(check).map_err(|e: Error| e.in_file(path))
}
