//! Images whose channels lie in one file each, as nnU-Net names them: `case_0000.nii.gz`, `case_0001.nii.gz`, ...

use std::path::{Path, PathBuf};

use ndarray::{Axis, concatenate};

use super::Limits;
use super::read_recording_within;
use super::recording::Recording;
use ldseg::image::Image;
use ldseg::{Error, ErrorKind, Result};

/// Digits of the channel's number.
const DIGITS: usize = 4;

/// The case and the channel of a name like `case_0001`.
pub fn split_channel(name: &str) -> Option<(&str, usize)> {
    let (case, number) = name.rsplit_once('_')?;
    let digits = number.len() == DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits && !case.is_empty()).map(|number| (case, number))
}

/// The files of all channels of the case that `path` is a channel of, in order, if all `channels` of them are there.
pub fn channel_files(path: &Path, channels: usize) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?;
    let stem = super::case_name(path)?;
    let (case, _) = split_channel(&stem).filter(|(_, number)| *number < channels)?;
    let extension = &name[stem.len()..];
    let file = |number: usize| path.with_file_name(format!("{case}_{number:0DIGITS$}{extension}"));
    let files: Vec<PathBuf> = (0..channels).map(file).collect();
    files.iter().all(|file| file.is_file()).then_some(files)
}

/// Reads an image whose channels lie in one file each; the image of a single file may have several channels itself. The
/// geometry is that of the first file, and a volume that is stored another way round is turned to it.
///
/// # Errors
/// Those of [`super::read_recording`]; [`ErrorKind::Io`] where there is no file, and [`ErrorKind::ShapeMismatch`], naming the file,
/// where one of several files has several channels, or does not lie on the grid of the first ([`Image::turn_onto`]).
pub fn read_channels(paths: &[PathBuf]) -> Result<Image> {
    let recording = read_files(paths)?;
    recording.into_still(&paths[0])
}

/// Reads a recording that lies in one file, or an image whose channels lie in one file each.
///
/// # Errors
/// As [`read_channels`], but for a cine in a single file.
pub fn read_files(paths: &[PathBuf]) -> Result<Recording> {
    read_files_within(paths, &Limits::default())
}

/// [`read_files`] with other limits, which hold for each file.
///
/// # Errors
/// As [`read_files`].
pub fn read_files_within(paths: &[PathBuf], limits: &Limits) -> Result<Recording> {
    let [first, others @ ..] = paths else {
        return Err(Error::new(ErrorKind::Io, "expected a file for each channel, found none"));
    };
    let recording = read_recording_within(first, limits)?;
    if others.is_empty() {
        return Ok(recording);
    }
    let (form, said) = (recording.form().clone(), recording.notes().to_vec());
    let mut notes = said.clone();
    let mut image = recording.into_still(first)?;
    let mut planes = vec![grey(&image, first)?];
    for (channel, path) in (1..).zip(others) {
        let other = read_recording_within(path, limits)?;
        // What was said of the first file need not be said of each.
        let own = other.notes().iter().filter(|note| !said.contains(note));
        notes.extend(own.map(|note| format!("of its channel {channel}: {note}")));
        let other = other.into_still(path)?;
        // A channel that is stored another way round is turned by its affine.
        let turn = other.turn_onto(&image).map_err(|difference| {
            Error::new(ErrorKind::ShapeMismatch, difference.message(first.display())).in_file(path)
        })?;
        if !turn.is_none() {
            notes.push(format!("its channel {channel} is stored the other way round, and was turned by its affine"));
        }
        planes.push(turn.array(grey(&other, path)?));
    }
    let views: Vec<_> = planes.iter().map(|plane| plane.view()).collect();
    image.data = concatenate(Axis(0), &views).map_err(|e| {
        Error::with_source(ErrorKind::ShapeMismatch, "its channels have different sizes", e).in_file(first)
    })?;
    Ok(Recording::still(image, form).noted(notes))
}

fn grey(image: &Image, path: &Path) -> Result<ldseg::Tensor> {
    let found = image.data.shape()[0];
    image.with_channels(1).map(|plane| plane.to_owned()).map_err(|_| {
        let message = format!("has {found} channels, expected 1 where each channel has a file");
        Error::new(ErrorKind::ShapeMismatch, message).in_file(path)
    })
}

#[cfg(test)]
mod tests {
    use ::image::{GrayImage, Luma, Rgb, RgbImage};

    use super::*;

    #[test]
    fn names_tell_case_and_channel() {
        assert_eq!(split_channel("a_b_0003"), Some(("a_b", 3)));
        for name in ["a_003", "a_00003", "_0001", "a0001", "a_+001", "a"] {
            assert_eq!(split_channel(name), None, "{name}");
        }
    }

    #[test]
    fn channels_are_stacked_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = |number: usize| dir.path().join(format!("a_{number:04}.png"));
        for number in 0..3 {
            GrayImage::from_pixel(4, 3, Luma([10 * number as u8])).save(path(number)).unwrap();
        }
        assert_eq!(channel_files(&path(1), 3).unwrap(), [path(0), path(1), path(2)]);
        assert_eq!(channel_files(&path(2), 2), None);
        assert_eq!(channel_files(&path(0), 4), None);
        let image = read_channels(&[path(2), path(0), path(1)]).unwrap();
        assert_eq!(image.data.shape(), [3, 3, 4]);
        assert_eq!((0..3).map(|c| image.data[[c, 2, 3]]).collect::<Vec<_>>(), [20.0, 0.0, 10.0]);
        assert_eq!(read_channels(&[path(1)]).unwrap().data.shape(), [1, 3, 4]);
    }

    #[test]
    fn channels_that_dont_fit_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        GrayImage::new(4, 3).save(path("a_0000.png")).unwrap();
        GrayImage::new(4, 4).save(path("a_0001.png")).unwrap();
        RgbImage::from_pixel(4, 3, Rgb([1, 2, 3])).save(path("a_0002.png")).unwrap();
        let refusal = |other: &str| read_channels(&[path("a_0000.png"), path(other)]).unwrap_err();
        let error = refusal("a_0001.png");
        assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
        assert!(error.to_string().contains("a_0001.png: has size [4, 4], but "), "{error}");
        assert!(refusal("a_0002.png").to_string().contains("a_0002.png: has 3 channels, expected 1"));
        assert_eq!(refusal("none_0001.png").kind(), ErrorKind::Io);
        assert_eq!(read_channels(&[]).unwrap_err().kind(), ErrorKind::Io);
    }
}
