//! Segments the frames of a cine, and prints what the left ventricle measures in each and over the heartbeat, as CSV.
//!
//! ```sh
//! cargo run --release --example measure_cine -- BUNDLE CINE [PIXEL_SPACING_MM]
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::path::Path;

use anyhow::bail;
use ldseg::{EngineOptions, FrameOptions, SegmentOptions, Segmenter};
use ldseg_recording::results::FoundIn;
use ldseg_recording::{Prepared, Runner, Wish, left_heart};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (bundle, cine, spacing) = match arguments.as_slice() {
        [bundle, cine] => (bundle, cine, None),
        [bundle, cine, spacing] => (bundle, cine, Some([spacing.parse()?; 2])),
        _ => bail!("expected BUNDLE CINE [PIXEL_SPACING_MM]"),
    };
    let segmenter = Segmenter::load(Path::new(bundle), &EngineOptions::default())?;
    // Which classes are the ventricle and its wall is declared by the bundle.
    let heart = left_heart(segmenter.manifest())?;
    let prepared = Prepared::open(&[cine.into()], segmenter.manifest().channels, &Wish::pixels_of(spacing))?;

    // Every frame starts from noise, and takes as long as it takes.
    let segment = SegmentOptions::defaults(segmenter.manifest());
    let mut runner = Runner::new(segmenter, FrameOptions { segment, warm_start: None, deadline: None })?;
    // The closure gets each frame with its segmentation, to write or to draw.
    let found = runner.run(&prepared, Some(&heart), &mut |_frame, _segmentation| Ok(()))?;

    let FoundIn::Cine { frames, heartbeat } = &found.kind else { bail!("{cine}: is one image, expected a cine") };
    println!("frame,seconds,area_cm2,volume_ml");
    for frame in frames {
        // Nothing is measured where the spacing is not known, or there is no ventricle.
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
        let ventricle = frame.measured.left_ventricle.as_ref();
        let [area, volume] = [ventricle.map(|chamber| chamber.area_cm2), ventricle.map(|chamber| chamber.volume_ml)];
        println!("{},{:.3},{},{}", frame.index, frame.time_seconds, number(area), number(volume));
    }
    match heartbeat {
        Some(beat) => eprintln!(
            "ejection fraction {:.3}, from frame {} to frame {}",
            beat.ejection_fraction, beat.end_diastole_frame, beat.end_systole_frame
        ),
        None => eprintln!("no heartbeat was found"),
    }
    for note in &found.notes {
        eprintln!("note: {cine}: {note}");
    }
    Ok(())
}
