//! Which files belong together, and to which patient.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{FolderContent, LABEL_SUFFIXES, images_in, output_name};
use ldseg_recording::outputs::belongs_to_another;

/// Files that tell the patient of each case, with the titles of the columns that hold the case's name and the patient: a
/// list of one's own, and that of GlaS as published.
const PATIENT_LISTS: [(&str, [&str; 2]); 2] =
    [("patient_ids.csv", ["name", "patient"]), ("Grade.csv", ["name", "patient ID"])];

/// nnU-Net's number of the first channel, part of image names only.
const FIRST_CHANNEL: &str = "_0000";

/// A prediction, or an image, with its label map.
#[derive(Debug)]
#[non_exhaustive]
pub struct Pair {
    /// The file's name without its extension.
    pub name: String,
    /// The file and its label map, or why there are not exactly these two.
    pub files: Result<(PathBuf, PathBuf)>,
}

/// What lies in two folders.
#[derive(Debug)]
#[non_exhaustive]
pub struct Paired {
    /// The files of the first folder with their label maps, by name.
    pub pairs: Vec<Pair>,
    /// Label maps that no file belongs to.
    pub left_over: usize,
    /// What was left out, with the folder.
    pub notes: Vec<String>,
}

/// Files by their names without extensions. Of the files that share one, all are kept.
type Files = BTreeMap<String, Vec<PathBuf>>;

/// Matches the files of a folder, predictions or images, with label maps. What a file holds decides whether it is one.
///
/// Taken are all image files of the folder but for `X_gt`, `X_anno` and what `ldseg segment` writes beside the label map `X`
/// ([`belongs_to_another`]). Label maps lie in `labelsTr/` or `labels/` of the labels' folder where that exists, else in the folder itself, else, where it
/// holds no images, in its sub-folders (CAMUS as published). The label map of `X` is called `X_gt` or `X_anno`, else `X`;
/// that of nnU-Net's image `X_0000` also `X`.
///
/// # Errors
/// [`ErrorKind::Io`] where a folder cannot be read or holds no images.
pub fn pair(folder: &Path, labels: &Path) -> Result<Paired> {
    let mut notes = Vec::new();
    let (files, known) = (in_folder(folder, &mut notes)?, label_files(labels, &mut notes)?);
    let mut used = BTreeSet::new();
    let mut pairs = Vec::new();
    for (name, paths) in
        files.iter().filter(|(name, _)| !belongs_to_another(name, &LABEL_SUFFIXES, |name| files.contains_key(name)))
    {
        let found = candidates(name).into_iter().find(|candidate| known.contains_key(candidate));
        let both = only(paths).and_then(|file| {
            let missing = || {
                let expected = candidates(name).join(", ");
                let message = format!("has no label map in {}, expected {expected}", labels.display());
                Error::new(ErrorKind::Io, message).in_file(file)
            };
            let labels = found.as_ref().and_then(|found| known.get(found)).ok_or_else(missing)?;
            Ok((file.clone(), only(labels)?.clone()))
        });
        used.extend(found);
        pairs.push(Pair { name: name.clone(), files: both });
    }
    let is_image = |name: &str| LABEL_SUFFIXES.iter().any(|suffix| known.contains_key(&format!("{name}{suffix}")));
    let left_over = known.keys().filter(|name| !used.contains(*name) && !is_image(name)).count();
    // Both may be one folder.
    notes.dedup();
    Ok(Paired { pairs, left_over, notes })
}

/// Names that the label map of a file may have, the likeliest first.
fn candidates(name: &str) -> Vec<String> {
    let mut names: Vec<String> = LABEL_SUFFIXES.iter().map(|suffix| format!("{name}{suffix}")).collect();
    names.push(name.to_owned());
    names.extend(name.strip_suffix(FIRST_CHANNEL).map(str::to_owned));
    names
}

fn only(files: &[PathBuf]) -> Result<&PathBuf> {
    match files {
        [file] => Ok(file),
        [other, file, ..] => {
            let message = format!("has the same name as {}, expected one file a case", other.display());
            Err(Error::new(ErrorKind::Format, message).in_file(file))
        }
        [] => Err(Error::new(ErrorKind::Io, "expected a file")),
    }
}

fn label_files(folder: &Path, notes: &mut Vec<String>) -> Result<Files> {
    for inner in ["labelsTr", "labels"] {
        if folder.join(inner).is_dir() {
            return in_folder(&folder.join(inner), notes);
        }
    }
    let content = list(folder)?;
    if !content.images.is_empty() {
        return Ok(by_name(folder, content, notes));
    }
    let mut all = Files::new();
    for folder in &content.folders {
        for (name, mut paths) in by_name(folder, list(folder)?, notes) {
            all.entry(name).or_default().append(&mut paths);
        }
    }
    if all.is_empty() { Err(no_images(folder, &content)) } else { Ok(all) }
}

fn in_folder(folder: &Path, notes: &mut Vec<String>) -> Result<Files> {
    let content = list(folder)?;
    if content.images.is_empty() { Err(no_images(folder, &content)) } else { Ok(by_name(folder, content, notes)) }
}

fn no_images(folder: &Path, content: &FolderContent) -> Error {
    let left_out: String = content.note().into_iter().map(|text| format!(": {text}")).collect();
    Error::new(ErrorKind::Io, format!("the folder holds no images{left_out}")).in_file(folder)
}

/// What a folder holds, but for lists of patients, which are read.
fn list(folder: &Path) -> Result<FolderContent> {
    let mut content = images_in(folder)?;
    // What `ldseg segment --json` writes beside a label map.
    let names: BTreeSet<String> = content.images.iter().filter_map(|path| output_name(path)).collect();
    let result = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "json")
            && path.file_stem().is_some_and(|stem| names.contains(&*stem.to_string_lossy()))
    };
    content.left_out.retain(|path| !is_patient_list(path) && !result(path));
    Ok(content)
}

fn by_name(folder: &Path, content: FolderContent, notes: &mut Vec<String>) -> Files {
    notes.extend(content.note().map(|text| format!("{}: {text}", folder.display())));
    let mut files = Files::new();
    for path in content.images {
        if let Some(name) = output_name(&path) {
            files.entry(name).or_default().push(path);
        }
    }
    files
}

/// Whether a file is named as the lists of patients are that [`read_patients`] reads.
pub fn is_patient_list(path: &Path) -> bool {
    PATIENT_LISTS.iter().any(|(name, _)| path.file_name().is_some_and(|file| file == *name))
}

/// The patient that a case's name speaks of: of `patient0001_2CH_ED`, `phantom0001_ED` or BIDS' `sub-01_T1w` the part before
/// the first `_`; else each case is its own patient.
pub fn patient_from_name(name: &str) -> &str {
    let speaks = ["patient", "phantom", "sub-"].iter().any(|start| name.starts_with(start));
    if speaks { name.split('_').next().unwrap_or(name) } else { name }
}

/// The patient of each case as a list in the folder tells it: `patient_ids.csv` with columns `name` and `patient`, else
/// GlaS's `Grade.csv` with `name` and `patient ID`. `None` where there is neither; with the list's path otherwise. Where both
/// are there, they have to agree on which cases are of one patient, whatever they call that patient.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read, [`ErrorKind::Format`] where a column is missing, a line has no patient, a case
/// has two, or two lists contradict each other.
pub fn read_patients(folder: &Path) -> Result<Option<PatientList>> {
    let mut found: Option<PatientList> = None;
    for (file, titles) in PATIENT_LISTS {
        let path = folder.join(file);
        if path.exists() {
            let list = PatientList { patients: read_list(&path, titles)?, path };
            match &found {
                Some(first) => first.check_against(&list)?,
                None => found = Some(list),
            }
        }
    }
    Ok(found)
}

/// Which patient each case belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PatientList {
    /// The file.
    pub path: PathBuf,
    /// Case name to patient.
    pub patients: BTreeMap<String, String>,
}

impl PatientList {
    /// Finds two cases that one list gives to one patient and the other to two.
    fn check_against(&self, other: &Self) -> Result<()> {
        for [a, b] in [[self, other], [other, self]] {
            let mut first_of = BTreeMap::<&str, (&str, &str)>::new();
            for (name, patient) in &a.patients {
                let Some(in_b) = b.patients.get(name) else { continue };
                let (first, first_in_b) = *first_of.entry(patient).or_insert((name, in_b));
                if first_in_b != in_b {
                    let message = format!(
                        "contradicts {}, where {first} and {name} are of one patient, `{patient}`; here they are of \
                         `{first_in_b}` and `{in_b}`",
                        a.path.display()
                    );
                    return Err(Error::new(ErrorKind::Format, message).in_file(&b.path));
                }
            }
        }
        Ok(())
    }
}

fn read_list(path: &Path, titles: [&str; 2]) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path)
        .map_err(|error| Error::with_source(ErrorKind::Io, "can't read this file", error).in_file(path))?;
    let wrong = |message: String| Error::new(ErrorKind::Format, message).in_file(path);
    let cells = |line: &str| -> Vec<String> { line.split(',').map(|cell| cell.trim().replace('"', "")).collect() };
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let header = cells(lines.next().unwrap_or(""));
    let column = |title: &str| {
        header.iter().position(|cell| cell == title).ok_or_else(|| wrong(format!("expected a column '{title}'")))
    };
    let (name, patient) = (column(titles[0])?, column(titles[1])?);
    let mut ids = BTreeMap::<String, String>::new();
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = cells(line);
        match (row.get(name), row.get(patient)) {
            (Some(name), Some(patient)) if !patient.is_empty() => {
                if let Some(other) = ids.insert(name.clone(), patient.clone()).filter(|other| other != patient) {
                    let message =
                        format!("line {}: gives {name} to `{patient}`, an earlier one to `{other}`", number + 2);
                    return Err(wrong(message));
                }
            }
            _ => return Err(wrong(format!("line {}: expected a name and a patient, found '{line}'", number + 2))),
        };
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    /// Each file's name with its label map or the error.
    fn matched(files: &[&str], labels: &[&str]) -> (Vec<(String, String)>, usize) {
        let (files, labels) = (folder(files), folder(labels));
        let Paired { pairs, left_over, .. } = pair(files.path(), labels.path()).unwrap();
        let shown = |files: Result<(PathBuf, PathBuf)>| match files {
            Ok((_, path)) => path.strip_prefix(labels.path()).unwrap().display().to_string(),
            Err(error) => error.to_string(),
        };
        (pairs.into_iter().map(|pair| (pair.name, shown(pair.files))).collect(), left_over)
    }

    #[test]
    fn finds_the_label_map_of_every_file() {
        let one = |files: &[&str], labels: &[&str]| {
            let (pairs, left_over) = matched(files, labels);
            assert_eq!((pairs.len(), left_over), (1, 0), "{pairs:?}");
            pairs[0].1.clone()
        };
        let predicted = ["a.png", "a_overlay.png", "a_uncertainty.png", "a_samples.nii.gz", "a_probabilities.nii.gz"];
        assert_eq!(one(&predicted, &["a.png", "a_gt.png"]), "a_gt.png");
        assert_eq!(one(&["a.png", "a_gt.png"], &["a.png", "a_gt.png"]), "a_gt.png");
        assert_eq!(one(&["train_1.png"], &["train_1.bmp", "train_1_anno.bmp"]), "train_1_anno.bmp");
        assert_eq!(one(&["case1.nii.gz"], &["labels/case1.nii.gz", "images/case1.nii.gz"]), "labels/case1.nii.gz");
        assert_eq!(one(&["k_0000.nii.gz"], &["labelsTr/k.nii.gz", "dataset.json"]), "labelsTr/k.nii.gz");
        assert_eq!(one(&["p1_ED.png"], &["p1/p1_ED_gt.mhd", "p1/p1_ED.mhd", "p1/Info.cfg"]), "p1/p1_ED_gt.mhd");
        assert_eq!(one(&["b_gt.png"], &["b_gt.png", "b.png"]), "b_gt.png");
        assert_eq!(one(&["c.png"], &["c.tif"]), "c.tif");
    }

    #[test]
    fn what_a_file_holds_decides_and_what_is_left_out_is_named() {
        let (files, labels) = (folder(&["notes.txt", "IM000001.json"]), folder(&["sub/notes.txt", "patient_ids.csv"]));
        for dir in [&files, &labels] {
            for name in ["IM000001", "1.2.840.5"] {
                let mut picture = png::Encoder::new(fs::File::create(dir.path().join(name)).unwrap(), 1, 1);
                picture.set_depth(png::BitDepth::Eight);
                picture.write_header().unwrap().write_image_data(&[1]).unwrap();
            }
        }
        let Paired { pairs, left_over, notes } = pair(files.path(), labels.path()).unwrap();
        let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
        assert_eq!((names.as_slice(), left_over), (&["1.2.840.5", "IM000001"][..], 0));
        assert!(pairs.iter().all(|pair| pair.files.is_ok()), "{pairs:?}");
        assert_eq!(notes, [format!("{}: 1 file is no image and is left out: notes.txt", files.path().display())]);
    }

    #[test]
    fn names_what_has_no_partner() {
        let (pairs, left_over) = matched(&["a.png", "x.png"], &["a_gt.png", "b_gt.png", "b.png"]);
        assert_eq!((pairs[0].1.as_str(), left_over), ("a_gt.png", 1));
        assert!(
            pairs[1].1.contains("x.png: has no label map in") && pairs[1].1.ends_with("x_gt, x_anno, x"),
            "{pairs:?}"
        );
        let (pairs, _) = matched(&["a.png", "a.bmp", "b.png"], &["a.png", "b.png"]);
        assert!(pairs[0].1.contains("a.png: has the same name as"), "{pairs:?}");
        assert_eq!(pairs[1].1, "b.png");
        let empty = pair(folder(&["notes.md"]).path(), folder(&["a.png"]).path()).unwrap_err();
        assert!(empty.to_string().contains("the folder holds no images"), "{empty}");
        assert_eq!(pair(Path::new("/nonexistent"), Path::new("/")).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn patients_come_from_names_or_a_list() {
        let of = ["patient0001_2CH_ED", "phantom3_ES", "sub-01_ses-2_slice-3", "train_1"].map(patient_from_name);
        assert_eq!(of, ["patient0001", "phantom3", "sub-01", "train_1"]);
        let dir = folder(&[]);
        let read = || read_patients(dir.path());
        assert_eq!(read().unwrap(), None);
        fs::write(dir.path().join("Grade.csv"), "name,patient ID, grade (GlaS)\ntestA_1, 3, benign\n").unwrap();
        assert_eq!(read().unwrap().unwrap().patients["testA_1"], "3");
        let path = dir.path().join("patient_ids.csv");
        fs::write(&path, "patient,name\n7,\"a\"\n").unwrap();
        assert_eq!(read().unwrap().unwrap().patients["a"], "7");
        fs::write(&path, "patient,name\n7,a\n8,a\n").unwrap();
        assert!(read().unwrap_err().to_string().contains("line 3: gives a to `8`, an earlier one to `7`"));
        // The other list has names of its own for the patients, and agrees on which cases belong together, or not.
        let glas = "name,patient ID, grade (GlaS)\na, 1, x\nb, 1, x\nc, 2, x\n";
        fs::write(dir.path().join("Grade.csv"), glas).unwrap();
        fs::write(&path, "patient,name\n7,a\n7,b\n9,c\n5,d\n").unwrap();
        assert_eq!(read().unwrap().unwrap().patients["c"], "9");
        for contradicting in ["patient,name\n7,a\n8,b\n9,c\n", "patient,name\n7,a\n7,b\n7,c\n"] {
            fs::write(&path, contradicting).unwrap();
            let message = read().unwrap_err().to_string();
            assert!(message.contains("contradicts") && message.contains("are of one patient"), "{message}");
        }
        fs::remove_file(dir.path().join("Grade.csv")).unwrap();
        fs::write(&path, "patient,name\n,a\n").unwrap();
        assert!(read().unwrap_err().to_string().contains("line 2"));
    }
}
