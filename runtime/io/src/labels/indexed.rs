//! The indices of pictures with a palette. Other readers of this crate give their colours.

use std::io::Cursor;

use ::image::ImageDecoder;
use ::image::codecs::bmp::BmpDecoder;
use ::image::codecs::tiff::TiffDecoder;

use super::plane;
use crate::Limits;
use ldseg::{Error, ErrorKind, Result, Tensor};

/// TIFF tags.
const COMPRESSION: u64 = 259;
const PHOTOMETRIC: u64 = 262;
const COLOUR_MAP: u64 = 320;
/// [`PHOTOMETRIC`] where 0 is black, and where values are indices of the colour map.
const BLACK_IS_ZERO: u64 = 1;
const PALETTE: u64 = 3;

/// A picture's indices, `[1, H, W]`, and the colours that they stand for.
pub(super) struct Indexed {
    pub(super) values: Tensor,
    pub(super) palette: Vec<[u8; 3]>,
}

/// The indices of a PNG, BMP, GIF or TIFF; `None` where it has no palette, or where it is for the decoder of its colours to
/// say what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Indexed>> {
    if bytes.starts_with(b"\x89PNG") {
        png(bytes)
    } else if bytes.starts_with(b"GIF8") {
        gif(bytes).map(Some)
    } else if bytes.starts_with(b"BM") {
        bmp(bytes)
    } else {
        tiff(bytes)
    }
}

fn unreadable(format: &str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, format!("is not a readable {format}: {error}"))
}

fn triples(palette: &[u8]) -> Vec<[u8; 3]> {
    palette.as_chunks::<3>().0.to_vec()
}

fn png(bytes: &[u8]) -> Result<Option<Indexed>> {
    let failed = |e| unreadable("PNG", e);
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(failed)?;
    let info = reader.info();
    if info.color_type != png::ColorType::Indexed {
        return Ok(None);
    }
    let (size, depth) = ([info.height as usize, info.width as usize], info.bit_depth as usize);
    let palette = info.palette.as_deref().map(triples).unwrap_or_default();
    area(size)?;
    let length = reader.output_buffer_size().ok_or_else(|| unreadable("PNG", "its size is absurd"))?;
    let mut rows = vec![0; length];
    let frame = reader.next_frame(&mut rows).map_err(failed)?;
    let indices = rows.chunks_exact(frame.line_size).flat_map(|row| unpack(row, depth, size[1])).collect();
    Ok(Some(Indexed { values: plane(indices, size)?, palette }))
}

/// Pixels of a picture of this size, if it may have so many.
fn area(size: [usize; 2]) -> Result<usize> {
    Limits::default().check_still(&size, 1, 2).map(|()| size.iter().product())
}

/// `count` numbers of `depth` bits, the first in the highest bits.
fn unpack(row: &[u8], depth: usize, count: usize) -> impl Iterator<Item = u8> + '_ {
    let (a_byte, mask) = (8 / depth, (0xFF_u16 >> (8 - depth)) as u8);
    (0..count).map(move |at| row[at / a_byte] >> (8 - depth * (at % a_byte + 1)) & mask)
}

fn gif(bytes: &[u8]) -> Result<Indexed> {
    let failed = |e| unreadable("GIF", e);
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(failed)?;
    let size = [usize::from(decoder.height()), usize::from(decoder.width())];
    area(size)?;
    let global = decoder.global_palette().map(triples);
    let frame = decoder.read_next_frame().map_err(failed)?.ok_or_else(|| unreadable("GIF", "it holds no frame"))?;
    let found = [frame.top, frame.left, frame.height, frame.width].map(usize::from);
    if found != [0, 0, size[0], size[1]] {
        let message = format!("has a frame of {} x {} in a picture of {} x {}", found[2], found[3], size[0], size[1]);
        return Err(Error::new(ErrorKind::Format, message + ", expected one that covers it"));
    }
    let palette = frame.palette.as_deref().map(triples).or(global).unwrap_or_default();
    let values = plane(frame.buffer.to_vec(), size)?;
    if decoder.next_frame_info().map_err(failed)?.is_some() {
        return Err(Error::new(ErrorKind::Format, "holds several images, expected a single label map"));
    }
    Ok(Indexed { values, palette })
}

fn bmp(bytes: &[u8]) -> Result<Option<Indexed>> {
    let failed = |e| unreadable("BMP", e);
    let mut decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let Some(palette) = decoder.get_palette().map(<[_]>::to_vec) else { return Ok(None) };
    decoder.set_indexed_color(true);
    let (w, h) = decoder.dimensions();
    let size = [h as usize, w as usize];
    let mut indices = vec![0; area(size)?];
    decoder.read_image(&mut indices).map_err(failed)?;
    Ok(Some(Indexed { values: plane(indices, size)?, palette }))
}

/// The decoder knows no palettes: with another photometric interpretation the same bytes are a grey picture of the
/// indices.
fn tiff(bytes: &[u8]) -> Result<Option<Indexed>> {
    let Some(directory) = Directory::first(bytes) else { return Ok(None) };
    let Some(photometric) = directory.find(PHOTOMETRIC).filter(|entry| entry.value == PALETTE) else { return Ok(None) };
    let failed = |e| unreadable("TIFF", e);
    if directory.has_next() {
        return Err(Error::new(ErrorKind::Format, "has more than one page, expected a single picture"));
    }
    let palette = directory.colours();
    let mut grey = bytes.to_vec();
    let short =
        if directory.big_endian { (BLACK_IS_ZERO as u16).to_be_bytes() } else { (BLACK_IS_ZERO as u16).to_le_bytes() };
    grey[photometric.at..photometric.at + 2].copy_from_slice(&short);
    let decoder = TiffDecoder::new(Cursor::new(grey)).map_err(failed)?;
    let (w, h) = decoder.dimensions();
    let size = [h as usize, w as usize];
    if decoder.color_type() != ::image::ColorType::L8 {
        let message = "has a palette, expected one of 8 bits a pixel";
        return Err(Error::new(ErrorKind::Format, message));
    }
    let mut indices = vec![0; area(size)?];
    decoder.read_image(&mut indices).map_err(failed)?;
    Ok(Some(Indexed { values: plane(indices, size)?, palette }))
}

/// The name of a TIFF's compression, where it is a lossy one.
pub(super) fn lossy_tiff(bytes: &[u8]) -> Option<&'static str> {
    match Directory::first(bytes)?.find(COMPRESSION)?.value {
        6 | 7 | 34892 => Some("JPEG"),
        33003 | 33005 | 34712 => Some("JPEG 2000"),
        34887 => Some("LERC"),
        50001 => Some("WebP"),
        50002 => Some("JPEG XL"),
        _ => None,
    }
}

/// The first image file directory of a TIFF.
struct Directory<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    at: u64,
    entries: u64,
}

/// A tag's first number, or the offset of its numbers, and where it lies.
struct Entry {
    value: u64,
    at: usize,
    count: u64,
}

impl<'a> Directory<'a> {
    /// `None` where there is none; BigTIFF is left to the decoder.
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = bytes.starts_with(b"MM\0*");
        if !big_endian && !bytes.starts_with(b"II*\0") {
            return None;
        }
        let mut directory = Self { bytes, big_endian, at: 0, entries: 0 };
        directory.at = directory.number(4, 4)?;
        directory.entries = directory.number(directory.at, 2)?;
        Some(directory)
    }

    fn number(&self, at: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let stored = self.bytes.get(at..at.checked_add(size)?)?;
        let digit = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        Some(if self.big_endian { stored.iter().fold(0, digit) } else { stored.iter().rev().fold(0, digit) })
    }

    fn find(&self, tag: u64) -> Option<Entry> {
        let at = (0..self.entries).map(|index| self.at + 2 + 12 * index).find(|at| self.number(*at, 2) == Some(tag))?;
        let count = self.number(at + 4, 4)?;
        // One SHORT lies in the entry itself.
        let size = if self.number(at + 2, 2)? == 3 && count == 1 { 2 } else { 4 };
        Some(Entry { value: self.number(at + 8, size)?, at: usize::try_from(at + 8).ok()?, count })
    }

    fn has_next(&self) -> bool {
        self.number(self.at + 2 + 12 * self.entries, 4).is_some_and(|next| next != 0)
    }

    /// The colour map holds all reds, then all greens, then all blues, 16 bits each.
    fn colours(&self) -> Vec<[u8; 3]> {
        let Some(map) = self.find(COLOUR_MAP) else { return Vec::new() };
        let size = map.count / 3;
        let channel = |index, channel| self.number(map.value + 2 * (channel * size + index), 2).map(|v| (v >> 8) as u8);
        (0..size.min(256)).map_while(|i| Some([channel(i, 0)?, channel(i, 1)?, channel(i, 2)?])).collect()
    }
}
