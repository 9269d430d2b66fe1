//! A recording that was opened, with what was decided about it.

use std::path::{Path, PathBuf};

use ldseg::image::Image;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{Limits, OutputForm, Recording, read_files_within};

use crate::decide::{Decisions, Stored, Wish, orientation};

/// A recording whose frames are ready to be segmented by a bundle of some number of channels.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    recording: Recording,
    channels: usize,
    decisions: Decisions,
}

impl Prepared {
    /// Opens the file, or the files of one image with a channel in each, and decides for a bundle of `channels` channels.
    ///
    /// # Errors
    /// Those of [`ldseg_io::read_files`]; those of [`Decisions::about`], naming the file.
    pub fn open(files: &[PathBuf], channels: usize, wish: &Wish) -> Result<Self> {
        Self::open_within(files, channels, wish, &Limits::default())
    }

    /// [`Self::open`] with other limits on what a file may ask for.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_within(files: &[PathBuf], channels: usize, wish: &Wish, limits: &Limits) -> Result<Self> {
        let recording = read_files_within(files, limits)?;
        let path = files[0].clone();
        let stored = Stored {
            axes: recording.spatial_axes(),
            // An image of several files has as many channels as the bundle, none of them a colour.
            coloured: files.len() == 1 && recording.is_coloured(),
            spacing: recording.spacing(),
            views: recording.views(),
            orientation: match recording.is_cine() {
                true => None,
                false => orientation(&*recording.frame(0)?),
            },
            notes: recording.notes().to_vec(),
        };
        let decisions =
            Decisions::about(stored, channels, wish, || recording.sector()).map_err(|e| e.in_file(&path))?;
        Ok(Self { path, recording, channels, decisions })
    }

    /// The file, of several the first.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was decided.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Whether it holds frames over time.
    pub fn is_cine(&self) -> bool {
        self.recording.is_cine()
    }

    /// Number of frames, at least 1.
    pub fn frame_count(&self) -> usize {
        self.recording.frame_count()
    }

    /// How long each frame of a cine is shown, seconds; empty for a picture or volume.
    pub fn seconds(&self) -> &[f64] {
        self.recording.seconds()
    }

    /// Number of spatial axes of a frame, 2 or 3.
    pub fn spatial_axes(&self) -> usize {
        self.recording.spatial_axes()
    }

    /// What outputs need of the file, with the pixel spacing that was decided.
    pub fn form(&self) -> OutputForm {
        self.recording.form().clone().with_frame_spacing(self.decisions.spacing.of_pixel())
    }

    /// Frame `index`, counted from 0, as decided but for the sector: all of it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where there is no such frame, [`ErrorKind::Format`] where it is transparent; both name the
    /// file.
    pub fn frame(&self, index: usize) -> Result<Image> {
        let frame = self.recording.frame(index).map_err(|e| e.in_file(&self.path))?;
        Ok(self.decisions.apply(frame.into_owned(), self.channels))
    }

    /// The one picture or volume of a recording that is no cine.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], naming the file, for a cine.
    pub fn still(&self) -> Result<Image> {
        if self.is_cine() {
            let message = format!("is a cine of {} frames, expected a single image", self.frame_count());
            return Err(Error::new(ErrorKind::Format, message).in_file(&self.path));
        }
        self.frame(0)
    }

    /// [`Decisions::notes`], each with the file's name before it.
    pub fn notes_with_path(&self) -> Vec<String> {
        self.decisions.notes().iter().map(|note| format!("{}: {note}", self.path.display())).collect()
    }
}
