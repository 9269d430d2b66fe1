//! Files to images and back: images in, label maps out, in the file's own grid and geometry.
//!
//! Read: PNG, BMP, JPEG, TIFF, NIfTI-1 (`.nii`, `.nii.gz`) and MetaImage (`.mhd`, `.mha`), cines as GIF and AVI, and with
//! feature `dicom` both as DICOM (`.dcm`). Nothing in a file is believed before it is checked: sizes against the bytes that are there, values against being finite.

mod avi;
mod channels;
#[cfg(feature = "dicom")]
mod dicom;
mod form;
mod gif;
mod metaimage;
mod nifti;
mod overlay;
mod picture;
mod recording;
mod sector;
mod stack;
mod voxels;
mod write;

use std::path::Path;

use ::image::ImageFormat;
use ndarray::{ArrayViewD, Axis};

pub use channels::{channel_files, read_channels, read_files, split_channel};
#[cfg(feature = "dicom")]
pub use dicom::{DicomAlgorithm, DicomChamber, DicomMeasurement, DicomQuantity, DicomReport, DicomSeg, DicomSegKind};
pub use form::OutputForm;
pub use gif::write_cine;
pub use overlay::{overlay, png_bytes, write_picture};
pub use recording::Recording;
pub use stack::{PROBABILITIES, SAMPLES, read_label_stack, read_stack, write_label_stack, write_scalar_stack};
pub use write::{output_extension, write_labels, write_scalar};

use ldseg::image::{Geometry, Image, Labels};
use ldseg::{Error, ErrorKind, Result};

/// The file formats that can be read.
#[derive(Debug, Clone, Copy)]
enum Format {
    Picture(ImageFormat),
    Gif,
    Avi,
    #[cfg(feature = "dicom")]
    Dicom,
    Nifti {
        compressed: bool,
    },
    MetaImage,
}

const FORMATS: &[(&str, Format)] = &[
    (".png", Format::Picture(ImageFormat::Png)),
    (".bmp", Format::Picture(ImageFormat::Bmp)),
    (".jpg", Format::Picture(ImageFormat::Jpeg)),
    (".jpeg", Format::Picture(ImageFormat::Jpeg)),
    (".tif", Format::Picture(ImageFormat::Tiff)),
    (".tiff", Format::Picture(ImageFormat::Tiff)),
    (".gif", Format::Gif),
    (".avi", Format::Avi),
    #[cfg(feature = "dicom")]
    (".dcm", Format::Dicom),
    (".nii", Format::Nifti { compressed: false }),
    (".nii.gz", Format::Nifti { compressed: true }),
    (".mhd", Format::MetaImage),
    (".mha", Format::MetaImage),
];

/// Stem and format of a file by its name; `None` for names that are hidden or end otherwise.
fn split_name(path: &Path) -> Option<(String, Format)> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let lower = name.to_ascii_lowercase();
    let &(extension, format) = FORMATS.iter().find(|(extension, _)| lower.ends_with(extension))?;
    let stem = &name[..name.len() - extension.len()];
    (!stem.is_empty() && !stem.starts_with('.')).then(|| (stem.to_owned(), format))
}

/// Whether the file's name says that it is an image [`read_image`] knows. Hidden files are not.
pub fn is_image_file(path: &Path) -> bool {
    split_name(path).is_some()
}

/// The file's name without folder and extension, both parts of `.nii.gz` included: what outputs are named after.
pub fn case_name(path: &Path) -> Option<String> {
    split_name(path).map(|(stem, _)| stem)
}

/// Reads a still image; the extension, in either case, says which format.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be read, [`ErrorKind::Format`] where it is of no known format, damaged,
/// truncated, empty, transparent, holds several images or a value that isn't finite.
pub fn read_image(path: &Path) -> Result<Image> {
    read_recording(path)?.into_still(path)
}

/// Reads an image, or a cine where the file holds more than one frame.
///
/// # Errors
/// As [`read_image`], but for several frames of one size.
pub fn read_recording(path: &Path) -> Result<Recording> {
    let recording = match split_name(path) {
        Some((_, Format::Gif)) => gif::read(path),
        Some((_, Format::Avi)) => avi::read(path),
        #[cfg(feature = "dicom")]
        Some((_, Format::Dicom)) => dicom::read(path),
        Some((_, Format::Picture(format))) => {
            picture::read(path, format).map(|image| Recording::still(image, OutputForm::picture()))
        }
        Some((_, Format::Nifti { compressed })) => nifti::read(path, compressed),
        Some((_, Format::MetaImage)) => metaimage::read(path),
        None => {
            let known: Vec<&str> = FORMATS.iter().map(|(extension, _)| *extension).collect();
            let message = format!("is of no known image format, expected {}", known.join(" "));
            Err(Error::new(ErrorKind::Format, message))
        }
    };
    recording.map_err(|e| e.in_file(path))
}

/// Reads a label map whose stored values are whole numbers from 0 to 255.
///
/// # Errors
/// As [`read_image`], and [`ErrorKind::Format`] for coloured pictures and other values.
pub fn read_labels(path: &Path) -> Result<Labels> {
    to_labels(&read_image(path)?).map_err(|e| e.in_file(path))
}

/// An image's values as labels.
///
/// # Errors
/// [`ErrorKind::Format`] for coloured pictures and for values other than whole numbers from 0 to 255.
pub fn to_labels(image: &Image) -> Result<Labels> {
    let fail = |message: String| Error::new(ErrorKind::Format, message);
    let values = image.with_channels(1).map_err(|_| fail("is coloured, expected a label map of one channel".into()))?;
    whole_numbers(values.index_axis_move(Axis(0), 0))
}

fn whole_numbers(values: ArrayViewD<'_, f32>) -> Result<Labels> {
    if let Some(value) = values.iter().find(|&&v| v.fract() != 0.0 || !(0.0..=255.0).contains(&v)) {
        let message = format!("has the label {value}, expected whole numbers from 0 to 255");
        return Err(Error::new(ErrorKind::Format, message));
    }
    Ok(values.mapv(|v| v as u8))
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    #[test]
    fn names_give_format_and_case() {
        let case = |name: &str| case_name(Path::new(name));
        assert_eq!(case("a/case.1.NII.gz").as_deref(), Some("case.1"));
        assert_eq!(case("scan.JPEG").as_deref(), Some("scan"));
        for name in ["a.raw", ".png", "._a.png", "png", "a.gz", "a/"] {
            assert_eq!(case(name), None, "{name}");
        }
        let message = read_image(Path::new("notes.txt")).unwrap_err().to_string();
        assert!(message.starts_with("notes.txt: is of no known image format"), "{message}");
    }

    #[test]
    fn labels_are_whole_grey_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        ::image::RgbImage::from_pixel(2, 2, ::image::Rgb([7; 3])).save(&path).unwrap();
        assert_eq!(read_labels(&path).unwrap(), Labels::from_elem(IxDyn(&[2, 2]), 7));
        ::image::RgbImage::from_pixel(2, 2, ::image::Rgb([7, 8, 7])).save(&path).unwrap();
        assert!(read_labels(&path).unwrap_err().to_string().contains("a.png: is coloured"));
        let deep = ::image::ImageBuffer::<::image::Luma<u16>, _>::from_pixel(2, 2, ::image::Luma([256]));
        deep.save(&path).unwrap();
        assert!(read_labels(&path).unwrap_err().to_string().contains("label 256"));
    }
}
