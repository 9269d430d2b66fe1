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
    says(File::new(little, grey("MONOCHROME2", 8), many), "has 2000000000 frames, expected at most");
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

fn sequence(tag: Tag, items: Vec<Vec<InMemElement>>) -> InMemElement {
    elements::sequence(tag, items.into_iter().map(InMemDicomObject::from_element_iter).collect())
}

fn real(tag: Tag, value: f64) -> InMemElement {
    DataElement::new(tag, VR::FD, PrimitiveValue::from(value))
}

/// Spatial format and data type, the corners of the box, mm a pixel.
fn region([format, kind]: [u16; 2], corners: [u32; 4], mm: f64) -> Vec<InMemElement> {
    let places = [
        tags::REGION_LOCATION_MIN_X0,
        tags::REGION_LOCATION_MIN_Y0,
        tags::REGION_LOCATION_MAX_X1,
        tags::REGION_LOCATION_MAX_Y1,
    ];
    let corner = |(tag, at): (Tag, u32)| DataElement::new(tag, VR::UL, PrimitiveValue::from(at));
    let said = [
        number(tags::REGION_SPATIAL_FORMAT, format),
        number(tags::REGION_DATA_TYPE, kind),
        number(tags::PHYSICAL_UNITS_X_DIRECTION, 3),
        number(tags::PHYSICAL_UNITS_Y_DIRECTION, 3),
        real(tags::PHYSICAL_DELTA_X, mm / 10.0),
        real(tags::PHYSICAL_DELTA_Y, mm / 10.0),
    ];
    said.into_iter().chain(places.into_iter().zip(corners).map(corner)).collect()
}

/// Frames of 40 x 40 pixels with these elements.
fn large(frames: u16, elements: Vec<InMemElement>) -> Recording {
    let pixels = native(vec![7; 1600 * usize::from(frames)]);
    let described = describe([40, 40], frames, 1, "MONOCHROME2", 8);
    let file = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, described, elements.into_iter().chain([pixels]));
    read_recording(&file.path()).unwrap()
}

#[test]
fn the_region_that_holds_the_image_decides() {
    const TISSUE: [u16; 2] = [1, 1];
    const FLOW: [u16; 2] = [1, 2];
    const M_MODE: [u16; 2] = [2, 1];
    const SPECTRUM: [u16; 2] = [3, 3];
    let regions = |regions: Vec<Vec<InMemElement>>| {
        let found = large(1, vec![sequence(tags::SEQUENCE_OF_ULTRASOUND_REGIONS, regions)]);
        (found.spacing(), found.views(), found.notes().len(), found.region().map(|region| region.left))
    };
    let whole = region(TISSUE, [10, 0, 39, 39], 0.3);
    let mm = |mm: f64| Some(vec![mm; 2]);
    assert_eq!(regions(vec![whole.clone()]), (mm(0.3), 1, 0, Some(10)));
    // An inset of another scale, whichever comes first, is noted and no view.
    let inset = region(TISSUE, [0, 0, 8, 8], 1.2);
    assert_eq!(regions(vec![inset.clone(), whole.clone()]), (mm(0.3), 1, 1, Some(10)));
    assert_eq!(regions(vec![whole.clone(), inset]), (mm(0.3), 1, 1, Some(10)));
    // Tissue counts before colour flow, and both before M-mode and spectra, however large.
    let flow = region(FLOW, [0, 0, 39, 39], 0.5);
    assert_eq!(regions(vec![flow.clone(), whole.clone()]), (mm(0.3), 1, 1, Some(10)));
    let others = [region(M_MODE, [0, 0, 39, 39], 0.7), region(SPECTRUM, [0, 0, 39, 39], 0.9)];
    assert_eq!(regions([others.to_vec(), vec![whole.clone()]].concat()), (mm(0.3), 1, 0, Some(10)));
    // Nothing in two dimensions: no scale is taken, and a note says so beside that of the unknown spacing.
    assert_eq!(regions(others.to_vec()), (None, 0, 2, None));
    // Two views.
    let halves = [region(TISSUE, [0, 0, 19, 39], 0.3), region(TISSUE, [20, 0, 39, 39], 0.3)];
    assert_eq!(regions(halves.to_vec()), (mm(0.3), 2, 0, Some(0)));
    // Without units of length there is no scale, and another region's is not taken for it.
    let mut unitless = whole;
    unitless[2] = number(tags::PHYSICAL_UNITS_X_DIRECTION, 0);
    assert_eq!(regions(vec![unitless, region(TISSUE, [0, 0, 8, 8], 1.2)]), (None, 1, 1, Some(10)));
}

/// Frames over time may lie anywhere, as long as all of them lie there.
#[test]
fn slices_of_a_volume_and_tiles_are_no_cine() {
    let frames = |elements: Vec<InMemElement>| {
        let described = [describe([2, 2], 3, 1, "MONOCHROME2", 8), elements].concat();
        File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, described, [native(vec![7; 12])])
    };
    let groups = |of_frame: &dyn Fn(usize) -> InMemElement| {
        frames(vec![sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, (0..3).map(|n| vec![of_frame(n)]).collect())])
    };
    let position = |z: usize| {
        let place = text(tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("1\\2\\{z}"));
        sequence(tags::PLANE_POSITION_SEQUENCE, vec![vec![place]])
    };
    let in_volume = |z: usize| {
        let place = DataElement::new(
            tags::IMAGE_POSITION_VOLUME,
            VR::FD,
            PrimitiveValue::F64([0.0, 0.0, z as f64].into_iter().collect()),
        );
        sequence(tags::PLANE_POSITION_VOLUME_SEQUENCE, vec![vec![place]])
    };
    let turned = |n: usize| {
        let rows = if n == 2 { "1\\0\\0\\0\\0\\-1" } else { "1\\0\\0\\0\\1\\0" };
        sequence(tags::PLANE_ORIENTATION_SEQUENCE, vec![vec![text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, rows)]])
    };
    let stack = |n: usize| {
        let at = DataElement::new(tags::IN_STACK_POSITION_NUMBER, VR::UL, PrimitiveValue::from(n as u32 + 1));
        sequence(tags::FRAME_CONTENT_SEQUENCE, vec![vec![at]])
    };
    let slices = number(tags::SLICE_VECTOR, 1);
    let vector = |values: &[u16]| DataElement::new(slices.header().tag, VR::US, PrimitiveValue::U16(values.into()));
    for file in [
        groups(&position),
        groups(&in_volume),
        groups(&turned),
        groups(&stack),
        frames(vec![vector(&[1, 2, 3])]),
        frames(vec![text(tags::GRID_FRAME_OFFSET_VECTOR, VR::DS, "0\\2\\4")]),
        frames(vec![text(tags::DIMENSION_ORGANIZATION_TYPE, VR::CS, "3D_TEMPORAL")]),
    ] {
        assert!(file.error().contains("3 frames that are slices of a volume"), "{}", file.error());
    }
    let columns = DataElement::new(tags::TOTAL_PIXEL_MATRIX_COLUMNS, VR::UL, PrimitiveValue::from(6_u32));
    for tiles in [columns, text(tags::DIMENSION_ORGANIZATION_TYPE, VR::CS, "TILED_FULL")] {
        assert!(frames(vec![tiles]).error().contains("tiles of one image"));
    }
    let all_there =
        [groups(&|_| position(5)), groups(&|_| turned(0)), groups(&|_| stack(0)), frames(vec![vector(&[1; 3])])];
    for cine in all_there {
        assert_eq!(read_recording(&cine.path()).unwrap().frame_count(), 3);
    }
}

/// The rows of the table in docs/files.md that begins with this heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let text = include_str!("../../../../docs/files.md");
    let rows = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(rows.len() >= 10, "{heading}: {rows:?}");
    rows
}

#[test]
fn the_pixel_spacing_that_is_believed() {
    let pair = |tag: Tag, mm: &str| text(tag, VR::DS, &format!("{mm}\\{mm}"));
    let measures = |mm: &str| sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![vec![pair(tags::PIXEL_SPACING, mm)]]);
    for row in table("| region | frames | shared |") {
        let [of_region, frames, shared, spacing, imager, magnification, scanned, taken, notes] = row[..] else {
            panic!("{row:?}")
        };
        let mut elements = vec![text(tags::FRAME_TIME, VR::DS, "40")];
        let mut add = |cell: &'static str, make: &dyn Fn(&'static str) -> InMemElement| {
            elements.extend((!cell.is_empty()).then(|| make(cell)));
        };
        add(of_region, &|mm| {
            let whole = region([1, 1], [0, 0, 39, 39], mm.parse().unwrap());
            sequence(tags::SEQUENCE_OF_ULTRASOUND_REGIONS, vec![whole])
        });
        add(frames, &|mm| {
            let groups = mm.split(' ').cycle().take(2).map(|mm| vec![measures(mm)]).collect();
            sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, groups)
        });
        add(shared, &|mm| sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![vec![measures(mm)]]));
        add(spacing, &|mm| pair(tags::PIXEL_SPACING, mm));
        add(imager, &|mm| pair(tags::IMAGER_PIXEL_SPACING, mm));
        add(magnification, &|factor| text(tags::ESTIMATED_RADIOGRAPHIC_MAGNIFICATION_FACTOR, VR::DS, factor));
        add(scanned, &|mm| pair(tags::NOMINAL_SCANNED_PIXEL_SPACING, mm));
        let found = large(2, elements);
        let expected: Option<Vec<f64>> = taken.parse().ok().map(|mm| vec![mm; 2]);
        assert_eq!(expected.is_none(), taken == "unknown");
        assert_eq!(found.spacing(), expected, "{row:?}: {:?}", found.notes());
        assert_eq!(found.notes().len().to_string(), notes, "{row:?}: {:?}", found.notes());
    }
    // Along y first.
    let along_y = [text(tags::PIXEL_SPACING, VR::DS, "0.5\\0.6"), text(tags::FRAME_TIME, VR::DS, "40")];
    assert_eq!(large(2, along_y.to_vec()).spacing(), Some(vec![0.5, 0.6]));
}

#[test]
fn the_frame_times_that_are_believed() {
    for row in table("| pointer | Frame Time |") {
        let [pointer, time, vector, rate, display, taken, notes] = row[..] else { panic!("{row:?}") };
        let mut elements = vec![text(tags::PIXEL_SPACING, VR::DS, "1\\1")];
        let to = match pointer {
            "Frame Time" => Some(tags::FRAME_TIME),
            "Frame Time Vector" => Some(tags::FRAME_TIME_VECTOR),
            "Slice Vector" => Some(tags::SLICE_VECTOR),
            other => {
                assert_eq!(other, "");
                None
            }
        };
        elements.extend(to.map(|to| DataElement::new(tags::FRAME_INCREMENT_POINTER, VR::AT, PrimitiveValue::from(to))));
        for (tag, vr, cell) in [
            (tags::FRAME_TIME, VR::DS, time),
            (tags::FRAME_TIME_VECTOR, VR::DS, vector),
            (tags::CINE_RATE, VR::IS, rate),
            (tags::RECOMMENDED_DISPLAY_FRAME_RATE, VR::IS, display),
        ] {
            elements.extend((!cell.is_empty()).then(|| text(tag, vr, &cell.replace(' ', "\\"))));
        }
        let found = large(3, elements);
        let expected: Vec<f64> = taken.split(' ').map(|seconds| seconds.parse().unwrap()).collect();
        assert_eq!(found.seconds(), expected, "{row:?}: {:?}", found.notes());
        assert_eq!(found.notes().len().to_string(), notes, "{row:?}: {:?}", found.notes());
    }
}

/// The character sets that docs/files.md names are those that are known.
#[test]
fn the_character_sets_that_are_known() {
    let text = include_str!("../../../../docs/files.md");
    let (_, rest) = text.split_once("escape sequences and all: ISO_IR ").unwrap();
    let (listed, _) = rest.split_once(". Another one").unwrap();
    let named: Vec<&str> = listed.split([',', ' ', '\n']).filter(|word| !word.is_empty() && *word != "and").collect();
    assert_eq!(named.len(), 20, "{named:?}");
    for name in named {
        let term = if name.starts_with('G') { name.to_owned() } else { format!("ISO_IR {name}") };
        assert!(charset::Charset::parse(&term).is_some(), "{term}");
    }
}

/// The values of every frame of a cine.
fn frames(recording: &Recording) -> Vec<f32> {
    (0..recording.frame_count()).flat_map(|index| recording.frame(index).unwrap().into_owned().data).collect()
}

#[test]
fn slopes_of_each_frame_and_lookup_tables_are_applied() {
    let stored: Vec<u8> = ramp(2 * PIXELS);
    let slope = |slope: &str, intercept: &str| {
        vec![text(tags::RESCALE_SLOPE, VR::DS, slope), text(tags::RESCALE_INTERCEPT, VR::DS, intercept)]
    };
    let transform = |said: Vec<InMemElement>| vec![sequence(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, vec![said])];
    let read = |photometric: &str, elements: Vec<InMemElement>| {
        let elements = elements.into_iter().chain([native(stored.clone())]);
        File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, describe(SIZE, 2, 1, photometric, 8), elements)
    };
    let values = |file: &File| frames(&read_recording(&file.path()).unwrap());
    let per_frame = vec![transform(slope("2", "-5")), transform(slope("-0.5", "1"))];
    let file = read("MONOCHROME2", vec![sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, per_frame)]);
    let line = |(n, &v): (usize, &u8)| if n < PIXELS { 2.0 * f32::from(v) - 5.0 } else { 1.0 - 0.5 * f32::from(v) };
    assert_eq!(values(&file), stored.iter().enumerate().map(line).collect::<Vec<_>>());
    // A cine's zero and unit are those of slope and intercept, as a still image's are.
    let file = read("MONOCHROME1", slope("3", "-1000"));
    assert_eq!(values(&file), stored.iter().map(|&v| 3.0 * f32::from(255 - v) - 1000.0).collect::<Vec<_>>());
    let partly = vec![transform(slope("2", "-5")), Vec::new()];
    let error = read("MONOCHROME2", vec![sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, partly)]).error();
    assert!(error.contains("rescale slope for some of its frames"), "{error}");

    let table = |entries: Vec<u16>| {
        let described =
            DataElement::new(tags::LUT_DESCRIPTOR, VR::US, PrimitiveValue::from([entries.len() as u16, 10, 16]));
        let data = DataElement::new(tags::LUT_DATA, VR::OW, PrimitiveValue::U16(entries.into()));
        sequence(tags::MODALITY_LUT_SEQUENCE, vec![vec![described, data]])
    };
    let entries: Vec<u16> = (0..50).map(|n| 60_000 - n * n * 20).collect();
    let look = |v: u8| f32::from(entries[usize::from(v).clamp(10, 59) - 10]);
    let file = read("MONOCHROME2", vec![table(entries.clone())]);
    assert_eq!(values(&file), stored.iter().map(|&v| look(v)).collect::<Vec<_>>());
    let file = read("MONOCHROME1", vec![table(entries.clone())]);
    assert_eq!(values(&file), stored.iter().map(|&v| 60_000.0 - look(v)).collect::<Vec<_>>());
}

#[test]
fn what_palettes_hold_counts_more_than_what_they_say() {
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
    let segmented = [
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ];
    let pixels: Vec<u8> = (0..12).collect();
    let read = |bits: u16, tags: [Tag; 3], words: Vec<u16>| {
        let describe = |tag| DataElement::new(tag, VR::US, PrimitiveValue::from([12_u16, 0, bits]));
        let table = |tag| DataElement::new(tag, VR::OW, PrimitiveValue::U16(words.clone().into()));
        let elements = descriptors.map(describe).into_iter().chain(tags.map(table)).chain([native(pixels.clone())]);
        let file = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, grey("PALETTE COLOR", 8), elements);
        let recording = read_recording(&file.path()).unwrap();
        let red = recording.frame(0).unwrap().data.iter().take(PIXELS).copied().collect::<Vec<_>>();
        (red, recording.notes().iter().filter(|note| note.contains("palettes say")).count())
    };
    let low: Vec<u16> = (0..12).map(|n| n * 20).collect();
    let high: Vec<u16> = low.iter().map(|v| v << 8).collect();
    let expected = floats(&low);
    assert_eq!(read(16, tables, high.clone()), (expected.clone(), 0));
    assert_eq!(read(16, tables, low.clone()), (expected.clone(), 1));
    assert_eq!(read(8, tables, low), (expected.clone(), 0));
    assert_eq!(read(8, tables, high), (expected.clone(), 1));
    // One entry, then a line of 11 steps.
    assert_eq!(read(16, segmented, vec![0, 1, 0, 1, 11, 220 << 8]), (expected, 0));
}

#[test]
fn a_data_set_without_its_meta_information_is_read() {
    let pixels = ramp(PIXELS);
    for syntax in [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN] {
        let file = File::new(syntax, grey("MONOCHROME2", 8), [native(pixels.clone())]);
        let bytes = std::fs::read(file.path()).unwrap();
        let start = bytes.windows(4).position(|tag| tag == [8, 0, 5, 0]).unwrap();
        // A preamble, and meta information that tells nothing, are none either.
        for before in [&[0; 128][..], b""] {
            let magic: &[u8] = if before.is_empty() { b"" } else { b"DICM" };
            std::fs::write(file.path(), [before, magic, &bytes[start..]].concat()).unwrap();
            assert_eq!(file.values(), floats(&pixels), "{syntax}");
        }
        let bare = file.folder.path().join("IM0001");
        std::fs::rename(file.path(), &bare).unwrap();
        assert_eq!(read_image(&bare).unwrap().data.shape(), [1, 3, 4], "{syntax}");
    }
}

#[test]
fn lengths_and_depths_that_cannot_be_are_errors() {
    let file = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, grey("MONOCHROME2", 8), [native(ramp(PIXELS))]);
    let whole = std::fs::read(file.path()).unwrap();
    let error = |bytes: &[u8], expected: &str| {
        std::fs::write(file.path(), bytes).unwrap();
        let error = file.error();
        assert!(error.contains("is not a readable DICOM") && error.contains(expected), "{error}");
    };
    let pixels = whole.windows(4).position(|tag| tag == [0xE0, 0x7F, 0x10, 0]).unwrap();
    let mut long = whole.clone();
    long[pixels + 8..pixels + 12].copy_from_slice(&0xFFFF_FFF0_u32.to_le_bytes());
    error(&long, "(7FE0,0010) promises 4294967280 bytes, 12 are there");
    // Sequences in sequences, each of undefined length, before the pixels.
    let sequence = [0x40, 0, 0x30, 0xA7, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    let item = [0xFE, 0xFF, 0, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
    let nest = [&sequence[..], &item].concat().repeat(10_000);
    error(&[&whole[..pixels], &nest, &whole[pixels..]].concat(), "more than 64 deep");
    // Any header's length.
    for at in (132..pixels).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at..at + 4].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0x7F]);
        std::fs::write(file.path(), damaged).unwrap();
        let _ = read_recording(&file.path());
    }
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

#[test]
fn a_preamble_of_another_format_does_not_hide_a_dicom() {
    let pixels = ramp(PIXELS);
    let once = text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
    let plain = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, grey("MONOCHROME2", 8), [native(pixels.clone())]);
    let lossy = File::new(uids::EXPLICIT_VR_LITTLE_ENDIAN, grey("MONOCHROME2", 8), [once, native(pixels.clone())]);
    for start in [b"II*\0", b"MM\0*", b"\xFF\xD8\xFF\xE0", b"BM\0\0"] {
        for file in [&plain, &lossy] {
            let mut bytes = std::fs::read(file.path()).unwrap();
            bytes[..4].copy_from_slice(start);
            std::fs::write(file.path(), bytes).unwrap();
        }
        assert_eq!(plain.values(), floats(&pixels), "{start:?}");
        assert_eq!(crate::read_labels(&plain.path()).unwrap().as_slice().unwrap(), pixels, "{start:?}");
        let error = crate::read_labels(&lossy.path()).unwrap_err().to_string();
        assert!(error.contains("is a DICOM with lossy compression"), "{start:?}: {error}");
    }
}
