//! Images in, label maps out, in the file's own grid and geometry.
//!
//! Read: PNG, BMP, JPEG, TIFF, NIfTI-1 (`.nii`, `.nii.gz`) and MetaImage (`.mhd`, `.mha`), cines as GIF and AVI, and with
//! feature `dicom` both as DICOM (`.dcm`). Nothing in a file is believed before it is checked: sizes against the bytes that are there, values against being finite.

mod avi;
mod channels;
mod cine;
#[cfg(feature = "dicom")]
mod dicom;
mod gif;
mod memory;
mod metaimage;
mod nifti;
mod overlay;
mod picture;
mod sector;
mod stack;
mod voxels;
mod write;

use std::path::Path;

use ::image::ImageFormat;
use ndarray::{ArrayViewD, Axis, Slice};

pub use channels::{channel_files, read_channels, split_channel};
pub use cine::{Cine, Content, Study};
#[cfg(feature = "dicom")]
pub use dicom::{DicomAlgorithm, DicomChamber, DicomMeasurement, DicomQuantity, DicomReport, DicomSeg, DicomSegKind};
pub use gif::write_cine;
pub use overlay::{overlay, png_bytes, write_overlay, write_picture};
pub use sector::Sector;
pub use stack::{PROBABILITIES, SAMPLES, read_label_stack, read_stack, write_label_stack, write_scalar_stack};
pub use write::{output_extension, write_labels, write_scalar};

use crate::{Error, ErrorKind, Result, Tensor};

/// An image as read from a file.
#[derive(Debug, Clone)]
pub struct Image {
    /// Intensities `[C, H, W]` or `[C, D, H, W]`, finite, as stored in the file after its slope and intercept. Of a file
    /// `C` is 1 or 3, of several files as many.
    pub data: Tensor,
    /// Voxel spacing in mm along each spatial axis, slowest first; 1 where the file doesn't say.
    pub spacing: Vec<f64>,
    /// What an output needs to lie in the same place.
    pub geometry: Geometry,
}

/// Where an image lies, as its format says it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Geometry {
    /// A picture without a position in space.
    Picture,
    /// Frames of one size, shown one after the other; an output has them along its slowest axis.
    Cine {
        /// Pixel spacing along the rows' and the columns' axis (y, x), mm; 1 where the file doesn't say.
        spacing: [f64; 2],
    },
    /// The NIfTI header.
    Nifti(Box<::nifti::NiftiHeader>),
    /// A MetaImage's position, axes in the file's order x, y, z (a picture's third axis is made up).
    MetaImage {
        /// Position of the first voxel's centre, mm, towards left, back and head (LPS).
        offset: [f64; 3],
        /// Unit vectors along x, y and z of the grid, LPS.
        direction: [[f64; 3]; 3],
        /// Voxel spacing along x, y and z, mm.
        spacing: [f64; 3],
    },
}

/// A label map `[H, W]` or `[D, H, W]`, class index per voxel.
pub type Labels = ndarray::ArrayD<u8>;

impl Image {
    /// Number of spatial axes, 2 or 3.
    pub fn spatial_axes(&self) -> usize {
        self.data.ndim() - 1
    }

    /// The intensities with so many channels, e.g. 1 (grey) or 3 (RGB). A colour image whose channels are all equal
    /// counts as grey.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where the image has another number of channels.
    pub fn with_channels(&self, channels: usize) -> Result<ArrayViewD<'_, f32>> {
        let found = self.data.shape()[0];
        if found == channels {
            return Ok(self.data.view());
        }
        let grey = self.data.slice_axis(Axis(0), Slice::from(0..1));
        if channels == 1 && self.data.axis_iter(Axis(0)).all(|plane| plane == grey.index_axis(Axis(0), 0)) {
            return Ok(grey);
        }
        let what = match found {
            1 => "1 grey channel".into(),
            3 => "3 colour channels".into(),
            _ => format!("{found} channels"),
        };
        Err(Error::new(ErrorKind::ShapeMismatch, format!("has {what}, the bundle expects {channels}")))
    }
}

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
    still(read_study(path)?, path)
}

/// Reads an image, or a cine where the file holds more than one frame.
///
/// # Errors
/// As [`read_image`], but for several frames of one size.
pub fn read_study(path: &Path) -> Result<Study> {
    let study = match split_name(path) {
        Some((_, Format::Gif)) => gif::read(path),
        Some((_, Format::Avi)) => avi::read(path),
        #[cfg(feature = "dicom")]
        Some((_, Format::Dicom)) => dicom::read(path),
        Some((_, Format::Picture(format))) => {
            picture::read(path, format).map(|image| Study::new(Content::Still(image), false))
        }
        Some((_, Format::Nifti { compressed })) => {
            nifti::read(path, compressed).map(|image| Study::new(Content::Still(image), true))
        }
        Some((_, Format::MetaImage)) => metaimage::read(path).map(|image| Study::new(Content::Still(image), true)),
        None => {
            let known: Vec<&str> = FORMATS.iter().map(|(extension, _)| *extension).collect();
            let message = format!("is of no known image format, expected {}", known.join(" "));
            Err(Error::new(ErrorKind::Format, message))
        }
    };
    study.map_err(|e| e.in_file(path))
}

/// Reads a still image for a model with `channels` channels: an ultrasound image in colour becomes grey where these are 1.
///
/// # Errors
/// As [`read_image`].
pub fn read_image_for(path: &Path, channels: usize) -> Result<Image> {
    let mut study = read_study(path)?;
    if study.luminance_serves() && channels == 1 {
        study = study.into_grey();
    }
    still(study, path)
}

fn still(study: Study, path: &Path) -> Result<Image> {
    match study.content {
        Content::Still(image) => Ok(image),
        Content::Cine(cine) => {
            let message = format!("is a cine of {} frames, expected a single image", cine.len());
            Err(Error::new(ErrorKind::Format, message).in_file(path))
        }
    }
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
    fn equal_colour_channels_count_as_grey() {
        let data = Tensor::from_shape_fn(IxDyn(&[3, 2, 2]), |i| (i[1] * 2 + i[2]) as f32);
        let mut image = Image { data, spacing: vec![1.0; 2], geometry: Geometry::Picture };
        assert_eq!(image.with_channels(1).unwrap().shape(), [1, 2, 2]);
        assert_eq!(image.with_channels(3).unwrap().shape(), [3, 2, 2]);
        image.data[[2, 1, 1]] += 1.0;
        let error = image.with_channels(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
        assert_eq!(error.to_string(), "has 3 colour channels, the bundle expects 1");
        image.data = Tensor::zeros(IxDyn(&[1, 2, 2]));
        assert_eq!(image.with_channels(3).unwrap_err().to_string(), "has 1 grey channel, the bundle expects 3");
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
