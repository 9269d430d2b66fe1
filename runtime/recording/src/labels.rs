//! A label map that was opened, with what is known of its spacing: label maps come the same way as recordings.

use std::path::{Path, PathBuf};

use ldseg::image::{Image, Labels};
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{LabelFile, read_label_file};
use ndarray::Axis;

use crate::decide::Spacing;

/// A label map in a file: of a picture, of a volume, or of the frames of a cine along the slowest axis.
#[derive(Debug, Clone)]
pub struct PreparedLabels {
    path: PathBuf,
    file: LabelFile,
}

impl PreparedLabels {
    /// Opens the file.
    ///
    /// # Errors
    /// Those of [`read_label_file`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), file: read_label_file(path)? })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values as stored, `[1, H, W]` or `[1, D, H, W]`, with the file's geometry.
    pub fn image(&self) -> &Image {
        &self.file.image
    }

    /// The values as stored, `[H, W]` or `[D, H, W]`.
    pub fn labels(&self) -> Labels {
        self.file.labels()
    }

    /// The colour of each value, where the file is a picture with a palette.
    pub fn palette(&self) -> Option<&[[u8; 3]]> {
        self.file.palette.as_deref()
    }

    /// What is odd about the file.
    pub fn notes(&self) -> &[String] {
        &self.file.notes
    }

    /// Whether the file tells how it lies in space.
    pub fn is_placed(&self) -> bool {
        self.file.image.geometry.affine.is_some()
    }

    /// The spacing along (y, x) of a picture or of a cine's frames, by the one rule ([`Spacing::decide`]): what the user says
    /// wins over the file.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`], naming the file, where what the user says is no spacing.
    pub fn pixel_spacing(&self, given: Option<[f64; 2]>) -> Result<Spacing> {
        let plane = self.image().spacing().and_then(|mm| mm.last_chunk::<2>());
        let user = given.as_ref().map(<[f64; 2]>::as_slice);
        Spacing::decide(plane.map(<[f64; 2]>::as_slice), user, 2).map_err(|e| e.in_file(&self.path))
    }

    /// The label map of each frame: of a picture its own, of what has three axes those along the slowest.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`], naming the file, for other numbers of axes.
    pub fn frames(&self) -> Result<Vec<Labels>> {
        let labels = self.labels();
        match labels.ndim() {
            2 => Ok(vec![labels]),
            3 => Ok(labels.axis_iter(Axis(0)).map(|frame| frame.to_owned()).collect()),
            axes => {
                let message = format!("has {axes} axes, expected a picture's label map or those of frames");
                Err(Error::new(ErrorKind::ShapeMismatch, message).in_file(&self.path))
            }
        }
    }
}
