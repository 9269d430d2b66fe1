//! Cases that look like slices or frames of one patient by their names, where nothing tells the patients: a split that parts
//! them validates on patients that were learned from.

use std::collections::BTreeMap;

use super::{Case, Split, first_few};

/// Words before a number that say what is counted.
const COUNTED: [&str; 14] =
    ["slice", "slc", "sl", "s", "frame", "fr", "f", "img", "image", "im", "z", "t", "tile", "patch"];

/// Cases that look like parts of one whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    /// What their names have in common.
    stem: String,
    /// Their names, two at least.
    names: Vec<String>,
}

/// Series among cases that are each a patient of their own. Names have to differ in a last number alone, and have a number
/// before it: `p01_slice3`, `12-007`. Without a word such as `slice` one series alone is likely a name of the whole data set.
pub(super) fn find(cases: &[Case]) -> Vec<Series> {
    let own: Vec<&Case> = cases.iter().filter(|case| case.patient == case.name).collect();
    let mut found = BTreeMap::<String, (Vec<String>, bool)>::new();
    for case in &own {
        let Some((stem, counted)) = stem(&case.name) else { continue };
        let (names, any) = found.entry(stem.to_owned()).or_default();
        names.push(case.name.clone());
        *any |= counted;
    }
    found.retain(|_, (names, _)| names.len() > 1);
    let (covered, counted) = found.values().fold((0, false), |(all, any), (names, own)| (all + names.len(), any | own));
    if 2 * covered < own.len() || found.len() < 2 && !counted {
        return Vec::new();
    }
    found.into_iter().map(|(stem, (names, _))| Series { stem, names }).collect()
}

/// A name without its last number, and whether the word before that says what is counted.
fn stem(name: &str) -> Option<(&str, bool)> {
    let separators = ['_', '-', '.', ' '];
    let without = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let before = without.trim_end_matches(separators);
    let shorter = before.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let counted = COUNTED.iter().any(|word| before[shorter.len()..].eq_ignore_ascii_case(word));
    let stem = if counted { shorter.trim_end_matches(separators) } else { before };
    (without.len() < name.len() && stem.contains(|c: char| c.is_ascii_digit())).then_some((stem, counted))
}

/// What is suspicious about series, in a sentence.
pub(super) fn finding(series: &[Series]) -> Option<String> {
    let cases: usize = series.iter().map(|series| series.names.len()).sum();
    let shown: Vec<String> =
        series.iter().map(|series| format!("{} ({} cases)", series.stem, series.names.len())).collect();
    (cases > 0).then(|| {
        format!(
            "{cases} cases look like parts of {} patients by their names: {}. Each counts as a patient of its own, and a split \
             may part them; patient_ids.csv tells the patients",
            series.len(),
            first_few(&shown)
        )
    })
}

/// What a split has parted, in a sentence.
pub(crate) fn parted(split: &Split) -> Option<String> {
    let all = [split.train.as_slice(), &split.validation].concat();
    let on_side = |series: &Series, side: &[Case]| side.iter().any(|case| series.names.contains(&case.name));
    let mut series = find(&all);
    series.retain(|series| on_side(series, &split.train) && on_side(series, &split.validation));
    let shown: Vec<String> = series.iter().map(|series| series.stem.clone()).collect();
    (!shown.is_empty()).then(|| {
        format!(
            "the split parts cases that look like parts of one patient by their names: {}; patient_ids.csv tells the patients",
            first_few(&shown)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(names: &[&str]) -> Vec<Case> {
        let case = |name: &&str| Case {
            name: name.to_string(),
            patient: name.to_string(),
            images: Vec::new(),
            labels: "".into(),
        };
        names.iter().map(case).collect()
    }

    fn stems(names: &[&str]) -> Vec<String> {
        find(&cases(names)).into_iter().map(|series| series.stem).collect()
    }

    #[test]
    fn slices_of_one_patient_are_found_by_their_names() {
        assert_eq!(stems(&["p01_slice-0", "p01_slice-1", "p02_slice-0", "p02_slice-1"]), ["p01", "p02"]);
        assert_eq!(stems(&["12-007", "12-008", "13-001", "13-002", "odd"]), ["12", "13"]);
        assert_eq!(stems(&["vol3z10", "vol3z11"]), ["vol3"], "a word says what is counted");
        for whole in [
            &["ISIC_0001", "ISIC_0002"][..],
            &["benign_1", "benign_2", "malignant_1", "malignant_2"],
            &["BraTS20_Training_001", "BraTS20_Training_002"],
            &["a", "b", "c1", "c2"],
            &["1", "2", "10"],
            &["p1_1", "p2_1", "p3_1"],
        ] {
            assert_eq!(stems(whole), Vec::<String>::new(), "{whole:?}");
        }
        let mut known = cases(&["p01_slice-0", "p01_slice-1"]);
        known.iter_mut().for_each(|case| case.patient = "p01".into());
        assert!(find(&known).is_empty());
    }

    #[test]
    fn what_is_parted_is_told() {
        let side = |names: &[&str]| cases(names);
        let kept = Split { train: side(&["p1_s1", "p1_s2"]), validation: side(&["p2_s1", "p2_s2"]) };
        assert_eq!(parted(&kept), None);
        let torn = Split { train: side(&["p1_s1", "p2_s2"]), validation: side(&["p2_s1", "p1_s2"]) };
        assert!(parted(&torn).unwrap().contains("by their names: p1; p2;"), "{:?}", parted(&torn));
        let all = find(&[torn.train, torn.validation].concat());
        assert!(
            finding(&all)
                .unwrap()
                .starts_with("4 cases look like parts of 2 patients by their names: p1 (2 cases); p2")
        );
        assert_eq!(finding(&[]), None);
    }
}
