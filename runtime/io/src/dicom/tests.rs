//! Pixel data in the encodings that devices and archives use, made here; the project's other tests compare files of others.

use std::path::PathBuf;

use ::image::codecs::jpeg::JpegEncoder;
use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_object::mem::InMemElement;
use tempfile::TempDir;

use super::fixtures::{describe, native, number, text, write};
use super::*;
use crate::{read_image, read_recording};

/// Rows and columns.
const SIZE: [u16; 2] = [3, 4];
const PIXELS: usize = 12;
/// Explicit, retired, and still in archives.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

struct File {
    folder: TempDir,
}

impl File {
    fn new(syntax: &str, description: Vec<InMemElement>, elements: impl IntoIterator<Item = InMemElement>) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        write(&file.path(), syntax, description.into_iter().chain(elements));
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a.dcm")
    }

    /// The values of a still image, channel after channel.
    fn values(&self) -> Vec<f32> {
        read_image(&self.path()).unwrap().data.iter().copied().collect()
    }

    fn error(&self) -> String {
        let error = read_recording(&self.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        error.to_string()
    }
}

fn grey(photometric: &str, bits: u16) -> Vec<InMemElement> {
    describe(SIZE, 1, 1, photometric, bits)
}

fn colour(photometric: &str, bits: u16) -> Vec<InMemElement> {
    describe(SIZE, 1, 3, photometric, bits)
}

fn ramp(samples: usize) -> Vec<u8> {
    (0..samples).map(|n| (n * 37 % 251) as u8).collect()
}

fn floats<T: Into<f64> + Copy>(values: &[T]) -> Vec<f32> {
    values.iter().map(|&value| value.into() as f32).collect()
}

fn words(values: &[u16]) -> InMemElement {
    DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(values.into()))
}

/// Interleaved samples channel after channel.
fn planes(interleaved: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|c| interleaved.iter().skip(c).step_by(3).copied()).collect()
}

fn fragments(offsets: Vec<u32>, fragments: Vec<Vec<u8>>) -> InMemElement {
    DataElement::new(tags::PIXEL_DATA, VR::OB, PixelFragmentSequence::new(offsets, fragments))
}

#[test]
fn grey_of_8_bits_is_read_in_every_byte_order_and_deflated() {
    let pixels = ramp(PIXELS);
    for syntax in [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        BIG_ENDIAN,
    ] {
        let file = File::new(syntax, grey("MONOCHROME2", 8), [native(pixels.clone())]);
        assert_eq!(file.values(), floats(&pixels), "{syntax}");
    }
}

#[test]
fn monochrome_1_is_turned_over() {
    let file = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, grey("MONOCHROME1", 8), [native(ramp(PIXELS))]);
    assert_eq!(file.values(), ramp(PIXELS).iter().map(|v| f32::from(255 - v)).collect::<Vec<_>>());
}

#[test]
fn wide_numbers_lose_what_is_above_and_below_them() {
    let stored: Vec<u16> = (0..12).map(|n| n * 341).collect();
    // Bits 2 to 13; all others hold what has nothing to do with the image.
    let mut description = grey("MONOCHROME2", 12);
    description.push(number(tags::HIGH_BIT, 13));
    let dirty: Vec<u16> = stored.iter().map(|v| v << 2 | 0xC003).collect();
    for syntax in [uids::EXPLICIT_VR_LITTLE_ENDIAN, BIG_ENDIAN] {
        let file = File::new(syntax, description.clone(), [words(&dirty)]);
        assert_eq!(file.values(), floats(&stored), "{syntax}");
    }
}

#[test]
fn signed_numbers_keep_their_sign_slope_and_intercept() {
    let stored: Vec<i16> = (0..12).map(|n| n * 300 - 2000).collect();
    let bits: Vec<u16> = stored.iter().map(|&v| v as u16 & 0x0FFF).collect();
    let rescaled = |photometric: &str| {
        let mut description = grey(photometric, 12);
        description.push(number(tags::PIXEL_REPRESENTATION, 1));
        description.push(text(tags::RESCALE_SLOPE, VR::DS, "0.5"));
        description.push(text(tags::RESCALE_INTERCEPT, VR::DS, "-10"));
        File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, description, [words(&bits)]).values()
    };
    let expected = |turn: fn(f32) -> f32| stored.iter().map(|&v| 0.5 * turn(v.into()) - 10.0).collect::<Vec<_>>();
    assert_eq!(rescaled("MONOCHROME2"), expected(|v| v));
    assert_eq!(rescaled("MONOCHROME1"), expected(|v| -1.0 - v));
}

#[test]
fn colour_is_read_in_both_planar_configurations() {
    let pixels = ramp(3 * PIXELS);
    let expected = floats(&planes(&pixels));
    for (planar, stored) in [(0, pixels.clone()), (1, planes(&pixels))] {
        let elements = [number(tags::PLANAR_CONFIGURATION, planar), native(stored)];
        let file = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, colour("RGB", 8), elements);
        assert_eq!(file.values(), expected, "planar configuration {planar}");
    }
    let wide: Vec<u16> = pixels.iter().map(|&v| u16::from(v) * 200).collect();
    let file = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, colour("RGB", 16), [words(&wide)]);
    assert_eq!(file.values(), expected.iter().map(|v| v * 200.0).collect::<Vec<_>>());
}

#[test]
fn luminance_and_chrominance_become_rgb() {
    // Black, white, red, and a grey, by ITU-R BT.601.
    let (ybr, rgb): ([[u8; 3]; 4], [[u8; 3]; 4]) =
        ([[0, 128, 128], [255, 128, 128], [76, 85, 255], [100, 128, 128]], [[0; 3], [255; 3], [254, 0, 0], [100; 3]]);
    let expected = floats(&planes(&rgb.concat()));
    let size = |photometric| describe([1, 4], 1, 3, photometric, 8);
    let full = native(ybr.concat());
    let syntax = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    assert_eq!(File::new(syntax, size("YBR_FULL"), [full.clone()]).values(), expected);
    // Some writers say that neighbours share, and store all.
    assert_eq!(File::new(syntax, size("YBR_FULL_422"), [full]).values(), expected);
    let shared = native(vec![0, 255, 128, 128, 76, 100, 128, 128]);
    let expected = [0.0, 255.0, 76.0, 100.0].repeat(3);
    assert_eq!(File::new(syntax, size("YBR_FULL_422"), [shared]).values(), expected);
}

#[test]
fn palettes_of_8_and_16_bits_are_looked_up() {
    let descriptors = [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    ];
    let tables = [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ];
    // Entries for 10 to 12; 9 takes the first, 200 the last.
    let indices = [9, 10, 11, 12, 200].repeat(3)[..PIXELS].to_vec();
    let entry = |c: u16, k: u16| 20 * c + 50 * k;
    for bits in [8, 16] {
        let describe = |tag| DataElement::new(tag, VR::US, PrimitiveValue::from([3_u16, 10, bits]));
        let scale = if bits == 16 { 256 } else { 1 };
        let table = |(c, tag)| {
            let entries = [0, 1, 2].map(|k| entry(c, k) * scale);
            DataElement::new(tag, VR::OW, PrimitiveValue::from(entries))
        };
        let elements = descriptors.map(describe).into_iter().chain((0..).zip(tables).map(table));
        let elements = elements.chain([native(indices.clone())]);
        let file = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, grey("PALETTE COLOR", 8), elements);
        let index = |stored: u8| u16::from(stored.clamp(10, 12) - 10);
        let expected = (0..3).flat_map(|c| indices.iter().map(move |&stored| f32::from(entry(c, index(stored)))));
        assert_eq!(file.values(), expected.collect::<Vec<_>>(), "{bits} bits");
    }
}

/// A frame as RLE: every segment is one run and literals.
fn rle(segments: &[Vec<u8>]) -> Vec<u8> {
    let packed: Vec<Vec<u8>> = segments
        .iter()
        .map(|bytes| {
            let mut packed = vec![128];
            if bytes.iter().all(|byte| *byte == bytes[0]) {
                packed.extend([(257 - bytes.len()) as u8, bytes[0]]);
            } else {
                packed.push((bytes.len() - 1) as u8);
                packed.extend(bytes);
            }
            packed
        })
        .collect();
    let mut header = vec![packed.len() as u32];
    for segment in &packed {
        header.push(64 + packed[..header.len() - 1].concat().len() as u32);
        assert!(segment.len() < 256);
    }
    header.resize(16, 0);
    let header = header.iter().flat_map(|word| word.to_le_bytes());
    header.chain(packed.concat()).collect()
}

#[test]
fn run_lengths_are_undone() {
    let pixels = ramp(PIXELS);
    let frame = rle(std::slice::from_ref(&pixels));
    let file = File::new(uids::RLE_LOSSLESS, grey("MONOCHROME2", 8), [fragments(vec![], vec![frame])]);
    assert_eq!(file.values(), floats(&pixels));

    // Of 16 bits the higher bytes come first, here all of them 3.
    let wide = [vec![3; PIXELS], pixels.clone(), vec![3; PIXELS], pixels.clone(), vec![3; PIXELS], pixels.clone()];
    let file = File::new(uids::RLE_LOSSLESS, colour("RGB", 16), [fragments(vec![], vec![rle(&wide)])]);
    assert_eq!(file.values(), pixels.iter().map(|&v| f32::from(v) + 768.0).collect::<Vec<_>>().repeat(3));

    // Luminance and chrominance stay what they are under RLE.
    let neutral = [pixels.clone(), vec![128; PIXELS], vec![128; PIXELS]];
    let file = File::new(uids::RLE_LOSSLESS, colour("YBR_FULL", 8), [fragments(vec![], vec![rle(&neutral)])]);
    assert_eq!(file.values(), floats(&pixels).repeat(3));
}

#[test]
fn damaged_run_lengths_are_errors() {
    let frame = rle(&[ramp(PIXELS)]);
    for length in (0..frame.len()).step_by(2) {
        let cut = fragments(vec![], vec![frame[..length].to_vec()]);
        let error = File::new(uids::RLE_LOSSLESS, grey("MONOCHROME2", 8), [cut]).error();
        assert!(error.contains("is not readable as RLE"), "{length}: {error}");
    }
}

fn jpeg(pixels: &[u8], size: [u16; 2], colour: ::image::ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let [h, w] = size.map(u32::from);
    JpegEncoder::new_with_quality(&mut bytes, 95).encode(pixels, w, h, colour).unwrap();
    if !bytes.len().is_multiple_of(2) {
        bytes.push(0);
    }
    bytes
}

fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == expected.len() && worst <= tolerance, "{worst}: {found:?}, expected {expected:?}");
}

#[test]
fn jpeg_is_decoded_whatever_the_file_calls_its_colours() {
    let size = [16, 24];
    let shade = |x: usize, y: usize| [(40 + 5 * x) as u8, (200 - 6 * y) as u8, 90];
    let rgb: Vec<u8> = (0..16 * 24).flat_map(|n| shade(n % 24, n / 24)).collect();
    let frame = jpeg(&rgb, size, ::image::ExtendedColorType::Rgb8);
    for photometric in ["YBR_FULL_422", "YBR_FULL", "RGB"] {
        let data = fragments(vec![], vec![frame.clone()]);
        let file = File::new(uids::JPEG_BASELINE8_BIT, describe(size, 1, 3, photometric, 8), [data]);
        close(&file.values(), &floats(&planes(&rgb)), 8.0);
    }
    let grey: Vec<u8> = rgb.iter().step_by(3).copied().collect();
    let data = fragments(vec![], vec![jpeg(&grey, size, ::image::ExtendedColorType::L8)]);
    let file = File::new(uids::JPEG_BASELINE8_BIT, describe(size, 1, 1, "MONOCHROME2", 8), [data]);
    close(&file.values(), &floats(&grey), 4.0);
}

#[test]
fn frames_are_found_in_their_fragments() {
    let size = [8, 8];
    let frame = |grey: u8| jpeg(&[grey; 64], size, ::image::ExtendedColorType::L8);
    let (first, second) = (frame(50), frame(180));
    let halves = |frame: &[u8]| {
        let middle = frame.len() / 4 * 2;
        [frame[..middle].to_vec(), frame[middle..].to_vec()]
    };
    let split = [halves(&first), halves(&second)].concat();
    let offset = first.len() as u32 + 16;
    for (offsets, stored) in
        [(vec![], vec![first.clone(), second.clone()]), (vec![], split.clone()), (vec![0, offset], split)]
    {
        let description = describe(size, 2, 1, "MONOCHROME2", 8);
        let file = File::new(uids::JPEG_BASELINE8_BIT, description, [fragments(offsets, stored)]);
        let cine = read_recording(&file.path()).unwrap();
        assert!(cine.is_cine(), "two frames are a cine");
        close(cine.frame(0).unwrap().data.as_slice().unwrap(), &[50.0; 64], 2.0);
        close(cine.frame(1).unwrap().data.as_slice().unwrap(), &[180.0; 64], 2.0);
    }
}

/// A grey lossless image: each pixel's difference from its left neighbour, of the first in a row from the one above, as the
/// number of its bits (a code of 5 bits each) and these bits.
fn lossless(pixels: &[u16], size: [u16; 2], precision: u8) -> Vec<u8> {
    let [h, w] = size.map(u16::to_be_bytes);
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xC3, 0, 11, precision, h[0], h[1], w[0], w[1], 1, 1, 0x11, 0];
    bytes.extend([0xFF, 0xC4, 0, 36, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(0..17);
    bytes.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, 0]);
    let (mut bits, columns) = (String::new(), usize::from(size[1]));
    for (n, &pixel) in pixels.iter().enumerate() {
        let predicted = match n {
            0 => 1 << (precision - 1),
            n if n % columns == 0 => i32::from(pixels[n - columns]),
            n => i32::from(pixels[n - 1]),
        };
        let difference = i32::from(pixel) - predicted;
        let category = 32 - difference.unsigned_abs().leading_zeros();
        bits += &format!("{category:05b}");
        if category > 0 {
            let stored = if difference < 0 { difference + (1 << category) - 1 } else { difference };
            bits += &format!("{stored:0width$b}", width = category as usize);
        }
    }
    bits += &"1".repeat(bits.len().next_multiple_of(8) - bits.len());
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
        bytes.push(byte);
        if byte == 0xFF {
            bytes.push(0);
        }
    }
    bytes.extend([0xFF, 0xD9]);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes
}

#[test]
fn lossless_jpeg_gives_the_very_values() {
    let pixels: Vec<u16> = (0..12).map(|n| n * 733 % 4096).collect();
    for syntax in [uids::JPEG_LOSSLESS, uids::JPEG_LOSSLESS_SV1] {
        let data = fragments(vec![], vec![lossless(&pixels, SIZE, 12)]);
        assert_eq!(File::new(syntax, grey("MONOCHROME2", 12), [data]).values(), floats(&pixels));
    }
    let pixels: Vec<u16> = pixels.iter().map(|v| v / 16).collect();
    let data = fragments(vec![], vec![lossless(&pixels, SIZE, 8)]);
    assert_eq!(File::new(uids::JPEG_LOSSLESS_SV1, grey("MONOCHROME2", 8), [data]).values(), floats(&pixels));
}

#[test]
fn what_is_no_image_is_an_error_that_says_why() {
    let little = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    let says = |file: File, expected: &str| {
        let error = file.error();
        assert!(error.contains("a.dcm: ") && error.contains(expected), "expected '{expected}' in: {error}");
    };
    says(
        File::new(little, grey("MONOCHROME2", 8), [native(vec![1; 10])]),
        "is truncated: its header promises 12 samples",
    );
    says(File::new(little, grey("MONOCHROME2", 8), []), "has no pixel data");
    says(File::new(little, grey("CMYK", 8), [native(vec![1; 12])]), "photometric interpretation CMYK");
    says(File::new(little, grey("RGB", 8), [native(vec![1; 36])]), "has 1 samples a pixel, expected 3");
    says(File::new(little, describe([0, 4], 1, 1, "MONOCHROME2", 8), [native(vec![])]), "is empty");
    let many = [text(tags::NUMBER_OF_FRAMES, VR::IS, "2000000000"), native(vec![1; 12])];
    says(File::new(little, grey("MONOCHROME2", 8), many), "is truncated");
    let class = [text(tags::SOP_CLASS_UID, VR::UI, uids::SEGMENTATION_STORAGE), native(vec![1; 12])];
    says(File::new(little, grey("MONOCHROME2", 8), class), "is a DICOM segmentation, expected an image");
    for (syntax, name) in [
        (uids::JPEGLS_LOSSLESS, "(JPEG-LS)"),
        (uids::JPEG2000, "(JPEG 2000)"),
        (uids::HTJ2K, "(High-Throughput JPEG 2000)"),
        (uids::MPEG4HP41, "(MPEG)"),
    ] {
        let data = fragments(vec![], vec![vec![1; 12]]);
        says(File::new(syntax, grey("MONOCHROME2", 8), [data]), &format!("{syntax} {name}, which is not supported"));
    }
}

#[test]
fn jpeg_frames_that_do_not_fit_are_errors() {
    let frame = jpeg(&[9; 32 * 32], [32, 32], ::image::ExtendedColorType::L8);
    let error = |frame: Vec<u8>, size| {
        let data = fragments(vec![], vec![frame]);
        File::new(uids::JPEG_BASELINE8_BIT, describe(size, 1, 1, "MONOCHROME2", 8), [data]).error()
    };
    assert!(error(frame.clone(), SIZE).contains("has a JPEG frame of 32 x 32 pixels"));
    for length in (0..frame.len() - 2).step_by(50) {
        assert!(error(frame[..length].to_vec(), [32, 32]).contains("JPEG"), "{length}");
    }
    let mut huge = frame;
    let header = huge.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    huge[header + 5..header + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
    assert!(error(huge, [0x4000, 0x4000]).contains("cannot hold a JPEG frame"));
}

#[test]
fn what_is_or_was_lossy_or_has_a_palette_holds_no_labels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.dcm");
    let pixels = || native(vec![0, 1, 2, 2]);
    let little = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    write(&path, little, describe([2, 2], 1, 1, "MONOCHROME2", 8).into_iter().chain([pixels()]));
    assert_eq!(crate::read_labels(&path).unwrap().as_slice().unwrap(), [0, 1, 2, 2]);
    let once = text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
    let refused = [
        (little, "MONOCHROME2", Some(once), "is a DICOM with lossy compression"),
        (uids::JPEG_BASELINE8_BIT, "MONOCHROME2", None, "is a DICOM with lossy compression"),
        (little, "PALETTE COLOR", None, "is a DICOM with a palette"),
    ];
    for (syntax, photometric, more, expected) in refused {
        let elements = describe([2, 2], 1, 1, photometric, 8).into_iter().chain(more).chain([pixels()]);
        write(&path, syntax, elements);
        let message = crate::read_labels(&path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
