//! The shape of every JSON document: its keys, and what kind of value each has. The snapshots are in `tests/snapshots`;
//! `UPDATE_EXPECT=1` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fs};

use serde_json::{Map, Value, json};

use crate::support::{command, fixture, ldseg, repository};

/// What stands for one value or for several in the same place.
#[derive(Debug, Clone, Default)]
struct Shape {
    /// Kinds of values that are neither lists nor maps, and texts.
    kinds: BTreeSet<String>,
    list: Option<Box<Shape>>,
    map: Option<Keys>,
}

/// Keys of a map or of several, each with whether all of them have it.
type Keys = BTreeMap<String, (bool, Shape)>;

impl Shape {
    /// A number counts by its kind alone, a text as it is but for folders and numbers.
    fn of(value: &Value, hidden: &[(PathBuf, &str)]) -> Self {
        let kind = |name: &str| Self { kinds: [name.to_owned()].into(), ..Self::default() };
        match value {
            Value::Null => kind("null"),
            Value::Bool(_) => kind("true or false"),
            Value::Number(number) if number.is_f64() => kind("number"),
            Value::Number(_) => kind("integer"),
            Value::String(text) => kind(&format!("'{}'", masked(text, hidden))),
            Value::Array(values) => {
                let shapes = values.iter().map(|value| Self::of(value, hidden));
                Self { list: Some(Box::new(shapes.reduce(Self::or).unwrap_or_default())), ..Self::default() }
            }
            // Class indices are no keys of ours.
            Value::Object(map) if !map.is_empty() && map.keys().all(|key| key.parse::<u8>().is_ok()) => {
                let shapes = map.values().map(|value| Self::of(value, hidden));
                let class = ("class index".to_owned(), (true, shapes.reduce(Self::or).unwrap_or_default()));
                Self { map: Some([class].into()), ..Self::default() }
            }
            Value::Object(map) => {
                let keys = map.iter().map(|(key, value)| (key.clone(), (true, Self::of(value, hidden))));
                Self { map: Some(keys.collect()), ..Self::default() }
            }
        }
    }

    /// What stands for both.
    fn or(mut self, other: Self) -> Self {
        self.kinds.extend(other.kinds);
        if self.kinds.contains("number") {
            self.kinds.remove("integer");
        }
        // Texts that differ are data, not words of the document.
        if self.kinds.iter().filter(|kind| kind.starts_with('\'')).count() > 1 {
            self.kinds.retain(|kind| !kind.starts_with('\''));
            self.kinds.insert("text".into());
        }
        if self.kinds.contains("text") {
            self.kinds.retain(|kind| !kind.starts_with('\''));
        }
        self.list = match (self.list, other.list) {
            (Some(a), Some(b)) => Some(Box::new(a.or(*b))),
            (a, b) => a.or(b),
        };
        self.map = match (self.map, other.map) {
            (Some(a), Some(b)) => Some(either(a, b)),
            (a, b) => a.or(b),
        };
        self
    }

    /// A key that not every map has ends in `?`.
    fn to_json(&self) -> Value {
        let kinds = self.kinds.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
        let list = self.list.as_ref().map(|shape| match shape.to_json() {
            Value::Null => json!([]),
            value => json!([value]),
        });
        let map = self.map.as_ref().map(|keys| {
            let name = |key: &String, always: bool| if always { key.clone() } else { format!("{key}?") };
            let keys = keys.iter().map(|(key, (always, shape))| (name(key, *always), shape.to_json()));
            Value::Object(keys.collect::<Map<_, _>>())
        });
        let several = (!kinds.is_empty()).then_some(Value::String(kinds)).into_iter().chain(list).chain(map);
        match several.collect::<Vec<_>>().as_slice() {
            [] => Value::Null,
            [one] => one.clone(),
            several => json!({ "one of": several }),
        }
    }
}

fn either(a: Keys, mut b: Keys) -> Keys {
    let mut keys: Keys = a
        .into_iter()
        .map(|(key, (always, shape))| match b.remove(&key) {
            Some((also, other)) => (key, (always && also, shape.or(other))),
            None => (key, (false, shape)),
        })
        .collect();
    keys.extend(b.into_iter().map(|(key, (_, shape))| (key, (false, shape))));
    keys
}

/// A text without what differs from run to run or from machine to machine.
fn masked(text: &str, hidden: &[(PathBuf, &str)]) -> String {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "SHA-256".into();
    }
    // A date, a version, or a row of numbers.
    if text.contains(|c: char| c.is_ascii_digit()) && text.chars().all(|c| !c.is_alphabetic() || c == 'e') {
        return "#".into();
    }
    let mut text = text.to_owned();
    for (folder, name) in hidden {
        text = text.replace(&folder.display().to_string(), name);
    }
    // A point is part of a number where a digit follows.
    let (mut masked, mut number) = (String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let digit = |c: &char| c.is_ascii_digit();
        match (number, digit(&c) || number && c == '.' && letters.peek().is_some_and(digit)) {
            (true, true) => {}
            (false, true) => masked.push('#'),
            (_, false) => masked.push(c),
        }
        number = digit(&c) || number && c == '.';
    }
    masked
}

/// A folder for one test, and what its documents look like.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of a fixture.
    fn fixture(&self, name: &str) -> PathBuf {
        fixture(name, &self.path(name));
        self.path(name)
    }

    fn shape(&self, text: &str) -> Shape {
        let start: String = text.chars().filter(|c| !c.is_whitespace()).take(19).collect();
        assert_eq!(start, r#"{"schema_version":1"#, "{text}");
        let root = repository("");
        let hidden = [(self.folder.path().to_path_buf(), "FOLDER"), (root, "REPOSITORY/")];
        Shape::of(&serde_json::from_str(text).unwrap(), &hidden)
    }

    /// Holds the shape of `documents`, all of one kind, to the snapshot `name`.
    fn check(&self, name: &str, documents: &[&str]) {
        let shape = documents.iter().map(|text| self.shape(text)).reduce(Shape::or).unwrap();
        let path = repository("tests/snapshots").join(format!("{name}.json"));
        let found = format!("{}\n", serde_json::to_string_pretty(&sorted(&shape.to_json())).unwrap());
        if env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "{name}.json is not the shape of this document; where that is meant, UPDATE_EXPECT=1 writes it anew, and \
             docs/json.md, perhaps SCHEMA_VERSION, change too.\nexpected:\n{expected}\nfound:\n{found}"
        );
        every_key_is_documented(name, &shape);
    }
}

/// Keys in the order of their names, whichever order serde_json was built to keep.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let keys: BTreeMap<_, _> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            Value::Object(keys.into_iter().collect())
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// docs/json.md names every key, docs/bundle.md those of a manifest.
fn every_key_is_documented(name: &str, shape: &Shape) {
    let pages = ["docs/json.md", "docs/bundle.md"].map(|page| fs::read_to_string(repository(page)).unwrap());
    let pages = if name == "info_bundle" { &pages[..] } else { &pages[..1] };
    let mut keys = BTreeSet::new();
    collect_keys(shape, &mut keys);
    let ours = |key: &&String| key.starts_with(|c: char| c.is_ascii_lowercase()) && !key.contains([' ', '.']);
    let named =
        |key: &str| pages.iter().any(|page| page.contains(&format!("`{key}`")) || page.contains(&format!("\"{key}\"")));
    let missing: Vec<_> = keys.iter().filter(ours).filter(|key| !named(key)).collect();
    assert!(missing.is_empty(), "{name}: the documentation does not name the keys {missing:?}");
}

fn collect_keys(shape: &Shape, keys: &mut BTreeSet<String>) {
    shape.list.iter().for_each(|shape| collect_keys(shape, keys));
    for (key, (_, shape)) in shape.map.iter().flatten() {
        keys.insert(key.clone());
        collect_keys(shape, keys);
    }
}

#[test]
fn segment() {
    let place = Place::new();
    let (bundle, cine) = (repository("models/echo"), repository("models/examples/echo-phantom.gif"));
    let (still, torn, output) = (place.path("still.png"), place.path("torn.png"), place.path("out"));
    let frame = ldseg_io::read_recording(&cine).unwrap().frame(3).unwrap().into_owned().into_grey();
    let pixels: Vec<u8> = frame.data.iter().map(|&value| value as u8).collect();
    image::save_buffer(&still, &pixels, 224, 224, image::ColorType::L8).unwrap();
    fs::write(&torn, "no picture").unwrap();
    let run = |inputs: &[&Path], more: &[&str]| {
        let mut arguments: Vec<&dyn AsRef<OsStr>> = vec![&"segment", &"--bundle", &bundle, &"--output", &output];
        arguments.extend([&"--json" as &dyn AsRef<OsStr>, &"--measure"]);
        arguments.extend(inputs.iter().map(|input| input as &dyn AsRef<OsStr>));
        arguments.extend(more.iter().map(|word| word as &dyn AsRef<OsStr>));
        ldseg(&arguments).stdout
    };
    let full = ["--pixel-spacing", "0.8", "--overlay", "--uncertainty"];
    let timed = ["--pixel-spacing", "0.8", "--deadline-ms", "1000", "--warm-start", "on"];
    let sampled = ["--pixel-spacing", "0.8", "--keep-samples", "--samples", "2", "--crop-sector"];
    place.check("segment_still", &[&run(&[&still], &full)]);
    place.check("segment_file", &[&fs::read_to_string(output.join("still.json")).unwrap()]);
    place.check("segment_cine", &[&run(&[&cine], &full)]);
    place.check("segment_cine_with_deadline", &[&run(&[&cine], &timed)]);
    place.check("segment_cine_of_samples", &[&run(&[&cine], &sampled)]);
    place.check("segment_unknown_spacing", &[&run(&[&still], &[])]);
    place.check("segment_failed", &[&run(&[&torn], &[])]);
    place.check("segment_skipped", &[&run(&[&still], &["--skip-done"])]);
}

#[test]
fn stream() {
    let place = Place::new();
    let (bundle, frames, output) = (place.fixture("echo"), place.fixture("echo-data"), place.path("out"));
    fs::write(frames.join("torn.png"), "no picture").unwrap();
    let arguments: [&dyn AsRef<OsStr>; 15] = [
        &"stream",
        &"--bundle",
        &bundle,
        &"--watch",
        &frames,
        &"--idle-seconds",
        &"0.3",
        &"--when-full",
        &"wait",
        &"--output",
        &output,
        &"--deadline-ms",
        &"1000",
        &"--samples",
        &"1",
    ];
    let text = String::from_utf8(command("ldseg", &arguments).stdin(Stdio::null()).output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (end, lines) = lines.split_last().unwrap();
    let (failed, answers): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.contains("\"error\""));
    place.check("stream_answer", &answers);
    place.check("stream_failed", &failed);
    place.check("stream_end", &[end]);
}

#[test]
fn measure() {
    let place = Place::new();
    let (bundle, cine, output) =
        (repository("models/echo"), repository("models/examples/echo-phantom.gif"), place.path("out"));
    ldseg(&[&"segment", &cine, &"--bundle", &bundle, &"--output", &output]).ok();
    let (labels, classes) = (output.join("echo-phantom.nii.gz"), bundle.join("manifest.yaml"));
    let run = |more: &[&dyn AsRef<OsStr>]| {
        let common: [&dyn AsRef<OsStr>; 6] =
            [&"measure", &"--json", &"--classes", &classes, &"--four-chamber", &labels];
        ldseg(&[&common, more].concat()).ok()
    };
    place.check("measure_one_view", &[&run(&[])]);
    place.check("measure_two_views", &[&run(&[&"--two-chamber", &labels, &"--pixel-spacing", &"0.8"])]);
}

#[test]
fn bundles_and_images() {
    let place = Place::new();
    let (bundle, volumes, volume) = (place.fixture("echo"), place.fixture("knee"), place.fixture("knee-data"));
    let echo = repository("models/echo");
    let (cine, volume) = (repository("models/examples/echo-phantom.gif"), volume.join("phantom0001.nii.gz"));
    let info = |path: &Path| ldseg(&[&"info", &path, &"--json"]).ok();
    place.check("info_bundle", &[&info(&bundle), &info(&volumes), &info(&echo)]);
    place.check("info_cine", &[&info(&cine)]);
    place.check("info_volume", &[&info(&volume)]);
    place.check("verify", &[&ldseg(&[&"verify", &"--bundle", &bundle, &"--json"]).ok()]);
    place.check("bench", &[&ldseg(&[&"bench", &"--bundle", &bundle, &"--runs", &"1", &"--json"]).ok()]);
}

#[test]
fn scores() {
    let place = Place::new();
    let (bundle, data, predictions) = (place.fixture("echo"), place.fixture("echo-data"), place.path("out"));
    let (metrics, robustness) = (place.path("metrics.json"), place.path("robustness"));
    let segment: [&dyn AsRef<OsStr>; 9] =
        [&"segment", &data, &"--bundle", &bundle, &"--output", &predictions, &"--keep-samples", &"--samples", &"2"];
    ldseg(&segment).ok();
    fs::write(predictions.join("torn.png"), "no picture").unwrap();
    fs::copy(data.join("phantom0001_ED_gt.png"), data.join("torn_gt.png")).unwrap();
    let (recipe, spacing) = (repository("models/recipes/echo.yaml"), "0.5,0.5");
    let evaluate: [&dyn AsRef<OsStr>; 14] = [
        &"evaluate",
        &"--predictions",
        &predictions,
        &"--labels",
        &data,
        &"--output",
        &metrics,
        &"--classes",
        &recipe,
        &"--surface",
        &"both",
        &"--spacing",
        &spacing,
        &"--json",
    ];
    let printed = ldseg(&evaluate).stdout;
    let written = fs::read_to_string(&metrics).unwrap();
    assert_eq!(printed.trim_end(), written.trim_end());
    place.check("evaluate", &[&written]);

    fs::write(data.join("torn.png"), "no picture").unwrap();
    let study: [&dyn AsRef<OsStr>; 14] = [
        &"robustness",
        &"--bundle",
        &bundle,
        &"--images",
        &data,
        &"--labels",
        &data,
        &"--output",
        &robustness,
        &"--corruptions",
        &"gaussian",
        &"--levels",
        &"1",
        &"--json",
    ];
    let printed = ldseg(&study).stdout;
    let written = fs::read_to_string(robustness.join("robustness.json")).unwrap();
    assert_eq!(printed.trim_end(), written.trim_end());
    place.check("robustness", &[&written]);
}

/// The report reads what other commands write, and no other version of it.
#[test]
fn a_document_of_another_version_is_refused() {
    let place = Place::new();
    let (bundle, output) = (place.fixture("echo"), place.path("report.html"));
    let bench = ldseg(&[&"bench", &"--bundle", &bundle, &"--runs", &"1", &"--json"]).ok();
    let reads = |text: &str| {
        let path = place.path("bench.json");
        fs::write(&path, text).unwrap();
        ldseg(&[&"report", &"--bundle", &bundle, &"--benchmark", &path, &"--output", &output])
    };
    reads(&bench).ok();
    fs::remove_file(&output).unwrap();
    for (other, expected) in [
        (bench.replacen("\"schema_version\": 1", "\"schema_version\": 2", 1), "has schema_version 2, expected 1"),
        (bench.replacen("\"schema_version\": 1,", "", 1), "has no schema_version, expected 1"),
    ] {
        assert_ne!(other, bench);
        let ran = reads(&other);
        assert!(ran.code == Some(1) && ran.stderr.contains("bench.json: "), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert!(!output.exists());
    }
}
