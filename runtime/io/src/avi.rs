//! AVI cines of Motion JPEG, as ultrasound devices export them.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use ::image::codecs::jpeg::JpegDecoder;
use ::image::{DynamicImage, ImageDecoder};

use super::recording::{Cine, Recording};
use super::{Geometry, Image, Limits, OutputForm, picture};
use ldseg::{Error, ErrorKind, Result};

/// How long a frame is shown if the file does not say; the same as for GIF.
const UNTIMED: f64 = 0.1;

/// Reads the first video stream; one frame is a picture.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Recording> {
    let bytes = limits.read(path)?;
    let limits = limits.without(bytes.len());
    let avi = Avi::parse(&bytes)?;
    if avi.frames.is_empty() {
        return Err(fail("holds no frame".into()));
    }
    let size = avi.size.map(|size| size as usize);
    limits.check(avi.frames.len(), [size[1], size[0], 3], 1)?;
    let frames = avi
        .frames
        .iter()
        .enumerate()
        .map(|(index, frame)| decode(frame, avi.size).map_err(|e| fail(format!("frame {index} {e}"))));
    let frames = frames.collect::<Result<Vec<_>>>()?;
    let seconds = vec![avi.seconds.unwrap_or(UNTIMED); frames.len()];
    let recording = match <[DynamicImage; 1]>::try_from(frames) {
        Ok([frame]) => {
            let data = picture::intensities(&frame)?;
            Recording::still(Image { data, geometry: Geometry::default() }, OutputForm::picture())
        }
        Err(frames) => Recording::cine(Cine::new(frames, seconds, None)?),
    };
    let untimed = avi.seconds.is_none().then(|| format!("its frame time is unknown: {UNTIMED} s is assumed"));
    Ok(recording.noted(untimed.into_iter().collect()))
}

/// One frame of this width and height.
fn decode(frame: &[u8], size: [u32; 2]) -> Result<DynamicImage> {
    let unreadable = |e: &dyn std::fmt::Display| fail(format!("is not readable as JPEG: {e}"));
    // The decoder paints what is missing grey.
    if picture::jpeg_is_complete(frame) != Some(true) {
        return Err(unreadable(&"it ends before its end-of-image marker"));
    }
    let frame = with_tables(frame);
    let decoder = JpegDecoder::new(Cursor::new(&*frame)).map_err(|e| unreadable(&e))?;
    let (width, height) = decoder.dimensions();
    if [width, height] != size {
        let [w, h] = size;
        let fields = if width == w && 2 * height == h { ", so it is interlaced, which is not supported" } else { "" };
        return Err(fail(format!("has {width} x {height} pixels, the header says {w} x {h}{fields}")));
    }
    DynamicImage::from_decoder(decoder).map_err(|e| unreadable(&e))
}

/// Frames may leave out the Huffman tables that all of them share (ITU-T T.81, annex K.3). The decoder knows these tables,
/// and takes them where the marker that Motion JPEG has asks for it.
fn with_tables(frame: &[u8]) -> Cow<'_, [u8]> {
    const DEFINE_HUFFMAN_TABLES: [u8; 2] = [0xFF, 0xC4];
    const MOTION_JPEG: [u8; 9] = [0xFF, 0xE0, 0, 7, b'A', b'V', b'I', b'1', 0];
    if frame.windows(2).any(|pair| pair == DEFINE_HUFFMAN_TABLES) {
        return frame.into();
    }
    [&frame[..2], &MOTION_JPEG, &frame[2..]].concat().into()
}

/// What a file holds.
struct Avi<'a> {
    /// Compressed.
    frames: Vec<&'a [u8]>,
    /// How long each is shown.
    seconds: Option<f64>,
    /// Width and height.
    size: [u32; 2],
}

/// The header of a video stream.
struct Stream {
    /// Counted over all streams of the file.
    index: usize,
    seconds: Option<f64>,
    size: [u32; 2],
}

impl<'a> Avi<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut stream = None;
        let mut frames = Vec::new();
        let mut riffs = Chunks { rest: bytes };
        // The first part ends at 1 GiB; `AVIX` goes on.
        while let Some(riff) = riffs.next()?.filter(|chunk| matches!(chunk.list(b"RIFF"), Some(b"AVI " | b"AVIX"))) {
            let mut lists = riff.content();
            while let Some(list) = lists.next()? {
                match list.list(b"LIST") {
                    Some(b"hdrl") if stream.is_none() => stream = video(list.content())?,
                    Some(b"movi") => {
                        let stream = stream.as_ref().ok_or_else(|| fail("holds no video stream".into()))?;
                        collect(list.content(), stream, &mut frames)?;
                    }
                    _ => {}
                }
            }
        }
        let Some(stream) = stream else {
            return Err(fail("is not a readable AVI: it has no header of a video stream".into()));
        };
        Ok(Self { frames, seconds: stream.seconds, size: stream.size })
    }
}

/// The first video stream of a `hdrl` list.
fn video(mut header: Chunks<'_>) -> Result<Option<Stream>> {
    let mut index = 0;
    let mut frame_time = None;
    while let Some(chunk) = header.next()? {
        if chunk.id == *b"avih" {
            frame_time = number(chunk.data, 0).map(|microseconds| f64::from(microseconds) * 1e-6);
        }
        if chunk.list(b"LIST") != Some(b"strl") {
            continue;
        }
        if let Some(stream) = video_stream(chunk.content(), index, frame_time)? {
            return Ok(Some(stream));
        }
        index += 1;
    }
    Ok(None)
}

/// A `strl` list; `None` where it is of another kind than video. `frame_time` is the file's.
fn video_stream(mut chunks: Chunks<'_>, index: usize, frame_time: Option<f64>) -> Result<Option<Stream>> {
    let (mut header, mut format) = (&[][..], &[][..]);
    while let Some(chunk) = chunks.next()? {
        match &chunk.id {
            b"strh" => header = chunk.data,
            b"strf" => format = chunk.data,
            _ => {}
        }
    }
    if !header.starts_with(b"vids") {
        return Ok(None);
    }
    let damaged = || fail("is not a readable AVI: the header of its video stream is too short".into());
    let codec: &[u8; 4] = format.get(16..).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
    if !codec.eq_ignore_ascii_case(b"MJPG") {
        let how = match codec {
            [0, 0, 0, 0] => "not compressed".to_owned(),
            name => format!("compressed as `{}`", name.escape_ascii()),
        };
        return Err(fail(format!("is {how}, which is not supported: expected Motion JPEG (`MJPG`)")));
    }
    let ratio = number(header, 20).zip(number(header, 24)).map(|(scale, rate)| f64::from(scale) / f64::from(rate));
    let usable = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
    let seconds = ratio.filter(usable).or(frame_time.filter(usable));
    let (width, height) = number(format, 4).zip(number(format, 8)).ok_or_else(damaged)?;
    // A height below 0 says that the rows go down, which those of JPEG always do.
    Ok(Some(Stream { index, seconds, size: [width, (height as i32).unsigned_abs()] }))
}

/// Appends the stream's frames in a `movi` list, or in the groups that it may have.
fn collect<'a>(mut chunks: Chunks<'a>, stream: &Stream, frames: &mut Vec<&'a [u8]>) -> Result<()> {
    let number = format!("{:02}", stream.index);
    while let Some(chunk) = chunks.next()? {
        if chunk.list(b"LIST") == Some(b"rec ") {
            let mut group = chunk.content();
            while let Some(chunk) = group.next()? {
                take(&chunk, &number, frames);
            }
        } else {
            take(&chunk, &number, frames);
        }
    }
    Ok(())
}

fn take<'a>(chunk: &Chunk<'a>, number: &str, frames: &mut Vec<&'a [u8]>) {
    let (stream, kind) = chunk.id.split_at(2);
    if stream == number.as_bytes() && matches!(kind, b"dc" | b"db") {
        // An empty chunk repeats the frame before.
        match (chunk.data, frames.last()) {
            ([], Some(&last)) => frames.push(last),
            ([], None) => {}
            (data, _) => frames.push(data),
        }
    }
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&word| u32::from_le_bytes(word))
}

/// A chunk of a RIFF file.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    id: [u8; 4],
    data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// What kind of list it is, where it is one with this identifier.
    fn list(&self, id: &[u8; 4]) -> Option<&'a [u8; 4]> {
        if self.id == *id { self.data.first_chunk() } else { None }
    }

    /// The chunks of a list.
    fn content(&self) -> Chunks<'a> {
        Chunks { rest: self.data.get(4..).unwrap_or_default() }
    }
}

/// Chunks one after the other.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Chunks<'a> {
    /// # Errors
    /// [`ErrorKind::Format`] for a chunk that reaches beyond what is there.
    fn next(&mut self) -> Result<Option<Chunk<'a>>> {
        const HEADER: usize = 8;
        // An odd chunk is followed by a byte of padding, which may be missing at the end.
        let (Some(&id), Some(size)) = (self.rest.first_chunk(), number(self.rest, 4)) else {
            return Ok(None);
        };
        let size = size as usize;
        let after = &self.rest[HEADER..];
        let data = after.get(..size).ok_or_else(|| {
            let name = id.escape_ascii();
            fail(format!("is truncated: its chunk `{name}` has {size} bytes, but only {} are stored", after.len()))
        })?;
        self.rest = after.get(size + size % 2..).unwrap_or_default();
        Ok(Some(Chunk { id, data }))
    }
}

fn fail(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ::image::codecs::jpeg::JpegEncoder;
    use ::image::{ExtendedColorType, RgbImage};

    use super::super::read_recording;
    use super::*;

    const SIZE: [u32; 2] = [24, 16];

    fn chunk(id: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut bytes = [&id[..], &(data.len() as u32).to_le_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    }

    fn list(id: &[u8; 4], kind: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
        chunk(id, &[&kind[..], &chunks.concat()].concat())
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A stream of sound, then one of pictures at 1000 / 33 a second.
    fn header(codec: &[u8; 4]) -> Vec<u8> {
        let strh = |kind: &[u8; 4]| chunk(b"strh", &[&kind[..], &[0; 16], &words(&[33, 1000])].concat());
        let format = [words(&[40, SIZE[0], SIZE[1], 1 | 24 << 16]), codec.to_vec(), vec![0; 20]].concat();
        let sound = list(b"LIST", b"strl", &[strh(b"auds"), chunk(b"strf", &[0; 18])]);
        let pictures = list(b"LIST", b"strl", &[strh(b"vids"), chunk(b"strf", &format)]);
        list(b"LIST", b"hdrl", &[chunk(b"avih", &words(&[40_000; 14])), sound, pictures])
    }

    fn avi(codec: &[u8; 4], movie: &[Vec<u8>]) -> Vec<u8> {
        list(b"RIFF", b"AVI ", &[header(codec), list(b"LIST", b"movi", movie)])
    }

    fn picture(n: u8) -> RgbImage {
        RgbImage::from_fn(SIZE[0], SIZE[1], |x, y| ::image::Rgb([n * 50 + 4 * x as u8, 200 - 5 * y as u8, 90]))
    }

    fn jpeg(n: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        picture(n).write_with_encoder(encoder).unwrap();
        bytes
    }

    /// The same JPEG without its Huffman tables, as cameras write them.
    fn without_tables(jpeg: &[u8]) -> Vec<u8> {
        let mut bytes = jpeg[..2].to_vec();
        let mut at = 2;
        while jpeg[at + 1] != 0xDA {
            let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            if jpeg[at + 1] != 0xC4 {
                bytes.extend(&jpeg[at..end]);
            }
            at = end;
        }
        bytes.extend(&jpeg[at..]);
        bytes
    }

    fn read_back(bytes: &[u8]) -> Result<Recording> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.AVI");
        fs::write(&path, bytes).unwrap();
        read_recording(&path)
    }

    fn cine(bytes: &[u8]) -> Recording {
        let cine = read_back(bytes).unwrap();
        assert!(cine.is_cine(), "an AVI is a cine");
        cine
    }

    fn error(bytes: &[u8]) -> String {
        let error = read_back(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        error.to_string()
    }

    #[test]
    fn frames_come_back_with_their_time() {
        let movie = [
            chunk(b"00wb", b"sound"),
            chunk(b"01dc", &jpeg(0)),
            list(b"LIST", b"rec ", &[chunk(b"01dc", &without_tables(&jpeg(1))), chunk(b"00wb", b"")]),
            chunk(b"01dc", b""),
        ];
        let cine = cine(&avi(b"MJPG", &movie));
        assert_eq!(cine.seconds(), [0.033; 3]);
        for (index, n) in [0, 1, 1].into_iter().enumerate() {
            let data = cine.frame(index).unwrap().into_owned().data;
            let far = picture(n).enumerate_pixels().any(|(x, y, pixel)| {
                (0..3).any(|c| (data[[c, y as usize, x as usize]] - f32::from(pixel.0[c])).abs() > 8.0)
            });
            assert!(!far, "frame {index}");
        }
    }

    #[test]
    fn a_second_part_goes_on() {
        let first = avi(b"mjpg", &[chunk(b"01dc", &jpeg(0))]);
        let second = list(b"RIFF", b"AVIX", &[list(b"LIST", b"movi", &[chunk(b"01dc", &jpeg(1))])]);
        assert_eq!(cine(&[first, second].concat()).frame_count(), 2);
    }

    #[test]
    fn one_grey_frame_is_a_grey_picture() {
        let mut grey = Vec::new();
        let pixels = vec![77; (SIZE[0] * SIZE[1]) as usize];
        JpegEncoder::new(&mut grey).encode(&pixels, SIZE[0], SIZE[1], ExtendedColorType::L8).unwrap();
        let recording = read_back(&avi(b"MJPG", &[chunk(b"01dc", &grey)])).unwrap();
        assert!(!recording.is_cine(), "one frame is a picture");
        assert_eq!(recording.frame(0).unwrap().data.shape(), [1, 16, 24]);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = avi(b"MJPG", &[chunk(b"01dc", &jpeg(0))]);
        for length in 0..whole.len() - 1 {
            let error = error(&whole[..length]);
            assert!(error.contains("is truncated") || error.contains("not a readable AVI"), "{length}: {error}");
        }
        let half = jpeg(0)[..300].to_vec();
        assert!(error(&avi(b"MJPG", &[chunk(b"01dc", &half)])).contains("frame 0 is not readable as JPEG"));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let error = |bytes: &[u8]| error(bytes);
        assert!(error(&avi(b"H264", &[chunk(b"01dc", &jpeg(0))])).contains("is compressed as `H264`"));
        assert!(error(&avi(b"MJPG", &[])).contains("holds no frame"));
        let small = RgbImage::new(SIZE[0], SIZE[1] / 2);
        let mut field = Vec::new();
        small.write_with_encoder(JpegEncoder::new(&mut field)).unwrap();
        assert!(error(&avi(b"MJPG", &[chunk(b"01dc", &field)])).contains("interlaced"));
    }
}
