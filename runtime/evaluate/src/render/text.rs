//! Captions, in a bitmap font of one width.

use ::image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;

/// Height of a line in pixels.
pub(super) const LINE: u32 = HEIGHT.val() as u32 + 2;

/// Width of a line in pixels.
pub(super) fn width(text: &str) -> u32 {
    (text.chars().count() * get_raster_width(WEIGHT, HEIGHT)) as u32
}

/// Writes a line in black, its upper left corner at (x, y). What the font does not have becomes a question mark, and
/// what lies outside the picture is left out.
pub(super) fn write(picture: &mut RgbImage, text: &str, [x, y]: [u32; 2]) {
    let mut left = x;
    for letter in text.chars() {
        let raster = get_raster(letter, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT));
        for (down, row) in raster.iter().flat_map(|raster| raster.rows()).enumerate() {
            for (across, ink) in row.iter().enumerate() {
                let at = (left + across as u32, y + 1 + down as u32);
                if let Some(Rgb(below)) = picture.get_pixel_mut_checked(at.0, at.1) {
                    let paper = u16::from(u8::MAX - ink);
                    below.iter_mut().for_each(|v| *v = (u16::from(*v) * paper / 255) as u8);
                }
            }
        }
        left += get_raster_width(WEIGHT, HEIGHT) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_differ_stay_in_their_line_and_unknown_ones_are_marked() {
        let drawn = |text: &str, x: u32| {
            let mut picture = RgbImage::from_pixel(40, 30, Rgb([255; 3]));
            write(&mut picture, text, [x, 5]);
            picture
        };
        let ink = |picture: &RgbImage| picture.pixels().filter(|pixel| pixel.0[0] < 128).count();
        assert!(ink(&drawn("A1", 0)) > 20 && drawn("A1", 0) != drawn("1A", 0));
        assert_eq!(drawn("\u{4e2d}", 0), drawn("?", 0));
        assert_eq!(ink(&drawn(" ", 0)), 0);
        let outside = |(_, y, pixel): (u32, u32, &Rgb<u8>)| pixel.0 != [255; 3] && !(5..5 + LINE).contains(&y);
        assert!(!drawn("|g_", 0).enumerate_pixels().any(outside));
        // Half of it does not fit, and nothing fails.
        assert!(ink(&drawn("MM", 36)) > 0);
        assert_eq!(width("abc"), 3 * width("a"));
    }
}
