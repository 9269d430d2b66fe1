//! One input: its image or cine segmented, its outputs written.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ldseg::image::{
    Cine, Content, Geometry, Image, output_extension, overlay, read_study, write_cine, write_labels, write_overlay,
    write_scalar,
};
use ldseg::measure::ventricle;
use ldseg::segmenter::{SegmentOptions, Segmentation, Segmenter};
use ldseg::{Error, ErrorKind, Result};
use ndarray::{ArrayD, Axis, stack};

use super::results::{Done, FrameDone, count, heartbeat, mean, write_json};
use super::{OVERLAY, Plan, UNCERTAINTY};

const SPACING_NEEDED: &str = "the file does not tell its pixel spacing, --pixel-spacing does";

impl Plan {
    pub(super) fn segment(
        &self,
        segmenter: &mut Segmenter,
        input: &Path,
        name: &str,
        inputs: &HashSet<PathBuf>,
    ) -> Result<Done> {
        let start = Instant::now();
        let mut study = read_study(input)?;
        if study.ultrasound && self.bundle.manifest().channels == 1 {
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
        let mut done = Done {
            output: path("", extension)?,
            overlay: self.overlay.then(|| path(OVERLAY, picture)).transpose()?,
            uncertainty: self.uncertainty.then(|| path(UNCERTAINTY, extension)).transpose()?,
            seconds: 0.0,
            classes: Vec::new(),
            mean_uncertainty: 0.0,
            frames: Vec::new(),
            left_ventricle: None,
            heartbeat: None,
            notes: study.notes,
        };
        let spacing = match (&study.content, self.pixel_spacing) {
            (Content::Still(image), _) if study.spacing_known => <[f64; 2]>::try_from(image.spacing.as_slice()).ok(),
            (Content::Cine(cine), _) if study.spacing_known => Some(cine.spacing()),
            (_, given) => given.map(|spacing| [spacing; 2]),
        };
        let json = self.json.then(|| path("", "json")).transpose()?;
        match &study.content {
            Content::Still(image) => self.still(segmenter, image, spacing, &mut done),
            Content::Cine(cine) => self.cine(segmenter, cine, spacing, &mut done),
        }
        .map_err(|e| e.in_file(input))?;
        done.seconds = start.elapsed().as_secs_f64();
        if let Some(path) = &json {
            write_json(path, &done)?;
        }
        Ok(done)
    }

    fn colours(&self) -> Vec<[u8; 3]> {
        self.bundle.manifest().classes.iter().map(|class| class.colour).collect()
    }

    fn still(
        &self,
        segmenter: &mut Segmenter,
        image: &Image,
        spacing: Option<[f64; 2]>,
        done: &mut Done,
    ) -> Result<()> {
        let result = segmenter.segment(image, &self.options)?;
        write_labels(&done.output, &result.labels, &image.geometry)?;
        if let Some(path) = &done.overlay {
            write_overlay(path, image, &result.labels, &self.colours())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &result.uncertainty, &image.geometry)?;
        }
        done.classes = count(self.bundle.manifest(), &result.labels);
        done.mean_uncertainty = mean(&result.uncertainty);
        if let Some(classes) = self.measure {
            match spacing {
                Some(spacing) => done.left_ventricle = ventricle(&result.labels, classes, spacing)?,
                None => done.notes.push(format!("is not measured: {SPACING_NEEDED}")),
            }
        }
        Ok(())
    }

    /// One frame after the other; the outputs hold all of them.
    fn cine(&self, segmenter: &mut Segmenter, cine: &Cine, spacing: Option<[f64; 2]>, done: &mut Done) -> Result<()> {
        let (mut labels, mut uncertainty, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        let mut volumes = Vec::new();
        let mut time_seconds = 0.0;
        for (index, shown) in cine.seconds().iter().enumerate() {
            let frame = cine.frame(index)?;
            let options = SegmentOptions { frame: index as u64, ..self.options.clone() };
            let result: Segmentation = segmenter.segment(&frame, &options)?;
            // A ratio of volumes needs no unit.
            let measured = match self.measure {
                Some(classes) => ventricle(&result.labels, classes, spacing.unwrap_or([1.0; 2]))?,
                None => None,
            };
            volumes.extend(measured.as_ref().map(|measured| (index, measured.volume_ml)));
            done.frames.push(FrameDone {
                index,
                time_seconds,
                classes: count(self.bundle.manifest(), &result.labels),
                mean_uncertainty: mean(&result.uncertainty),
                left_ventricle: measured.filter(|_| spacing.is_some()),
            });
            if done.overlay.is_some() {
                pictures.push(overlay(&frame, &result.labels, &self.colours())?);
            }
            if done.uncertainty.is_some() {
                uncertainty.push(result.uncertainty);
            }
            labels.push(result.labels);
            time_seconds += shown;
        }
        let labels = over_time(&labels)?;
        let geometry = spacing.map_or_else(|| cine.geometry(), |spacing| Geometry::Cine { spacing });
        write_labels(&done.output, &labels, &geometry)?;
        if let Some(path) = &done.overlay {
            write_cine(path, pictures, cine.seconds())?;
        }
        if let Some(path) = &done.uncertainty {
            write_scalar(path, &over_time(&uncertainty)?, &geometry)?;
        }
        done.classes = count(self.bundle.manifest(), &labels);
        let frames = done.frames.iter().map(|frame| frame.mean_uncertainty);
        done.mean_uncertainty = frames.sum::<f64>() / done.frames.len() as f64;
        done.heartbeat = heartbeat(&volumes, spacing.is_some());
        if self.measure.is_some() && spacing.is_none() {
            done.notes
                .push(format!("has no volumes in ml, only an ejection fraction for square pixels: {SPACING_NEEDED}"));
        }
        Ok(())
    }
}
/// Frames `[H, W]` as one array `[F, H, W]`.
fn over_time<T: Clone>(frames: &[ArrayD<T>]) -> Result<ArrayD<T>> {
    let views: Vec<_> = frames.iter().map(|frame| frame.view()).collect();
    stack(Axis(0), &views)
        .map_err(|e| Error::with_source(ErrorKind::ShapeMismatch, "the frames have different sizes", e))
}
