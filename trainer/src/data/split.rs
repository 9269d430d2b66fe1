//! Splits cases into training and validation, patient by patient.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ldseg::{Error, ErrorKind, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Case, first_few};

/// Which patients are kept for validation. In a recipe: `0.1`, `40`, `[patient0001, patient0007]` or
/// `{fold: 1, of: 5}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number of patients, a fraction like 0.1, a list of patients, or a fold like {fold: 1, of: 5}"
)]
pub enum Validation {
    /// So many patients, drawn by the seed.
    Count(usize),
    /// This fraction of the patients, rounded to the nearest whole number, drawn by the seed.
    Fraction(f64),
    /// Exactly these patients.
    Patients(Vec<String>),
    /// One part of a cross-validation.
    Fold(Fold),
}

/// One fold of a cross-validation: all patients are shuffled by the seed and cut into `of` parts of nearly equal size, of
/// which part `fold` validates. Over all folds each patient validates once. Written `1/5` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// Which part, 1 to `of`.
    pub fold: usize,
    /// Number of parts, 2 or more.
    pub of: usize,
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.fold, self.of)
    }
}

/// # Errors
/// [`ErrorKind::Setting`] unless it is `I/K` with K 2 or more and I from 1 to K.
impl FromStr for Fold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (fold, of) = text.split_once('/').unwrap_or_default();
        let (Ok(fold), Ok(of)) = (fold.parse(), of.parse()) else {
            return Err(Error::new(ErrorKind::Setting, format!("`{text}` is no fold, expected I/K, such as 1/5")));
        };
        let fold = Self { fold, of };
        fold.check().map(|()| fold)
    }
}

impl Fold {
    fn check(self) -> Result<()> {
        if self.of >= 2 && (1..=self.of).contains(&self.fold) {
            return Ok(());
        }
        let message = format!("fold {self}, expected two folds or more, and one of them, counted from 1");
        Err(Error::new(ErrorKind::Setting, message))
    }

    /// This fold's patients.
    fn draw(self, patients: &BTreeSet<&str>, seed: u64) -> Result<BTreeSet<String>> {
        self.check()?;
        let count = patients.len();
        if self.of > count {
            let message = format!("fold {self} of {count} patients, expected a patient a fold at least");
            return Err(Error::new(ErrorKind::Setting, message));
        }
        let part = (self.fold - 1) * count / self.of..self.fold * count / self.of;
        Ok(shuffled(patients, seed)[part].iter().map(|patient| patient.to_string()).collect())
    }
}

/// Cases to learn from and cases to choose the best checkpoint by; no patient is in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// To learn from, sorted by name.
    pub train: Vec<Case>,
    /// To validate on, sorted by name.
    pub validation: Vec<Case>,
}

/// Splits `cases` by patient. The answer depends on the set of patients and the seed, not on the order of `cases`.
///
/// # Errors
/// [`ErrorKind::Setting`] if either side would be empty, if a fraction is outside (0, 1), if a listed patient has no
/// case, or if there is no such fold or fewer patients than folds.
pub fn split(mut cases: Vec<Case>, validation: &Validation, seed: u64) -> Result<Split> {
    let patients: BTreeSet<&str> = cases.iter().map(|case| case.patient.as_str()).collect();
    let chosen: BTreeSet<String> = match validation {
        Validation::Count(count) => draw(&patients, *count, seed)?,
        Validation::Fraction(fraction) if *fraction > 0.0 && *fraction < 1.0 => {
            draw(&patients, (fraction * patients.len() as f64).round() as usize, seed)?
        }
        Validation::Fraction(fraction) => {
            return Err(Error::new(
                ErrorKind::Setting,
                format!("validation fraction is {fraction}, expected more than 0 and less than 1"),
            ));
        }
        Validation::Patients(listed) => check_list(&patients, listed)?,
        Validation::Fold(fold) => fold.draw(&patients, seed)?,
    };
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    let (validation, train) = cases.into_iter().partition(|case| chosen.contains(&case.patient));
    Ok(Split { train, validation })
}

/// Draws `count` of the patients.
fn draw(patients: &BTreeSet<&str>, count: usize, seed: u64) -> Result<BTreeSet<String>> {
    check_count(patients, count)?;
    Ok(shuffled(patients, seed)[..count].iter().map(|patient| patient.to_string()).collect())
}

fn shuffled<'a>(patients: &BTreeSet<&'a str>, seed: u64) -> Vec<&'a str> {
    let mut order: Vec<&str> = patients.iter().copied().collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

/// The listed patients, if all of them are there.
fn check_list(patients: &BTreeSet<&str>, listed: &[String]) -> Result<BTreeSet<String>> {
    let unknown: Vec<String> = listed.iter().filter(|patient| !patients.contains(patient.as_str())).cloned().collect();
    if !unknown.is_empty() {
        let message = format!("{} listed validation patients have no case: {}", unknown.len(), first_few(&unknown));
        return Err(Error::new(ErrorKind::Setting, message));
    }
    let chosen: BTreeSet<String> = listed.iter().cloned().collect();
    check_count(patients, chosen.len())?;
    Ok(chosen)
}

/// Both sides need a patient.
fn check_count(patients: &BTreeSet<&str>, count: usize) -> Result<()> {
    if count == 0 || count >= patients.len() {
        let message = format!(
            "the split would put {count} of {} patients into validation, expected at least one there and one in training",
            patients.len()
        );
        return Err(Error::new(ErrorKind::Setting, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(patients: usize, per_patient: usize) -> Vec<Case> {
        let case = |index: usize| Case {
            name: format!("p{}_{index}", index / per_patient),
            patient: format!("p{}", index / per_patient),
            images: vec![],
            labels: "".into(),
        };
        (0..patients * per_patient).map(case).collect()
    }

    #[test]
    fn no_patient_is_on_both_sides_and_file_order_plays_no_part() {
        let mut reversed = cases(20, 4);
        reversed.reverse();
        let split_a = split(cases(20, 4), &Validation::Fraction(0.25), 7).unwrap();
        assert_eq!(split_a, split(reversed, &Validation::Count(5), 7).unwrap());
        assert_eq!((split_a.train.len(), split_a.validation.len()), (60, 20));
        let train: BTreeSet<_> = split_a.train.iter().map(|case| &case.patient).collect();
        assert!(split_a.validation.iter().all(|case| !train.contains(&case.patient)));
        assert_ne!(split_a, split(cases(20, 4), &Validation::Count(5), 8).unwrap());
    }

    #[test]
    fn takes_a_list_and_refuses_empty_sides() {
        let listed = |names: &[&str]| Validation::Patients(names.iter().map(|name| name.to_string()).collect());
        let by_list = split(cases(3, 2), &listed(&["p1"]), 0).unwrap();
        assert_eq!(by_list.validation.len(), 2);
        for refused in [
            listed(&["p9"]),
            listed(&[]),
            listed(&["p0", "p1", "p2"]),
            Validation::Count(0),
            Validation::Count(3),
            Validation::Fraction(0.1),
            Validation::Fraction(1.0),
        ] {
            assert_eq!(split(cases(3, 2), &refused, 0).unwrap_err().kind(), ErrorKind::Setting);
        }
    }

    #[test]
    fn every_patient_validates_in_one_fold_and_none_straddles() {
        for (patients, of) in [(23, 5), (4, 4), (9, 2)] {
            let mut seen = Vec::new();
            for fold in 1..=of {
                let part = split(cases(patients, 3), &Validation::Fold(Fold { fold, of }), 7).unwrap();
                assert_eq!(part.train.len() + part.validation.len(), patients * 3);
                let here: BTreeSet<String> = part.validation.iter().map(|case| case.patient.clone()).collect();
                assert_eq!(part.validation.len(), here.len() * 3);
                assert!((patients / of..=patients.div_ceil(of)).contains(&here.len()), "{} of {patients}", here.len());
                assert!(part.train.iter().all(|case| !here.contains(&case.patient)));
                seen.extend(here);
            }
            assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (patients, patients));
        }
        let first = |seed| split(cases(23, 1), &Validation::Fold(Fold { fold: 1, of: 5 }), seed).unwrap();
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
    }

    #[test]
    fn refuses_folds_that_there_are_not() {
        assert_eq!("2/5".parse::<Fold>().unwrap(), Fold { fold: 2, of: 5 });
        for text in ["", "3", "0/5", "6/5", "1/1", "1/0", "a/5", "1/5/2", "-1/5"] {
            assert_eq!(text.parse::<Fold>().unwrap_err().kind(), ErrorKind::Setting, "{text}");
        }
        for (fold, of) in [(1, 4), (0, 3), (4, 3), (1, 1), (1, 0)] {
            let error = split(cases(3, 2), &Validation::Fold(Fold { fold, of }), 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Setting, "{error}");
        }
        assert!(yaml_serde::from_str::<Validation>("{fold: 1, of: 5, more: 1}").is_err());
    }

    #[test]
    fn reads_the_four_forms() {
        let read = |text: &str| yaml_serde::from_str::<Validation>(text).unwrap();
        assert_eq!(read("0.1"), Validation::Fraction(0.1));
        assert_eq!(read("40"), Validation::Count(40));
        assert_eq!(read("[a, b]"), Validation::Patients(vec!["a".into(), "b".into()]));
        let fold = Validation::Fold(Fold { fold: 1, of: 5 });
        assert_eq!(read("{fold: 1, of: 5}"), fold);
        assert_eq!(read(&yaml_serde::to_string(&fold).unwrap()), fold);
    }
}
