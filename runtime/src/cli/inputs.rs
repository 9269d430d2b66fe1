//! From the inputs on the command line to one job a file, each with a name of its own.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use ldseg::image::{case_name, is_image_file};
use ldseg::{Error, ErrorKind, Result};

/// One file to segment.
#[derive(Debug)]
pub(super) struct Job {
    /// The image, or what was named where there is none.
    pub(super) input: PathBuf,
    /// What its outputs are named after, or why it cannot be segmented.
    pub(super) name: Result<String>,
}

/// Replaces folders by the images in them (sorted, not recursive, without the label map `X_gt` beside an image `X`) and `.txt` files by the paths they list, one a line
/// and relative to the list, and names each file. `suffixes` are the additional outputs, e.g. `_overlay`.
///
/// What cannot be read, an empty folder, and a file whose outputs would replace another's become jobs that say so.
pub(super) fn jobs(inputs: &[PathBuf], suffixes: &[&str]) -> Vec<Job> {
    let mut taken = HashMap::new();
    inputs
        .iter()
        .flat_map(|input| match expand(input) {
            Ok(files) => files.into_iter().map(Ok).collect(),
            Err(error) => vec![Err((input.clone(), error))],
        })
        .map(|file| match file {
            Ok(file) => Job { name: claim(&file, suffixes, &mut taken), input: file },
            Err((input, error)) => Job { input, name: Err(error) },
        })
        .collect()
}

fn expand(input: &Path) -> Result<Vec<PathBuf>> {
    let (files, what) = if input.is_dir() {
        (images_in(input)?, "folder holds no images")
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

fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::with_source(ErrorKind::Io, "cannot read the folder", e).in_file(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_image_file(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let names: HashSet<String> = files.iter().filter_map(|file| case_name(file)).collect();
    let is_label = |file: &PathBuf| {
        case_name(file).is_some_and(|name| name.strip_suffix("_gt").is_some_and(|image| names.contains(image)))
    };
    files.retain(|file| !is_label(file));
    Ok(files)
}

fn listed_in(list: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(list)
        .map_err(|e| Error::with_source(ErrorKind::Io, "cannot read the list", e).in_file(list))?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| folder.join(line)).collect())
}

/// Takes the names of all outputs of `file`, unless another file took one before.
fn claim(file: &Path, suffixes: &[&str], taken: &mut HashMap<String, PathBuf>) -> Result<String> {
    // A name without a known extension fails later, when the file is read, with a better message.
    let name = case_name(file)
        .or_else(|| file.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .ok_or_else(|| Error::new(ErrorKind::Io, "expected a file").in_file(file))?;
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

    fn names(jobs: &[Job]) -> Vec<String> {
        jobs.iter().map(|job| job.name.as_ref().map_or_else(|e| e.to_string(), String::clone)).collect()
    }

    #[test]
    fn folders_and_lists_become_files_in_order() {
        let temp = tempfile::tempdir().unwrap();
        for file in ["b.png", "b_gt.png", "a.nii.gz", "notes.md"] {
            fs::write(temp.path().join(file), "").unwrap();
        }
        let list = temp.path().join("list.txt");
        fs::write(&list, "# two of them\n\nsub/c.mhd\r\n/d.png\n").unwrap();
        let jobs = jobs(&[temp.path().to_path_buf(), list, "e.png".into()], &[]);
        assert_eq!(names(&jobs), ["a", "b", "c", "d", "e"]);
        assert_eq!(jobs[2].input, temp.path().join("sub/c.mhd"));
        assert_eq!(jobs[3].input, Path::new("/d.png"));
    }

    #[test]
    fn what_is_empty_or_missing_is_a_job_that_fails() {
        let temp = tempfile::tempdir().unwrap();
        let jobs = jobs(&[temp.path().to_path_buf(), temp.path().join("no.txt"), "x.png".into()], &[]);
        let names = names(&jobs);
        assert!(names[0].contains("the folder holds no images"), "{names:?}");
        assert!(names[1].contains("no.txt: cannot read the list"), "{names:?}");
        assert_eq!(names[2], "x");
    }

    #[test]
    fn outputs_never_replace_each_other() {
        let inputs = ["a/x.png", "b/x.nii", "x_overlay.png"].map(PathBuf::from);
        let plain = names(&jobs(&inputs, &[]));
        assert_eq!((&*plain[0], &*plain[2]), ("x", "x_overlay"));
        assert_eq!(plain[1], "b/x.nii: its output `x` would replace that of a/x.png");
        let overlaid = names(&jobs(&inputs, &["_overlay"]));
        assert_eq!(overlaid[2], "x_overlay.png: its output `x_overlay` would replace that of a/x.png");
    }
}
