//! From stored samples to pictures and intensities.

use ::image::{DynamicImage, ImageBuffer, Luma, Rgb};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, Tag};
use ndarray::IxDyn;

use super::layout::{Layout, Photometric};
use super::numbers;
use super::pixels::{Frame, Samples, bytes, fail};
use ldseg::{Result, Tensor};

/// Of red, green and blue.
const DESCRIPTORS: [Tag; 3] = [
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
];
const PALETTES: [Tag; 3] = [
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
];

/// The intensities of a frame, `[C, H, W]`: those of a grey one after slope and intercept, larger is brighter. A window that
/// only serves display is not applied.
pub(super) fn intensities(object: &InMemDicomObject, frame: Frame, layout: &Layout) -> Result<Tensor> {
    let grey = matches!(frame.photometric, Photometric::Monochrome1 | Photometric::Monochrome2);
    if !grey {
        return super::picture::intensities(&picture(object, frame, layout)?);
    }
    let inverted = frame.photometric == Photometric::Monochrome1;
    let values: Vec<f32> = numbers_of(frame.samples)
        .map(|stored| {
            let number = i64::from(number(stored, layout)) - if layout.signed { bias(layout) } else { 0 };
            let number = if inverted { brightest(layout) - number } else { number };
            (layout.slope * number as f64 + layout.intercept) as f32
        })
        .collect();
    Tensor::from_shape_vec(IxDyn(&[1, layout.rows, layout.columns]), values)
        .map_err(|_| fail("has a frame of another size than it says".into()))
}

/// A frame of a cine, 8 or 16 bits a channel. Grey ones keep the order of their values, larger is brighter, and the ratios of
/// their differences, but not the zero and the unit of slope and intercept: normalisation has no use for them.
pub(super) fn picture(object: &InMemDicomObject, frame: Frame, layout: &Layout) -> Result<DynamicImage> {
    let (w, h) = (layout.columns as u32, layout.rows as u32);
    let picture = match (frame.photometric, frame.samples) {
        (Photometric::Palette, samples) => paint(object, samples, layout)?,
        (Photometric::Monochrome1 | Photometric::Monochrome2, samples) => {
            // Signed numbers start at 0 here.
            let most = (1_u32 << layout.stored) - 1;
            let inverted = (frame.photometric == Photometric::Monochrome1) != (layout.slope < 0.0);
            let value = |stored| {
                let number = number(stored, layout);
                if inverted { most - number } else { number }
            };
            match samples {
                Samples::Bytes(stored) => {
                    let values = stored.into_iter().map(|stored| value(stored.into()) as u8).collect();
                    ImageBuffer::<Luma<u8>, _>::from_raw(w, h, values).map(DynamicImage::from)
                }
                Samples::Words(stored) => {
                    let values = stored.into_iter().map(|stored| value(stored) as u16).collect();
                    ImageBuffer::<Luma<u16>, _>::from_raw(w, h, values).map(DynamicImage::from)
                }
            }
        }
        (Photometric::YbrFull | Photometric::YbrFull422, Samples::Bytes(mut stored)) => {
            stored.as_chunks_mut::<3>().0.iter_mut().for_each(to_rgb);
            ImageBuffer::<Rgb<u8>, _>::from_raw(w, h, stored).map(DynamicImage::from)
        }
        (Photometric::YbrFull | Photometric::YbrFull422 | Photometric::YbrOfJpeg2000, _) => {
            return Err(fail("is in YBR_FULL with 16 bits, or in JPEG 2000's colours, which is not supported".into()));
        }
        (Photometric::Rgb, Samples::Bytes(stored)) => {
            ImageBuffer::<Rgb<u8>, _>::from_raw(w, h, stored).map(DynamicImage::from)
        }
        (Photometric::Rgb, Samples::Words(stored)) => {
            let values = stored.into_iter().map(|stored| number(stored, layout) as u16).collect();
            ImageBuffer::<Rgb<u16>, _>::from_raw(w, h, values).map(DynamicImage::from)
        }
    };
    picture.ok_or_else(|| fail("has a frame of another size than it says".into()))
}

fn numbers_of(samples: Samples) -> Box<dyn Iterator<Item = u16>> {
    match samples {
        Samples::Bytes(stored) => Box::new(stored.into_iter().map(u16::from)),
        Samples::Words(stored) => Box::new(stored.into_iter()),
    }
}

/// The bits that count, without those above and below them; a signed number is shifted so that the least is 0.
fn number(stored: u16, layout: &Layout) -> u32 {
    let bits = u32::from(stored) >> layout.shift & ((1 << layout.stored) - 1);
    if layout.signed { bits ^ 1 << (layout.stored - 1) } else { bits }
}

/// By how much [`number`] shifts signed numbers.
fn bias(layout: &Layout) -> i64 {
    1 << (layout.stored - 1)
}

/// What the least and the largest possible number add up to.
fn brightest(layout: &Layout) -> i64 {
    if layout.signed { -1 } else { (1 << layout.stored) - 1 }
}

/// YBR_FULL to RGB (PS3.3, C.7.6.3.1.2).
fn to_rgb(pixel: &mut [u8; 3]) {
    let [y, b, r] = pixel.map(f32::from);
    let (b, r) = (b - 128.0, r - 128.0);
    let rgb = [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b];
    *pixel = rgb.map(|v| v.round() as u8);
}

/// Looks indices up in the file's palettes (PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6).
fn paint(object: &InMemDicomObject, indices: Samples, layout: &Layout) -> Result<Option<DynamicImage>> {
    let mut palettes = Vec::with_capacity(3);
    for (descriptor, palette) in DESCRIPTORS.into_iter().zip(PALETTES) {
        palettes.push(Palette::read(object, descriptor, palette)?);
    }
    let colours = numbers_of(indices).flat_map(|stored| {
        let index = number(stored, layout) as usize;
        palettes.iter().map(move |palette| palette.look(index))
    });
    let pixels = ImageBuffer::<Rgb<u8>, _>::from_raw(layout.columns as u32, layout.rows as u32, colours.collect());
    Ok(pixels.map(DynamicImage::from))
}

/// The table of one colour, 8 bits an entry.
struct Palette {
    first: usize,
    table: Vec<u8>,
}

impl Palette {
    fn read(object: &InMemDicomObject, descriptor: Tag, palette: Tag) -> Result<Self> {
        let fail = |what: &str| fail(format!("is in PALETTE COLOR, and {what}"));
        let [entries, first, bits] = numbers(object, descriptor)[..] else {
            return Err(fail("a palette is not described by three numbers"));
        };
        // 0 stands for 65536, which 16 bits cannot hold.
        let entries = if entries == 0.0 { 65_536 } else { entries as usize };
        if !(1..=65_536).contains(&entries) {
            return Err(fail("a palette has an impossible number of entries"));
        }
        let data = object.get(palette).and_then(|element| element.value().primitive());
        let data = bytes(data.ok_or_else(|| fail("a palette is missing"))?);
        // Of 16-bit entries the upper half is what a display of 8 bits shows. 8-bit entries may be stored in 16 bits.
        let wide = data.len() >= 2 * entries;
        let shift = if bits > 8.0 { 8 } else { 0 };
        let entry = |k: usize| match wide {
            true => data.get(2 * k..2 * k + 2).map(|pair| (u16::from_le_bytes([pair[0], pair[1]]) >> shift) as u8),
            false => data.get(k).copied(),
        };
        let table: Option<Vec<u8>> = (0..entries).map(entry).collect();
        Ok(Self { first: first as usize, table: table.ok_or_else(|| fail("a palette is shorter than it says"))? })
    }

    /// Below the first entry and above the last one, these are taken.
    fn look(&self, index: usize) -> u8 {
        self.table[index.saturating_sub(self.first).min(self.table.len() - 1)]
    }
}
