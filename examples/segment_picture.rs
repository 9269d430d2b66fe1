//! Segments a picture: writes a label map, and prints what is in it.
//!
//! ```sh
//! cargo run --release --example segment_picture -- BUNDLE IMAGE LABELS.png [PIXEL_SPACING_MM]
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::path::Path;

use anyhow::bail;
use ldseg::{EngineOptions, FrameOptions, SegmentOptions, Segmenter};
use ldseg_io::write_labels;
use ldseg_recording::heart::LeftHeart;
use ldseg_recording::results::FoundIn;
use ldseg_recording::{Prepared, Runner, Wish};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (bundle, image, output, spacing) = match arguments.as_slice() {
        [bundle, image, output] => (bundle, image, output, None),
        [bundle, image, output, spacing] => (bundle, image, output, Some([spacing.parse()?; 2])),
        _ => bail!("expected BUNDLE IMAGE LABELS.png [PIXEL_SPACING_MM]"),
    };
    let segmenter = Segmenter::load(Path::new(bundle), &EngineOptions::default())?;
    // What the bundle declares to be measured, if anything.
    let heart = LeftHeart::of(segmenter.manifest());

    // Opens the file and decides which channels and which spacing count. A spacing that is given wins over the file's.
    let prepared = Prepared::open(&[image.into()], segmenter.manifest().channels, &Wish::pixels_of(spacing))?;
    if prepared.is_cine() {
        bail!("{image}: is a cine, expected one image");
    }
    let segment = SegmentOptions::defaults(segmenter.manifest());
    let mut runner = Runner::new(segmenter, FrameOptions { segment, warm_start: None, deadline: None })?;
    // The label map has the image's size, and the class index as grey value.
    let form = prepared.form();
    let found = runner.run(&prepared, heart.as_ref(), &mut |_image, segmentation| {
        write_labels(Path::new(output), &segmentation.labels, &form)
    })?;

    for (class, found) in runner.segmenter().manifest().classes.iter().zip(&found.classes) {
        let [r, g, b] = class.colour;
        println!("{} (#{r:02x}{g:02x}{b:02x}): {} pixels", class.name, found.voxels);
    }
    println!("mean uncertainty: {:.6}", found.mean_uncertainty);

    // Of a bundle that declares this measure, an image of its kind, in one view, and a known spacing.
    if let FoundIn::Still { measured, .. } = &found.kind {
        for (name, chamber) in [("left ventricle", &measured.left_ventricle), ("left atrium", &measured.left_atrium)] {
            let Some(chamber) = chamber else { continue };
            let (area, axis, volume) = (chamber.area_cm2, chamber.long_axis_mm, chamber.volume_ml);
            println!("{name}: {area:.3} cm2, long axis {axis:.3} mm, volume {volume:.3} ml");
        }
    }
    for note in &found.notes {
        eprintln!("note: {image}: {note}");
    }
    Ok(())
}
