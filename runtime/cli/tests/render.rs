//! `ldseg render` with tiny bundles: that figures show what segmenting gives.

use std::path::Path;

use image::RgbImage;
use ldseg::engine::EngineOptions;
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg::{ErrorKind, metrics};
use ldseg_evaluate::render::{Cut, Study, View, diffusion, robustness};
use ldseg_evaluate::robustness::Corruption;
use ldseg_io::{overlay, read_image, read_labels, read_recording};

use crate::support::{fixture, ldseg};

/// A view in which panels have the image's own pixels.
const VIEW: View = View { cut: None, size: 256 };

fn segmenter(bundle: &Path) -> Segmenter {
    Segmenter::load(bundle, &EngineOptions::default()).unwrap()
}

#[test]
fn the_last_step_is_the_segmentation() {
    let temp = tempfile::tempdir().unwrap();
    let (bundle, data) = (temp.path().join("bundle"), temp.path().join("data"));
    fixture("echo", &bundle);
    fixture("echo-data", &data);
    let mut segmenter = segmenter(&bundle);
    let image = read_image(&data.join("phantom0001_ED.png")).unwrap();
    let view = View { size: *image.data.shape().iter().max().unwrap(), ..VIEW };
    let options = SegmentOptions {
        sampler: ldseg::diffusion::Sampler::Ddim,
        steps: 4,
        seed: 3,
        ..SegmentOptions::defaults(segmenter.manifest())
    };
    let figure = diffusion(&mut segmenter, &image, &options, view).unwrap();
    let captions: Vec<_> = figure.columns.iter().map(|column| column.caption.as_str()).collect();
    let expected = ["noise, t = 999", "step 1, t = 749", "step 2, t = 500", "step 3, t = 250", "step 4, clean"];
    assert_eq!(captions, expected);
    let found = segmenter.segment(&image, &options).unwrap();
    let colours: Vec<_> = segmenter.manifest().classes.iter().map(|class| class.colour).collect();
    let expected: RgbImage = overlay(&image, &found.labels, &colours).unwrap();
    assert!(figure.columns[4].panels[3].picture == expected);
    assert!(figure.columns[0].panels[1] != figure.columns[4].panels[1], "the latent does not change");
    let several = SegmentOptions { samples: 2, ..options };
    assert_eq!(diffusion(&mut segmenter, &image, &several, VIEW).unwrap_err().kind(), ErrorKind::Setting);
}

#[test]
fn dice_below_a_panel_is_that_of_the_segmentation() {
    let temp = tempfile::tempdir().unwrap();
    let (bundle, data) = (temp.path().join("bundle"), temp.path().join("data"));
    fixture("echo", &bundle);
    fixture("echo-data", &data);
    let mut segmenter = segmenter(&bundle);
    let image = read_image(&data.join("phantom0001_ED.png")).unwrap();
    let labels = read_labels(&data.join("phantom0001_ED_gt.png")).unwrap();
    let options = SegmentOptions::defaults(segmenter.manifest());
    let study = Study { name: "x", corruption: Corruption::Gaussian, strengths: vec![0.0, 0.2], seed: 0, part: None };
    let (figure, levels) = robustness(&mut segmenter, &image, &labels, &study, &options, VIEW).unwrap();
    let noisy = ldseg_evaluate::robustness::corrupt(&image, "x", Corruption::Gaussian, 0.2, 0);
    let found = segmenter.segment(&noisy, &options).unwrap().labels;
    let dice = metrics::dice_per_class(&found, &labels, 4).split_off(1);
    assert_eq!(levels[1].dice[..3], dice);
    let caption = format!("Dice {:.3}", metrics::nanmean(&dice));
    assert_eq!((&figure.columns[1].panels[1].caption, figure.columns[1].caption.as_str()), (&caption, "sigma 0.200"));
    assert!(figure.columns[0].panels[0] != figure.columns[1].panels[0], "there is no noise");
}

#[test]
fn volumes_are_shown_in_slices() {
    let temp = tempfile::tempdir().unwrap();
    let (bundle, data) = (temp.path().join("bundle"), temp.path().join("data"));
    fixture("knee", &bundle);
    fixture("knee-data", &data);
    // A label map is a volume like any other.
    let image = read_image(&data.join("phantom0001.nii.gz")).unwrap();
    let mut segmenter = segmenter(&bundle);
    let options = SegmentOptions::defaults(segmenter.manifest());
    let found = segmenter.segment(&image, &options).unwrap().labels;
    for axis in 0..3 {
        let index = found.shape()[axis] / 3;
        let view = View { cut: Some(Cut { axis, index: Some(index) }), size: 64 };
        let figure = diffusion(&mut segmenter, &image, &options, view).unwrap();
        let picture = &figure.columns[1].panels[2].picture;
        assert_eq!(picture.width().max(picture.height()), 64);
        // The colour in the middle of the panel is that of the label in the middle of the slice.
        let slice = found.index_axis(ndarray::Axis(axis), index);
        let middle = |size: u32, stored: usize| (2 * (size / 2) as usize + 1) * stored / (2 * size as usize);
        let at = [middle(picture.height(), slice.shape()[0]), middle(picture.width(), slice.shape()[1])];
        let class = usize::from(slice[at.as_slice()]);
        let shown = picture.get_pixel(picture.width() / 2, picture.height() / 2).0;
        assert_eq!(shown, segmenter.manifest().classes[class].colour, "axis {axis}");
    }
}

#[test]
fn the_command_writes_sheets_and_animations() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let (bundle, data) = (path("bundle"), path("data"));
    fixture("echo", &bundle);
    fixture("echo-data", &data);
    let (image, labels) = (data.join("phantom0001_ED.png"), data.join("phantom0001_ED_gt.png"));
    let (gif, sheet) = (path("a.gif"), path("a.png"));
    let more = ["--sampler", "ddim", "--steps", "3"];
    let [sampler, ddim, steps, three] = more;
    ldseg(&[&"render", &"diffusion", &image, &"--bundle", &bundle, &"--output", &gif, &sampler, &ddim, &steps, &three])
        .ok();
    let cine = read_recording(&gif).unwrap();
    assert!(cine.is_cine(), "it moves");
    assert_eq!(cine.frame_count(), 4);
    let table = ldseg(&[
        &"render",
        &"robustness",
        &image,
        &"--labels",
        &labels,
        &"--bundle",
        &bundle,
        &"--output",
        &sheet,
        &"--levels",
        &"2",
        &"--size",
        &"100",
    ])
    .ok();
    assert!(table.contains("| 0.100 |") && table.lines().count() == 5, "{table}");
    let drawn = read_image(&sheet).unwrap();
    assert!(drawn.data.shape()[2] > 300 && drawn.data.shape()[1] > 300, "{:?}", drawn.data.shape());

    let fails = |output: &str, more: [&str; 2], code: i32, expected: &str| {
        let output = path(output);
        let ran =
            ldseg(&[&"render", &"diffusion", &image, &"--bundle", &bundle, &"--output", &output, &more[0], &more[1]]);
        assert!(ran.code == Some(code) && ran.stderr.contains(expected), "{:?} {}", ran.code, ran.stderr);
        assert!(!output.exists());
    };
    fails("a.svg", ["--seed", "1"], 2, "a.svg: is no name for a figure");
    fails("b.png", ["--slice", "1"], 2, "a picture has no slices");
    fails("b.png", ["--frame", "1"], 2, "is a still image");
    fails("b.png", ["--samples", "2"], 2, "one latent is followed");
}
