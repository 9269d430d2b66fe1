//! Looks at a data set before anything is trained on it: what it holds, what is suspicious, and a recipe to start from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use ldseg::files::write_bytes;
use ldseg::image::{Orientation, OrientationPolicy};
use ldseg::threads::on_all_cores;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{Palettes, read_files};
use ldseg_recording::PreparedLabels;

use super::Declared;
use super::dataset::onto_image;
use super::discover::{Case, Layout, find};
use super::first_few;
use super::labels::{StoredTwice, vanished_at};
use super::series;
use crate::recipe::{Recipe, Training};

/// A class that fewer than this part of the cases hold may be a slip of the annotator's.
const RARE: f64 = 0.01;
/// Spacings that differ from the median by more than this factor are suspicious.
const SPACING_FACTOR: f64 = 2.0;

/// What a data set holds.
#[derive(Debug, Clone)]
pub struct Inspection {
    layout: Layout,
    patients: usize,
    cases: Vec<Looked>,
    /// Whether some file tells its spacing.
    has_spacing: bool,
    /// What `dataset.json` says, where there is one.
    declared: Declared,
    /// What was left out of its folders.
    left_out: Vec<String>,
    /// What is suspicious, a sentence each, naming the files.
    pub findings: Vec<String>,
}

/// What one readable case holds.
#[derive(Debug, Clone)]
struct Looked {
    /// Of a volume turned to RAS.
    size: Vec<usize>,
    /// In which a volume is stored.
    orientation: Option<Orientation>,
    /// Whether the label map is stored the other way round than its image.
    turned_labels: bool,
    /// What the readers found odd, and in which file.
    notes: Vec<(String, PathBuf)>,
    channels: usize,
    spacing: Vec<f64>,
    knows_spacing: bool,
    range: [f32; 2],
    /// Voxels of each label value.
    values: BTreeMap<u8, u64>,
    /// Of the intensities: equal images have equal ones.
    hash: u64,
    name: String,
    patient: String,
    labels: PathBuf,
    palette: Option<Vec<[u8; 3]>>,
}

/// Reads every case of the data set in `dir`; what is wrong with files is found, not an error.
///
/// # Errors
/// [`ErrorKind::Io`] where a folder cannot be read or holds no labelled images; [`ErrorKind::Format`] for a list of
/// patients or a `dataset.json` that makes no sense.
pub fn inspect(dir: &Path) -> Result<Inspection> {
    let found = find(dir)?;
    let mut findings = found.problems;
    findings.extend(found.without_patient.map(|error| error.to_string()));
    findings.extend(found.notes);
    findings.extend(series::finding(&series::find(&found.cases)));
    let patients = found.cases.iter().map(|case| case.patient.as_str()).collect::<BTreeSet<_>>().len();
    let mut cases = Vec::new();
    for (looked, found) in on_all_cores(found.cases, |case| look(&case)) {
        cases.extend(looked);
        findings.extend(found);
    }
    let declared = found.declared.unwrap_or_default();
    let has_spacing = cases.iter().any(|case| case.knows_spacing);
    let (layout, left_out) = (found.layout, found.left_out);
    let mut inspection = Inspection { layout, patients, cases, has_spacing, declared, left_out, findings };
    inspection.compare();
    Ok(inspection)
}

/// What a case holds, if it can be read, and what is suspicious about it alone.
fn look(case: &Case) -> (Option<Looked>, Vec<String>) {
    let mut findings = Vec::new();
    let image = read_files(&case.images)
        .and_then(|recording| {
            let notes = recording.notes().to_vec();
            recording.into_still(case.image()).map(|image| (image, notes))
        })
        .map_err(|e| findings.push(e.to_string()))
        .ok();
    let opened = PreparedLabels::open(&case.labels).map_err(|e| findings.push(e.to_string())).ok();
    let (Some((image, said)), Some(opened)) = (image, opened) else { return (None, findings) };
    let notes = said.into_iter().map(|note| (note, case.image().to_path_buf()));
    let notes = notes.chain(opened.notes().iter().map(|note| (note.clone(), case.labels.clone()))).collect();
    let shown = case.labels.display();
    let labels = opened.labels();
    let turn = onto_image(opened.image(), &image, case).map_err(|error| findings.push(error.to_string()));
    let turned_labels = turn.is_ok_and(|turn| !turn.is_none());
    let orientation = image.geometry.orientation().filter(|_| image.spatial_axes() == 3);
    // As the recipe that is proposed takes it.
    let image = match orientation {
        Some(_) => OrientationPolicy::default().turn(&image.geometry).image(image),
        None => image,
    };
    let fold = |f: fn(f32, f32) -> f32| image.data.iter().copied().reduce(f).unwrap_or(f32::NAN);
    let range = [fold(f32::min), fold(f32::max)];
    if range[0] == range[1] {
        findings.push(format!("{}: every value is {}", case.image().display(), range[0]));
    }
    let mut values = BTreeMap::new();
    labels.iter().for_each(|label| *values.entry(*label).or_insert(0) += 1);
    if values.len() == 1 {
        let value = values.keys().next().copied().unwrap_or(0);
        findings.push(format!("{shown}: holds nothing but the value {value}"));
    }
    let mut hasher = DefaultHasher::new();
    image.data.shape().hash(&mut hasher);
    image.data.iter().for_each(|value| value.to_bits().hash(&mut hasher));
    let looked = Looked {
        size: image.data.shape()[1..].to_vec(),
        orientation,
        turned_labels,
        notes,
        channels: image.data.shape()[0],
        knows_spacing: image.spacing().is_some(),
        spacing: image.spacing_or_ones(),
        range,
        values,
        hash: hasher.finish(),
        name: case.name.clone(),
        patient: case.patient.clone(),
        labels: case.labels.clone(),
        palette: opened.palette().map(<[_]>::to_vec),
    };
    (Some(looked), findings)
}

impl Inspection {
    /// What is suspicious about cases beside each other.
    fn compare(&mut self) {
        let mut found = Vec::new();
        let mut seen = BTreeMap::<u64, &Looked>::new();
        for case in &self.cases {
            if let Some(first) = seen.get(&case.hash) {
                let apart =
                    if first.patient == case.patient { "" } else { ", of different patients: a split may part them" };
                found.push(format!("{} and {} have the same image{apart}", first.name, case.name));
            } else {
                seen.insert(case.hash, case);
            }
        }
        let kinds: BTreeSet<_> = self.cases.iter().map(|case| (case.size.len(), case.channels)).collect();
        if kinds.len() > 1 {
            let shown: Vec<_> =
                kinds.iter().map(|(axes, channels)| format!("{axes}-D with {channels} channels")).collect();
            found.push(format!("images are of several kinds: {}", shown.join(", ")));
        }
        for axis in 0..3 {
            let known = || self.cases.iter().filter(|case| case.knows_spacing && case.spacing.len() > axis);
            let Some(median) = median(known().map(|case| case.spacing[axis])) else { continue };
            let far = |mm: f64| mm > median * SPACING_FACTOR || mm < median / SPACING_FACTOR;
            for case in known().filter(|case| far(case.spacing[axis])) {
                let mm = case.spacing[axis];
                found.push(format!(
                    "{}: has a spacing of {mm} mm along axis {axis}, the median is {median} mm",
                    case.name
                ));
            }
        }
        self.compare_places(&mut found);
        self.compare_labels(&mut found);
        self.findings.extend(found);
    }

    /// What is suspicious about label maps beside each other and beside `dataset.json`.
    fn compare_labels(&self, found: &mut Vec<String>) {
        let mut palettes = Palettes::default();
        for case in &self.cases {
            let added = palettes.add(&case.labels, case.palette.as_deref(), case.values.keys().copied());
            found.extend(added.err().map(|error| error.to_string()));
        }
        if self.looks_like_instances() {
            return;
        }
        found.extend(self.stored_twice().map(|twice| twice.finding()));
        let values = self.values();
        let names = &self.declared.names;
        for (value, (cases, _)) in &values {
            if (cases.len() as f64) < RARE * self.cases.len() as f64 || cases.len() == 1 && self.cases.len() > 9 {
                found.push(format!("only {} hold the label value {value}", cases.join(", ")));
            }
            if !names.is_empty() && !names.contains_key(value) {
                found.push(format!("dataset.json has no label for the value {value} of {}", cases[0]));
            }
        }
        let missing = names.iter().filter(|(value, _)| !values.contains_key(value));
        found.extend(
            missing.map(|(value, name)| format!("no case holds the label value {value}, `{name}` in dataset.json")),
        );
        if let Some((cases, _)) = self.declared.ignore.and_then(|ignore| values.get(&ignore)) {
            found.push(format!(
                "{} cases, such as {}, hold voxels that dataset.json wants ignored: leaving them out of the loss is not \
                 supported, and a class to learn they are not",
                cases.len(),
                cases[0]
            ));
        }
        found.extend(self.declared.region_note());
        found.extend(self.vanishing());
    }

    /// Structures that the network size of [`Self::recipe`] does not show.
    fn vanishing(&self) -> Vec<String> {
        let Some(size) = self.network_size() else { return Vec::new() };
        let look = |case: &Looked| match PreparedLabels::open(&case.labels) {
            Ok(opened) if opened.image().spatial_axes() == size.len() => {
                let labels = opened.labels();
                let labels = match size.len() {
                    3 => OrientationPolicy::default().turn(&opened.image().geometry).array(labels),
                    _ => labels,
                };
                vanished_at(&labels, &size)
            }
            // What cannot be read has been told.
            _ => Vec::new(),
        };
        let mut by_value = BTreeMap::<u8, Vec<String>>::new();
        for (case, gone) in self.cases.iter().zip(on_all_cores(self.cases.iter().collect(), look)) {
            for gone in gone {
                by_value.entry(gone.label).or_default().push(format!("{} ({})", case.name, gone.how()));
            }
        }
        let told = |(value, cases): (u8, Vec<String>)| {
            format!("the label value {value} vanishes from {} cases when shrunk: {}", cases.len(), first_few(&cases))
        };
        by_value.into_iter().map(told).collect()
    }

    /// A value that is likely the same class as 255.
    fn stored_twice(&self) -> Option<StoredTwice> {
        if !self.declared.names.is_empty() {
            return None;
        }
        StoredTwice::find(self.cases.iter().map(|case| (case.name.as_str(), case.values.keys().copied().collect())))
    }

    /// What the files say of how they lie in space.
    fn compare_places(&self, found: &mut Vec<String>) {
        let mut notes = BTreeMap::<&str, Vec<&Path>>::new();
        for (note, path) in self.cases.iter().flat_map(|case| &case.notes) {
            notes.entry(note).or_default().push(path);
        }
        for (note, paths) in notes {
            let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            match paths.len() {
                1 => found.push(format!("{first}: {note}")),
                count => found.push(format!("{count} files, the first is {first}: {note}")),
            }
        }
        let named = |found: &dyn Fn(&Looked) -> bool| -> Vec<String> {
            self.cases.iter().filter(|case| found(case)).map(|case| case.name.clone()).collect()
        };
        let left = named(&|case| case.orientation.is_some_and(Orientation::is_left_handed));
        let right = named(&|case| case.orientation.is_some_and(|found| !found.is_left_handed()));
        if !left.is_empty() && !right.is_empty() {
            let (count, which) = if left.len() <= right.len() { ("left", left) } else { ("right", right) };
            found.push(format!(
                "volumes are stored in left- and right-handed orders of axes; {count}-handed are {}: training turns all by \
                 their affine, make sure that it is right",
                first_few(&which)
            ));
        }
        let turned = named(&|case| case.turned_labels);
        if !turned.is_empty() {
            found.push(format!(
                "label maps are stored the other way round than their images in {}: training turns them by their affine, \
                 make sure that it is right",
                first_few(&turned)
            ));
        }
        let unknown = named(&|case| case.size.len() == 3 && case.orientation.is_none());
        if !unknown.is_empty() && unknown.len() < self.cases.len() {
            found.push(format!(
                "of some volumes it is not known how they lie in space, and of others it is: {}",
                first_few(&unknown)
            ));
        }
    }

    /// How many cases are stored in each orientation.
    fn orientations(&self) -> BTreeMap<Orientation, usize> {
        let mut counts = BTreeMap::new();
        self.cases.iter().filter_map(|case| case.orientation).for_each(|found| *counts.entry(found).or_insert(0) += 1);
        counts
    }

    /// For each label value the names of the cases that hold it and its part of all voxels.
    fn values(&self) -> BTreeMap<u8, (Vec<String>, f64)> {
        let mut values = BTreeMap::<u8, (Vec<String>, f64)>::new();
        let total: u64 = self.cases.iter().flat_map(|case| case.values.values()).sum();
        for case in &self.cases {
            for (value, voxels) in &case.values {
                let entry = values.entry(*value).or_default();
                entry.0.push(case.name.clone());
                entry.1 += *voxels as f64 / total as f64;
            }
        }
        values
    }

    /// Whether label values number objects: in every case they are 0, 1, ... n, and the n differ widely.
    fn looks_like_instances(&self) -> bool {
        let consecutive = |case: &Looked| {
            let ids = || case.values.keys().filter(|value| **value > 0);
            ids().next_back().is_none_or(|last| usize::from(*last) == ids().count())
        };
        let counts: BTreeSet<usize> = self.cases.iter().map(|case| case.values.len()).collect();
        self.declared.names.is_empty()
            && counts.len() > 2
            && counts.last().is_some_and(|most| *most > 5)
            && self.cases.iter().all(consecutive)
    }

    /// A recipe to start from: the classes found, a network size near the median image's, all else as by default.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where the data allow none, as with a single patient or label value.
    pub fn recipe(&self) -> Result<String> {
        let fail = |message: &str| Error::new(ErrorKind::Setting, message);
        let axes = self.cases.iter().map(|case| case.size.len()).max().ok_or_else(|| fail("no case can be read"))?;
        let channels = self.cases.iter().map(|case| case.channels).max().unwrap_or(1);
        if self.patients < 2 {
            return Err(fail("there is one patient, expected one to train on and one to validate on at least"));
        }
        let values: Vec<u8> = self.values().into_keys().collect();
        let classes = self.classes(&values);
        if classes.len() < 2 {
            return Err(fail("the label maps hold one value, expected two at least"));
        }
        let size = self.network_size().ok_or_else(|| fail("no case can be read"))?;
        let validation = if self.patients < 10 { "1".to_owned() } else { "0.1".to_owned() };
        let flip =
            if channels == 3 { format!("augmentation:\n  flip: {:?}\n", vec![0.5; axes]) } else { String::new() };
        // Neither grey nor colours: channels whose intensities have nothing to do with each other.
        let preprocessing =
            if matches!(channels, 1 | 3) { "" } else { "preprocessing:\n  normalisation: min_max_per_channel\n" };
        let network = if axes == 3 { "  stem: 4\n  widths: [32, 64]\n  label_widths: [16, 32]\n" } else { "" };
        let held_back = if self.patients < 10 { self.cases.len() / self.patients } else { self.cases.len() / 10 };
        let training = training_plan(self.cases.len() - held_back);
        let text = format!(
            "# Proposed from {cases} images of {patients} patients: a start, to be looked over.\n\
             name: proposed\nseed: 1\ndata:\n  source: unknown, to be filled in with the citation\n  \
             licence: unknown, to be filled in\n  intended_use: unknown, to be filled in\n\
             classes:\n{classes}network:\n  preset: compact\n  input_size: {size:?}\n  channels: {channels}\n{network}\
             {preprocessing}validation: {validation}\n{training}{flip}",
            cases = self.cases.len(),
            patients = self.patients,
            classes = classes.concat(),
        );
        Ok(text)
    }

    /// One line of YAML a class.
    fn classes(&self, values: &[u8]) -> Vec<String> {
        let mut grouped: Vec<(String, Vec<u8>)> = Vec::new();
        if self.looks_like_instances() {
            grouped.push(("background".to_owned(), vec![0]));
            grouped.push(("object".to_owned(), (1..=u8::MAX).collect()));
        } else {
            let twice = self.stored_twice().map(|twice| twice.value);
            // A class that no case has cannot be learned, and what is to be ignored is none.
            for value in values.iter().copied().filter(|value| Some(*value) != self.declared.ignore) {
                if value == u8::MAX
                    && let Some(same) = twice.and_then(|n| grouped.iter_mut().find(|(_, values)| values == &[n]))
                {
                    same.1.push(value);
                    continue;
                }
                let name = if value == 0 { "background".to_owned() } else { format!("class {value}") };
                grouped.push((self.declared.names.get(&value).cloned().unwrap_or(name), vec![value]));
            }
        }
        let line = |(index, (name, values)): (usize, (String, Vec<u8>))| {
            // JSON strings are YAML too, whatever a name holds.
            let name = serde_json::Value::String(name);
            format!("- {{name: {name}, colour: {:?}, values: {values:?}}}\n", colour(index))
        };
        grouped.into_iter().enumerate().map(line).collect()
    }

    /// The proposed network's input, `None` where there is no case.
    fn network_size(&self) -> Option<Vec<usize>> {
        let axes = self.cases.iter().map(|case| case.size.len()).max()?;
        Some(network_size(&(0..axes).filter_map(|axis| self.median_size(axis)).collect::<Vec<_>>()))
    }

    fn median_size(&self, axis: usize) -> Option<usize> {
        median(self.cases.iter().filter_map(|case| case.size.get(axis)).map(|size| *size as f64))
            .map(|size| size as usize)
    }

    /// Writes [`Self::recipe`] after making sure that it is one.
    ///
    /// # Errors
    /// Those of [`Self::recipe`]; [`ErrorKind::Io`] where the file exists or cannot be written.
    pub fn write_recipe(&self, path: &Path) -> Result<()> {
        if path.exists() {
            return Err(Error::new(ErrorKind::Io, "exists already, and is not replaced").in_file(path));
        }
        let text = self.recipe()?;
        write_bytes(path, text.as_bytes())?;
        Recipe::load(path, &[]).map(|_| ())
    }
}

/// Steps of a proposed run, at least; those that an epoch has.
const LEAST_STEPS: usize = 4000;
const LEAST_STEPS_OF_EPOCH: usize = 64;

/// A size that the compact networks take, of about the same shape, and of a cost that a first training can bear.
fn network_size(size: &[usize]) -> Vec<usize> {
    let (multiple, most) = if size.len() == 2 { (32, 256) } else { (16, 128) };
    let longest = size.iter().copied().max().unwrap_or(most).max(1);
    let scale = (most as f64 / longest as f64).min(1.0);
    size.iter().map(|n| ((*n as f64 * scale / multiple as f64).round() as usize).max(1) * multiple).collect()
}

/// The recipe's `training`, so that the weights are moved often enough, however few cases there are: an epoch has
/// [`LEAST_STEPS_OF_EPOCH`] steps at least, and the run [`LEAST_STEPS`], of which the warm-up is a twentieth.
fn training_plan(cases: usize) -> String {
    let Training { batch_size, epochs, warmup_steps, .. } = Training::default();
    let cases = cases.max(1);
    let repeats = (LEAST_STEPS_OF_EPOCH * batch_size).div_ceil(cases);
    let steps = (cases * repeats / batch_size).max(1);
    let epochs = epochs.max(LEAST_STEPS.div_ceil(steps));
    format!(
        "# {cases} cases to learn from: {} steps of {batch_size} samples.\ntraining:\n  epochs: {epochs}\n  repeats: {repeats}\n  \
         batch_size: {batch_size}\n  warmup_steps: {warmup_steps}\n  validate_every: {}\n",
        steps * epochs,
        epochs.div_ceil(10),
    )
}

fn colour(class: usize) -> [u8; 3] {
    const COLOURS: [[u8; 3]; 6] =
        [[220, 50, 47], [64, 160, 70], [38, 120, 210], [230, 170, 60], [150, 90, 190], [60, 180, 180]];
    if class == 0 { [0; 3] } else { COLOURS[(class - 1) % COLOURS.len()] }
}

/// The middle value, of an even number the upper one.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// `least to most`, or the one value.
fn span<T: PartialOrd + Copy + fmt::Display>(values: impl Iterator<Item = T>) -> String {
    let mut least_most: Option<(T, T)> = None;
    for value in values {
        let (least, most) = least_most.unwrap_or((value, value));
        least_most = Some((if value < least { value } else { least }, if value > most { value } else { most }));
    }
    match least_most {
        Some((least, most)) if least < most => format!("{least} to {most}"),
        Some((least, _)) => least.to_string(),
        None => "none".to_owned(),
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = match self.layout {
            Layout::NnUnet => "nnU-Net raw",
            Layout::TwoFolders => "images/ and labels/",
            Layout::SideBySide => "label maps beside images",
            Layout::PatientFolders => "one folder a patient",
        };
        let axes = self.cases.iter().map(|case| case.size.len()).max().unwrap_or(0);
        let by_axis = |of: &dyn Fn(&Looked, usize) -> Option<String>| -> String {
            (0..axes)
                .filter_map(|axis| self.cases.first().and_then(|case| of(case, axis)))
                .collect::<Vec<_>>()
                .join(" x ")
        };
        writeln!(f, "layout       {layout}")?;
        writeln!(f, "cases        {} of {} patients", self.cases.len(), self.patients)?;
        self.left_out.iter().try_for_each(|text| writeln!(f, "left out     {text}"))?;
        writeln!(f, "channels     {}", span(self.cases.iter().map(|case| case.channels)))?;
        let size =
            |_: &Looked, axis: usize| Some(span(self.cases.iter().filter_map(|case| case.size.get(axis).copied())));
        writeln!(f, "size         {}", by_axis(&size))?;
        let known = || self.cases.iter().filter(|case| case.knows_spacing);
        let spacing = |_: &Looked, axis: usize| {
            Some(span(known().filter_map(|case| case.spacing.get(axis).map(|mm| (mm * 1e4).round() / 1e4))))
        };
        let told =
            if self.has_spacing { format!("{} mm", by_axis(&spacing)) } else { "not told by the files".to_owned() };
        writeln!(f, "spacing      {told}")?;
        if axes == 3 {
            let found = self.orientations();
            let shown: Vec<String> = found.iter().map(|(code, count)| format!("{code} in {count} cases")).collect();
            let shown = if shown.is_empty() { "not told by the files".to_owned() } else { shown.join(", ") };
            writeln!(f, "orientation  {shown}; sizes and spacing are of volumes turned to RAS")?;
        }
        writeln!(f, "intensities  {}", span(self.cases.iter().flat_map(|case| case.range)))?;
        let values = self.values();
        if self.looks_like_instances() {
            let most = values.keys().last().copied().unwrap_or(0);
            writeln!(f, "labels       instance ids, up to {most} objects an image")?;
        } else {
            for (value, (cases, part)) in values {
                let name = self.declared.names.get(&value).map_or("", String::as_str);
                writeln!(f, "label {value:<6} {:>6.2} % of voxels, in {} cases  {name}", 100.0 * part, cases.len())?;
            }
        }
        match self.findings.len() {
            0 => writeln!(f, "nothing suspicious"),
            count => {
                writeln!(f, "suspicious   {count}")?;
                self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposed_run_is_long_enough_for_any_number_of_cases() {
        for cases in [1, 2, 11, 54, 100, 511, 512, 1440, 50_000] {
            let text = training_plan(cases);
            let plan: BTreeMap<String, Training> = yaml_serde::from_str(&text).unwrap();
            let plan = &plan["training"];
            // As the loader counts them.
            let steps = (cases * plan.repeats / plan.batch_size).max(1);
            let total = steps * plan.epochs;
            assert!(steps >= LEAST_STEPS_OF_EPOCH && total >= LEAST_STEPS, "{text}");
            assert!(total >= 20 * plan.warmup_steps && plan.validate_every * 10 >= plan.epochs, "{text}");
            assert!(text.contains(&format!(": {total} steps of {} samples", plan.batch_size)), "{text}");
            assert!(cases < 2000 || plan.repeats == 1 && plan.epochs == Training::default().epochs, "{text}");
        }
    }
}
