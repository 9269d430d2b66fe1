//! The files that segmenting a recording can write: one list, from which follow what names they claim, whether all of them
//! are there already, and what is written.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ldseg::image::{Image, Labels};
use ldseg::segmenter::Segmentation;
use ldseg::{Error, ErrorKind, Result, Tensor};
#[cfg(feature = "dicom")]
use ldseg_io::{DicomAlgorithm, DicomReport, DicomSeg, DicomSegKind};
use ldseg_io::{
    OutputForm, PROBABILITIES, SAMPLES, output_extension, overlay, write_cine, write_label_stack, write_labels,
    write_picture, write_scalar, write_scalar_stack,
};
use ndarray::{ArrayD, Axis, stack};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::prepared::Prepared;
use crate::results::Found;
use crate::trust::strike_out;

/// Extensions of maps: of a picture, of all else.
const MAPS: &[&str] = &["png", "nii.gz"];

/// Between an image's name and the extension, of everything but label maps and JSON. Without feature `dicom` its objects are
/// not written, but may be there.
const SUFFIXES: [&str; 6] = [OVERLAY, UNCERTAINTY, SEG, REPORT, SAMPLES, PROBABILITIES];
const OVERLAY: &str = "_overlay";
const UNCERTAINTY: &str = "_uncertainty";
const SEG: &str = ".seg";
const REPORT: &str = ".sr";

/// Whether `name`, of a file without its extension, is that of another file with the suffix of an output, or one of `more`,
/// behind it. `is_there` tells whether such a file is there.
pub fn belongs_to_another(name: &str, more: &[&str], is_there: impl Fn(&str) -> bool) -> bool {
    SUFFIXES.iter().chain(more).any(|suffix| name.strip_suffix(suffix).is_some_and(&is_there))
}

/// One kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The label map. It is always written, and the others are named after it.
    Labels,
    /// The image with its segmentation drawn over it.
    Overlay,
    /// The uncertainty, 0 to 1.
    Uncertainty,
    /// A DICOM Segmentation object.
    #[cfg(feature = "dicom")]
    Seg(DicomSegKind),
    /// A DICOM Structured Report of what was measured.
    #[cfg(feature = "dicom")]
    Report,
    /// Each sample's label map.
    Samples,
    /// The mean probabilities.
    Probabilities,
    /// All numbers.
    Json,
}

impl Output {
    /// Its key in JSON; the document does not name itself.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::Labels => Some("output"),
            Self::Overlay => Some("overlay"),
            Self::Uncertainty => Some("uncertainty"),
            #[cfg(feature = "dicom")]
            Self::Seg(_) => Some("dicom_seg"),
            #[cfg(feature = "dicom")]
            Self::Report => Some("dicom_sr"),
            Self::Samples => Some("samples"),
            Self::Probabilities => Some("probabilities"),
            Self::Json => None,
        }
    }

    /// Between the input's name and the extension.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Labels | Self::Json => "",
            Self::Overlay => OVERLAY,
            Self::Uncertainty => UNCERTAINTY,
            #[cfg(feature = "dicom")]
            Self::Seg(_) => SEG,
            #[cfg(feature = "dicom")]
            Self::Report => REPORT,
            Self::Samples => SAMPLES,
            Self::Probabilities => PROBABILITIES,
        }
    }

    /// The name of the file, for an input called `name`.
    pub fn file_name(self, name: &str, extension: &str) -> String {
        format!("{name}{}.{extension}", self.suffix())
    }

    /// Every extension that it can have, by the kind of input.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Labels | Self::Uncertainty => MAPS,
            Self::Overlay => &["png", "gif"],
            #[cfg(feature = "dicom")]
            Self::Seg(_) | Self::Report => &["dcm"],
            Self::Samples | Self::Probabilities => &["nii.gz"],
            Self::Json => &["json"],
        }
    }

    /// The extension for this input.
    fn extension(self, prepared: &Prepared) -> &'static str {
        match self {
            Self::Labels | Self::Uncertainty => {
                let axes = if prepared.is_cine() { 3 } else { prepared.spatial_axes() };
                output_extension(&prepared.form(), axes)
            }
            Self::Overlay if prepared.is_cine() => "gif",
            _ => self.extensions()[0],
        }
    }
}

/// What is to be written, and where.
#[derive(Debug, Clone)]
pub struct Outputs {
    folder: PathBuf,
    asked: Vec<Output>,
}

impl Outputs {
    /// The label map, and what else is `asked` for.
    pub fn new(folder: PathBuf, asked: impl IntoIterator<Item = Output>) -> Self {
        Self { folder, asked: std::iter::once(Output::Labels).chain(asked).collect() }
    }

    /// What the names of an input's outputs have between the input's name and the extension.
    pub fn suffixes(&self) -> Vec<&'static str> {
        self.asked.iter().map(|output| output.suffix()).filter(|suffix| !suffix.is_empty()).collect()
    }

    /// The outputs of `name` that are there already, the label map first, however the input's kind has them end; `None` where one
    /// is missing that was asked for. Whether they are whole is another question: [`ldseg_io::check_whole`].
    pub fn existing(&self, name: &str) -> Option<Vec<PathBuf>> {
        let find = |output: &Output| {
            let path = |extension: &&str| self.folder.join(output.file_name(name, extension));
            output.extensions().iter().map(path).find(|path| path.is_file())
        };
        self.asked.iter().map(find).collect()
    }

    /// Bytes of memory that the outputs of a recording take until they are written: a cine's frames are collected.
    ///
    /// # Errors
    /// Those of [`Prepared::frame`].
    pub fn bytes(&self, prepared: &Prepared, classes: usize, samples: usize) -> Result<usize> {
        let pixels = prepared.frame(0)?.data.shape()[1..].iter().product::<usize>() * prepared.frame_count();
        let a_pixel: usize = self
            .asked
            .iter()
            .map(|output| match output {
                // As they are found, and put together.
                Output::Labels => 2,
                Output::Overlay => 3,
                Output::Uncertainty => 2 * size_of::<f32>(),
                #[cfg(feature = "dicom")]
                Output::Seg(DicomSegKind::Binary) => classes.div_ceil(8),
                #[cfg(feature = "dicom")]
                Output::Seg(DicomSegKind::Fractional) => classes,
                Output::Samples => 2 * samples,
                Output::Probabilities => 2 * classes * size_of::<f32>(),
                _ => 0,
            })
            .sum();
        Ok(pixels.saturating_mul(a_pixel))
    }

    /// Where the outputs of a recording called `name` go. `inputs` are the canonical paths of all inputs.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where an output would replace an input.
    pub fn plan(&self, name: &str, prepared: &Prepared, inputs: &HashSet<PathBuf>) -> Result<Written> {
        let path = |output: Output| {
            let path = self.folder.join(output.file_name(name, output.extension(prepared)));
            match path.canonicalize() {
                Ok(existing) if inputs.contains(&existing) => {
                    let message = format!("its output {} would replace an input", path.display());
                    Err(Error::new(ErrorKind::Io, message).in_file(prepared.path()))
                }
                _ => Ok((output, path)),
            }
        };
        self.asked.iter().map(|output| path(*output)).collect::<Result<_>>().map(Written)
    }
}

/// Outputs and their paths. In JSON one key each.
#[derive(Debug, Clone)]
pub struct Written(Vec<(Output, PathBuf)>);

impl Written {
    /// The label map's path.
    pub fn labels(&self) -> &Path {
        &self.0[0].1
    }

    /// Where an output goes, if it was asked for.
    pub fn path(&self, wanted: Output) -> Option<&Path> {
        self.0.iter().find(|(output, _)| *output == wanted).map(|(_, path)| path.as_path())
    }
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (output, path) in &self.0 {
            if let Some(key) = output.key() {
                // JSON is Unicode, which a path need not be.
                map.serialize_entry(key, &path.to_string_lossy())?;
            }
        }
        map.end()
    }
}

/// Collects a recording's frames and writes its outputs.
pub struct Writer {
    planned: Written,
    form: OutputForm,
    seconds: Vec<f64>,
    cine: bool,
    colours: Vec<[u8; 3]>,
    labels: Vec<Labels>,
    uncertainty: Vec<Tensor>,
    samples: Vec<Labels>,
    probabilities: Vec<Tensor>,
    /// Of a still image the image itself, which is drawn when all is known.
    still: Option<Image>,
    pictures: Vec<image::RgbImage>,
    #[cfg(feature = "dicom")]
    seg: Option<DicomSeg>,
    #[cfg(feature = "dicom")]
    report: Option<DicomReport>,
}

impl Writer {
    /// Begins: opens the DICOM file that DICOM outputs refer to.
    ///
    /// # Errors
    /// Those of [`DicomSeg::new`] and [`DicomReport::new`].
    pub fn start(
        planned: Written,
        prepared: &Prepared,
        classes: &[ldseg::bundle::Class],
        #[cfg(feature = "dicom")] algorithm: &DicomAlgorithm,
    ) -> Result<Self> {
        #[cfg(feature = "dicom")]
        let (mut seg, mut report) = (None, None);
        #[cfg(feature = "dicom")]
        for (output, _) in &planned.0 {
            match output {
                Output::Seg(kind) => seg = Some(DicomSeg::new(prepared.path(), *kind, classes, algorithm.clone())?),
                Output::Report => report = Some(DicomReport::new(prepared.path(), algorithm.clone())?),
                _ => {}
            }
        }
        Ok(Self {
            planned,
            form: prepared.form(),
            seconds: prepared.seconds().to_vec(),
            cine: prepared.is_cine(),
            colours: classes.iter().map(|class| class.colour).collect(),
            labels: Vec::new(),
            uncertainty: Vec::new(),
            samples: Vec::new(),
            probabilities: Vec::new(),
            still: None,
            pictures: Vec::new(),
            #[cfg(feature = "dicom")]
            seg,
            #[cfg(feature = "dicom")]
            report,
        })
    }

    /// Adds the next frame.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] where it does not fit those before.
    pub fn add(&mut self, image: &Image, found: &Segmentation) -> Result<()> {
        #[cfg(feature = "dicom")]
        if let Some(seg) = &mut self.seg {
            seg.add(&found.labels, &found.probabilities)?;
        }
        self.labels.push(found.labels.clone());
        let outputs: Vec<Output> = self.planned.0.iter().map(|(output, _)| *output).collect();
        for output in outputs {
            match output {
                Output::Uncertainty => self.uncertainty.push(found.uncertainty.clone()),
                Output::Samples => self.samples.push(along(0, &found.samples)?),
                Output::Probabilities => self.probabilities.push(found.probabilities.clone()),
                Output::Overlay if self.cine => self.pictures.push(overlay(image, &found.labels, &self.colours)?),
                Output::Overlay => self.still = Some(image.clone()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes everything but the JSON, and returns what is there; a report of no measurement is none, and a note says so.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where a file cannot be written.
    pub fn finish(mut self, found: &mut Found) -> Result<Written> {
        let planned = std::mem::replace(&mut self.planned, Written(Vec::new()));
        let mut written = Vec::with_capacity(planned.0.len());
        for (output, path) in planned.0 {
            if self.write(output, &path, found)? {
                written.push((output, path));
            }
        }
        Ok(Written(written))
    }

    fn write(&mut self, output: Output, path: &Path, found: &mut Found) -> Result<bool> {
        let form = &self.form;
        match output {
            Output::Labels => write_labels(path, &self.whole(&self.labels)?, form)?,
            Output::Uncertainty => write_scalar(path, &self.whole(&self.uncertainty)?, form)?,
            Output::Overlay => {
                let mut pictures = match &self.still {
                    Some(image) => vec![overlay(image, &self.labels[0], &self.colours).map_err(|e| e.in_file(path))?],
                    None => std::mem::take(&mut self.pictures),
                };
                if found.is_of_another_kind() {
                    pictures.iter_mut().for_each(strike_out);
                }
                match (&self.still, pictures.first()) {
                    (Some(_), Some(picture)) => write_picture(path, picture)?,
                    _ => write_cine(path, pictures, &self.seconds)?,
                }
            }
            // Frames lie along the third axis of the file, samples and classes along the fourth.
            Output::Samples => write_label_stack(path, &self.stacks(&self.samples)?, form)?,
            Output::Probabilities => write_scalar_stack(path, &self.stacks(&self.probabilities)?, form)?,
            #[cfg(feature = "dicom")]
            Output::Seg(_) => {
                if let Some(seg) = self.seg.take() {
                    note_once(found, seg.notes());
                    seg.write(path)?;
                }
            }
            #[cfg(feature = "dicom")]
            Output::Report => {
                let measurements = crate::dicom::measurements(found);
                if measurements.is_empty() {
                    found.notes.push("has no measurement, so there is no DICOM report of any".into());
                    return Ok(false);
                }
                if let Some(report) = self.report.take() {
                    note_once(found, report.notes());
                    report.write(&measurements, path)?;
                }
            }
            Output::Json => {}
        }
        #[cfg(not(feature = "dicom"))]
        let _ = found;
        Ok(true)
    }

    /// A still image's one map, or a cine's `[F, ...]`.
    fn whole<T: Clone>(&self, frames: &[ArrayD<T>]) -> Result<ArrayD<T>> {
        if self.cine { along(0, frames) } else { Ok(frames[0].clone()) }
    }

    /// A still image's maps `[N, ...]`, or a cine's `[N, F, ...]`.
    fn stacks<T: Clone>(&self, frames: &[ArrayD<T>]) -> Result<ArrayD<T>> {
        if self.cine { along(1, frames) } else { Ok(frames[0].clone()) }
    }
}

/// Adds what is not noted yet: several outputs may have the same to say of their source.
#[cfg(feature = "dicom")]
fn note_once(found: &mut Found, notes: &[String]) {
    for note in notes {
        if !found.notes.contains(note) {
            found.notes.push(note.clone());
        }
    }
}

/// Arrays `[...]` as one, with their number along an axis of its own.
fn along<T: Clone>(axis: usize, frames: &[ArrayD<T>]) -> Result<ArrayD<T>> {
    let views: Vec<_> = frames.iter().map(|frame| frame.view()).collect();
    stack(Axis(axis), &views)
        .map_err(|e| Error::with_source(ErrorKind::ShapeMismatch, "the frames have different sizes", e))
}
