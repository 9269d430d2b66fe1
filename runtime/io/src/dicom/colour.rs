//! From stored samples to pictures.

use ::image::{DynamicImage, ImageBuffer, Luma, Rgb};
use dicom_object::InMemDicomObject;

use super::layout::{Layout, Photometric};
use super::modality::Modality;
use super::palette::Palette;
use super::pixels::{Frame, Samples, fail};
use crate::recording::Scale;
use ldseg::Result;

/// What the numbers of frames become.
pub(super) enum Colours {
    /// Values of a grey image.
    Grey(Modality),
    /// Entries of a palette.
    Palette(Palette),
    /// What they are: red, green and blue, or what becomes them.
    Rgb,
}

impl Colours {
    /// # Errors
    /// Those of [`Modality::read`] and [`Palette::read`].
    pub(super) fn read(object: &InMemDicomObject, layout: &Layout, notes: &mut Vec<String>) -> Result<Self> {
        Ok(match layout.photometric {
            Photometric::Monochrome1 | Photometric::Monochrome2 => Self::Grey(Modality::read(object, layout)?),
            Photometric::Palette => Self::Palette(Palette::read(object, notes)?),
            _ => Self::Rgb,
        })
    }

    /// From the numbers of [`picture`]'s frame `index` to values. A window that only serves display is not applied.
    pub(super) fn scale(&self, index: usize, layout: &Layout) -> Scale {
        match self {
            Self::Grey(modality) => modality.scale(index, if layout.signed { bias(layout) } else { 0 }),
            _ => Scale::default(),
        }
    }
}

/// A frame, 8 or 16 bits a channel. Of a grey one the numbers are those that [`Colours::scale`] is for: larger is brighter
/// where the slope is above 0, and signed ones start at 0.
pub(super) fn picture(frame: Frame, layout: &Layout, colours: &Colours) -> Result<DynamicImage> {
    let (w, h) = (layout.columns as u32, layout.rows as u32);
    let picture = match (frame.photometric, frame.samples, colours) {
        (Photometric::Palette, samples, Colours::Palette(palette)) => {
            let colours = numbers_of(samples).flat_map(|stored| palette.look(number(stored, layout) as usize));
            ImageBuffer::<Rgb<u8>, _>::from_raw(w, h, colours.collect()).map(DynamicImage::from)
        }
        (Photometric::Monochrome1 | Photometric::Monochrome2, samples, Colours::Grey(Modality::Table(table))) => {
            let most = table.most();
            let inverted = frame.photometric == Photometric::Monochrome1;
            let values = numbers_of(samples).map(|stored| {
                let value =
                    table.look(i64::from(number(stored, layout)) - if layout.signed { bias(layout) } else { 0 });
                if inverted { most - value } else { value }
            });
            ImageBuffer::<Luma<u16>, _>::from_raw(w, h, values.collect()).map(DynamicImage::from)
        }
        (Photometric::Monochrome1 | Photometric::Monochrome2, samples, _) => {
            let most = (1_u32 << layout.stored) - 1;
            let inverted = frame.photometric == Photometric::Monochrome1;
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
        (Photometric::YbrFull | Photometric::YbrFull422, Samples::Bytes(mut stored), _) => {
            stored.as_chunks_mut::<3>().0.iter_mut().for_each(to_rgb);
            ImageBuffer::<Rgb<u8>, _>::from_raw(w, h, stored).map(DynamicImage::from)
        }
        (Photometric::YbrFull | Photometric::YbrFull422 | Photometric::YbrOfJpeg2000, ..) => {
            return Err(fail("is in YBR_FULL with 16 bits, or in JPEG 2000's colours, which is not supported".into()));
        }
        (Photometric::Rgb, Samples::Bytes(stored), _) => {
            ImageBuffer::<Rgb<u8>, _>::from_raw(w, h, stored).map(DynamicImage::from)
        }
        (Photometric::Rgb, Samples::Words(stored), _) => {
            let values = stored.into_iter().map(|stored| number(stored, layout) as u16).collect();
            ImageBuffer::<Rgb<u16>, _>::from_raw(w, h, values).map(DynamicImage::from)
        }
        (Photometric::Palette, ..) => return Err(fail("is in PALETTE COLOR, and a palette is missing".into())),
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

/// YBR_FULL to RGB (PS3.3, C.7.6.3.1.2).
fn to_rgb(pixel: &mut [u8; 3]) {
    let [y, b, r] = pixel.map(f32::from);
    let (b, r) = (b - 128.0, r - 128.0);
    let rgb = [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b];
    *pixel = rgb.map(|v| v.round() as u8);
}
