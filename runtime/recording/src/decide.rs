//! What is decided about a recording before it is segmented: channels, sector, spacing, orientation. One place for every
//! entry point, so that the same pixels are segmented, and the same is said of them, wherever they came in.

use std::fmt;

use ldseg::image::{Image, Region};
use ldseg::{Error, ErrorKind, Result};
use serde::Serialize;

/// Relative difference of two spacings that rounding explains.
const SPACING_TOLERANCE: f64 = 1e-3;

/// What the user says of a recording, beside what the file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// Spacing in mm: one number for all spatial axes, or one for each, slowest first.
    pub spacing: Option<Vec<f64>>,
    /// Whether the ultrasound sector is to be found, and segmented alone.
    pub crop_sector: bool,
}

impl Wish {
    /// Pixels of this height and width in mm.
    pub fn pixels_of(spacing: Option<[f64; 2]>) -> Self {
        Self { spacing: spacing.map(|spacing| spacing.to_vec()), crop_sector: false }
    }
}

/// All decisions about one recording. Printed, they are its notes, one a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Decisions {
    /// Which channels are segmented.
    pub channels: Channels,
    /// Which part of a frame is segmented.
    pub sector: Sector,
    /// How large a voxel is.
    pub spacing: Spacing,
    /// Which way round it is segmented.
    pub orientation: Orientation,
    /// How many views the file says lie side by side in a frame; 0 where it says nothing.
    #[serde(skip)]
    pub views: usize,
    /// What is odd about the file itself.
    #[serde(skip)]
    odd: Vec<String>,
}

/// Which channels are segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Channels {
    /// Those that are stored; of three that are all equal, one where the bundle takes one.
    Stored,
    /// The luminance of colour, as the bundle takes grey images.
    Luminance,
}

/// Which part of a frame is segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Sector {
    /// All of it: nothing else was asked for.
    Whole,
    /// This part, which shows the ultrasound sector.
    Part(Region),
    /// All of it, as no sector was found.
    NotFound,
}

/// How large a voxel is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Spacing {
    /// The file tells it: mm along each spatial axis, slowest first.
    File(Vec<f64>),
    /// The user tells it, and the file says nothing else.
    User(Vec<f64>),
    /// The user tells it, the file something else.
    UserNotFile {
        /// What the user says, which is used.
        user: Vec<f64>,
        /// What the file says.
        file: Vec<f64>,
    },
    /// Nobody tells it: lengths, areas and volumes have no unit, and none is printed.
    Unknown,
}

/// Which way round it is segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Orientation {
    /// As it is stored: a picture, or a volume that does not say how it lies in space.
    Stored,
    /// A volume that is stored in this orientation. The segmenter turns it to the bundle's, and its segmentation back.
    Known(ldseg::image::Orientation),
}

/// What a recording holds, as far as decisions ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Spatial axes of a frame, 2 or 3.
    pub axes: usize,
    /// Whether some frame is in colour.
    pub coloured: bool,
    /// Spacing that the file tells.
    pub spacing: Option<Vec<f64>>,
    /// How many views the file says lie side by side in a frame; 0 where it says nothing.
    pub views: usize,
    /// Orientation of a volume that tells it.
    pub orientation: Option<ldseg::image::Orientation>,
    /// What is odd about the file.
    pub notes: Vec<String>,
}

impl Spacing {
    /// The one rule: what the file knows, unless the user says something else; unknown stays unknown.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where the user's spacing isn't one positive number, or one for each of the `axes`.
    pub fn decide(file: Option<&[f64]>, user: Option<&[f64]>, axes: usize) -> Result<Self> {
        let user = user.map(|user| match user {
            [one] => vec![*one; axes],
            user => user.to_vec(),
        });
        if let Some(user) = &user
            && (user.len() != axes || user.iter().any(|mm| !(mm.is_finite() && *mm > 0.0)))
        {
            let message = format!("the spacing is {user:?} mm, expected a positive number for each of {axes} axes");
            return Err(Error::new(ErrorKind::Setting, message));
        }
        let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SPACING_TOLERANCE * b.abs());
        Ok(match (file, user) {
            (None, None) => Self::Unknown,
            (Some(file), None) => Self::File(file.to_vec()),
            (Some(file), Some(user)) if !same(&user, file) => Self::UserNotFile { user, file: file.to_vec() },
            (_, Some(user)) => Self::User(user),
        })
    }

    /// In mm along each spatial axis, slowest first, where it is known.
    pub fn known(&self) -> Option<&[f64]> {
        match self {
            Self::File(mm) | Self::User(mm) | Self::UserNotFile { user: mm, .. } => Some(mm),
            Self::Unknown => None,
        }
    }

    /// Height and width of a picture's pixel in mm, where they are known.
    pub fn of_pixel(&self) -> Option<[f64; 2]> {
        self.known().and_then(|known| known.try_into().ok())
    }

    /// What the user has to know: that the file says something else, or what files also say whose writer does not know.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::File(mm) if *mm == [1.0; 2] => Some(
                "says that its pixels are exactly 1 mm wide, as files also do whose writer does not know the spacing"
                    .into(),
            ),
            Self::UserNotFile { user, file } => {
                Some(format!("says that its spacing is {file:?} mm; {user:?} mm was given, and is taken"))
            }
            _ => None,
        }
    }
}

impl Decisions {
    /// Decides for a bundle that takes `channels` channels. `find_sector` is asked where the sector is to be cut out.
    ///
    /// # Errors
    /// Those of [`Spacing::decide`] and `find_sector`.
    pub fn about(
        stored: Stored,
        channels: usize,
        wish: &Wish,
        find_sector: impl FnOnce() -> Result<Option<Region>>,
    ) -> Result<Self> {
        let sector = match wish.crop_sector {
            false => Sector::Whole,
            true => find_sector()?.map_or(Sector::NotFound, Sector::Part),
        };
        Ok(Self {
            channels: if channels == 1 && stored.coloured { Channels::Luminance } else { Channels::Stored },
            sector,
            spacing: Spacing::decide(stored.spacing.as_deref(), wish.spacing.as_deref(), stored.axes)?,
            orientation: stored.orientation.map_or(Orientation::Stored, Orientation::Known),
            views: stored.views,
            odd: stored.notes,
        })
    }

    /// What the user has to know: what is odd about the file, and what was not taken as it is.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.odd.clone();
        if self.channels == Channels::Luminance {
            notes.push("is in colour, and its luminance is taken".into());
        }
        match self.sector {
            Sector::Whole => {}
            Sector::Part(Region { top, left, height, width }) => {
                notes.push(format!("its sector is segmented: {width} x {height} pixels from ({left}, {top})"));
            }
            Sector::NotFound => notes.push("shows no ultrasound sector, and all of it is segmented".into()),
        }
        notes.extend(self.spacing.note());
        match (self.views, self.is_one_view()) {
            (0 | 1, _) => {}
            (views, true) => notes.push(format!("shows {views} views side by side, of which one is segmented")),
            (views, false) => notes.push(format!(
                "shows {views} views side by side, which are segmented as one picture and not measured as one"
            )),
        }
        notes
    }

    /// Whether what is segmented is one image, and not several views side by side: only then can it be measured.
    pub fn is_one_view(&self) -> bool {
        self.views <= 1 || self.part().is_some()
    }

    /// The part of a frame that is segmented, where it is not the whole.
    pub fn part(&self) -> Option<Region> {
        match self.sector {
            Sector::Part(region) => Some(region),
            Sector::Whole | Sector::NotFound => None,
        }
    }

    /// A frame as decided, for a bundle that takes `channels` channels: its channels, and the spacing that is known. The
    /// sector is not cut out yet, so that the frame can be drawn whole.
    pub fn apply(&self, image: Image, channels: usize) -> Image {
        let image = if channels == 1 { image.into_grey() } else { image };
        let Image { data, geometry } = image;
        let geometry = match (&self.spacing, geometry) {
            (Spacing::User(mm) | Spacing::UserNotFile { user: mm, .. }, geometry) => geometry.respaced(mm.clone()),
            (_, geometry) => geometry,
        };
        Image { data, geometry }
    }
}

impl fmt::Display for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.notes().join("\n"))
    }
}

/// Decides about one image in memory, and applies it. Its spacing is what the caller says.
///
/// # Errors
/// Those of [`Spacing::decide`].
pub fn prepare(image: Image, channels: usize) -> Result<(Image, Decisions)> {
    let stored = Stored {
        axes: image.spatial_axes(),
        coloured: image.is_coloured(),
        spacing: None,
        views: 0,
        orientation: orientation(&image),
        notes: Vec::new(),
    };
    let wish = Wish { spacing: image.geometry.spacing.clone(), crop_sector: false };
    let decisions = Decisions::about(stored, channels, &wish, || Ok(None))?;
    Ok((decisions.apply(image, channels), decisions))
}

/// That of a volume with a place in space.
pub(crate) fn orientation(image: &Image) -> Option<ldseg::image::Orientation> {
    image.geometry.orientation().filter(|_| image.spatial_axes() == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(spacing: Option<&[f64]>, coloured: bool) -> Stored {
        Stored {
            axes: 2,
            coloured,
            spacing: spacing.map(<[f64]>::to_vec),
            views: 1,
            orientation: None,
            notes: vec!["is odd".into()],
        }
    }

    fn about(stored: Stored, channels: usize, wish: &Wish) -> Decisions {
        Decisions::about(stored, channels, wish, || Ok(Some(Region { top: 1, left: 2, height: 3, width: 4 }))).unwrap()
    }

    #[test]
    fn the_user_s_spacing_wins_and_a_difference_is_noted() {
        let given = |mm| Wish::pixels_of(Some([mm; 2]));
        for (file, wish, known, notes) in [
            (None, Wish::default(), None, 0),
            (Some(&[0.5, 0.5][..]), Wish::default(), Some([0.5; 2]), 0),
            (None, given(0.8), Some([0.8; 2]), 0),
            (Some(&[0.8, 0.8][..]), given(0.800_01), Some([0.800_01; 2]), 0),
            (Some(&[0.5, 0.5][..]), given(0.8), Some([0.8; 2]), 1),
            (Some(&[1.0, 1.0][..]), Wish::default(), Some([1.0; 2]), 1),
            (Some(&[1.0, 1.0][..]), given(1.0), Some([1.0; 2]), 0),
        ] {
            let found = about(stored(file, false), 1, &wish);
            assert_eq!((found.spacing.of_pixel(), found.notes().len()), (known, 1 + notes), "{found}");
        }
        let one = Wish { spacing: Some(vec![0.8]), ..Wish::default() };
        assert_eq!(about(stored(None, false), 1, &one).spacing.of_pixel(), Some([0.8; 2]));
        let wrong = [Some(vec![1.0; 3]), Some(vec![]), Some(vec![0.0, 1.0]), Some(vec![f64::NAN])];
        for spacing in wrong {
            let wish = Wish { spacing, crop_sector: false };
            let error = Decisions::about(stored(None, false), 1, &wish, || Ok(None)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Setting);
        }
    }

    #[test]
    fn colour_is_kept_where_the_bundle_takes_it() {
        assert_eq!(about(stored(None, true), 3, &Wish::default()).channels, Channels::Stored);
        let grey = about(stored(None, true), 1, &Wish::default());
        assert_eq!(grey.to_string(), "is odd\nis in colour, and its luminance is taken");
    }

    #[test]
    fn views_side_by_side_are_not_one_image() {
        let two = || Stored { views: 2, ..stored(None, false) };
        let whole = about(two(), 1, &Wish::default());
        assert!(!whole.is_one_view() && whole.notes()[1].contains("not measured as one"), "{whole}");
        let part = about(two(), 1, &Wish { crop_sector: true, ..Wish::default() });
        assert!(part.is_one_view() && part.notes()[2].contains("of which one is segmented"), "{part}");
    }

    #[test]
    fn a_sector_is_looked_for_where_it_was_asked_for() {
        assert_eq!(about(stored(None, false), 1, &Wish::default()).part(), None);
        let wish = Wish { crop_sector: true, ..Wish::default() };
        let found = about(stored(None, false), 1, &wish);
        assert_eq!(found.notes()[1], "its sector is segmented: 4 x 3 pixels from (2, 1)");
        let none = Decisions::about(stored(None, false), 1, &wish, || Ok(None)).unwrap();
        assert_eq!((none.part(), none.notes()[1].starts_with("shows no ultrasound sector")), (None, true));
    }
}
