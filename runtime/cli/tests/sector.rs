//! `ldseg segment --crop-sector` on the example cine, put small into a large frame with a bar and marks around it.

use std::fs;
use std::path::PathBuf;

use image::codecs::gif::{GifDecoder, GifEncoder};
use image::{AnimationDecoder, Delay, Frame, Rgba, RgbaImage, imageops};
use ldseg::image::Labels;
use ldseg_io::read_labels;

use crate::support::{ldseg, repository};

const FRAME: (u32, u32) = (520, 400);
const PLACE: (u32, u32) = (210, 120);
const FRAMES: usize = 6;

fn example() -> Vec<RgbaImage> {
    let file = fs::File::open(repository("models/examples/echo-phantom.gif")).unwrap();
    let decoder = GifDecoder::new(std::io::BufReader::new(file)).unwrap();
    decoder.into_frames().take(FRAMES).map(|frame| frame.unwrap().into_buffer()).collect()
}

/// A device's screen: the cine, a grey bar below, a few bright marks at the left.
fn screen(cine: &RgbaImage) -> RgbaImage {
    let mut screen = RgbaImage::from_pixel(FRAME.0, FRAME.1, Rgba([0, 0, 0, 255]));
    for (x, y) in (0..FRAME.0).flat_map(|x| (385..FRAME.1).map(move |y| (x, y))) {
        screen.put_pixel(x, y, Rgba([90, 90, 90, 255]));
    }
    for (x, y) in (10..60).step_by(3).flat_map(|x| (20..100).step_by(9).map(move |y| (x, y))) {
        screen.put_pixel(x, y, Rgba([220, 220, 220, 255]));
    }
    imageops::replace(&mut screen, cine, PLACE.0.into(), PLACE.1.into());
    screen
}

fn dice(a: &Labels, b: &Labels, class: u8) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| **a == class && **b == class).count();
    let sizes = a.iter().chain(b).filter(|label| **label == class).count();
    2.0 * both as f64 / sizes as f64
}

#[test]
fn a_small_sector_is_segmented_as_if_it_were_alone() {
    let temp = tempfile::tempdir().unwrap();
    let frames = example();
    let (width, height) = frames[0].dimensions();
    let write = |name: &str, frames: Vec<RgbaImage>| {
        let path = temp.path().join(name);
        let mut encoder = GifEncoder::new(fs::File::create(&path).unwrap());
        let delay = Delay::from_numer_denom_ms(40, 1);
        encoder.encode_frames(frames.into_iter().map(|frame| Frame::from_parts(frame, 0, 0, delay))).unwrap();
        path
    };
    let alone = write("alone.gif", frames.clone());
    let screens = write("screens.gif", frames.iter().map(screen).collect());
    let segment = |input: &PathBuf, output: &str, crop: bool| {
        let output = temp.path().join(output);
        let bundle = repository("models/echo");
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"segment", input, &"--bundle", &bundle, &"--output", &output];
        if crop {
            arguments.push(&"--crop-sector");
        }
        ldseg(&arguments).ok();
        let name = format!("{}.nii.gz", input.file_stem().unwrap().to_string_lossy());
        read_labels(&output.join(name)).unwrap()
    };
    let expected = {
        let alone = segment(&alone, "alone", false);
        let mut whole = Labels::zeros(vec![FRAMES, FRAME.1 as usize, FRAME.0 as usize]);
        let (x, y) = (PLACE.0 as usize, PLACE.1 as usize);
        let (width, height) = (width as usize, height as usize);
        whole.slice_mut(ndarray::s![.., y..y + height, x..x + width]).assign(&alone);
        whole
    };
    let cropped = segment(&screens, "cropped", true);
    let whole = segment(&screens, "whole", false);
    for class in 1..=3 {
        let (with, without) = (dice(&cropped, &expected, class), dice(&whole, &expected, class));
        assert!(with > 0.85 && with > without, "class {class}: {with} with the sector cropped, {without} without");
    }
}
