//! However a volume is stored, it is segmented, scored and learnt from in the same way, and what contradicts is named.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ldseg::Tensor;
use ldseg::image::{Image, Labels, Orientation};
use ldseg_io::{OutputForm, read_image, read_labels, write_labels, write_scalar};
use ndarray::IxDyn;
use serde_json::Value;

use crate::support::{TINY, finish, fit, ldseg, python, repository, train};

/// Size of the volumes made here, slowest axis first, and their voxels in mm, fastest first.
const SIZE: [usize; 3] = [12, 20, 16];
const SPACING: [f64; 3] = [0.8, 0.9, 1.5];

/// Unit vectors along x, y and z (LPS) of a grid that is oblique by about ten degrees, its nearest axes L, P and S.
fn directions() -> [[f64; 3]; 3] {
    let (sin, cos) = 0.17_f64.sin_cos();
    [[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]
}

fn form(offset: [f64; 3]) -> OutputForm {
    OutputForm::placed(offset, directions(), SPACING)
}

/// A box that is nowhere in the middle, so that every turn shows.
fn labels() -> Labels {
    Labels::from_shape_fn(IxDyn(&SIZE), |i| {
        u8::from((2..6).contains(&i[0]) && (3..8).contains(&i[1]) && (8..14).contains(&i[2]))
    })
}

fn image(case: usize) -> Tensor {
    let at = |i: &IxDyn| (i[0] * 7 + i[1] * 5 + i[2] * 3 + case) % 11;
    let labels = labels();
    Tensor::from_shape_fn(IxDyn(&SIZE), |i| 100.0 * f32::from(labels[&i]) + at(&i) as f32)
}

/// A volume and its label map as some program would store them another way round, with the affine that goes with it.
fn turned(form: &OutputForm, to: &str, dir: &Path) -> (OutputForm, ldseg::image::Turn) {
    let path = dir.join("whole.nii.gz");
    write_labels(&path, &labels(), form).unwrap();
    let image = read_image(&path).unwrap();
    let turn = image.geometry.orientation().unwrap().turn_to(to.parse().unwrap());
    (stored_as(&turn.image(image)), turn)
}

/// The form of a file in which a volume is stored as this one is.
pub fn stored_as(image: &Image) -> OutputForm {
    let (affine, spacing) = (image.geometry.affine.unwrap(), image.geometry.spacing.clone().unwrap());
    // Array order to the file's, RAS to LPS.
    let direction = [2, 1, 0].map(|axis| {
        [-1.0, -1.0, 1.0].iter().zip(affine).map(|(sign, row)| sign * row[axis] / spacing[axis]).collect::<Vec<_>>()
    });
    let direction = direction.map(|axis| [axis[0], axis[1], axis[2]]);
    let offset = [-affine[0][3], -affine[1][3], affine[2][3]];
    OutputForm::placed(offset, direction, [spacing[2], spacing[1], spacing[0]])
}

/// nnU-Net's layout with `count` cases of one or two channels; `store` writes the files of each case.
#[expect(clippy::type_complexity, reason = "a function that is handed a function")]
fn data_set(dir: &Path, count: usize, channels: usize, store: &dyn Fn(usize, &dyn Fn(&str) -> PathBuf)) {
    for folder in ["imagesTr", "labelsTr"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let names: Vec<String> = (0..channels).map(|channel| format!("\"{channel}\": \"c{channel}\"")).collect();
    let json = format!(
        r#"{{"channel_names": {{{}}}, "labels": {{"background": 0, "box": 1}}, "numTraining": {count}, "file_ending": ".nii.gz"}}"#,
        names.join(", ")
    );
    fs::write(dir.join("dataset.json"), json).unwrap();
    for case in 0..count {
        store(case, &|what| match what {
            "labels" => dir.join(format!("labelsTr/h_{case}.nii.gz")),
            channel => dir.join(format!("imagesTr/h_{case}_000{channel}.nii.gz")),
        });
    }
}

fn brief(channels: usize) -> Vec<String> {
    let own = [
        "network.input_size=[16, 16, 16]".to_owned(),
        format!("network.channels={channels}"),
        "classes=[{name: background, colour: [0, 0, 0], values: [0]}, {name: box, colour: [9, 9, 9], values: [1]}]"
            .into(),
        "training.epochs=1".into(),
        "training.repeats=1".into(),
    ];
    TINY.iter().map(|setting| (*setting).to_owned()).chain(own).collect()
}

/// What `inspect` says, and what `fit` ends with.
fn look(data: &Path, channels: usize) -> (String, Option<i32>, String) {
    let found = train(&[&"inspect", &data]).stdout;
    let settings = brief(channels);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let output = fit("knee", data, &data.join("run"), &settings).output().unwrap();
    (found, output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn all_48_orientations_are_segmented_and_scored_alike() {
    let Some(python) = python("all 48 orientations", "nibabel, SimpleITK") else { return };
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    // Trained on volumes that are stored in two ways, and on left and right hands.
    data_set(&path("data"), 3, 1, &|case, file| {
        let (form, turn) = turned(&form([3.0, case as f64, 5.0]), ["LPS", "RAS", "SRP"][case], temp.path());
        write_scalar(&file("0"), &turn.array(image(case)), &form).unwrap();
        write_labels(&file("labels"), &turn.array(labels()), &form).unwrap();
    });
    let settings = brief(1);
    finish(fit("knee", &path("data"), &path("run"), &settings.iter().map(String::as_str).collect::<Vec<_>>()));
    train(&[&"export", &path("run"), &"--output", &path("bundle")]).ok();
    assert!(fs::read_to_string(path("bundle/manifest.yaml")).unwrap().contains("orientation: RAS"));

    ["stored", "references"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
    write_scalar(&path("source.nii.gz"), &image(7), &form([10.0, -20.0, 30.0])).unwrap();
    let script = repository("tests/tests/orientation.py");
    let judge = |arguments: [&Path; 3]| {
        let output = python().arg(&script).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    judge([Path::new("make"), &path("source.nii.gz"), &path("stored")]);
    ldseg(&[&"segment", &path("stored"), &"--bundle", &path("bundle"), &"--output", &path("out")]).ok();
    judge([Path::new("compare"), &path("stored"), &path("out")]);

    // A perfect prediction is scored so, whichever way it is stored.
    fs::create_dir(path("source")).unwrap();
    write_labels(&path("source/label.nii.gz"), &labels(), &form([10.0, -20.0, 30.0])).unwrap();
    judge([Path::new("make"), &path("source/label.nii.gz"), &path("references")]);
    fs::create_dir(path("predictions")).unwrap();
    fs::create_dir(path("labels")).unwrap();
    let stored: Vec<_> = fs::read_dir(path("references")).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in &stored {
        let name = file.file_name().unwrap();
        fs::copy(file, path("predictions").join(name)).unwrap();
        fs::copy(
            path("source/label.nii.gz"),
            path("labels").join(format!("{}.nii.gz", ldseg_io::case_name(file).unwrap())),
        )
        .unwrap();
    }
    let metrics = path("metrics.json");
    let (predictions, references) = (path("predictions"), path("labels"));
    ldseg(&[&"evaluate", &"--predictions", &predictions, &"--labels", &references, &"--output", &metrics]).ok();
    let metrics: Value = serde_json::from_slice(&fs::read(metrics).unwrap()).unwrap();
    let cases = metrics["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 96);
    for case in cases {
        assert_eq!(
            (&case["classes"]["1"]["dice"], &case["classes"]["1"]["hausdorff_mm"]),
            (&1.0.into(), &0.0.into()),
            "{case}"
        );
        let spacing: Vec<f64> = case["spacing_mm"].as_array().unwrap().iter().map(|mm| mm.as_f64().unwrap()).collect();
        assert!(spacing.iter().zip([1.5, 0.9, 0.8]).all(|(a, b)| (a - b).abs() < 1e-5), "{case}");
    }
}

#[test]
fn pictures_are_scored_in_space() {
    let Some(python) = python("pictures that are stored mirrored", "nibabel, SimpleITK") else { return };
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    ["predictions", "labels"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
    let header = "NDims = 2\nDimSize = 6 5\nElementSpacing = 0.3 0.5\nOffset = 7 -3\nTransformMatrix = 1 0 0 1\n\
                  ElementType = MET_UCHAR\nElementDataFile = LOCAL\n";
    let pixels = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 2, 2];
    let source = path("source.mha");
    fs::write(&source, [header.as_bytes(), &pixels].concat()).unwrap();
    let script = repository("tests/tests/orientation.py");
    let made = python().arg(&script).arg("pictures").arg(&source).arg(path("predictions")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for file in fs::read_dir(path("predictions")).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&source, path("labels").join(format!("{}.mha", ldseg_io::case_name(&file).unwrap()))).unwrap();
    }
    // Elsewhere: no number, but why.
    let moved = header.replace("Offset = 7 -3", "Offset = 7.6 -3");
    fs::write(path("predictions/moved.mha"), [moved.as_bytes(), &pixels].concat()).unwrap();
    fs::copy(&source, path("labels/moved.mha")).unwrap();
    let (predictions, references, output) = (path("predictions"), path("labels"), path("metrics.json"));
    let ran = ldseg(&[&"evaluate", &"--predictions", &predictions, &"--labels", &references, &"--output", &output]);
    assert!(ran.code == Some(1) && ran.stderr.contains("moved.mha: has its first voxel at"), "{}", ran.stderr);
    let metrics: Value = serde_json::from_slice(&fs::read(output).unwrap()).unwrap();
    let cases = metrics["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 16);
    for case in cases {
        for class in ["1", "2"] {
            let scores = &case["classes"][class];
            assert_eq!((&scores["dice"], &scores["hausdorff_mm"]), (&1.0.into(), &0.0.into()), "{case}");
        }
        let spacing: Vec<f64> = case["spacing_mm"].as_array().unwrap().iter().map(|mm| mm.as_f64().unwrap()).collect();
        assert!(spacing.iter().zip([0.5, 0.3]).all(|(a, b)| (a - b).abs() < 1e-5), "{case}");
    }
}

#[test]
fn evaluate_tells_how_grids_differ_and_what_has_no_mm() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    ["predictions", "labels"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
    let here = form([10.0, -20.0, 30.0]);
    for (name, form) in [
        ("moved", form([10.0, -20.0, 80.0])),
        ("coarse", OutputForm::placed([10.0, -20.0, 30.0], directions(), [0.8, 0.9, 1.6])),
        (
            "straight",
            OutputForm::placed([10.0, -20.0, 30.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], SPACING),
        ),
        ("unplaced", OutputForm::cine(None)),
        ("near", form([10.2, -20.0, 30.3])),
    ] {
        write_labels(&path(&format!("predictions/{name}.nii.gz")), &labels(), &form).unwrap();
        write_labels(&path(&format!("labels/{name}.nii.gz")), &labels(), &here).unwrap();
    }
    for folder in ["predictions", "labels"] {
        write_labels(&path(&format!("{folder}/nowhere.nii.gz")), &labels(), &OutputForm::cine(None)).unwrap();
    }
    let (predictions, references, output) = (path("predictions"), path("labels"), path("metrics.json"));
    let ran = ldseg(&[&"evaluate", &"--predictions", &predictions, &"--labels", &references, &"--output", &output]);
    assert_eq!(ran.code, Some(1));
    for expected in [
        "moved.nii.gz: has its first voxel at [-10.0, 20.0, 80.0] mm (right, front, head), but its label map ",
        "30.0] mm, 50.0 mm away",
        "coarse.nii.gz: has spacing [1.6",
        "straight.nii.gz: has axes that are oblique by 9.7 degrees",
        "the prediction: has no sform and no qform",
        "the prediction has no place in space: the two are compared as they are stored (1 cases, the first is unplaced)",
        "the spacing of 1 cases is not known",
    ] {
        assert!(ran.stderr.contains(expected), "expected '{expected}' in: {}", ran.stderr);
    }
    let metrics: Value = serde_json::from_slice(&fs::read(output).unwrap()).unwrap();
    let cases: Vec<_> =
        metrics["cases"].as_array().unwrap().iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(cases, ["near", "nowhere", "unplaced"]);
    let nowhere = &metrics["cases"][1];
    assert_eq!((&nowhere["spacing_mm"], &nowhere["spacing_from"]), (&Value::Null, &"unknown".into()));
    let scores = &nowhere["classes"]["1"];
    assert_eq!(scores["dice"], 1.0);
    for measure in ["hausdorff_mm", "hd95_mm", "assd_mm", "nsd", "volume_difference_ml"] {
        assert!(scores[measure].is_null(), "{measure}: {scores}");
    }
}

#[test]
fn inspect_names_what_contradicts_and_fit_refuses_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let place = |case: usize| form([3.0, case as f64, 5.0]);
    let store_image =
        |case: usize, file: &dyn Fn(&str) -> PathBuf| write_scalar(&file("0"), &image(case), &place(case)).unwrap();

    // Stored the other way round, with the affine that goes with it: turned, and named.
    data_set(&path("turned"), 3, 1, &|case, file| {
        store_image(case, file);
        let (form, turn) = turned(&place(case), "PIR", temp.path());
        write_labels(&file("labels"), &turn.array(labels()), &form).unwrap();
    });
    let (found, code, errors) = look(&path("turned"), 1);
    assert!(found.contains("orientation  LPS in 3 cases"), "{found}");
    assert!(found.contains("label maps are stored the other way round than their images in h_0; h_1; h_2"), "{found}");
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("its label map is stored the other way round, and was turned by its affine"), "{errors}");

    // One channel stored turned.
    data_set(&path("channel"), 3, 2, &|case, file| {
        store_image(case, file);
        let (form, turn) = turned(&place(case), "RPS", temp.path());
        write_scalar(&file("1"), &turn.array(image(case)), &form).unwrap();
        write_labels(&file("labels"), &labels(), &place(case)).unwrap();
    });
    let (found, code, errors) = look(&path("channel"), 2);
    assert!(
        found.contains("3 files, the first is ") && found.contains("its channel 1 is stored the other way round"),
        "{found}"
    );
    assert_eq!(code, Some(0), "{errors}");
    let files = ["0", "1"].map(|channel| path(&format!("channel/imagesTr/h_1_000{channel}.nii.gz")));
    let both = ldseg_io::read_channels(&files).unwrap().data;
    assert_eq!(
        both.index_axis(ndarray::Axis(0), 0),
        both.index_axis(ndarray::Axis(0), 1),
        "the same voxels, turned back"
    );

    // Left and right hands.
    data_set(&path("hands"), 3, 1, &|case, file| {
        let (form, turn) = turned(&place(case), ["LPS", "RAS", "RPS"][case], temp.path());
        write_scalar(&file("0"), &turn.array(image(case)), &form).unwrap();
        write_labels(&file("labels"), &turn.array(labels()), &form).unwrap();
    });
    let (found, code, errors) = look(&path("hands"), 1);
    assert!(["LPS", "RAS", "RPS"].iter().all(|code| found.contains(&format!("{code} in 1 cases"))), "{found}");
    assert!(found.contains("left- and right-handed orders of axes; left-handed are h_2"), "{found}");
    assert_eq!(code, Some(0), "{errors}");

    // Elsewhere, and of another spacing.
    for (name, form, expected) in [
        ("moved", form([3.0, 0.0, 55.0]), "mm away"),
        ("coarse", OutputForm::placed([3.0, 0.0, 5.0], directions(), [1.6, 0.9, 1.5]), "has spacing [1.5"),
    ] {
        data_set(&path(name), 3, 1, &|case, file| {
            write_scalar(&file("0"), &image(case), &place(0)).unwrap();
            let here = OutputForm::placed([3.0, 0.0, 5.0], directions(), SPACING);
            write_labels(&file("labels"), &labels(), if case == 1 { &form } else { &here }).unwrap();
        });
        let (found, code, errors) = look(&path(name), 1);
        for text in [&found, &errors] {
            assert!(text.contains("h_1_0000.nii.gz: has ") && text.contains(expected), "{name}: {text}");
        }
        assert_eq!(code, Some(1), "{name}");
    }

    // An sform and a qform that disagree.
    data_set(&path("two"), 3, 1, &|case, file| {
        store_image(case, file);
        write_labels(&file("labels"), &labels(), &place(case)).unwrap();
        if case == 0 {
            other_qform(&file("0"));
        }
    });
    let (found, _, errors) = look(&path("two"), 1);
    for text in [&found, &errors] {
        assert!(text.contains("its sform and qform disagree: they say LPS and RAS; the sform is believed"), "{text}");
    }
}

/// Gives a NIfTI a qform that says RAS.
fn other_qform(path: &Path) {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes[252..254].copy_from_slice(&1_i16.to_le_bytes());
    bytes[256..280].fill(0);
    let mut packed = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    packed.write_all(&bytes).unwrap();
    packed.finish().unwrap();
    assert_eq!(read_image(path).unwrap().geometry.orientation(), Some("LPS".parse::<Orientation>().unwrap()));
    assert!(read_labels(path).is_ok());
}
