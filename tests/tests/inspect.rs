//! `ldseg-train inspect` on synthetic data, whole and broken.

use std::fs;

use image::{GrayImage, Luma};

use crate::support::{note, shared, train};

#[test]
fn a_whole_data_set_is_described_and_gets_a_recipe() {
    for (kind, expected) in [
        ("echo", ["cases        8 of 4 patients", "size         224 x 224", "spacing      not told by the files"]),
        ("glands", ["cases        4 of 4 patients", "channels     3", "label 255"]),
        ("knee", ["layout       images/ and labels/", "size         56 x 40 x 48", "label 2"]),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let (data, recipe) = (temp.path().join("data"), temp.path().join("recipe.yaml"));
        train(&[&"phantom", &kind, &"--count", &"4", &"--seed", &"1", &"--output", &data]).ok();
        let text = train(&[&"inspect", &data, &"--write-recipe", &recipe]).ok();
        for line in expected.iter().chain(&["nothing suspicious"]) {
            assert!(text.contains(line), "{kind}: expected '{line}' in:\n{text}");
        }
        ldseg_trainer::recipe::Recipe::load(&recipe, &[]).unwrap();
        let ran = train(&[&"inspect", &data, &"--write-recipe", &recipe]);
        assert!(ran.code == Some(1) && ran.stderr.contains("exists already"), "{}", ran.stderr);
    }
}

#[test]
fn everything_that_is_wrong_with_a_data_set_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path();
    train(&[&"phantom", &"echo", &"--count", &"8", &"--seed", &"1", &"--output", &data]).ok();
    let path = |name: &str| data.join(name);
    fs::remove_file(path("phantom0001_ED_gt.png")).unwrap();
    fs::remove_file(path("phantom0002_ED.png")).unwrap();
    GrayImage::new(10, 10).save(path("phantom0003_ED_gt.png")).unwrap();
    fs::write(path("phantom0004_ED.png"), "no picture").unwrap();
    fs::copy(path("phantom0005_ED.png"), path("phantom0006_ED.png")).unwrap();
    GrayImage::from_pixel(224, 224, Luma([9])).save(path("phantom0005_ES.png")).unwrap();
    let mut odd = image::open(path("phantom0006_ES_gt.png")).unwrap().into_luma8();
    odd.put_pixel(3, 3, Luma([77]));
    odd.save(path("phantom0006_ES_gt.png")).unwrap();
    let half = image::ImageBuffer::<Luma<u16>, _>::from_pixel(224, 224, Luma([300]));
    half.save(path("phantom0007_ED_gt.png")).unwrap();

    let ran = train(&[&"inspect", &data]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for expected in [
        "phantom0001_ED.png has no label map",
        "phantom0002_ED_gt.png has no image",
        "phantom0003_ED.png: has size [224, 224], but its label map",
        "phantom0003_ED_gt.png: holds nothing but the value 0",
        "phantom0004_ED.png: is not a readable PNG",
        "phantom0005_ED and phantom0006_ED have the same image, of different patients",
        "phantom0005_ES.png: every value is 9",
        "only phantom0006_ES hold the label value 77",
        "phantom0007_ED_gt.png: has the label 300, expected whole numbers",
    ] {
        assert!(ran.stdout.contains(expected), "expected '{expected}' in:\n{}", ran.stdout);
    }
    assert!(ran.stdout.contains("suspicious   9"), "{}", ran.stdout);
}

#[test]
fn all_shared_data_are_described() {
    for (folder, expected) in [
        ("data/camus-224", "cases        1600 of 400 patients"),
        ("data/camus-original", "cases        12 of 3 patients"),
        ("data/glas", "cases        85 of"),
        ("data/knee", "cases        3 of 3 patients"),
    ] {
        let Some(data) = shared("inspection of real data", folder) else { continue };
        let ran = train(&[&"inspect", &data]);
        assert!(ran.stdout.contains(expected), "{folder}: {}{}", ran.stdout, ran.stderr);
        note(&format!("{folder}: {}", ran.stdout.lines().last().unwrap_or_default()));
    }
}
