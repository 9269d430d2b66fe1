//! Which stored values stand for which class.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use yaml_serde::Value;

use ldseg::bundle::Measure;
use ldseg::document::parse_yaml;
use ldseg::image::{Image, Labels};
use ldseg::{Error, ErrorKind, Result};
use ldseg_recording::PreparedLabels;

/// A class; its place in the list is its index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClassSpec {
    /// Its name.
    pub name: String,
    /// The values that stand for it in reference label maps; its index where there are none.
    #[serde(default)]
    pub values: Vec<u8>,
}

/// Reads the classes from YAML or JSON: a list of `{name, values}` in index order, background first, or any document that
/// has it under `classes`, such as a recipe or a bundle's manifest. Other keys are left alone; without `values` a class is
/// stored as its index.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be read; [`ErrorKind::Setting`] where it holds no such list, fewer than 2 or
/// more than 256 classes, or one value for two classes.
pub fn read_classes(path: &Path) -> Result<Vec<ClassSpec>> {
    let text = fs::read_to_string(path)
        .map_err(|e| Error::with_source(ErrorKind::Io, "the classes cannot be read", e).in_file(path))?;
    parse(&text).map_err(|e| e.in_file(path))
}

/// Reads what a manifest or recipe declares to be measured: the list under `measures`, empty where there is none.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be read; [`ErrorKind::Setting`] where `measures` is no list of measures.
pub fn read_measures(path: &Path) -> Result<Vec<Measure>> {
    let text = fs::read_to_string(path)
        .map_err(|e| Error::with_source(ErrorKind::Io, "the measures cannot be read", e).in_file(path))?;
    let wrong = |e| Error::with_source(ErrorKind::Setting, "`measures` is no list of measures", e).in_file(path);
    let mut document: Value = parse_yaml(text.as_bytes()).map_err(wrong)?;
    match document.get_mut("measures") {
        Some(list) => yaml_serde::from_value(std::mem::take(list)).map_err(wrong),
        None => Ok(Vec::new()),
    }
}

fn parse(text: &str) -> Result<Vec<ClassSpec>> {
    let wrong = |e| Error::with_source(ErrorKind::Setting, "is no list of classes with names and values", e);
    let mut document: Value = parse_yaml(text.as_bytes()).map_err(wrong)?;
    if let Some(list) = document.get_mut("classes") {
        document = std::mem::take(list);
    }
    let mut classes: Vec<ClassSpec> = yaml_serde::from_value(document).map_err(wrong)?;
    let fail = |message: String| Err(Error::new(ErrorKind::Setting, message));
    if !(2..=256).contains(&classes.len()) {
        return fail(format!("lists {} classes, expected 2 to 256 with the background", classes.len()));
    }
    let mut owner: [Option<usize>; 256] = [None; 256];
    for (index, class) in classes.iter_mut().enumerate() {
        if class.values.is_empty() {
            class.values.push(index as u8);
        }
        for value in &class.values {
            if let Some(other) = owner[usize::from(*value)].replace(index) {
                return fail(format!("value {value} stands for class {other} and for class {index}"));
            }
        }
    }
    Ok(classes)
}

/// Reads a label map as class indices: its values are mapped as `classes` says, else they are indices below `count`.
///
/// # Errors
/// Those of [`PreparedLabels::open`]; [`ErrorKind::Format`] for a value that is of no class.
pub fn reference_labels(path: &Path, classes: Option<&[ClassSpec]>, count: usize) -> Result<Labels> {
    class_indices(PreparedLabels::open(path)?.labels(), path, classes, count)
}

/// The values of the label map in the file `path` as class indices, as [`reference_labels`].
///
/// # Errors
/// [`ErrorKind::Format`], naming the file, for a value that is of no class.
pub fn class_indices(mut labels: Labels, path: &Path, classes: Option<&[ClassSpec]>, count: usize) -> Result<Labels> {
    let checked = match classes {
        Some(classes) => reference_to_classes(&mut labels, classes),
        None => check_indices(&labels, count),
    };
    checked.map(|()| labels).map_err(|e| e.in_file(path))
}

/// [`reference_labels`] of an image, turned to the way round in which the image is stored; `image` is in the file `path`.
///
/// # Errors
/// Those of [`reference_labels`]; [`ErrorKind::ShapeMismatch`], naming the image, where the two do not lie on one grid.
pub fn labels_of(
    image: &Image,
    path: &Path,
    labels: &Path,
    classes: Option<&[ClassSpec]>,
    count: usize,
) -> Result<Labels> {
    let opened = PreparedLabels::open(labels)?;
    let turn = image.turn_onto(opened.image()).map_err(|difference| {
        let message = difference.message(format_args!("its label map {}", labels.display()));
        Error::new(ErrorKind::ShapeMismatch, message).in_file(path)
    })?;
    Ok(turn.inverse().array(class_indices(opened.labels(), labels, classes, count)?))
}

/// Maps the stored values of a reference to class indices.
pub(super) fn reference_to_classes(labels: &mut Labels, classes: &[ClassSpec]) -> Result<()> {
    let mut class_of = [None; 256];
    for (index, class) in classes.iter().enumerate() {
        class.values.iter().for_each(|value| class_of[usize::from(*value)] = Some(index as u8));
    }
    let mut unknown = None;
    labels.mapv_inplace(|value| {
        class_of[usize::from(value)].unwrap_or_else(|| {
            unknown = Some(value);
            0
        })
    });
    let Some(value) = unknown else { return Ok(()) };
    let known: Vec<&[u8]> = classes.iter().map(|class| class.values.as_slice()).collect();
    let message = format!("holds the value {value}, expected one of the classes' {:?}", known.concat());
    Err(Error::new(ErrorKind::Format, message))
}

/// Checks that a prediction holds class indices.
pub(super) fn check_indices(labels: &Labels, classes: usize) -> Result<()> {
    match labels.iter().find(|label| usize::from(**label) >= classes) {
        None => Ok(()),
        Some(label) => {
            let message = format!("holds the value {label}, expected class indices below {classes}");
            Err(Error::new(ErrorKind::Format, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn reads_lists_recipes_and_manifests() {
        let recipe =
            "name: x\nclasses:\n- {name: tissue, colour: [0, 0, 0], values: [0]}\n- {name: gland, values: [255, 7]}";
        let classes = parse(recipe).unwrap();
        assert_eq!((classes[1].name.as_str(), classes[1].values.as_slice()), ("gland", &[255, 7][..]));
        assert_eq!(parse("[{\"name\": \"a\"}, {\"name\": \"b\"}]").unwrap()[1].values, [1]);
        for (text, expected) in [
            ("classes: [{name: a}]", "lists 1 classes"),
            ("[{name: a, values: [1]}, {name: b}]", "value 1 stands for class 0 and for class 1"),
            ("classes: 3", "is no list of classes"),
            ("[{name: a}, {name: b, values: [300]}]", "is no list of classes"),
            ("{", "is no list of classes"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.kind() == ErrorKind::Setting && error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn values_become_indices() {
        let classes = parse("[{name: a}, {name: b, values: [255, 7]}]").unwrap();
        let mut labels = array![[0, 255], [7, 0]].into_dyn();
        reference_to_classes(&mut labels, &classes).unwrap();
        assert_eq!(labels, array![[0, 1], [1, 0]].into_dyn());
        let error = reference_to_classes(&mut array![[0, 8]].into_dyn(), &classes).unwrap_err();
        assert_eq!(error.to_string(), "holds the value 8, expected one of the classes' [0, 255, 7]");
        assert!(check_indices(&labels, 2).is_ok() && check_indices(&labels, 1).is_err());
    }
}
