//! Animated GIF: cines in, overlays out.

use std::io::{Cursor, Write};
use std::path::Path;
use std::time::Duration;

use ::image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use ::image::{AnimationDecoder, Delay, DynamicImage, Frame, ImageError, RgbImage};

use super::recording::{Cine, Recording};
use super::{Geometry, Image, Limits, OutputForm, picture};
use ldseg::files::write_atomically;
use ldseg::{Error, ErrorKind, Result};

/// How long a frame is shown if the file says 0; browsers do the same.
const UNTIMED: f64 = 0.1;
/// Of the palette's fit, 1 (best) to 30 (fastest).
const PALETTE_SPEED: i32 = 10;

/// A GIF of one frame is a picture, one of more a cine.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Recording> {
    let bytes = limits.read(path)?;
    let limits = limits.without(bytes.len());
    let unreadable = |e: ImageError| Error::new(ErrorKind::Format, format!("is not a readable GIF: {e}"));
    let blocks = Blocks::read(&bytes);
    if let Some(Blocks { size: [width, height], frames, .. }) = blocks {
        // Without transparency, as most are.
        limits.check(frames.max(1), [height, width, 3], 1)?;
    }
    let decoder = GifDecoder::new(Cursor::new(&bytes)).map_err(unreadable)?;
    let (mut frames, mut seconds, mut held) = (Vec::new(), Vec::new(), 0);
    for frame in decoder.into_frames() {
        let frame = frame.map_err(unreadable)?;
        let shown = Duration::from(frame.delay()).as_secs_f64();
        seconds.push(if shown > 0.0 { shown } else { UNTIMED });
        let frame = compact(frame.into_buffer().into());
        // With transparency it takes more than was thought, and the decoder may find more frames than were counted.
        held += frame.as_bytes().len();
        if held > limits.decoded_bytes || frames.len() == limits.frames {
            let (most, frames) = (limits.decoded_bytes >> 20, limits.frames);
            let message = format!("takes more than {most} MiB decoded, or has more than {frames} frames");
            return Err(Error::new(ErrorKind::Format, message));
        }
        frames.push(frame);
    }
    // The decoder takes a file that breaks off between two frames for a shorter one.
    if !blocks.is_some_and(|blocks| blocks.ended) {
        return Err(Error::new(ErrorKind::Format, "is not a readable GIF: it ends before its trailer"));
    }
    match <[DynamicImage; 1]>::try_from(frames) {
        Ok([frame]) => {
            let data = picture::intensities(&frame)?;
            let image = Image { data, geometry: Geometry::default() };
            Ok(Recording::still(image, OutputForm::picture()))
        }
        Err(frames) => Ok(Recording::cine(Cine::new(frames, seconds, None)?)),
    }
}

/// What the blocks of a GIF say, without their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    /// Width and height of the canvas.
    size: [usize; 2],
    frames: usize,
    /// Whether the trailer comes after them; what comes after the trailer is not the file's.
    ended: bool,
}

impl Blocks {
    /// `None` where there is no header.
    fn read(bytes: &[u8]) -> Option<Self> {
        const EXTENSION: u8 = 0x21;
        const IMAGE: u8 = 0x2C;
        const TRAILER: u8 = 0x3B;
        let number = |at: usize| Some(usize::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
        let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
        let mut blocks = Self { size: [number(6)?, number(8)?], frames: 0, ended: false };
        let mut at = 13 + table(*bytes.get(10)?);
        while let Some(&kind) = bytes.get(at) {
            at += match kind {
                EXTENSION => 2,
                IMAGE => {
                    let Some(&flags) = bytes.get(at + 9) else { break };
                    blocks.frames += 1;
                    11 + table(flags)
                }
                TRAILER => {
                    blocks.ended = true;
                    break;
                }
                _ => break,
            };
            // Blocks of at most 255 bytes, the last of them empty.
            while let Some(&size) = bytes.get(at) {
                at += 1 + usize::from(size);
                if size == 0 {
                    break;
                }
            }
        }
        Some(blocks)
    }
}

/// Without the alpha channel where it says nothing. GIF is decoded to four channels, though most echo cines are grey.
fn compact(frame: DynamicImage) -> DynamicImage {
    match &frame {
        DynamicImage::ImageRgba8(pixels) if pixels.pixels().all(|pixel| pixel.0[3] == u8::MAX) => {
            DynamicImage::ImageRgb8(frame.to_rgb8())
        }
        _ => frame,
    }
}

/// Writes pictures as an animated GIF that repeats for ever; each is shown for as many of `seconds`, to a hundredth.
/// The file appears whole or not at all.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be written.
pub fn write_cine(path: &Path, pictures: Vec<RgbImage>, seconds: &[f64]) -> Result<()> {
    write_atomically(path, |out| encode(pictures, seconds, out)).map_err(|e| e.in_file(path))
}

pub(super) fn encode(pictures: Vec<RgbImage>, seconds: &[f64], out: &mut dyn Write) -> Result<()> {
    let failed = |e: ImageError| Error::with_source(ErrorKind::Io, "cannot be written", e);
    let mut encoder = GifEncoder::new_with_speed(out, PALETTE_SPEED);
    encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
    for (picture, seconds) in pictures.into_iter().zip(seconds) {
        let delay = Delay::from_saturating_duration(Duration::from_secs_f64(seconds.clamp(0.01, 600.0)));
        let pixels = DynamicImage::ImageRgb8(picture).into_rgba8();
        encoder.encode_frame(Frame::from_parts(pixels, 0, 0, delay)).map_err(failed)?;
    }
    // The trailer is written when the encoder is dropped, and whether that worked is for the writer to know.
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ::image::Rgb;

    use super::super::{read_image, read_recording};
    use super::*;

    fn cine(path: &Path, frames: u8) {
        let picture = |n: u8| RgbImage::from_fn(6, 4, |x, y| Rgb([n * 20 + (x + y) as u8; 3]));
        let seconds: Vec<f64> = (1..=frames).map(|n| f64::from(n) * 0.02).collect();
        write_cine(path, (0..frames).map(picture).collect(), &seconds).unwrap();
    }

    #[test]
    fn frames_come_back_with_their_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.GIF");
        cine(&path, 3);
        let read = read_recording(&path).unwrap();
        assert_eq!((read.frame_count(), read.seconds()), (3, &[0.02, 0.04, 0.06][..]));
        let frame = read.frame(2).unwrap();
        assert_eq!(frame.with_channels(1).unwrap().shape(), [1, 4, 6]);
        assert_eq!(frame.data[[0, 3, 5]], 48.0);
        assert_eq!(read.frame(3).unwrap_err().kind(), ErrorKind::Setting);
        let error = read_image(&path).unwrap_err().to_string();
        assert!(error.ends_with("a.GIF: is a cine of 3 frames, expected a single image"), "{error}");
    }

    #[test]
    fn one_frame_is_a_picture() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        cine(&path, 1);
        assert_eq!(read_image(&path).unwrap().data.shape(), [3, 4, 6]);
    }

    #[test]
    fn bytes_after_the_trailer_are_not_the_file_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        cine(&path, 3);
        let bytes = fs::read(&path).unwrap();
        for extra in [&[0, 0][..], b"a tool's signature", &[0x3B]] {
            fs::write(&path, [&bytes, extra].concat()).unwrap();
            assert_eq!(read_recording(&path).unwrap().frame_count(), 3);
        }
    }

    #[test]
    fn what_a_canvas_asks_for_is_checked_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        cine(&path, 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[6..10].copy_from_slice(&[0xFF; 4]);
        fs::write(&path, &bytes).unwrap();
        let error = read_recording(&path).unwrap_err().to_string();
        assert!(error.contains("has frames of 65535 x 65535 pixels"), "{error}");
        cine(&path, 5);
        let few = Limits { frames: 4, ..Limits::default() };
        let error = crate::read_recording_within(&path, &few).unwrap_err().to_string();
        assert!(error.contains("has 5 frames, expected at most 4"), "{error}");
    }

    #[test]
    fn a_truncated_cine_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        cine(&path, 3);
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = read_recording(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{length} of {} bytes: {error}", bytes.len());
        }
    }
}
