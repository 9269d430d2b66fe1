//! From the inputs on the command line to one job a file, each with a name of its own.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{
    LABEL_SUFFIXES, Limits, case_name, channel_files, images_in, output_name, read_recording_within, split_channel,
};
use ldseg_recording::outputs::belongs_to_another;

use super::note;

/// One image to segment.
#[derive(Debug)]
pub(super) struct Job {
    /// The image's file, of several channels the first, or what was named where there is none.
    pub(super) input: PathBuf,
    /// All files of the image: one a channel, or one that holds all channels.
    pub(super) files: Vec<PathBuf>,
    /// What its outputs are named after, or why it cannot be segmented.
    pub(super) name: Result<String>,
}

/// Replaces folders by the images in them (sorted, not recursive, without label maps such as `X_gt` and outputs such as
/// `X_overlay` or `X.seg` beside an image `X`) and `.txt` files by the paths they list, one a line and relative to the list, and names
/// each file. `suffixes` are the additional outputs, e.g. `_overlay`.
///
/// For a bundle of several `channels`, files named as nnU-Net does, `X_0000.EXT`, `X_0001.EXT` and so on, are one image `X`
/// where all of them are there, whichever of them was named.
///
/// What cannot be read, an empty folder, and a file whose outputs would replace another's become jobs that say so.
pub(super) fn jobs(inputs: &[PathBuf], suffixes: &[&str], channels: usize, limits: &Limits) -> Vec<Job> {
    let mut taken = HashMap::new();
    let mut grouped = HashSet::new();
    inputs
        .iter()
        .flat_map(|input| match expand(input) {
            Ok(files) => files.into_iter().map(Ok).collect(),
            Err(error) => vec![Err((input.clone(), error))],
        })
        .filter_map(|file| match file {
            Ok(file) => match one_a_channel(&file, channels, limits) {
                Some(files) => grouped.insert(files[0].clone()).then(|| {
                    let name = case_name(&file).as_deref().and_then(split_channel).map(|(case, _)| case.to_owned());
                    let name = claim(&files[0], name, suffixes, &mut taken);
                    Job { name, input: files[0].clone(), files }
                }),
                None => {
                    Some(Job { name: claim(&file, None, suffixes, &mut taken), input: file.clone(), files: vec![file] })
                }
            },
            Err((input, error)) => Some(Job { files: vec![input.clone()], input, name: Err(error) }),
        })
        .collect()
}

/// The files of all channels of the image that `file` is a channel of. Where a bundle has three channels, colour pictures
/// with numbers are images of their own.
fn one_a_channel(file: &Path, channels: usize, limits: &Limits) -> Option<Vec<PathBuf>> {
    if channels < 2 {
        return None;
    }
    let files = channel_files(file, channels)?;
    let coloured = || {
        let first = read_recording_within(&files[0], limits);
        first.is_ok_and(|recording| recording.frame(0).is_ok_and(|frame| frame.data.shape()[0] == 3))
    };
    (channels != 3 || !coloured()).then_some(files)
}

fn expand(input: &Path) -> Result<Vec<PathBuf>> {
    let (files, what) = if input.is_dir() {
        (images_of(input)?, "folder holds no images")
    } else if input.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt")) {
        (listed_in(input)?, "list names no images")
    } else {
        return Ok(vec![input.to_path_buf()]);
    };
    if files.is_empty() {
        return Err(Error::new(ErrorKind::Io, format!("the {what}")).in_file(input));
    }
    Ok(files)
}

/// The images of a folder; what is left out is told.
fn images_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let content = images_in(folder)?;
    let left_out: Vec<String> = content.note().into_iter().chain(content.note_of_folders()).collect();
    if content.images.is_empty() && !left_out.is_empty() {
        let message = format!("the folder holds no images: {}", left_out.join("; "));
        return Err(Error::new(ErrorKind::Io, message).in_file(folder));
    }
    left_out.iter().for_each(|text| note(&format!("{}: {text}", folder.display())));
    let mut files = content.images;
    let names: HashSet<String> = files.iter().filter_map(|file| case_name(file)).collect();
    let of_another = |name: String| belongs_to_another(&name, &LABEL_SUFFIXES, |image| names.contains(image));
    files.retain(|file| !case_name(file).is_some_and(of_another));
    Ok(files)
}

fn listed_in(list: &Path) -> Result<Vec<PathBuf>> {
    if list.exists() && !list.is_file() {
        return Err(Error::new(ErrorKind::Io, "the list is no regular file").in_file(list));
    }
    let text = fs::read_to_string(list)
        .map_err(|e| Error::with_source(ErrorKind::Io, "cannot read the list", e).in_file(list))?;
    let folder = list.parent().unwrap_or(Path::new(""));
    // Editors of some systems begin a text with a mark of its encoding.
    let lines = text
        .trim_start_matches('\u{FEFF}')
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| folder.join(line)).collect())
}

/// Takes the names of all outputs of `file`, unless another file took one before. They begin with `name`, else with the
/// file's own.
fn claim(file: &Path, name: Option<String>, suffixes: &[&str], taken: &mut HashMap<String, PathBuf>) -> Result<String> {
    let name =
        name.or_else(|| output_name(file)).ok_or_else(|| Error::new(ErrorKind::Io, "expected a file").in_file(file))?;
    let names: Vec<_> = [""].iter().chain(suffixes).map(|suffix| format!("{name}{suffix}")).collect();
    if let Some((name, other)) = names.iter().find_map(|name| taken.get_key_value(name)) {
        let message = format!("its output `{name}` would replace that of {}", other.display());
        return Err(Error::new(ErrorKind::Io, message).in_file(file));
    }
    taken.extend(names.into_iter().map(|name| (name, file.to_path_buf())));
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(inputs: &[PathBuf], suffixes: &[&str], channels: usize) -> Vec<Job> {
        super::jobs(inputs, suffixes, channels, &Limits::default())
    }

    fn names(jobs: &[Job]) -> Vec<String> {
        jobs.iter().map(|job| job.name.as_ref().map_or_else(|e| e.to_string(), String::clone)).collect()
    }

    #[test]
    fn folders_and_lists_become_files_in_order() {
        let temp = tempfile::tempdir().unwrap();
        let others = ["b_gt.png", "b_overlay.png", "a.seg.png", "a_anno.png", "a_samples.nii.gz"];
        for file in ["b.png", "a.nii.gz", "notes.md"].into_iter().chain(others) {
            fs::write(temp.path().join(file), "").unwrap();
        }
        let list = temp.path().join("list.txt");
        fs::write(&list, "\u{FEFF}# two of them\n\nsub/c.mhd\r\n/d.png\n").unwrap();
        let jobs = jobs(&[temp.path().to_path_buf(), list, "e.png".into()], &[], 1);
        assert_eq!(names(&jobs), ["a", "b", "c", "d", "e"]);
        assert_eq!(jobs[2].input, temp.path().join("sub/c.mhd"));
        assert_eq!(jobs[3].input, Path::new("/d.png"));
    }

    #[test]
    fn images_without_an_ending_are_found_and_keep_their_whole_name() {
        let temp = tempfile::tempdir().unwrap();
        let picture = image::GrayImage::new(2, 2);
        for file in ["1.2.840.5", "1.2.840.6", "IM000001"] {
            picture.save_with_format(temp.path().join(file), image::ImageFormat::Png).unwrap();
        }
        fs::write(temp.path().join("README"), "none").unwrap();
        let jobs = jobs(&[temp.path().to_path_buf()], &[], 1);
        assert_eq!(names(&jobs), ["1.2.840.5", "1.2.840.6", "IM000001"]);
    }

    #[test]
    fn numbered_channels_are_one_image() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for file in ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "c.nii.gz"] {
            fs::write(path(file), "").unwrap();
        }
        let folder = temp.path().to_path_buf();
        assert_eq!(names(&jobs(std::slice::from_ref(&folder), &[], 1)), ["a_0000", "a_0001", "b_0000", "c"]);
        // Whichever channel is named, and however often.
        let both = jobs(&[path("a_0001.nii.gz"), folder], &[], 2);
        assert_eq!(names(&both), ["a", "b_0000", "c"]);
        assert_eq!(both[0].files, [path("a_0000.nii.gz"), path("a_0001.nii.gz")]);
        assert_eq!(both[0].input, path("a_0000.nii.gz"));
        for number in 0..3 {
            let colour = image::RgbImage::from_pixel(2, 2, image::Rgb([1, 2, 3]));
            colour.save(path(&format!("rgb_{number:04}.png"))).unwrap();
            image::GrayImage::new(2, 2).save(path(&format!("grey_{number:04}.png"))).unwrap();
        }
        assert_eq!(names(&jobs(&[path("rgb_0001.png"), path("grey_0001.png")], &[], 3)), ["rgb_0001", "grey"]);
    }

    #[test]
    fn what_is_empty_or_missing_is_a_job_that_fails() {
        let temp = tempfile::tempdir().unwrap();
        let jobs = jobs(&[temp.path().to_path_buf(), temp.path().join("no.txt"), "x.png".into()], &[], 1);
        let names = names(&jobs);
        assert!(names[0].contains("the folder holds no images"), "{names:?}");
        assert!(names[1].contains("no.txt: cannot read the list"), "{names:?}");
        assert_eq!(names[2], "x");
    }

    #[test]
    fn outputs_never_replace_each_other() {
        let inputs = ["a/x.png", "b/x.nii", "x_overlay.png"].map(PathBuf::from);
        let plain = names(&jobs(&inputs, &[], 1));
        assert_eq!((&*plain[0], &*plain[2]), ("x", "x_overlay"));
        assert_eq!(plain[1], "b/x.nii: its output `x` would replace that of a/x.png");
        let overlaid = names(&jobs(&inputs, &["_overlay"], 1));
        assert_eq!(overlaid[2], "x_overlay.png: its output `x_overlay` would replace that of a/x.png");
    }
}
