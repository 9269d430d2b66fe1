//! PNG, BMP, JPEG and TIFF.

use std::io::{Cursor, Write};
use std::path::Path;

use ::image::codecs::png::PngEncoder;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::content::Format;
use super::{Geometry, Image, Limits};
use ldseg::files::write_atomically;
use ldseg::{Error, ErrorKind, Result, Tensor};

/// Reads an 8- or 16-bit grey or RGB picture as `[C, H, W]`, values as stored.
pub(super) fn read(path: &Path, format: ImageFormat, limits: &Limits) -> Result<Image> {
    let bytes = limits.read(path)?;
    let limits = limits.without(bytes.len());
    let unreadable = format!("is not a readable {}", Format::Picture(format).name());
    // The JPEG decoder paints what is missing grey, and the TIFF decoder passes over all pages but the first.
    if format == ImageFormat::Jpeg && jpeg_is_complete(&bytes) == Some(false) {
        return Err(Error::new(ErrorKind::Format, format!("{unreadable}: it ends before its end-of-image marker")));
    }
    if format == ImageFormat::Tiff {
        let tiff = Tiff::read(&bytes).unwrap_or_default();
        if tiff.second_page {
            return Err(Error::new(ErrorKind::Format, "has more than one page, expected a single picture"));
        }
        // The decoder panics.
        if tiff.planar && tiff.tiled {
            let message =
                "stores each colour in tiles of its own, which is not supported: expected colours side by side";
            return Err(Error::new(ErrorKind::Format, message));
        }
    }
    let unreadable = |e| Error::new(ErrorKind::Format, format!("{unreadable}: {e}"));
    let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let colour = decoder.color_type();
    let channels = usize::from(colour.channel_count());
    let size = usize::from(colour.bytes_per_pixel()) / channels.max(1);
    limits.check_still(&[height as usize, width as usize], channels, size)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    Ok(Image { data: intensities(&decoded)?, geometry: Geometry::default() })
}

/// The values of a decoded grey or RGB picture as `[C, H, W]`.
pub(super) fn intensities(decoded: &DynamicImage) -> Result<Tensor> {
    let (w, h) = (decoded.width() as usize, decoded.height() as usize);
    if w == 0 || h == 0 {
        return Err(Error::new(ErrorKind::Format, format!("is empty: its size is {w} x {h} pixels")));
    }
    match decoded {
        DynamicImage::ImageLuma8(b) => planes(b.as_raw(), [h, w, 1], None),
        DynamicImage::ImageLumaA8(b) => planes(b.as_raw(), [h, w, 2], Some(u8::MAX)),
        DynamicImage::ImageRgb8(b) => planes(b.as_raw(), [h, w, 3], None),
        DynamicImage::ImageRgba8(b) => planes(b.as_raw(), [h, w, 4], Some(u8::MAX)),
        DynamicImage::ImageLuma16(b) => planes(b.as_raw(), [h, w, 1], None),
        DynamicImage::ImageLumaA16(b) => planes(b.as_raw(), [h, w, 2], Some(u16::MAX)),
        DynamicImage::ImageRgb16(b) => planes(b.as_raw(), [h, w, 3], None),
        DynamicImage::ImageRgba16(b) => planes(b.as_raw(), [h, w, 4], Some(u16::MAX)),
        other => {
            let message = format!("stores {:?} pixels, expected 8 or 16 bits per channel", other.color());
            Err(Error::new(ErrorKind::Format, message))
        }
    }
}

/// Interleaved pixels `[H, W, stored channels]` as planes `[C, H, W]`. With `opaque` the last stored channel is alpha:
/// it is dropped where every pixel has that value.
fn planes<T: Copy + PartialEq + Into<f32>>(pixels: &[T], stored: [usize; 3], opaque: Option<T>) -> Result<Tensor> {
    let [h, w, channels] = stored;
    let mut kept = channels;
    if let Some(opaque) = opaque {
        kept -= 1;
        if pixels.chunks_exact(channels).any(|pixel| pixel[kept] != opaque) {
            return Err(Error::new(ErrorKind::Format, "has transparent pixels, expected none"));
        }
    }
    let plane = |c: usize| pixels.iter().skip(c).step_by(channels).map(|&v| v.into());
    let mut data = Vec::with_capacity(kept * h * w);
    (0..kept).for_each(|c| data.extend(plane(c)));
    ArrayD::from_shape_vec(IxDyn(&[kept, h, w]), data)
        .map_err(|e| Error::with_source(ErrorKind::Format, "has another number of pixels than its size says", e))
}

/// Whether an end-of-image marker follows the start of the scan; `None` where the segments before it make no sense,
/// which is for the decoder to report.
pub(super) fn jpeg_is_complete(bytes: &[u8]) -> Option<bool> {
    const START_OF_SCAN: u8 = 0xDA;
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xFF {
            return None;
        }
        match *bytes.get(at + 1)? {
            0xFF => at += 1, // a fill byte
            START_OF_SCAN => return Some(bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9])),
            _ => at += 2 + usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?])),
        }
    }
}

/// Whether a PNG ends as it has to: with an empty chunk and its checksum.
pub(super) fn png_has_end(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\0\0\0\0IEND\xAE\x42\x60\x82")
}

/// What the first image file directory of a TIFF says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tiff {
    /// Whether it links to another directory.
    second_page: bool,
    /// Whether each colour is stored by itself.
    planar: bool,
    tiled: bool,
}

impl Tiff {
    /// `None` where it cannot be read, which is for the decoder to report.
    fn read(bytes: &[u8]) -> Option<Self> {
        const PLANAR_CONFIGURATION: u64 = 284;
        const TILE_WIDTH: u64 = 322;
        let big_endian = bytes.starts_with(b"MM");
        let number = |at: u64, size: usize| -> Option<u64> {
            let at = usize::try_from(at).ok()?;
            let stored = bytes.get(at..at.checked_add(size)?)?;
            let digit = |n: u64, &byte: &u8| n << 8 | u64::from(byte);
            Some(if big_endian { stored.iter().fold(0, digit) } else { stored.iter().rev().fold(0, digit) })
        };
        // Sizes of an offset, of the entry count and of one entry: TIFF, then BigTIFF.
        let (first, offset_size, count_size, entry_size) = match number(2, 2)? {
            42 => (4, 4, 2, 12),
            43 => (8, 8, 8, 20),
            _ => return None,
        };
        let directory = number(first, offset_size)?;
        let entries = number(directory, count_size)?;
        let start = directory.checked_add(count_size as u64)?;
        let next = start.checked_add(entries.checked_mul(entry_size)?)?;
        let mut found = Self { second_page: number(next, offset_size)? != 0, ..Self::default() };
        for at in (start..next).step_by(entry_size as usize) {
            match number(at, 2)? {
                PLANAR_CONFIGURATION => found.planar = number(at + 4 + offset_size as u64, 2)? == 2,
                TILE_WIDTH => found.tiled = true,
                _ => {}
            }
        }
        Some(found)
    }
}

/// Writes `[H, W]` as an 8-bit grey PNG.
pub(super) fn write_grey(path: &Path, pixels: ArrayViewD<'_, u8>) -> Result<()> {
    let too_large = || Error::new(ErrorKind::ShapeMismatch, format!("{:?} is no picture size", pixels.shape()));
    let [h, w] = pixels.shape() else {
        return Err(too_large());
    };
    let (Ok(w), Ok(h)) = (u32::try_from(*w), u32::try_from(*h)) else {
        return Err(too_large());
    };
    let picture = ::image::GrayImage::from_raw(w, h, pixels.iter().copied().collect()).ok_or_else(too_large)?;
    write_png(path, &picture.into())
}

/// Writes a PNG.
pub(super) fn write_png(path: &Path, picture: &DynamicImage) -> Result<()> {
    write_atomically(path, |out| encode_png(picture, out))
}

pub(super) fn encode_png(picture: &DynamicImage, out: &mut dyn Write) -> Result<()> {
    picture
        .write_with_encoder(PngEncoder::new(out))
        .map_err(|e| Error::with_source(ErrorKind::Io, "cannot be written", e))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ::image::{GrayImage, ImageBuffer, Luma, RgbImage, Rgba, RgbaImage};

    use super::super::read_image;
    use super::*;

    fn save(picture: impl Into<DynamicImage>, path: &Path, format: ImageFormat) {
        picture.into().save_with_format(path, format).unwrap();
    }

    #[test]
    fn grey_rgb_and_16_bit_pictures_keep_their_values_and_axes() {
        let dir = tempfile::tempdir().unwrap();
        let rgb = RgbImage::from_fn(3, 2, |x, y| ::image::Rgb([x as u8, y as u8, 200]));
        for (name, format) in [("a.PNG", ImageFormat::Png), ("a.bmp", ImageFormat::Bmp), ("a.tif", ImageFormat::Tiff)] {
            let path = dir.path().join(name);
            save(rgb.clone(), &path, format);
            let image = read_image(&path).unwrap();
            assert_eq!(image.data.shape(), [3, 2, 3], "{name}");
            assert_eq!((image.data[[0, 1, 2]], image.data[[1, 1, 2]], image.data[[2, 0, 0]]), (2.0, 1.0, 200.0));
        }
        let path = dir.path().join("deep.png");
        save(ImageBuffer::<Luma<u16>, _>::from_pixel(2, 2, Luma([40_000])), &path, ImageFormat::Png);
        assert_eq!(read_image(&path).unwrap().data[[0, 1, 1]], 40_000.0);
    }

    #[test]
    fn alpha_is_dropped_only_where_opaque() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        save(RgbaImage::from_pixel(2, 2, Rgba([1, 2, 3, 255])), &path, ImageFormat::Png);
        assert_eq!(read_image(&path).unwrap().data.shape(), [3, 2, 2]);
        save(RgbaImage::from_pixel(2, 2, Rgba([1, 2, 3, 254])), &path, ImageFormat::Png);
        assert!(read_image(&path).unwrap_err().to_string().contains("transparent"));
    }

    #[test]
    fn truncated_or_foreign_content_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let picture = GrayImage::from_fn(64, 64, |x, y| Luma([(x * 7 + y * 13) as u8]));
        for (name, format) in [
            ("a.png", ImageFormat::Png),
            ("a.bmp", ImageFormat::Bmp),
            ("a.jpg", ImageFormat::Jpeg),
            ("a.tiff", ImageFormat::Tiff),
        ] {
            let path = dir.path().join(name);
            save(picture.clone(), &path, format);
            read_image(&path).unwrap();
            let bytes = fs::read(&path).unwrap();
            for length in [0, 1, 20, bytes.len() / 2, bytes.len() * 9 / 10] {
                fs::write(&path, &bytes[..length]).unwrap();
                let message = read_image(&path).unwrap_err().to_string();
                assert!(message.contains(name) && message.contains("is not a readable"), "{length}: {message}");
            }
            fs::write(&path, "no picture at all\n").unwrap();
            let error = read_image(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        }
    }

    #[test]
    fn zero_sized_pictures_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bmp");
        save(GrayImage::new(4, 4), &path, ImageFormat::Bmp);
        let mut bytes = fs::read(&path).unwrap();
        bytes[18..26].fill(0); // width and height
        fs::write(&path, bytes).unwrap();
        assert_eq!(read_image(&path).unwrap_err().kind(), ErrorKind::Format);
    }

    #[test]
    fn planes_in_tiles_and_sizes_beyond_the_limit_are_refused_before_decoding() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tif");
        // Planar configuration 2, and tiles of 16 columns.
        let mut tiff = vec![b'I', b'I', 42, 0, 8, 0, 0, 0, 2, 0];
        tiff.extend([0x1C, 0x01, 3, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        tiff.extend([0x42, 0x01, 3, 0, 1, 0, 0, 0, 16, 0, 0, 0]);
        tiff.extend([0; 4]);
        fs::write(&path, &tiff).unwrap();
        let error = read_image(&path).unwrap_err().to_string();
        assert!(error.contains("stores each colour in tiles of its own"), "{error}");
        let path = dir.path().join("a.png");
        save(GrayImage::new(64, 64), &path, ImageFormat::Png);
        let few = crate::Limits { frame_samples: 64 * 64 - 1, ..crate::Limits::default() };
        let error = crate::read_recording_within(&path, &few).unwrap_err().to_string();
        assert!(error.contains("a.png: has size [64, 64] with 1 channels, expected at most 4095 samples"), "{error}");
    }

    #[test]
    fn a_second_page_is_found() {
        let page = |next: u8| [b'I', b'I', 42, 0, 8, 0, 0, 0, 0, 0, next, 0, 0, 0];
        assert_eq!(Tiff::read(&page(0)), Some(Tiff::default()));
        assert!(Tiff::read(&page(64)).unwrap().second_page);
    }
}
