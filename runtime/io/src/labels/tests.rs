use std::fs;

use ::image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use ndarray::IxDyn;

use super::*;

/// The indices 0, 1, 2, 0, 1, ... of a picture of 5 x 3 pixels.
const INDICES: [u8; 15] = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2];
/// None of them is grey, and none has the index as its colour.
const COLOURS: [u8; 9] = [9, 8, 7, 200, 30, 30, 30, 200, 30];

fn expected() -> Labels {
    Labels::from_shape_vec(IxDyn(&[3, 5]), INDICES.to_vec()).unwrap()
}

/// A PNG with the palette [`COLOURS`], `depth` bits a pixel.
fn png_with_palette(depth: png::BitDepth) -> Vec<u8> {
    let bits = depth as usize;
    let packed = INDICES.chunks(5).flat_map(|row| {
        let mut bytes = vec![0_u8; (5 * bits).div_ceil(8)];
        for (x, index) in row.iter().enumerate() {
            bytes[x * bits / 8] |= index << (8 - bits - x * bits % 8);
        }
        bytes
    });
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 5, 3);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(depth);
    encoder.set_palette(COLOURS.to_vec());
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&packed.collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    bytes
}

fn gif_with_palette() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 5, 3, &COLOURS).unwrap();
    let frame = gif::Frame { width: 5, height: 3, buffer: INDICES.to_vec().into(), ..gif::Frame::default() };
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    bytes
}

/// Uncompressed, 8 bits a pixel: BITMAPFILEHEADER, BITMAPINFOHEADER, colours, rows from the bottom up.
fn bmp_with_palette() -> Vec<u8> {
    let colours: Vec<u8> = COLOURS.as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*b, *g, *r, 0]).collect();
    let rows: Vec<u8> = INDICES.chunks(5).rev().flat_map(|row| [row, &[0; 3]].concat()).collect();
    let start = 54 + colours.len() as u32;
    let mut bytes = b"BM".to_vec();
    for number in [start + rows.len() as u32, 0, start, 40, 5, 3] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([1, 0, 8, 0]);
    for number in [0, rows.len() as u32, 0, 0, 3, 3_u32] {
        bytes.extend(number.to_le_bytes());
    }
    [bytes, colours, rows].concat()
}

/// Uncompressed, 8 bits a pixel, `compression` as the file says it.
fn tiff_with_palette(big_endian: bool, compression: u16) -> Vec<u8> {
    let short = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let long = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
    bytes.extend(long(8));
    let (pixels, map) = (8 + 2 + 12 * 9 + 4, 8 + 2 + 12 * 9 + 4 + 16);
    let entries: [(u16, u16, u32, u32); 9] = [
        (256, 3, 1, 5),
        (257, 3, 1, 3),
        (258, 3, 1, 8),
        (259, 3, 1, u32::from(compression)),
        (262, 3, 1, 3),
        (273, 4, 1, pixels),
        (278, 3, 1, 3),
        (279, 4, 1, 15),
        (320, 3, 3 * 256, map),
    ];
    bytes.extend(short(9));
    for (tag, kind, count, value) in entries {
        bytes.extend([short(tag), short(kind)].concat());
        bytes.extend(long(count));
        bytes.extend(if kind == 3 && count == 1 {
            [short(value as u16), [0; 2]].concat()
        } else {
            long(value).to_vec()
        });
    }
    bytes.extend(long(0));
    bytes.extend(INDICES);
    bytes.push(0);
    for channel in 0..3 {
        for index in 0..256 {
            let value = COLOURS.get(3 * index + channel).copied().unwrap_or(0);
            bytes.extend(short(u16::from(value) * 257));
        }
    }
    bytes
}

#[test]
fn of_a_palette_the_index_counts_and_not_the_colour() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a2.png", png_with_palette(png::BitDepth::Two)),
        ("a4.png", png_with_palette(png::BitDepth::Four)),
        ("a8.png", png_with_palette(png::BitDepth::Eight)),
        ("a.gif", gif_with_palette()),
        ("a.bmp", bmp_with_palette()),
        ("little.tif", tiff_with_palette(false, 1)),
        ("big.tif", tiff_with_palette(true, 1)),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let file = read_label_file(&path).unwrap();
        assert_eq!(file.labels(), expected(), "{name}");
        assert_eq!(file.palette.unwrap()[..3], COLOURS.as_chunks::<3>().0[..3], "{name}");
        for length in [bytes.len() / 2, bytes.len() - 20] {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = read_label_file(&path).map(|file| file.labels());
            // What follows the pixels of a TIFF are its colours only.
            assert!(error.is_err() || name.ends_with(".tif"), "{name} of {length} bytes: {error:?}");
        }
    }
}

#[test]
fn lossy_files_are_refused_whatever_they_are_called() {
    let dir = tempfile::tempdir().unwrap();
    let mut jpeg = std::io::Cursor::new(Vec::new());
    DynamicImage::from(GrayImage::new(8, 8)).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let avi = [b"RIFF\0\0\0\0AVI ", &[0; 40][..]].concat();
    for (name, bytes, expected) in [
        ("a.jpg", jpeg.get_ref().clone(), "a JPEG"),
        ("a.png", jpeg.get_ref().clone(), "a JPEG"),
        ("a.avi", avi, "an AVI"),
        ("a.tif", tiff_with_palette(false, 7), "a TIFF with JPEG compression"),
        ("b.tif", tiff_with_palette(true, 34712), "a TIFF with JPEG 2000 compression"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = read_labels(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        let message = error.to_string();
        assert!(message.contains(name) && message.contains(&format!("is {expected}, which")), "{message}");
    }
}

#[test]
fn labels_are_whole_grey_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    RgbImage::from_pixel(2, 2, Rgb([7; 3])).save(&path).unwrap();
    assert_eq!(read_labels(&path).unwrap(), Labels::from_elem(IxDyn(&[2, 2]), 7));
    RgbImage::from_pixel(2, 2, Rgb([7, 8, 7])).save(&path).unwrap();
    assert!(read_labels(&path).unwrap_err().to_string().contains("a.png: is coloured"));
    let deep = ImageBuffer::<Luma<u16>, _>::from_pixel(2, 2, Luma([256]));
    deep.save(&path).unwrap();
    assert!(read_labels(&path).unwrap_err().to_string().contains("label 256"));
    assert_eq!(read_labels(&dir.path().join("none.png")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn palettes_that_give_one_number_two_colours_are_named() {
    let mut palettes = Palettes::default();
    let (a, b) = ([[0; 3], [200, 30, 30], [30, 200, 30]], [[0; 3], [30, 200, 30], [200, 30, 30]]);
    palettes.add(Path::new("a.png"), Some(&a), [0, 1, 2]).unwrap();
    palettes.add(Path::new("grey.png"), None, [0, 1, 2]).unwrap();
    // Colours that no pixel has don't count, nor do values beyond the palette.
    palettes.add(Path::new("empty.png"), Some(&b), [0, 9]).unwrap();
    let error = palettes.add(Path::new("b.png"), Some(&b), [0, 2]).unwrap_err();
    let expected = "b.png: shows the label 2 in the colour [200, 30, 30], but a.png in [30, 200, 30]";
    assert!(error.to_string().starts_with(expected), "{error}");
}
