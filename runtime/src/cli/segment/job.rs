//! One input: its image or cine segmented, its outputs written.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use ldseg::frames::Frame;
use ldseg::heartbeat::{FrameVentricle, heartbeat};
use ldseg::image::{
    Cine, Content, Geometry, Image, Labels, PROBABILITIES, SAMPLES, Sector, Study, output_extension, overlay,
    read_channels, read_study, write_cine, write_label_stack, write_labels, write_overlay, write_scalar,
    write_scalar_stack,
};
use ldseg::measure::{Atrium, Ventricle, atrium, ventricle};
use ldseg::segmenter::Segmentation;
use ldseg::{Error, ErrorKind, Result};
use ndarray::{ArrayD, Axis, stack};

use super::super::inputs::Job;
use super::dicom::{DICOM_SEG, DICOM_SR, DicomOutput};
use super::results::{ClassResult, Done, FrameDone, mean, write_json};
use super::{OVERLAY, Plan, UNCERTAINTY, Worker};

/// Extension of files that hold several maps.
const STACK: &str = "nii.gz";
const SPACING_NEEDED: &str = "the file does not tell its pixel spacing, --pixel-spacing does";

/// An image of several files has a channel in each.
fn read(files: &[PathBuf]) -> Result<Study> {
    if let [file] = files {
        return read_study(file);
    }
    let image = read_channels(files)?;
    let spacing_known = !matches!(image.geometry, Geometry::Picture);
    Ok(Study::new(Content::Still(image), spacing_known))
}

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
        let mut study = read(&job.files)?;
        if self.bundle.manifest().channels == 1 && study.luminance_serves() {
            study = study.into_grey();
        }
        let (extension, picture) = match &study.content {
            Content::Still(image) => (output_extension(&image.geometry, image.spatial_axes()), "png"),
            Content::Cine(cine) => (output_extension(&cine.geometry(), 3), "gif"),
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
        worker.sector = self.find_sector(&mut study).map_err(|e| e.in_file(input))?;
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
            notes: study.notes,
        };
        let spacing = match (&study.content, self.pixel_spacing) {
            (Content::Still(image), _) if study.spacing_known => <[f64; 2]>::try_from(image.spacing.as_slice()).ok(),
            (Content::Cine(cine), _) if study.spacing_known => Some(cine.spacing()),
            (_, given) => given.map(|spacing| [spacing; 2]),
        };
        let json = self.json.then(|| path("", "json")).transpose()?;
        let mut dicom = self.dicom.start(self, input)?;
        match &study.content {
            Content::Still(image) => self.still(worker, image, spacing, &mut dicom, &mut done),
            Content::Cine(cine) => self.cine(worker, cine, spacing, &mut dicom, &mut done),
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
    fn find_sector(&self, study: &mut Study) -> Result<Option<Sector>> {
        if !self.crop_sector {
            return Ok(None);
        }
        let sector = study.sector()?;
        study.notes.push(match sector {
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
        spacing: Option<[f64; 2]>,
        dicom: &mut DicomOutput,
        done: &mut Done,
    ) -> Result<()> {
        let Frame { segmentation, in_time, .. } = worker.segment(image, 0)?;
        dicom.add(&segmentation)?;
        write_labels(&done.output, &segmentation.labels, &image.geometry)?;
        if let Some(path) = &done.overlay {
            write_overlay(path, image, &segmentation.labels, &self.colours())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &segmentation.uncertainty, &image.geometry)?;
        }
        if let Some(path) = &done.samples {
            write_label_stack(path, &stacked(&segmentation.samples)?, &image.geometry)?;
        }
        if let Some(path) = &done.probabilities {
            write_scalar_stack(path, &segmentation.probabilities, &image.geometry)?;
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
        let geometry = spacing.map_or_else(|| cine.geometry(), |spacing| Geometry::Cine { spacing });
        write_labels(&done.output, &stacked(&labels)?, &geometry)?;
        if let Some(path) = &done.overlay {
            write_cine(path, pictures, cine.seconds())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &stacked(&uncertainty)?, &geometry)?;
        }
        // Frames lie along the third axis of the file, samples and classes along the fourth.
        if let Some(path) = &done.samples {
            write_label_stack(path, &along(1, &samples)?, &geometry)?;
        }
        if let Some(path) = &done.probabilities {
            write_scalar_stack(path, &along(1, &probabilities)?, &geometry)?;
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
