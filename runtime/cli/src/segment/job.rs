//! One input: its image or cine segmented, its outputs written.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use ldseg::frames::Frame;
use ldseg::image::{Image, Labels};
use ldseg::segmenter::Segmentation;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{
    Cine, Content, OutputForm, PROBABILITIES, Recording, SAMPLES, Sector, output_extension, overlay, read_files,
    write_cine, write_label_stack, write_labels, write_overlay, write_scalar, write_scalar_stack,
};
use ldseg_recording::heart::{Atrium, Ventricle, atrium, ventricle};
use ldseg_recording::heart::{FrameVentricle, heartbeat};
use ndarray::{ArrayD, Axis, stack};

use super::super::inputs::Job;
use super::dicom::{DICOM_SEG, DICOM_SR, DicomOutput};
use super::results::{ClassResult, Done, FrameDone, mean, write_json};
use super::{OVERLAY, Plan, UNCERTAINTY, Worker};

/// Extension of files that hold several maps.
const STACK: &str = "nii.gz";
const SPACING_NEEDED: &str = "the file does not tell its pixel spacing, --pixel-spacing does";

impl Worker {
    /// A frame as a whole, or its sector.
    fn segment(&mut self, image: &Image, index: u64) -> Result<Frame> {
        let (Some(sector), &[_, height, width]) = (self.sector, image.data.shape()) else {
            return self.frames.segment(&mut self.segmenter, image, index);
        };
        let frame = self.frames.segment(&mut self.segmenter, &sector.crop(image)?, index)?;
        Ok(Frame { segmentation: sector.whole(frame.segmentation, [height, width])?, ..frame })
    }
}

impl Plan {
    /// The label map that is there already, with all else that was asked for, however the input's kind has it end.
    pub(super) fn existing(&self, name: &str) -> Option<PathBuf> {
        let find = |suffix: &str, extensions: &[&str]| {
            let paths = extensions.iter().map(|extension| self.output.join(format!("{name}{suffix}.{extension}")));
            paths.into_iter().find(|path| path.is_file())
        };
        let maps = ["png", "nii.gz"];
        let others = [
            (self.overlay, OVERLAY, &["png", "gif"][..]),
            (self.uncertainty, UNCERTAINTY, &maps),
            (self.dicom.seg(), DICOM_SEG, &["dcm"]),
            (self.dicom.report(), DICOM_SR, &["dcm"]),
            (self.keep_samples, SAMPLES, &["nii.gz"]),
            (self.keep_samples, PROBABILITIES, &["nii.gz"]),
            (self.json, "", &["json"]),
        ];
        let all = others.iter().all(|(asked, suffix, extensions)| !asked || find(suffix, extensions).is_some());
        find("", &maps).filter(|_| all)
    }

    pub(super) fn segment(
        &self,
        worker: &mut Worker,
        job: &Job,
        name: &str,
        inputs: &HashSet<PathBuf>,
    ) -> Result<Done> {
        let start = Instant::now();
        let input = job.input.as_path();
        let mut recording = read_files(&job.files)?;
        if self.bundle.manifest().channels == 1 && recording.luminance_serves() {
            recording = recording.into_grey();
        }
        let (extension, picture) = match &recording.content {
            Content::Still(image) => (output_extension(&recording.form, image.spatial_axes()), "png"),
            Content::Cine(_) => (output_extension(&recording.form, 3), "gif"),
        };
        let path = |suffix: &str, extension: &str| {
            let path = self.output.join(format!("{name}{suffix}.{extension}"));
            match path.canonicalize() {
                Ok(existing) if inputs.contains(&existing) => {
                    let message = format!("its output {} would replace an input", path.display());
                    Err(Error::new(ErrorKind::Io, message).in_file(input))
                }
                _ => Ok(path),
            }
        };
        worker.frames.restart();
        worker.sector = self.find_sector(&mut recording).map_err(|e| e.in_file(input))?;
        let mut done = Done {
            output: path("", extension)?,
            overlay: self.overlay.then(|| path(OVERLAY, picture)).transpose()?,
            uncertainty: self.uncertainty.then(|| path(UNCERTAINTY, extension)).transpose()?,
            dicom_seg: self.dicom.seg().then(|| path(DICOM_SEG, "dcm")).transpose()?,
            dicom_sr: self.dicom.report().then(|| path(DICOM_SR, "dcm")).transpose()?,
            samples: self.keep_samples.then(|| path(SAMPLES, STACK)).transpose()?,
            probabilities: self.keep_samples.then(|| path(PROBABILITIES, STACK)).transpose()?,
            seconds: 0.0,
            classes: Vec::new(),
            mean_uncertainty: 0.0,
            unsure: false,
            steps: None,
            in_time: None,
            frames: Vec::new(),
            left_ventricle: None,
            left_atrium: None,
            heartbeat: None,
            notes: std::mem::take(&mut recording.notes),
        };
        let known = recording.spacing().and_then(|spacing| <[f64; 2]>::try_from(spacing).ok());
        let spacing = known.or(self.pixel_spacing.map(|spacing| [spacing; 2]));
        let json = self.json.then(|| path("", "json")).transpose()?;
        let mut dicom = self.dicom.start(self, input)?;
        match &recording.content {
            Content::Still(image) => self.still(worker, image, &recording.form, spacing, &mut dicom, &mut done),
            Content::Cine(cine) => self.cine(worker, cine, &recording.form, spacing, &mut dicom, &mut done),
        }
        .map_err(|e| e.in_file(input))?;
        dicom.write(&mut done)?;
        done.seconds = start.elapsed().as_secs_f64();
        if let Some(path) = &json {
            write_json(path, &done)?;
        }
        Ok(done)
    }

    /// Where the sector lies if it is to be cut out.
    fn find_sector(&self, recording: &mut Recording) -> Result<Option<Sector>> {
        if !self.crop_sector {
            return Ok(None);
        }
        let sector = recording.sector()?;
        recording.notes.push(match sector {
            Some(Sector { top, left, height, width }) => {
                format!("its sector is segmented: {width} x {height} pixels from ({left}, {top})")
            }
            None => "shows no ultrasound sector, and all of it is segmented".into(),
        });
        Ok(sector)
    }

    fn colours(&self) -> Vec<[u8; 3]> {
        self.bundle.manifest().classes.iter().map(|class| class.colour).collect()
    }

    fn still(
        &self,
        worker: &mut Worker,
        image: &Image,
        form: &OutputForm,
        spacing: Option<[f64; 2]>,
        dicom: &mut DicomOutput,
        done: &mut Done,
    ) -> Result<()> {
        let Frame { segmentation, in_time, .. } = worker.segment(image, 0)?;
        dicom.add(&segmentation)?;
        write_labels(&done.output, &segmentation.labels, form)?;
        if let Some(path) = &done.overlay {
            write_overlay(path, image, &segmentation.labels, &self.colours())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &segmentation.uncertainty, form)?;
        }
        if let Some(path) = &done.samples {
            write_label_stack(path, &stacked(&segmentation.samples)?, form)?;
        }
        if let Some(path) = &done.probabilities {
            write_scalar_stack(path, &segmentation.probabilities, form)?;
        }
        done.classes = ClassResult::all(self.bundle.manifest(), &segmentation)?;
        done.unsure = ClassResult::any_unsure(&done.classes);
        done.mean_uncertainty = mean(&segmentation.uncertainty);
        done.steps = Some(segmentation.steps);
        done.in_time = in_time;
        if let Some(classes) = self.measure {
            match spacing {
                Some(spacing) => {
                    done.left_ventricle = ventricle(&segmentation.labels, classes, spacing)?;
                    done.left_atrium = self.atrium(&segmentation.labels, Some(spacing))?;
                }
                None => done.notes.push(format!("is not measured: {SPACING_NEEDED}")),
            }
        }
        Ok(())
    }

    /// One frame after the other; the outputs hold all of them.
    fn cine(
        &self,
        worker: &mut Worker,
        cine: &Cine,
        form: &OutputForm,
        spacing: Option<[f64; 2]>,
        dicom: &mut DicomOutput,
        done: &mut Done,
    ) -> Result<()> {
        let (mut labels, mut uncertainty, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        let (mut samples, mut probabilities) = (Vec::new(), Vec::new());
        let mut ventricles = Vec::new();
        let mut time_seconds = 0.0;
        for (index, shown) in cine.seconds().iter().enumerate() {
            let image = cine.frame(index)?;
            let frame = worker.segment(&image, index as u64)?;
            dicom.add(&frame.segmentation)?;
            // A ratio of volumes needs no unit.
            let measured = self.frame_ventricle(&frame.segmentation, spacing.unwrap_or([1.0; 2]))?;
            let ventricle = measured.ventricle.clone().filter(|_| spacing.is_some());
            done.frames.push(self.frame_done(index, time_seconds, &frame, ventricle, spacing)?);
            ventricles.push(measured);
            let Segmentation { labels: of_frame, uncertainty: map, .. } = frame.segmentation;
            if self.keep_samples {
                samples.push(stacked(&frame.segmentation.samples)?);
                probabilities.push(frame.segmentation.probabilities);
            }
            if done.overlay.is_some() {
                pictures.push(overlay(&image, &of_frame, &self.colours())?);
            }
            if done.uncertainty.is_some() {
                uncertainty.push(map);
            }
            labels.push(of_frame);
            time_seconds += shown;
        }
        let form = form.clone().with_frame_spacing(spacing);
        write_labels(&done.output, &stacked(&labels)?, &form)?;
        if let Some(path) = &done.overlay {
            write_cine(path, pictures, cine.seconds())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &stacked(&uncertainty)?, &form)?;
        }
        // Frames lie along the third axis of the file, samples and classes along the fourth.
        if let Some(path) = &done.samples {
            write_label_stack(path, &along(1, &samples)?, &form)?;
        }
        if let Some(path) = &done.probabilities {
            write_scalar_stack(path, &along(1, &probabilities)?, &form)?;
        }
        done.classes = ClassResult::over_frames(&done.frames);
        done.unsure = ClassResult::any_unsure(&done.classes);
        let frames = done.frames.iter().map(|frame| frame.mean_uncertainty);
        done.mean_uncertainty = frames.sum::<f64>() / done.frames.len() as f64;
        done.heartbeat = heartbeat(&ventricles, spacing.is_some());
        if self.measure.is_some() && spacing.is_none() {
            done.notes
                .push(format!("has no volumes in ml, only an ejection fraction for square pixels: {SPACING_NEEDED}"));
        }
        Ok(())
    }

    /// Nothing where measuring was not asked for, or there is no spacing to measure with.
    fn atrium(&self, labels: &Labels, spacing: Option<[f64; 2]>) -> Result<Option<Atrium>> {
        match self.atrium.zip(spacing) {
            Some((classes, spacing)) => atrium(labels, classes, spacing),
            None => Ok(None),
        }
    }

    /// Nothing where measuring was not asked for.
    fn frame_ventricle(&self, segmentation: &Segmentation, spacing: [f64; 2]) -> Result<FrameVentricle> {
        let Some(classes) = self.measure else {
            return Ok(FrameVentricle::default());
        };
        let measure = |labels: &Labels| ventricle(labels, classes, spacing);
        let samples = segmentation.samples.iter().map(measure).collect::<Result<_>>()?;
        Ok(FrameVentricle { ventricle: measure(&segmentation.labels)?, samples })
    }

    fn frame_done(
        &self,
        index: usize,
        time_seconds: f64,
        frame: &Frame,
        left_ventricle: Option<Ventricle>,
        spacing: Option<[f64; 2]>,
    ) -> Result<FrameDone> {
        let classes = ClassResult::all(self.bundle.manifest(), &frame.segmentation)?;
        Ok(FrameDone {
            index,
            time_seconds,
            unsure: ClassResult::any_unsure(&classes),
            classes,
            mean_uncertainty: mean(&frame.segmentation.uncertainty),
            steps: frame.segmentation.steps,
            milliseconds: frame.time.as_secs_f64() * 1e3,
            in_time: frame.in_time,
            left_ventricle,
            left_atrium: self.atrium(&frame.segmentation.labels, spacing)?,
        })
    }
}

/// Frames, or samples, `[...]` as one array `[F, ...]`.
fn stacked<T: Clone>(frames: &[ArrayD<T>]) -> Result<ArrayD<T>> {
    along(0, frames)
}

/// The same with their number along another axis.
fn along<T: Clone>(axis: usize, frames: &[ArrayD<T>]) -> Result<ArrayD<T>> {
    let views: Vec<_> = frames.iter().map(|frame| frame.view()).collect();
    stack(Axis(axis), &views)
        .map_err(|e| Error::with_source(ErrorKind::ShapeMismatch, "the frames have different sizes", e))
}
