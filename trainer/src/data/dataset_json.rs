//! nnU-Net's `dataset.json`, both versions, and what it says that the files alone do not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ldseg::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::recipe::ClassRecipe;

/// nnU-Net's name of the label whose voxels are left out of the loss.
const IGNORE: &str = "ignore";

/// What a `dataset.json` declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Number of channels, where they are named.
    pub channels: Option<usize>,
    /// Names of the label values. Of a value that regions alone speak of, the names of its regions.
    pub names: BTreeMap<u8, String>,
    /// The value whose voxels nnU-Net leaves out of the loss.
    pub ignore: Option<u8>,
    /// Regions, which overlap, with their values.
    pub regions: Vec<(String, Vec<u8>)>,
    /// `numTraining`.
    pub cases: Option<usize>,
}

impl Declared {
    /// Reads the file. Labels are `{"name": 1}` or `{"name": [1, 2]}` (nnU-Net v2), or `{"1": "name"}` (v1, and the Medical
    /// Segmentation Decathlon).
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where it cannot be read, [`ErrorKind::Format`] where it is not JSON or has a label that is neither.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be read", e).in_file(path))?;
        let document: Value = serde_json::from_slice(&text)
            .map_err(|e| Error::with_source(ErrorKind::Format, "is not nnU-Net's dataset.json", e).in_file(path))?;
        Self::parse(&document).map_err(|e| e.in_file(path))
    }

    fn parse(document: &Value) -> Result<Self> {
        let channels = ["channel_names", "modality"].into_iter().find_map(|key| document[key].as_object());
        let mut declared = Self {
            channels: channels.map(serde_json::Map::len),
            cases: document["numTraining"].as_u64().map(|cases| cases as usize),
            ..Self::default()
        };
        for (key, value) in document["labels"].as_object().into_iter().flatten() {
            declared.label(key, value)?;
        }
        declared.name_regions();
        Ok(declared)
    }

    fn label(&mut self, key: &str, value: &Value) -> Result<()> {
        let wrong = || {
            let message = format!(
                "labels has `{key}: {value}`, expected a name with a value from 0 to 255 or a list of such values"
            );
            Error::new(ErrorKind::Format, message)
        };
        let number = |value: &Value| value.as_u64().and_then(|value| u8::try_from(value).ok());
        let (name, number) = match value {
            Value::String(name) => (name.as_str(), key.parse().map_err(|_| wrong())?),
            Value::Array(values) => {
                let values = values.iter().map(number).collect::<Option<Vec<u8>>>().ok_or_else(wrong)?;
                self.regions.push((key.to_owned(), values));
                return Ok(());
            }
            value => (key, number(value).ok_or_else(wrong)?),
        };
        if name == IGNORE {
            self.ignore = Some(number);
        }
        if let Some(other) = self.names.insert(number, name.to_owned()) {
            let message = format!("labels gives the value {number} to `{other}` and to `{name}`");
            return Err(Error::new(ErrorKind::Format, message));
        }
        Ok(())
    }

    /// Names each value that regions alone speak of by these.
    fn name_regions(&mut self) {
        let values: std::collections::BTreeSet<u8> =
            self.regions.iter().flat_map(|(_, values)| values).copied().collect();
        for value in values.into_iter().filter(|value| !self.names.contains_key(value)).collect::<Vec<_>>() {
            let holding = self.regions.iter().filter(|(_, values)| values.contains(&value));
            let names: Vec<&str> = holding.map(|(name, _)| name.as_str()).collect();
            self.names.insert(value, names.join(" and "));
        }
    }

    /// What has to be known of the classes of a recipe.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] for a class of voxels that are to be ignored.
    pub fn check_classes(&self, classes: &[ClassRecipe]) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if let Some(ignore) = self.ignore
            && let Some(class) = classes.iter().find(|class| class.values.contains(&ignore))
        {
            let what =
                format!("dataset.json calls the label value {ignore} `ignore`: voxels that say nothing of a class");
            if class.values == [ignore] {
                let message = format!(
                    "{what}; they are no class to learn, and leaving them out of the loss is not supported: add the value to \
                     another class, or leave out these cases"
                );
                return Err(Error::new(ErrorKind::Setting, message));
            }
            notes.push(format!("{what}; this recipe trains them as `{}`", class.name));
        }
        notes.extend(self.region_note());
        Ok(notes)
    }

    /// That there are regions, if there are.
    pub fn region_note(&self) -> Option<String> {
        let shown = |(name, values): &(String, Vec<u8>)| format!("`{name}` {values:?}");
        let regions: Vec<String> = self.regions.iter().map(shown).collect();
        (!regions.is_empty()).then(|| {
            format!(
                "dataset.json has regions, which overlap: {}; classes here are the stored values, each voxel has one",
                regions.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Declared> {
        Declared::parse(&serde_json::from_str(text).unwrap())
    }

    fn names(declared: &Declared) -> Vec<(u8, &str)> {
        declared.names.iter().map(|(value, name)| (*value, name.as_str())).collect()
    }

    fn class(name: &str, values: &[u8]) -> ClassRecipe {
        ClassRecipe { name: name.into(), colour: [0; 3], values: values.into(), unsure_below: None }
    }

    #[test]
    fn both_versions_name_labels_and_channels() {
        let second =
            parse(r#"{"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "a": 1}}"#).unwrap();
        assert_eq!((second.channels, names(&second)), (Some(2), vec![(0, "background"), (1, "a")]));
        let first = parse(r#"{"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}, "numTraining": 7}"#);
        let first = first.unwrap();
        assert_eq!((first.channels, first.cases), (Some(1), Some(7)));
        assert_eq!(names(&first), names(&second));
        assert_eq!(parse("{}").unwrap(), Declared::default());
        for (labels, expected) in [
            (r#"{"a": 300}"#, "labels has `a: 300`"),
            (r#"{"a": 1.5}"#, "labels has `a: 1.5`"),
            (r#"{"a": [1, -1]}"#, "labels has `a: [1,-1]`"),
            (r#"{"x": "a"}"#, "labels has `x: \"a\"`"),
            (r#"{"a": 1, "b": 1}"#, "labels gives the value 1 to `a` and to `b`"),
        ] {
            let error = parse(&format!(r#"{{"labels": {labels}}}"#)).unwrap_err();
            assert!(error.kind() == ErrorKind::Format && error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_to_be_ignored_is_no_class_to_learn() {
        let declared = parse(r#"{"labels": {"background": 0, "a": 1, "ignore": 2}}"#).unwrap();
        assert_eq!(declared.ignore, Some(2));
        let own = [class("background", &[0]), class("a", &[1]), class("ignore", &[2])];
        let error = declared.check_classes(&own).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Setting && error.to_string().contains("the label value 2 `ignore`"),
            "{error}"
        );
        let joined = [class("background", &[0, 2]), class("a", &[1])];
        let notes = declared.check_classes(&joined).unwrap();
        assert!(notes.len() == 1 && notes[0].ends_with("trains them as `background`"), "{notes:?}");
        assert!(declared.check_classes(&own[..2]).unwrap().is_empty());
    }

    #[test]
    fn regions_are_named_and_told() {
        let declared =
            parse(r#"{"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}"#);
        let declared = declared.unwrap();
        assert_eq!(names(&declared), [(0, "background"), (1, "whole"), (2, "core and whole")]);
        let notes = declared.check_classes(&[class("background", &[0]), class("a", &[1, 2])]).unwrap();
        assert!(notes[0].contains("regions, which overlap: `core` [2], `whole` [1, 2]"), "{notes:?}");
    }
}
