//! Segmenters and segmentations behind the handles of the C interface.
#![deny(unsafe_code)]

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ldseg::calibration::Quantity;
use ldseg::diffusion::Sampler;
use ldseg::engine::EngineOptions;
use ldseg::image::Labels;
use ldseg::segmenter::{SegmentOptions, Segmenter, Timings};
use ldseg::{Error, ErrorKind, Tensor};
use ldseg_recording::heart::Chamber;
use ldseg_recording::{Answer, ImageKind, segment_image};

use crate::frame::LdsegFrame;
use crate::status::{Failure, LdsegStatus};

/// How to run a bundle's networks. All zeros are the defaults.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LdsegOpenOptions {
    /// "tract" or "ort"; NULL: the first one that the library was built with.
    pub engine: *const c_char,
    /// "cpu", "cuda", "tensorrt", "openvino" or "xnnpack"; NULL: "cpu". All others need engine "ort".
    pub device: *const c_char,
    /// CPU threads; 0: one for each core.
    pub threads: usize,
    /// Path of libonnxruntime for engine "ort", UTF-8. NULL: what ORT_DYLIB_PATH names, else the one beside the
    /// executable.
    pub ort_library: *const c_char,
}

/// What to do with one frame. All zeros are the defaults.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LdsegSegmentOptions {
    /// "direct", "ddim", "ddpm" or "dpm++"; NULL: the bundle's.
    pub sampler: *const c_char,
    /// Denoiser calls; 0: the bundle's number, or what fits another sampler.
    pub steps: usize,
    /// Samples whose probabilities are averaged; 0: 1.
    pub samples: usize,
    /// Seed of all noise.
    pub seed: u64,
    /// Index of the frame in a cine, 0 for a still: every frame has noise of its own.
    pub frame: u64,
}

/// A class of the bundle.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LdsegClass {
    /// Its name, UTF-8; valid until the segmenter is closed.
    pub name: *const c_char,
    /// Red, green and blue, to draw it in.
    pub colour: [u8; 3],
}

/// Wall-clock time of each stage in seconds.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LdsegTimings {
    /// Normalising and resampling the frame.
    pub preprocess: f64,
    /// The image encoder.
    pub image_encoder: f64,
    /// The sampler loop, all denoiser calls.
    pub denoiser: f64,
    /// The label decoder, all samples.
    pub label_decoder: f64,
    /// Resampling the probabilities, labels and uncertainty.
    pub postprocess: f64,
}

/// A chamber of the heart in one frame, by the method of discs in this plane alone.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct LdsegChamber {
    /// Area of the cavity.
    pub area_cm2: f64,
    /// From the middle of the mitral plane to the apex, or to the atrium's opposite wall.
    pub long_axis_mm: f64,
    /// Volume of the cavity.
    pub volume_ml: f64,
    /// Lower and upper end of the interval about `area_cm2`; meaningful where the view's `interval_level` is above 0.
    pub area_cm2_interval: [f64; 2],
    /// The same about `long_axis_mm`.
    pub long_axis_mm_interval: [f64; 2],
    /// The same about `volume_ml`.
    pub volume_ml_interval: [f64; 2],
}

/// What a segmentation holds, in the frame's own grid, row after row without gaps.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LdsegView {
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Number of classes.
    pub classes: usize,
    /// `height` x `width`: the index of the most probable class.
    pub labels: *const u8,
    /// `classes` x `height` x `width`, 0 to 1: the class probabilities, averaged over the samples.
    pub probabilities: *const f32,
    /// `height` x `width`, 0 to 1: the entropy of the averaged probabilities over its maximum.
    pub uncertainty: *const f32,
    /// Denoiser calls of a sample.
    pub steps: usize,
    /// Where the time went.
    pub timings: LdsegTimings,
    /// How far the frame lies from what the bundle was trained on: about 1 is usual. 0 where the bundle does not tell.
    pub kind_score: f64,
    /// Whether `kind_score` is beyond the bundle's threshold: nothing is measured then, and a note says so.
    pub of_another_kind: bool,
    /// Probability with which each interval about a measurement holds the true value, at least; 0 where the bundle gives
    /// no intervals for these settings. An interval of zeros is none.
    pub interval_level: f64,
    /// Whether `ventricle` holds measurements. It does not where the bundle declares no measures of the left heart, the
    /// frame's spacing is not known, the frame is of another kind than the bundle was trained on, or the label map shows no
    /// ventricle with a mitral plane.
    pub measured: bool,
    /// The left ventricle; all zeros where it was not measured.
    pub ventricle: LdsegChamber,
    /// The same for `atrium`, which has to border on the ventricle.
    pub atrium_measured: bool,
    /// The left atrium; all zeros where it was not measured.
    pub atrium: LdsegChamber,
    /// Number of notes.
    pub note_count: usize,
    /// `note_count` strings, UTF-8: what was not taken as it is, such as the luminance of a colour frame by a bundle of
    /// grey images.
    pub notes: *const *const c_char,
}

/// A loaded bundle, ready to segment.
pub struct LdsegSegmenter {
    segmenter: Mutex<Segmenter>,
    classes: Vec<(CString, [u8; 3])>,
}

/// One frame's segmentation.
pub struct LdsegSegmentation {
    size: [usize; 2],
    classes: usize,
    labels: Labels,
    probabilities: Tensor,
    uncertainty: Tensor,
    steps: usize,
    timings: Timings,
    image_kind: Option<ImageKind>,
    interval_level: Option<f64>,
    ventricle: Option<LdsegChamber>,
    atrium: Option<LdsegChamber>,
    notes: Vec<CString>,
    /// Where the notes lie.
    note_pointers: Vec<*const c_char>,
}

impl LdsegSegmenter {
    /// Loads the bundle; 0 `threads` are as many as there are cores.
    pub(crate) fn open(
        bundle: &str,
        engine: Option<&str>,
        device: Option<&str>,
        threads: usize,
        ort_library: Option<&str>,
    ) -> Result<Self, Failure> {
        let options = EngineOptions::named(engine, device, (threads > 0).then_some(threads))?;
        let options = EngineOptions { ort_library: ort_library.map(PathBuf::from), ..options };
        let segmenter = Segmenter::load(Path::new(bundle), &options)?;
        let class = |class: &ldseg::bundle::Class| Ok((CString::new(class.name.as_str())?, class.colour));
        let classes = segmenter.manifest().classes.iter().map(class).collect::<Result<_, std::ffi::NulError>>();
        let classes = classes.map_err(|e| Error::with_source(ErrorKind::Bundle, "a class's name holds a zero", e))?;
        Ok(Self { segmenter: Mutex::new(segmenter), classes })
    }

    pub(crate) fn class_count(&self) -> usize {
        self.classes.len()
    }

    pub(crate) fn class(&self, index: usize) -> Result<LdsegClass, Failure> {
        let (name, colour) = self.classes.get(index).ok_or_else(|| {
            Failure::argument(format!("class {index} was asked for, of {} classes", self.classes.len()))
        })?;
        Ok(LdsegClass { name: name.as_ptr(), colour: *colour })
    }

    /// Segments `pixels`, the rows of `frame`. A segmenter takes one frame at a time: others wait.
    pub(crate) fn segment(
        &self,
        frame: &LdsegFrame,
        pixels: &[u8],
        sampler: Option<&str>,
        options: Option<&LdsegSegmentOptions>,
    ) -> Result<LdsegSegmentation, Failure> {
        let image = frame.image(pixels)?;
        let sampler = sampler.map(str::parse::<Sampler>).transpose()?;
        let mut segmenter = self.segmenter.lock().map_err(|_| Failure {
            status: LdsegStatus::Panic,
            message: "an earlier call panicked: the bundle has to be opened anew".into(),
        })?;
        let steps = options.map(|options| options.steps).filter(|steps| *steps > 0);
        let mut chosen = SegmentOptions::completed(segmenter.manifest(), sampler, steps)?;
        if let Some(options) = options {
            chosen =
                SegmentOptions { samples: options.samples.max(1), seed: options.seed, frame: options.frame, ..chosen };
        }
        let (result, answer) = segment_image(&mut segmenter, image, &chosen)?;
        let Answer { measured, image_kind, interval_level, notes, .. } = answer;
        let interval = |quantity| measured.intervals.get(&quantity).copied().unwrap_or_default();
        let chamber = |found: Option<&Chamber>, [area, long_axis, volume]: [Quantity; 3]| {
            found.map(|found| LdsegChamber {
                area_cm2: found.area_cm2,
                long_axis_mm: found.long_axis_mm,
                volume_ml: found.volume_ml,
                area_cm2_interval: interval(area),
                long_axis_mm_interval: interval(long_axis),
                volume_ml_interval: interval(volume),
            })
        };
        let of_ventricle =
            [Quantity::LeftVentricleArea, Quantity::LeftVentricleLongAxis, Quantity::LeftVentricleVolume];
        let of_atrium = [Quantity::LeftAtriumArea, Quantity::LeftAtriumLongAxis, Quantity::LeftAtriumVolume];
        let note = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
        let notes: Vec<CString> = notes.into_iter().map(note).collect();
        Ok(LdsegSegmentation {
            size: [frame.height, frame.width],
            classes: self.classes.len(),
            labels: result.labels.as_standard_layout().into_owned(),
            probabilities: result.probabilities.as_standard_layout().into_owned(),
            uncertainty: result.uncertainty.as_standard_layout().into_owned(),
            steps: result.steps,
            timings: result.timings,
            image_kind,
            interval_level,
            ventricle: chamber(measured.left_ventricle.as_ref(), of_ventricle),
            atrium: chamber(measured.left_atrium.as_ref(), of_atrium),
            note_pointers: notes.iter().map(|note| note.as_ptr()).collect(),
            notes,
        })
    }
}

impl LdsegSegmentation {
    pub(crate) fn view(&self) -> LdsegView {
        let [height, width] = self.size;
        LdsegView {
            height,
            width,
            classes: self.classes,
            labels: self.labels.as_ptr(),
            probabilities: self.probabilities.as_ptr(),
            uncertainty: self.uncertainty.as_ptr(),
            steps: self.steps,
            timings: LdsegTimings {
                preprocess: seconds(self.timings.preprocess),
                image_encoder: seconds(self.timings.image_encoder),
                denoiser: seconds(self.timings.denoiser),
                label_decoder: seconds(self.timings.label_decoder),
                postprocess: seconds(self.timings.postprocess),
            },
            kind_score: self.image_kind.map_or(0.0, |kind| kind.score),
            of_another_kind: self.image_kind.is_some_and(|kind| !kind.right),
            interval_level: self.interval_level.unwrap_or_default(),
            measured: self.ventricle.is_some(),
            ventricle: self.ventricle.unwrap_or_default(),
            atrium_measured: self.atrium.is_some(),
            atrium: self.atrium.unwrap_or_default(),
            note_count: self.notes.len(),
            notes: self.note_pointers.as_ptr(),
        }
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
