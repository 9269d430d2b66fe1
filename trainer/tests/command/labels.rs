//! Label files, and what `dataset.json` and lists of patients say of them: each is read right, refused or named.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma};

use super::{Place, Ran};

/// Replaces the label map of case `number`.
fn label(place: &Place, number: usize, pixel: impl Fn(u32, u32) -> u8) {
    let name = place.path(&format!("data/labels/c{number:02}.png"));
    GrayImage::from_fn(32, 32, |x, y| Luma([pixel(x, y)])).save(name).unwrap();
}

/// What `inspect` says, which has to be something suspicious, and `fit`.
fn both(place: &Place) -> (Ran, Ran) {
    let inspected = place.inspect();
    assert_eq!(inspected.code, Some(1), "{}", inspected.stdout);
    (inspected, place.fit(&[]))
}

fn palette_png(path: &Path, indices: &[u8], colours: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 32, 32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(colours);
    encoder.write_header().unwrap().write_image_data(indices).unwrap();
}

#[test]
fn a_whole_data_set_has_nothing_suspicious_and_trains_without_a_note() {
    let place = Place::new(6);
    place.inspect().ok().says("nothing suspicious");
    place.fit(&[]).ok().does_not_say("note:");
}

#[test]
fn a_jpeg_is_no_label_map() {
    let place = Place::new(6);
    for number in 0..6 {
        let png = place.path(&format!("data/labels/c{number:02}.png"));
        image::open(&png).unwrap().save(png.with_extension("jpg")).unwrap();
        fs::remove_file(png).unwrap();
    }
    let (inspected, trained) = both(&place);
    inspected.says("c00.jpg: is a JPEG, which does not keep values as they are");
    trained.fails(1, "c05.jpg: is a JPEG, which does not keep values");
    assert!(!place.path("run/recipe.yaml").exists());
}

#[test]
fn the_index_of_a_palette_counts_and_palettes_have_to_agree() {
    let place = Place::new(6);
    for number in 0..6 {
        let path = place.path(&format!("data/labels/c{number:02}.png"));
        let indices: Vec<u8> = image::open(&path).unwrap().into_luma8().into_raw();
        // Neither colour is grey, and neither is the index.
        palette_png(&path, &indices, &[10, 20, 30, 220, 50, 47]);
    }
    let told = place.inspect().ok();
    told.says("label 0");
    told.says("label 1");
    place.fit(&[]).ok();
    let path = place.path("data/labels/c03.png");
    palette_png(&path, &[0, 1].repeat(512), &[220, 50, 47, 10, 20, 30]);
    fs::rename(place.path("run"), place.path("earlier")).unwrap();
    let (inspected, trained) = both(&place);
    for expected in ["c03.png: shows the label 0 in the colour [220, 50, 47], but ", "the palettes differ"] {
        inspected.says(expected);
    }
    trained.fails(1, "the palettes differ");
}

#[test]
fn one_class_that_is_stored_in_two_ways_is_named_and_proposed_as_one() {
    let place = Place::new(6);
    for number in [1, 3, 5] {
        label(&place, number, |x, _| if x > 20 { 255 } else { 0 });
    }
    let recipe =
        super::RECIPE.replace("values: [1]}", "values: [1]}\n- {name: other, colour: [0, 90, 0], values: [255]}");
    fs::write(place.path("recipe.yaml"), recipe).unwrap();
    let (inspected, trained) = both(&place);
    let expected =
        "the label values 1 (3 cases, such as c00) and 255 (3 cases, such as c01) never occur in one label map";
    inspected.says(expected);
    trained.ok().says("never occur in one label map");
    place.run(&["inspect", "data", "--write-recipe", "proposed.yaml"]);
    let proposed = fs::read_to_string(place.path("proposed.yaml")).unwrap();
    assert!(proposed.contains("{name: \"class 1\", colour: [220, 50, 47], values: [1, 255]}"), "{proposed}");
}

#[test]
fn structures_that_vanish_on_the_grid_are_told_with_their_sizes() {
    let place = Place::new(0);
    for number in 0..4 {
        // One pixel, even or odd along both axes: of 256 x 256 pixels, every second one is seen.
        let inside = |x: u32, y: u32| (x, y) == (100 + 51 * number, 200 + 51 * number);
        let save = |value: u8, folder: &str| {
            let picture = GrayImage::from_fn(512, 512, |x, y| Luma([if inside(x, y) { value } else { 0 }]));
            picture.save(place.path(folder).join(format!("c{number}.png"))).unwrap();
        };
        save(200 + number as u8, "data/images");
        save(1, "data/labels");
    }
    let (inspected, trained) = both(&place);
    inspected.says("the label value 1 vanishes from 2 cases when shrunk: c");
    inspected.says("(1 of 512 x 512 voxels, none on the network's grid of 256 x 256)");
    let trained = trained.ok();
    trained.says("class 1 vanishes: 1 of 512 x 512 voxels, none on the network's grid of 32 x 32");
    trained
        .says("note: no case shows class 1, `disc` (label values [1]), on the network's grid: it will not be learned");
}

#[test]
fn a_class_that_no_case_has_is_named() {
    let place = Place::new(6);
    let recipe =
        super::RECIPE.replace("values: [1]}", "values: [1]}\n- {name: other, colour: [0, 90, 0], values: [2, 3]}");
    fs::write(place.path("recipe.yaml"), recipe).unwrap();
    place.fit(&[]).ok().says("note: no case shows class 2, `other` (label values [2, 3])");
}

#[test]
fn lists_of_patients_that_contradict_each_other_are_refused() {
    let place = Place::new(6);
    let list = |patient: fn(usize) -> usize| {
        let rows: Vec<String> = (0..6).map(|number| format!("c{number:02},{}", patient(number))).collect();
        rows.join("\n")
    };
    fs::write(place.path("data/patient_ids.csv"), format!("name,patient\n{}\n", list(|n| n / 2))).unwrap();
    fs::write(place.path("data/Grade.csv"), format!("name,patient ID\n{}\n", list(|n| n / 3))).unwrap();
    place.inspect().fails(1, "Grade.csv: contradicts data/patient_ids.csv, where c02 and c03 are of one patient, `1`");
    place.fit(&[]).fails(1, "Grade.csv: contradicts data/patient_ids.csv");
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_named() {
    let place = Place::new(6);
    for folder in ["data/images", "data/labels"] {
        std::os::unix::fs::symlink("/nowhere/c06.png", place.path(folder).join("c06.png")).unwrap();
    }
    let (inspected, trained) = both(&place);
    inspected.says("data/images/c06.png is a link to a file that is not there");
    trained.fails(1, "2 of its files don't fit together: data/images/c06.png is a link to a file that is not there");
}

/// The same pictures in nnU-Net's layout, with this `dataset.json`.
fn nnunet(json: &str) -> Place {
    let place = Place::new(6);
    for (from, to, channel) in [("images", "imagesTr", "_0000"), ("labels", "labelsTr", "")] {
        fs::create_dir(place.path("data").join(to)).unwrap();
        for number in 0..6 {
            let old = place.path(&format!("data/{from}/c{number:02}.png"));
            fs::rename(old, place.path(&format!("data/{to}/c{number:02}{channel}.png"))).unwrap();
        }
        fs::remove_dir(place.path("data").join(from)).unwrap();
    }
    fs::write(place.path("data/dataset.json"), json).unwrap();
    place
}

#[test]
fn version_1_of_dataset_json_keeps_its_names() {
    let place =
        nnunet(r#"{"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Anterior"}, "numTraining": 6}"#);
    place.run(&["inspect", "data", "--write-recipe", "proposed.yaml"]).ok().says("Anterior");
    let proposed = fs::read_to_string(place.path("proposed.yaml")).unwrap();
    assert!(proposed.contains("{name: \"Anterior\", colour: [220, 50, 47], values: [1]}"), "{proposed}");
}

#[test]
fn what_dataset_json_wants_ignored_is_no_class() {
    let place = nnunet(r#"{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "disc": 1, "ignore": 2}}"#);
    let path = place.path("data/labelsTr/c02.png");
    let mut labels = image::open(&path).unwrap().into_luma8();
    labels.put_pixel(0, 0, Luma([2]));
    labels.save(&path).unwrap();
    let told = place.run(&["inspect", "data", "--write-recipe", "proposed.yaml"]);
    told.says("1 cases, such as c02, hold voxels that dataset.json wants ignored");
    let proposed = fs::read_to_string(place.path("proposed.yaml")).unwrap();
    assert!(!proposed.contains("ignore") && !proposed.contains("[2]"), "{proposed}");
    place.fit(&[]).fails(1, "c02.png: holds the label value 2, expected one of [0, 1]");
    let with = |values: &str| {
        let recipe = super::RECIPE.replace("values: [1]}", values);
        fs::write(place.path("recipe.yaml"), recipe).unwrap();
        place.fit(&[])
    };
    let own = with("values: [1]}\n- {name: ignore, colour: [9, 9, 9], values: [2]}");
    own.fails(2, "dataset.json calls the label value 2 `ignore`: voxels that say nothing of a class");
    with("values: [1, 2]}").ok().says("this recipe trains them as `disc`");
}

#[test]
fn regions_are_named() {
    let place = nnunet(r#"{"channel_names": {"0": "T1"}, "labels": {"background": 0, "whole": [1, 2], "core": [2]}}"#);
    let (inspected, trained) = both(&place);
    let expected = "dataset.json has regions, which overlap: `core` [2], `whole` [1, 2]";
    inspected.says(expected);
    trained.ok().says(expected);
}

#[test]
fn as_many_channels_and_cases_as_dataset_json_says() {
    let four =
        r#"{"channel_names": {"0": "FLAIR", "1": "T1", "2": "T1CE", "3": "T2"}, "labels": {"background": 0, "a": 1}}"#;
    let place = nnunet(four);
    let (inspected, trained) = both(&place);
    inspected.says("c00 has one file of 1 channels, dataset.json names 4 channels");
    trained.fails(1, "c00 has one file of 1 channels, dataset.json names 4 channels");

    let place =
        nnunet(r#"{"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1, "b": 2}, "numTraining": 7}"#);
    let (inspected, trained) = both(&place);
    let expected = "dataset.json has numTraining 7, but there are 6 cases";
    inspected.says(expected);
    inspected.says("no case holds the label value 2, `b` in dataset.json");
    trained.ok().says(expected);
}

#[test]
fn files_of_any_name_are_taken_and_what_is_left_out_is_named() {
    let place = Place::new(4);
    for folder in ["images", "labels"] {
        let file = |name: &str| place.path("data").join(folder).join(name);
        fs::rename(file("c00.png"), file("IM000000")).unwrap();
        fs::rename(file("c01.png"), file("1.2.840.77")).unwrap();
    }
    fs::write(place.path("data/images/readme"), "none").unwrap();
    fs::create_dir(place.path("data/labels/older")).unwrap();
    let (inspected, trained) = (place.inspect().ok(), place.fit(&[]));
    inspected.says("cases        4 of 4 patients");
    inspected.says("left out     1 file is no image and is left out: readme");
    inspected.says("nothing suspicious");
    let trained = trained.ok();
    trained.says("loading 2 training and 2 validation cases");
    trained.says("note: data: 1 file is no image and is left out: readme");
    trained.says("note: data: 1 folder below it is not looked into: older");
}

#[test]
fn slices_of_one_patient_are_named() {
    let place = Place::new(6);
    for number in 0..6 {
        for folder in ["images", "labels"] {
            let file = |name: String| place.path("data").join(folder).join(name);
            let sliced = format!("p{}_slice-{}.png", number / 3, number % 3);
            fs::rename(file(format!("c{number:02}.png")), file(sliced)).unwrap();
        }
    }
    let (inspected, trained) = both(&place);
    inspected.says("6 cases look like parts of 2 patients by their names: p0 (3 cases); p1 (3 cases)");
    trained.ok().says("note: the split parts cases that look like parts of one patient by their names: p");
    // A list, or names that tell the patient, settle it.
    let list: String = (0..6).map(|number| format!("p{}_slice-{},{}\n", number / 3, number % 3, number / 3)).collect();
    fs::write(place.path("data/patient_ids.csv"), format!("name,patient\n{list}")).unwrap();
    place.inspect().ok().says("cases        6 of 2 patients");
}

#[test]
fn a_spacing_that_no_case_tells_counts_in_voxels_and_one_that_some_tell_is_refused() {
    let place = Place::new(6);
    let resample = ["--set", "preprocessing.spacing={resample: [1.0, 1.0]}", "--set", "training.epochs=1"];
    place.fit(&resample).ok().says("note: no case tells its spacing: [1.0, 1.0] counts in their own voxels");
    place.run(&["export", "run", "--output", "bundle"]).ok();
    let manifest = fs::read_to_string(place.path("bundle/manifest.yaml")).unwrap();
    assert!(manifest.contains("unit: voxel"), "{manifest}");
    // One that tells it.
    let header =
        "NDims = 2\nDimSize = 32 32\nElementSpacing = 0.5 0.5\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n";
    let ramp: Vec<u8> = (0..1024_u32).map(|n| (n / 4) as u8).collect();
    fs::write(place.path("data/images/c03.mha"), [header.as_bytes(), &ramp].concat()).unwrap();
    fs::remove_file(place.path("data/images/c03.png")).unwrap();
    fs::remove_dir_all(place.path("run")).unwrap();
    place.fit(&resample).fails(2, "5 of 6 cases do not tell their spacing, the first is ");
    let voxels = ["--set", "preprocessing.spacing={resample: [1.0, 1.0], unit: voxel}", "--set", "training.epochs=1"];
    fs::remove_dir_all(place.path("run")).unwrap();
    place.fit(&voxels).ok().does_not_say("spacing");
}
