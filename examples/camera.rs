//! Segments frames of a camera from memory, as they come. This one is whatever writes raw grey frames, 8 bits a pixel, to
//! standard input; a driver's callback goes in the place of `take_frames`.
//!
//! ```sh
//! ffmpeg -i CINE -pix_fmt gray -f rawvideo - | cargo run --release --example camera -- BUNDLE HEIGHT WIDTH
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::io::{self, Read, stdin};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, bail};
use ldseg::{EngineOptions, FrameOptions, Frames, Image, SegmentOptions, Segmenter, Tensor};

/// Index of a frame, and its pixels row by row.
type Taken = (u64, Vec<u8>);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, height, width] = arguments.as_slice() else { bail!("expected BUNDLE HEIGHT WIDTH") };
    let [height, width] = [height.parse::<NonZeroU16>()?, width.parse()?].map(|side| usize::from(side.get()));
    let mut segmenter = Segmenter::load(Path::new(bundle), &EngineOptions::default())?;
    let names: Vec<String> = segmenter.manifest().classes.iter().map(|class| class.name.clone()).collect();

    // As many steps as fit into the time of a frame; `warm_start: Some(0.5)` would refine the frame before.
    let segment = SegmentOptions::defaults(segmenter.manifest());
    let deadline = Some(Duration::from_millis(40));
    let mut frames = Frames::new(FrameOptions { segment, warm_start: None, deadline })?;

    // One frame may wait. What comes meanwhile is dropped, so that answers do not fall behind the camera.
    let (sender, receiver) = sync_channel(1);
    let camera = thread::spawn(move || take_frames(stdin().lock(), height * width, &sender));
    for (index, pixels) in receiver {
        let pixels = pixels.into_iter().map(f32::from).collect();
        let image = Image::from_array(Tensor::from_shape_vec(vec![1, height, width], pixels)?, None)?;
        let frame = frames.segment(&mut segmenter, &image, index)?;
        let counts = names.iter().enumerate().map(|(class, name)| {
            let labels = frame.segmentation.labels.iter();
            format!("{name} {}", labels.filter(|&&label| usize::from(label) == class).count())
        });
        let late = if frame.in_time == Some(false) { ", late" } else { "" };
        println!("frame {index}: {}", counts.collect::<Vec<_>>().join(", "));
        eprintln!("frame {index}: {:.1} ms{late}", 1e3 * frame.time.as_secs_f64());
    }
    let dropped = camera.join().map_err(|_| anyhow!("the camera's thread has stopped"))??;
    eprintln!("{dropped} frames dropped");
    Ok(())
}

/// Hands on every frame of `length` bytes that there is room for, and returns how many were dropped.
fn take_frames(mut camera: impl Read, length: usize, sender: &SyncSender<Taken>) -> io::Result<u64> {
    let mut dropped = 0;
    for index in 0.. {
        let mut pixels = Vec::with_capacity(length);
        camera.by_ref().take(length as u64).read_to_end(&mut pixels)?;
        match pixels.len() {
            0 => break,
            found if found < length => {
                let message = format!("frame {index} ends after {found} bytes, expected {length}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            _ => {}
        }
        match sender.try_send((index, pixels)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => dropped += 1,
            // Nobody segments any more.
            Err(TrySendError::Disconnected(_)) => break,
        }
    }
    Ok(dropped)
}
