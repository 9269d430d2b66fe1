//! What an output needs of the file whose image it belongs to.

use ::nifti::NiftiHeader;

/// How outputs that belong to a file look, and what they take over from it: a picture, the frames of a cine, or a volume in
/// the same place.
#[derive(Debug, Clone)]
pub struct OutputForm(pub(crate) Form);

#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// A picture without a position in space.
    Picture,
    /// Frames of one size, shown one after the other; an output has them along its slowest axis.
    Cine {
        /// Pixel spacing along the rows' and the columns' axis (y, x), mm; `None` where it is not known.
        spacing: Option<[f64; 2]>,
    },
    /// The NIfTI header.
    Nifti(Box<NiftiHeader>),
    /// A position in the manner of MetaImage, axes in the file's order x, y, z (a picture's third axis is made up).
    Placed {
        /// Position of the first voxel's centre, mm, towards left, back and head (LPS).
        offset: [f64; 3],
        /// Unit vectors along x, y and z of the grid, LPS.
        direction: [[f64; 3]; 3],
        /// Voxel spacing along x, y and z, mm; `None` where it is not known.
        spacing: Option<[f64; 3]>,
        /// Whether offset and direction are known.
        placed: bool,
    },
}

impl OutputForm {
    /// Outputs of a picture.
    pub fn picture() -> Self {
        Self(Form::Picture)
    }

    /// Outputs of a cine, with its pixel spacing along (y, x) in mm where that is known.
    pub fn cine(spacing: Option<[f64; 2]>) -> Self {
        Self(Form::Cine { spacing })
    }

    /// Outputs of a volume whose first voxel's centre lies at `offset` (mm, towards left, back and head: LPS), with unit
    /// vectors along x, y and z of the grid and the spacing along them in mm.
    pub fn placed(offset: [f64; 3], direction: [[f64; 3]; 3], spacing: [f64; 3]) -> Self {
        Self(Form::Placed { offset, direction, spacing: Some(spacing), placed: true })
    }

    /// The same, with the pixel spacing along (y, x) of a cine's frames.
    pub fn with_frame_spacing(self, known: Option<[f64; 2]>) -> Self {
        match self.0 {
            Form::Cine { spacing } => Self(Form::Cine { spacing: known.or(spacing) }),
            other => Self(other),
        }
    }
}

/// The affine of a grid given as MetaImage does, for [`ldseg::image::Geometry`]: LPS becomes RAS.
pub(crate) fn affine_from_lps(
    offset: &[f64; 3],
    direction: &[[f64; 3]; 3],
    spacing: &[f64; 3],
    axes: usize,
) -> [[f64; 4]; 3] {
    let row = |world: usize, sign: f64| {
        let mut row = [0.0; 4];
        for axis in 0..axes {
            row[axes - 1 - axis] = sign * direction[axis][world] * spacing[axis] + 0.0;
        }
        row[3] = sign * offset[world] + 0.0;
        row
    };
    [row(0, -1.0), row(1, -1.0), row(2, 1.0)]
}
