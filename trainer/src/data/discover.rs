//! Finds the pairs of image and label map in a folder, in the four layouts that data sets come in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ldseg::{Error, ErrorKind, Result};
use ldseg_evaluate::scoring::{is_patient_list, patient_from_name, read_patients};
use ldseg_io::{FolderContent, LABEL_SUFFIXES, images_in, output_name, read_image, split_channel};

use super::dataset_json::Declared;
use super::first_few;

/// An image with its label map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The image's file name without its extension (and without nnU-Net's channel number).
    pub name: String,
    /// Whose image it is; a split never separates the images of one patient.
    pub patient: String,
    /// The image's files, one at least: one a channel, in order, or one that holds all of them.
    pub images: Vec<PathBuf>,
    /// The file of its label map.
    pub labels: PathBuf,
}

impl Case {
    /// The file that messages name: the first of the image's.
    pub fn image(&self) -> &Path {
        self.images.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// Files by stem.
type Files = BTreeMap<String, PathBuf>;

/// The images' files by the case's name.
type Images = BTreeMap<String, Vec<PathBuf>>;

/// The image's files and the label map by the case's name.
type Pairs = BTreeMap<String, (Vec<PathBuf>, PathBuf)>;

/// How a data set's files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// nnU-Net v2 raw: `dataset.json`, `imagesTr/X_0000.EXT` and so on, one file a channel, `labelsTr/X.EXT`.
    NnUnet,
    /// `images/X.EXT` and `labels/X.EXT`, whose extensions may differ.
    TwoFolders,
    /// `X.EXT` with `X_gt.EXT` beside it; or with `X_anno.EXT`, as GlaS is published.
    SideBySide,
    /// The same in sub-folders, one a patient, as CAMUS is published (MetaImage or NIfTI); its sequences
    /// (`X_sequence.EXT`) are left out.
    PatientFolders,
}

/// What was found in a folder.
#[derive(Debug)]
pub struct Found {
    /// How the files lie.
    pub layout: Layout,
    /// The pairs of image and label map, sorted by name.
    pub cases: Vec<Case>,
    /// What is odd about the data set as a whole, and can be trained on all the same.
    pub notes: Vec<String>,
    /// What nnU-Net's `dataset.json` says, in that layout.
    pub declared: Option<Declared>,
    /// What was left out of its folders: files that are no images, folders that nobody looks into.
    pub left_out: Vec<String>,
    /// Files that don't fit together.
    pub(super) problems: Vec<String>,
    /// Cases that the list of patients leaves out; each is its own patient here.
    pub(super) without_patient: Option<Error>,
}

/// Finds all cases of the data set in `dir`, sorted by name. [`Layout`] has the layouts, in the order in which they are
/// looked for.
///
/// The patient comes from `patient_ids.csv` in `dir` where that exists (columns `name` and `patient`), else from GlaS's
/// `Grade.csv`, else from names like `patient0001_2CH_ED` or `sub-01_T1w`, where it is the part before the first `_`; else
/// each case is its own patient.
///
/// # Errors
/// [`ErrorKind::Io`] if a folder can't be read or holds no cases; [`ErrorKind::Format`] for an image without label map
/// or the reverse, two files of one name, or a case that the list of patients leaves out.
pub fn discover(dir: &Path) -> Result<Vec<Case>> {
    find_all(dir).map(|found| found.cases)
}

/// As [`discover`], with what else there is to know of the data set.
///
/// # Errors
/// As [`discover`].
pub fn find_all(dir: &Path) -> Result<Found> {
    let found = find(dir)?;
    if !found.problems.is_empty() {
        let message =
            format!("{} of its files don't fit together: {}", found.problems.len(), first_few(&found.problems));
        return Err(Error::new(ErrorKind::Format, message).in_file(dir));
    }
    match found.without_patient {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// The same without giving up where files don't fit together.
pub(super) fn find(dir: &Path) -> Result<Found> {
    let (mut problems, mut left_out) = (Vec::new(), FolderContent::default());
    let mut declared = None;
    let (layout, pairs) = if dir.join("imagesTr").is_dir() {
        let json = dir.join("dataset.json");
        if !json.is_file() {
            let message = "imagesTr/ is there but dataset.json isn't; expected nnU-Net's raw layout";
            return Err(Error::new(ErrorKind::Format, message).in_file(dir));
        }
        let read = declared.insert(Declared::read(&json)?);
        (Layout::NnUnet, nnunet_pairs(dir, read.channels, &mut problems, &mut left_out)?)
    } else if dir.join("images").is_dir() {
        let images = files_by_stem(&dir.join("images"), &mut problems, &mut left_out)?;
        let labels = files_by_stem(&dir.join("labels"), &mut problems, &mut left_out)?;
        (Layout::TwoFolders, pair(single(images), labels, &mut problems))
    } else {
        side_by_side_pairs(dir, &mut problems, &mut left_out)?
    };
    if pairs.is_empty() && problems.is_empty() {
        let message = "no labelled images; expected imagesTr/ with labelsTr/, images/ with labels/, or X.png with \
                       X_gt.png beside it (also .bmp, .jpg, .tif, .nii, .nii.gz, .mhd)";
        return Err(Error::new(ErrorKind::Io, message).in_file(dir));
    }
    let (cases, without_patient) = with_patients(dir, pairs)?;
    let told = declared.as_ref().and_then(|declared| declared.cases).filter(|told| *told != cases.len());
    let notes = told.map(|told| format!("dataset.json has numTraining {told}, but there are {} cases", cases.len()));
    let left_out = left_out.note().into_iter().chain(left_out.note_of_folders()).collect();
    Ok(Found { layout, cases, notes: notes.into_iter().collect(), declared, left_out, problems, without_patient })
}

/// The images in a folder by stem, which what they hold decides, whatever they are called; what is left out is added to
/// `left_out`. Two of one stem are a problem, and so is a link to nothing: it stands for a file that somebody meant to be
/// there.
fn files_by_stem(dir: &Path, problems: &mut Vec<String>, left_out: &mut FolderContent) -> Result<Files> {
    let content = images_in(dir)?;
    for path in content.images.iter().chain(&content.left_out).filter(|path| !path.exists()) {
        problems.push(format!("{} is a link to a file that is not there", path.display()));
    }
    left_out.left_out.extend(content.left_out.into_iter().filter(|path| !is_patient_list(path)));
    left_out.folders.extend(content.folders);
    let mut files = Files::new();
    for path in content.images {
        if let Some(stem) = output_name(&path) {
            let shown = path.display().to_string();
            if let Some(other) = files.insert(stem, path) {
                problems.push(format!("{} and {shown} have the same name", other.display()));
            }
        }
    }
    Ok(files)
}

/// Matches images and label maps of one stem.
fn pair(images: Images, mut labels: Files, problems: &mut Vec<String>) -> Pairs {
    let mut pairs = BTreeMap::new();
    for (stem, image) in images {
        match labels.remove(&stem) {
            Some(labels) => {
                pairs.insert(stem, (image, labels));
            }
            None => problems.extend(image.iter().map(|path| format!("{} has no label map", path.display()))),
        }
    }
    problems.extend(labels.values().map(|path| format!("{} has no image", path.display())));
    pairs
}

/// One file each.
fn single(files: Files) -> Images {
    files.into_iter().map(|(stem, path)| (stem, vec![path])).collect()
}

/// Pairs of the nnU-Net layout, whose images have `expected` channels where that is known. The Medical Segmentation
/// Decathlon's images come without the channel's number.
fn nnunet_pairs(
    dir: &Path,
    expected: Option<usize>,
    problems: &mut Vec<String>,
    left_out: &mut FolderContent,
) -> Result<Pairs> {
    let mut images = Images::new();
    let files = files_by_stem(&dir.join("imagesTr"), problems, left_out)?;
    let numbered = files.keys().any(|stem| split_channel(stem).is_some());
    // In the order of their names, so of their channels.
    for (stem, path) in files {
        match split_channel(&stem) {
            Some((name, channel)) => {
                let files = images.entry(name.to_owned()).or_default();
                if channel != files.len() {
                    problems.push(format!("{} comes without channel {:04}", path.display(), files.len()));
                }
                files.push(path);
            }
            None if !numbered => {
                images.insert(stem, vec![path]);
            }
            None => problems.push(format!("{}: expected a name ending in a channel like _0000", path.display())),
        }
    }
    for (name, files) in &images {
        let Some(expected) = expected.filter(|expected| files.len() != *expected) else { continue };
        let problem = match &files[..] {
            // One file may hold all channels: a colour picture.
            [file] => match read_image(file).map(|image| image.data.shape()[0]) {
                Ok(found) if found == expected => continue,
                Ok(found) => format!("{name} has one file of {found} channels, dataset.json names {expected} channels"),
                Err(error) => error.to_string(),
            },
            _ => format!("{name} has {} channel files, dataset.json names {expected} channels", files.len()),
        };
        problems.push(problem);
    }
    let labels = files_by_stem(&dir.join("labelsTr"), problems, left_out)?;
    Ok(pair(images, labels, problems))
}

/// Pairs `X` and `X_gt` or `X_anno` in the folder itself or, where it holds no images, in its sub-folders.
fn side_by_side_pairs(dir: &Path, problems: &mut Vec<String>, left_out: &mut FolderContent) -> Result<(Layout, Pairs)> {
    let image_of = |stem: &str| LABEL_SUFFIXES.iter().find_map(|suffix| stem.strip_suffix(suffix).map(str::to_owned));
    let mut files = files_by_stem(dir, problems, left_out)?;
    let mut layout = Layout::SideBySide;
    if files.is_empty() {
        layout = Layout::PatientFolders;
        for folder in std::mem::take(&mut left_out.folders) {
            for (stem, path) in files_by_stem(&folder, problems, left_out)? {
                if image_of(&stem).unwrap_or_else(|| stem.clone()).ends_with("_sequence") {
                    continue;
                }
                if let Some(other) = files.insert(stem, path) {
                    problems.push(format!("{} and a file in {} have the same name", other.display(), folder.display()));
                }
            }
        }
    }
    let (mut images, mut labels) = (Files::new(), Files::new());
    for (stem, path) in files {
        match image_of(&stem) {
            Some(name) => {
                let shown = path.display().to_string();
                if let Some(other) = labels.insert(name, path) {
                    problems.push(format!("{} and {shown} are label maps of one image", other.display()));
                }
            }
            None => {
                images.insert(stem, path);
            }
        }
    }
    Ok((layout, pair(single(images), labels, problems)))
}

/// Adds the patient to each pair; also tells of the cases that the list of patients leaves out.
fn with_patients(dir: &Path, pairs: Pairs) -> Result<(Vec<Case>, Option<Error>)> {
    let list = read_patients(dir)?;
    let mut cases = Vec::new();
    let mut missing = Vec::new();
    for (name, (images, labels)) in pairs {
        let patient = match &list {
            None => patient_from_name(&name).to_owned(),
            Some(list) => list.patients.get(&name).cloned().unwrap_or_else(|| {
                missing.push(name.clone());
                name.clone()
            }),
        };
        cases.push(Case { name, patient, images, labels });
    }
    // Guessing here could put one patient on both sides of a split.
    let error = list.filter(|_| !missing.is_empty()).map(|list| {
        let message = format!("{} cases have no patient: {}", missing.len(), first_few(&missing));
        Error::new(ErrorKind::Format, message).in_file(&list.path)
    });
    Ok((cases, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, if file.ends_with(".json") { "{}" } else { "" }).unwrap();
        }
        dir
    }

    fn found(files: &[&str]) -> Vec<(String, String)> {
        let cases = discover(folder(files).path()).unwrap();
        cases.into_iter().map(|case| (case.name, case.patient)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, patient)| (name.to_string(), patient.to_string())).collect()
    }

    #[test]
    fn finds_every_layout() {
        let nnunet = ["dataset.json", "imagesTr/b_0000.nii.gz", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"];
        assert_eq!(found(&[&nnunet[..], &["labelsTr/b.nii.gz"]].concat()), pairs(&[("a", "a"), ("b", "b")]));
        let folders = ["images/x.1.jpg", "labels/x.1.PNG", "labels/notes.txt", "labels/._x.1.png"];
        assert_eq!(found(&folders), pairs(&[("x.1", "x.1")]));
        let flat =
            ["phantom0001_ES.png", "phantom0001_ES_gt.png", "patient02_ED_gt.png", "patient02_ED.bmp", "LICENSE"];
        assert_eq!(found(&flat), pairs(&[("patient02_ED", "patient02"), ("phantom0001_ES", "phantom0001")]));
        let camus = [
            "patient0001/patient0001_4CH_ED.mhd",
            "patient0001/patient0001_4CH_ED.raw",
            "patient0001/patient0001_4CH_ED_gt.mhd",
            "patient0001/patient0001_4CH_ED_gt.raw",
            "patient0001/patient0001_4CH_sequence.mhd",
            "patient0001/Info_4CH.cfg",
        ];
        assert_eq!(found(&camus), pairs(&[("patient0001_4CH_ED", "patient0001")]));
        let nifti = [
            "patient0002/patient0002_2CH_ES.nii.gz",
            "patient0002/patient0002_2CH_ES_gt.nii.gz",
            "patient0002/patient0002_2CH_half_sequence.nii.gz",
            "patient0002/patient0002_2CH_half_sequence_gt.nii.gz",
            "patient0002/Info_2CH.cfg",
        ];
        assert_eq!(found(&nifti), pairs(&[("patient0002_2CH_ES", "patient0002")]));
        let glas = folder(&["train_1.bmp", "train_1_anno.bmp", "testA_1.bmp", "testA_1_anno.bmp"]);
        fs::write(glas.path().join("Grade.csv"), "name,patient ID, grade (GlaS)\ntrain_1, 2, benign\ntestA_1, 2, x\n")
            .unwrap();
        let cases = discover(glas.path()).unwrap();
        assert!(cases.len() == 2 && cases.iter().all(|case| case.patient == "2"), "{cases:?}");
    }

    #[test]
    fn what_a_file_holds_decides_and_what_is_left_out_is_named() {
        let dir = folder(&["images/notes.txt", "images/sub/x.png", "labels/Thumbs.db"]);
        for name in ["images/IM000001", "images/1.2.840.5", "labels/IM000001.png", "labels/1.2.840.5"] {
            image::GrayImage::new(2, 2).save_with_format(dir.path().join(name), image::ImageFormat::Png).unwrap();
        }
        let found = find_all(dir.path()).unwrap();
        let names: Vec<&str> = found.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["1.2.840.5", "IM000001"]);
        let left_out = [
            "2 files are no images and are left out: notes.txt, Thumbs.db",
            "1 folder below it is not looked into: sub",
        ];
        assert_eq!(found.left_out, left_out);
    }

    #[test]
    fn finds_the_channels_of_a_case() {
        let files =
            ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz"];
        let all = [&files[..], &["labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "dataset.json"]].concat();
        let dir = folder(&all);
        let json = dir.path().join("dataset.json");
        let cases = discover(dir.path()).unwrap();
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[1].images, files[2..].iter().map(|file| dir.path().join(file)).collect::<Vec<_>>());
        fs::write(&json, r#"{"channel_names": {"0": "T1", "1": "FLAIR"}}"#).unwrap();
        assert_eq!(discover(dir.path()).unwrap(), cases);
        fs::write(&json, r#"{"channel_names": {"0": "T1", "1": "T2", "2": "FLAIR"}}"#).unwrap();
        let message = discover(dir.path()).unwrap_err().to_string();
        assert!(message.contains("a has 2 channel files, dataset.json names 3 channels"), "{message}");
        fs::write(&json, "{").unwrap();
        assert!(discover(dir.path()).unwrap_err().to_string().contains("is not nnU-Net's dataset.json"));
        fs::write(&json, "{}").unwrap();
        fs::remove_file(dir.path().join(files[2])).unwrap();
        let message = discover(dir.path()).unwrap_err().to_string();
        assert!(message.contains("b_0001.nii.gz comes without channel 0000"), "{message}");
    }

    #[test]
    fn one_file_holds_one_channel_unless_it_says_more() {
        let all = ["imagesTr/a_0000.png", "labelsTr/a.png", "dataset.json"];
        let dir = folder(&all);
        let json = r#"{"channel_names": {"0": "R", "1": "G", "2": "B"}, "numTraining": 2}"#;
        fs::write(dir.path().join("dataset.json"), json).unwrap();
        image::GrayImage::new(2, 2).save(dir.path().join(all[0])).unwrap();
        let message = discover(dir.path()).unwrap_err().to_string();
        assert!(message.contains("a has one file of 1 channels, dataset.json names 3 channels"), "{message}");
        image::RgbImage::new(2, 2).save(dir.path().join(all[0])).unwrap();
        let found = find_all(dir.path()).unwrap();
        assert_eq!(found.notes, ["dataset.json has numTraining 2, but there are 1 cases"]);
        assert_eq!(found.declared.unwrap().channels, Some(3));
    }

    #[test]
    fn the_decathlon_has_names_without_channels() {
        let files =
            ["imagesTr/h_001.nii.gz", "imagesTr/h_002.nii.gz", "labelsTr/h_001.nii.gz", "labelsTr/h_002.nii.gz"];
        let all = [&files[..], &["dataset.json"]].concat();
        assert_eq!(found(&all), pairs(&[("h_001", "h_001"), ("h_002", "h_002")]));
        let dir = folder(&[&all[..], &["imagesTr/h_003_0000.nii.gz"]].concat());
        let message = discover(dir.path()).unwrap_err().to_string();
        assert!(message.contains("h_001.nii.gz: expected a name ending in a channel"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn links_to_nothing_are_named() {
        let link = |dir: &Path, name: &str| std::os::unix::fs::symlink("nowhere", dir.join(name)).unwrap();
        let folders = folder(&["images/a.png", "labels/a.png"]);
        link(folders.path(), "images/b.png");
        link(folders.path(), "labels/b.png");
        let message = discover(folders.path()).unwrap_err().to_string();
        assert!(message.contains("2 of its files") && message.contains("b.png is a link to a file"), "{message}");
        let patients = folder(&["p1/p1_ED.png", "p1/p1_ED_gt.png"]);
        link(patients.path(), "p2");
        let message = discover(patients.path()).unwrap_err().to_string();
        assert!(message.contains("1 of its files") && message.contains("p2 is a link to a file"), "{message}");
    }

    #[test]
    fn takes_patients_from_the_list() {
        let dir = folder(&["images/a.png", "images/b.png", "labels/a.png", "labels/b.png"]);
        let list = dir.path().join("patient_ids.csv");
        fs::write(&list, "patient,name\n7,a\n7,b\n9,elsewhere\n").unwrap();
        assert!(discover(dir.path()).unwrap().iter().all(|case| case.patient == "7"));
        fs::write(&list, "patient,name\n7,a\n").unwrap();
        let error = discover(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains("1 cases have no patient: b"), "{error}");
        fs::write(&list, "id,name\n7,a\n").unwrap();
        assert!(discover(dir.path()).unwrap_err().to_string().contains("column 'patient'"));
    }

    #[test]
    fn names_what_is_missing() {
        let lonely: Vec<String> = (0..7).map(|number| format!("images/{number}.png")).collect();
        let mut files: Vec<&str> = lonely.iter().map(String::as_str).collect();
        files.push("labels/extra.png");
        let message = discover(folder(&files).path()).unwrap_err().to_string();
        assert!(message.contains("8 of its files") && message.contains("0.png has no label map"), "{message}");
        assert!(message.ends_with("and 3 more"), "{message}");
        let twice = discover(folder(&["a.png", "a.bmp", "a_gt.png"]).path()).unwrap_err();
        assert!(twice.to_string().contains("same name"));
        let empty = discover(folder(&["readme.txt"]).path()).unwrap_err();
        assert!(empty.to_string().contains("no labelled images"), "{empty}");
        assert_eq!(discover(Path::new("/nonexistent")).unwrap_err().kind(), ErrorKind::Io);
    }
}
