//! Segments a picture: writes a label map, and prints what is in it.
//!
//! ```sh
//! cargo run --release --example segment_picture -- BUNDLE IMAGE LABELS.png [PIXEL_SPACING_MM]
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::path::Path;

use anyhow::bail;
use ldseg::{EngineOptions, SegmentOptions, Segmenter};
use ldseg_io::write_labels;
use ldseg_recording::{Prepared, Wish, segment_image};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (bundle, image, output, spacing) = match arguments.as_slice() {
        [bundle, image, output] => (bundle, image, output, None),
        [bundle, image, output, spacing] => (bundle, image, output, Some([spacing.parse()?; 2])),
        _ => bail!("expected BUNDLE IMAGE LABELS.png [PIXEL_SPACING_MM]"),
    };
    let mut segmenter = Segmenter::load(Path::new(bundle), &EngineOptions::default())?;
    let options = SegmentOptions::defaults(segmenter.manifest());

    // Opens the file and decides which channels and which spacing count. A spacing that is given wins over the file's.
    let prepared = Prepared::open(&[image.into()], segmenter.manifest().channels, &Wish::pixels_of(spacing))?;
    let answer = segment_image(&mut segmenter, prepared.still()?, &options)?;

    // The label map has the image's size, and the class index as grey value.
    let found = &answer.segmentation;
    write_labels(Path::new(output), &found.labels, &prepared.form())?;
    for (index, class) in segmenter.manifest().classes.iter().enumerate() {
        let count = found.labels.iter().filter(|&&label| usize::from(label) == index).count();
        let [r, g, b] = class.colour;
        println!("{} (#{r:02x}{g:02x}{b:02x}): {count} pixels", class.name);
    }
    let sum: f64 = found.uncertainty.iter().map(|&value| f64::from(value)).sum();
    println!("mean uncertainty: {:.6}", sum / found.uncertainty.len() as f64);

    // Of a bundle that declares this measure, an image of its kind and a known spacing.
    let measured = [("left ventricle", &answer.measured.left_ventricle), ("left atrium", &answer.measured.left_atrium)];
    for (name, chamber) in measured {
        let Some(chamber) = chamber else { continue };
        let (area, axis, volume) = (chamber.area_cm2, chamber.long_axis_mm, chamber.volume_ml);
        println!("{name}: {area:.3} cm2, long axis {axis:.3} mm, volume {volume:.3} ml");
    }
    for note in prepared.decisions().notes().into_iter().chain(answer.notes()) {
        eprintln!("note: {image}: {note}");
    }
    Ok(())
}
