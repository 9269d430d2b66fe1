//! The run folder: one process at a time, and the split that a run was started with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::path::Path;

use ldseg::document::parse_yaml;
use ldseg::files::write_bytes;
use ldseg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::{Case, Dataset, Split, first_few};

/// File of a run folder that holds the resolved recipe.
pub const RECIPE_FILE: &str = "recipe.yaml";
/// File of a run folder that lists the patients of each side of the split.
pub const SPLIT_FILE: &str = "split.yaml";
/// File of a run folder that lists the cases of each side, with their patients and the digests of their content.
pub const CASES_FILE: &str = "cases.yaml";
/// File of a run folder that is locked while a process trains there. The lock ends with the process, however that ends.
const LOCK_FILE: &str = ".lock";

/// Whether a run may start in `run`, or go on there: locks the folder, which is made where it is missing and `resume` is not
/// set. A folder without a recipe holds no run: what fails before there is anything to go on with leaves none behind.
///
/// The lock holds as long as the file that is returned is open; `None` where the file system has no locks, which is said.
///
/// # Errors
/// [`ErrorKind::Setting`] if the folder holds a run already and `resume` is not set, none and it is set, or one of another
/// recipe; [`ErrorKind::Io`] if another process trains there or it cannot be written.
pub fn enter(run: &Path, recipe: &str, resume: bool) -> Result<Option<File>> {
    let path = run.join(RECIPE_FILE);
    if resume && !path.exists() {
        let message = format!(
            "holds no run to go on with: expected a folder with {RECIPE_FILE}; a new run is started without --resume"
        );
        return Err(Error::new(ErrorKind::Setting, message).in_file(run));
    }
    fs::create_dir_all(run)
        .map_err(|e| Error::with_source(ErrorKind::Io, "the run folder cannot be created", e).in_file(run))?;
    let lock = lock(run)?;
    match (fs::read_to_string(&path).ok(), resume) {
        (Some(_), false) => {
            let message = "holds a run already; give --resume to go on with it, or another --output";
            Err(Error::new(ErrorKind::Setting, message).in_file(run))
        }
        (Some(found), true) if found != recipe => {
            let message = "differs from the recipe and settings given; a run goes on with its own recipe only";
            Err(Error::new(ErrorKind::Setting, message).in_file(&path))
        }
        _ => Ok(lock),
    }
}

fn lock(run: &Path) -> Result<Option<File>> {
    let path = run.join(LOCK_FILE);
    let file =
        File::create(&path).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be written", e).in_file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let message = "another process trains in this folder; wait for its end, or give another --output";
            Err(Error::new(ErrorKind::Io, message).in_file(run))
        }
        Err(TryLockError::Error(error)) => {
            eprintln!(
                "note: {}: cannot be locked ({error}); take care that no other process trains there",
                run.display()
            );
            Ok(None)
        }
    }
}

/// A side of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// To learn from.
    Train,
    /// To choose the best checkpoint by.
    Validation,
}

/// What is stored of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCase {
    side: Side,
    patient: String,
    /// See [`Dataset::digests`]; empty where it is not known.
    #[serde(default)]
    sha256: String,
}

/// The split that a run was started with. It holds for as long as the run goes on, whatever becomes of the data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredSplit {
    cases: BTreeMap<String, StoredCase>,
}

/// What a run folder of an older version has.
#[derive(Deserialize)]
struct Patients {
    train: BTreeSet<String>,
    validation: BTreeSet<String>,
}

impl StoredSplit {
    /// The split of loaded cases.
    pub fn new(train: &Dataset, validation: &Dataset) -> Self {
        let mut cases = BTreeMap::new();
        for (side, data) in [(Side::Train, train), (Side::Validation, validation)] {
            for (case, sha256) in data.cases.iter().zip(&data.digests) {
                let stored = StoredCase { side, patient: case.patient.clone(), sha256: sha256.clone() };
                cases.insert(case.name.clone(), stored);
            }
        }
        Self { cases }
    }

    /// Reads the split of the run in `run`, of which `cases` are the data as they are now; `None` where the run has none yet.
    /// A run of an older version has the patients alone: all cases of these count as its own.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where a file cannot be read, [`ErrorKind::Format`] where it makes no sense.
    pub fn read(run: &Path, cases: &[Case]) -> Result<Option<Self>> {
        let wrong = |path: &Path, e| Error::with_source(ErrorKind::Format, "is no split of a run", e).in_file(path);
        let path = run.join(CASES_FILE);
        if let Some(text) = read_if_there(&path)? {
            return parse_yaml(text.as_bytes()).map(|cases| Some(Self { cases })).map_err(|e| wrong(&path, e));
        }
        let path = run.join(SPLIT_FILE);
        let Some(text) = read_if_there(&path)? else { return Ok(None) };
        let patients: Patients = parse_yaml(text.as_bytes()).map_err(|e| wrong(&path, e))?;
        let stored = cases.iter().filter_map(|case| {
            let side = if patients.train.contains(&case.patient) {
                Side::Train
            } else if patients.validation.contains(&case.patient) {
                Side::Validation
            } else {
                return None;
            };
            let stored = StoredCase { side, patient: case.patient.clone(), sha256: String::new() };
            Some((case.name.clone(), stored))
        });
        Ok(Some(Self { cases: stored.collect() }))
    }

    /// Writes the split to the run folder, for people ([`SPLIT_FILE`]) and for going on ([`CASES_FILE`]).
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where that cannot be done.
    pub fn write(&self, run: &Path) -> Result<()> {
        let mut text = String::new();
        for (title, side) in [("train", Side::Train), ("validation", Side::Validation)] {
            text += &format!("{title}:\n");
            let patients: BTreeSet<&str> =
                self.cases.values().filter(|case| case.side == side).map(|case| case.patient.as_str()).collect();
            for patient in patients {
                text += &format!("- {}\n", serde_json::Value::from(patient));
            }
        }
        write_bytes(&run.join(SPLIT_FILE), text.as_bytes())?;
        let path = run.join(CASES_FILE);
        let text = yaml_serde::to_string(&self.cases)
            .map_err(|e| Error::with_source(ErrorKind::Io, "cannot be written as YAML", e).in_file(&path))?;
        write_bytes(&path, text.as_bytes())
    }

    /// Puts `cases` on the sides where the run has them, and tells what is new, which is left out, and what is gone.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where a side is left empty, or where by now a patient is on both.
    pub fn apply(&self, cases: Vec<Case>) -> Result<(Split, Vec<String>)> {
        let mut split = Split { train: Vec::new(), validation: Vec::new() };
        let (mut new, mut there) = (Vec::new(), BTreeSet::new());
        for case in cases {
            match self.cases.get(&case.name).map(|stored| stored.side) {
                None => new.push(case.name),
                Some(side) => {
                    there.insert(case.name.clone());
                    match side {
                        Side::Train => split.train.push(case),
                        Side::Validation => split.validation.push(case),
                    }
                }
            }
        }
        let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
        let learned: BTreeMap<&str, &str> =
            split.train.iter().map(|case| (case.patient.as_str(), case.name.as_str())).collect();
        let both = split.validation.iter().find_map(|case| Some((case, *learned.get(case.patient.as_str())?)));
        if let Some((case, other)) = both {
            return fail(format!(
                "by now {} and {other} are of one patient, `{}`, but this run validates on one and learns from the other; \
                 expected the patients that it was started with, or a new run",
                case.name, case.patient
            ));
        }
        if split.train.is_empty() || split.validation.is_empty() {
            return fail(format!(
                "of the cases that this run was started with, {} to learn from and {} to validate on are left, expected one \
                 of each at least",
                split.train.len(),
                split.validation.len()
            ));
        }
        let mut notes = Vec::new();
        for (side, what) in [(Side::Train, "learned from"), (Side::Validation, "validated on")] {
            let gone = self.cases.iter().filter(|(name, case)| case.side == side && !there.contains(*name));
            let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
            if !gone.is_empty() {
                notes.push(format!("{} cases that this run {what} are gone: {}", gone.len(), first_few(&gone)));
            }
        }
        if !new.is_empty() {
            let shown = first_few(&new);
            notes.push(format!(
                "{} cases are new since this run was started, and are left out: its split holds: {shown}",
                new.len()
            ));
        }
        Ok((split, notes))
    }

    /// Names the cases of `data` whose content is another than it was.
    pub fn changed(&self, data: &Dataset) -> Vec<String> {
        let differs = |(case, digest): &(&Case, &String)| {
            self.cases.get(&case.name).is_some_and(|stored| !stored.sha256.is_empty() && stored.sha256 != **digest)
        };
        data.cases.iter().zip(&data.digests).filter(differs).map(|(case, _)| case.name.clone()).collect()
    }
}

/// One digest of all cases, their names and content: two sets that differ have different ones.
pub fn digest(data: &Dataset) -> String {
    let mut hash = Sha256::new();
    for (case, digest) in data.cases.iter().zip(&data.digests) {
        hash.update((case.name.len() as u64).to_le_bytes());
        hash.update(&case.name);
        hash.update(digest);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::with_source(ErrorKind::Io, "cannot be read", e).in_file(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, patient: &str) -> Case {
        Case { name: name.into(), patient: patient.into(), images: vec![], labels: "".into() }
    }

    fn data(cases: &[(&str, &str)]) -> Dataset {
        let cases: Vec<Case> = cases.iter().map(|(name, patient)| case(name, patient)).collect();
        let digests = cases.iter().map(|case| format!("digest of {}", case.name)).collect();
        Dataset { cases, samples: vec![], digests, spacing_known: vec![], notes: vec![] }
    }

    fn names(cases: &[Case]) -> Vec<&str> {
        cases.iter().map(|case| case.name.as_str()).collect()
    }

    #[test]
    fn the_stored_split_holds_whatever_becomes_of_the_data() {
        let run = tempfile::tempdir().unwrap();
        let (train, validation) = (data(&[("a", "1"), ("b", "1"), ("c, \"d\"", "2")]), data(&[("e", "3"), ("f", "4")]));
        let stored = StoredSplit::new(&train, &validation);
        stored.write(run.path()).unwrap();
        let text = fs::read_to_string(run.path().join(SPLIT_FILE)).unwrap();
        assert_eq!(text, "train:\n- \"1\"\n- \"2\"\nvalidation:\n- \"3\"\n- \"4\"\n");
        assert_eq!(StoredSplit::read(run.path(), &[]).unwrap(), Some(stored.clone()));

        let now = vec![case("a", "1"), case("c, \"d\"", "2"), case("e", "3"), case("x", "1"), case("y", "9")];
        let (split, notes) = stored.apply(now.clone()).unwrap();
        assert_eq!((names(&split.train), names(&split.validation)), (vec!["a", "c, \"d\""], vec!["e"]));
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].contains("1 cases that this run learned from are gone: b"), "{notes:?}");
        assert!(notes[1].contains("1 cases that this run validated on are gone: f"), "{notes:?}");
        assert!(notes[2].contains("2 cases are new since this run was started, and are left out"), "{notes:?}");

        // What an older version left behind: the patients.
        fs::remove_file(run.path().join(CASES_FILE)).unwrap();
        let older = StoredSplit::read(run.path(), &now).unwrap().unwrap();
        let (split, notes) = older.apply(now).unwrap();
        assert_eq!((names(&split.train), names(&split.validation)), (vec!["a", "c, \"d\"", "x"], vec!["e"]));
        assert!(notes.len() == 1 && notes[0].ends_with(": y"), "{notes:?}");
        fs::write(run.path().join(SPLIT_FILE), "train: 3\n").unwrap();
        assert_eq!(StoredSplit::read(run.path(), &[]).unwrap_err().kind(), ErrorKind::Format);
        fs::remove_file(run.path().join(SPLIT_FILE)).unwrap();
        assert_eq!(StoredSplit::read(run.path(), &[]).unwrap(), None);
    }

    #[test]
    fn a_patient_on_both_sides_and_an_empty_side_end_the_run() {
        let stored = StoredSplit::new(&data(&[("a", "a"), ("b", "b")]), &data(&[("c", "c")]));
        let refused = |cases: Vec<Case>| {
            let error = stored.apply(cases).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Setting);
            error.to_string()
        };
        let message = refused(vec![case("a", "p0"), case("b", "p1"), case("c", "p1")]);
        assert!(message.contains("by now c and b are of one patient, `p1`"), "{message}");
        assert!(refused(vec![case("a", "a")]).contains("1 to learn from and 0 to validate on are left"));
        // New names for the patients alone change nothing.
        assert!(stored.apply(vec![case("a", "p0"), case("b", "p0"), case("c", "p1")]).unwrap().1.is_empty());
    }

    #[test]
    fn other_content_makes_another_set() {
        let (before, mut now) = (data(&[("a", "1"), ("b", "2")]), data(&[("a", "1"), ("b", "2")]));
        let stored = StoredSplit::new(&before, &data(&[]));
        assert!(digest(&before) == digest(&now) && stored.changed(&now).is_empty());
        now.digests[1] = "another".into();
        assert!(digest(&before) != digest(&now));
        assert_eq!(stored.changed(&now), ["b"]);
        assert_ne!(digest(&data(&[("ab", "1")])), digest(&data(&[("a", "1")])));
    }

    #[test]
    fn one_process_a_folder_and_no_run_where_none_is() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let error = enter(&run, "recipe", true).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Setting && error.to_string().contains("holds no run to go on with"),
            "{error}"
        );
        assert!(!run.exists());
        let lock = enter(&run, "recipe", false).unwrap();
        let error = enter(&run, "recipe", false).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.to_string().contains("another process trains"), "{error}");
        drop(lock);
        fs::write(run.join(RECIPE_FILE), "recipe").unwrap();
        assert!(enter(&run, "recipe", false).unwrap_err().to_string().contains("holds a run already"));
        assert!(enter(&run, "other", true).unwrap_err().to_string().contains("differs from the recipe"));
        enter(&run, "recipe", true).unwrap();
    }
}
