//! Frames in the caller's memory.
#![deny(unsafe_code)]

use std::ffi::c_void;

use ldseg::image::{Image, check_samples};
use ldseg::{Error, ErrorKind, Tensor};
use ndarray::IxDyn;

use crate::status::Failure;

/// `LdsegFrame.format`: one byte a pixel, grey.
pub const LDSEG_GREY_U8: u32 = 0;
/// `LdsegFrame.format`: three bytes a pixel, red, green and blue.
pub const LDSEG_RGB_U8: u32 = 1;
/// `LdsegFrame.format`: one float a pixel, grey, of any range, finite; need not be aligned.
pub const LDSEG_GREY_F32: u32 = 2;

/// An image in the caller's memory, rows from top to bottom.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LdsegFrame {
    /// The first row's first pixel.
    pub pixels: *const c_void,
    /// `LDSEG_GREY_U8`, `LDSEG_RGB_U8` or `LDSEG_GREY_F32`.
    pub format: u32,
    /// Rows, at least 1.
    pub height: usize,
    /// Pixels in a row, at least 1.
    pub width: usize,
    /// Bytes from one row to the next, at least a row's; 0: rows follow one another without a gap.
    pub stride: usize,
    /// Height of a pixel in mm; 0 where it is not known, for both: nothing is measured then, and a bundle
    /// that resamples to mm refuses the frame.
    pub spacing_y: f64,
    /// Width of a pixel in mm.
    pub spacing_x: f64,
}

impl LdsegFrame {
    /// Bytes a value, values a pixel.
    fn layout(&self) -> Result<[usize; 2], Failure> {
        match self.format {
            LDSEG_GREY_U8 => Ok([1, 1]),
            LDSEG_RGB_U8 => Ok([1, 3]),
            LDSEG_GREY_F32 => Ok([4, 1]),
            other => Err(Failure::argument(format!(
                "format is {other}, expected LDSEG_GREY_U8, LDSEG_RGB_U8 or LDSEG_GREY_F32"
            ))),
        }
    }

    /// Bytes of a row, and from one row to the next.
    fn row(&self) -> Result<[usize; 2], Failure> {
        let too_large =
            || Failure::argument(format!("a frame of {} x {} pixels is too large", self.height, self.width));
        let [bytes, values] = self.layout()?;
        if self.height == 0 || self.width == 0 {
            return Err(Failure::argument(format!("the frame is empty: {} x {} pixels", self.height, self.width)));
        }
        let row = self.width.checked_mul(bytes * values).ok_or_else(too_large)?;
        check_samples(&[self.height, self.width, values]).map_err(|_| too_large())?;
        match self.stride {
            0 => Ok([row, row]),
            stride if stride >= row => Ok([row, stride]),
            stride => Err(Failure::argument(format!("stride is {stride} bytes, a row has {row}"))),
        }
    }

    /// From the first pixel to behind the last one, bytes; what follows the last row need not be there.
    pub(crate) fn byte_length(&self) -> Result<usize, Failure> {
        let [row, stride] = self.row()?;
        let length = (self.height - 1).checked_mul(stride).and_then(|start| start.checked_add(row));
        length.filter(|length| *length <= isize::MAX as usize).ok_or_else(|| {
            Failure::argument(format!("a frame of {} rows, {stride} bytes apart, is too large", self.height))
        })
    }

    /// `None` where both are 0: unknown.
    pub(crate) fn spacing(&self) -> Option<[f64; 2]> {
        let spacing = [self.spacing_y, self.spacing_x];
        (spacing != [0.0; 2]).then_some(spacing)
    }

    /// The image, from the [`Self::byte_length`] bytes of its rows.
    pub(crate) fn image(&self, pixels: &[u8]) -> Result<Image, Failure> {
        let [bytes, channels] = self.layout()?;
        let [row, stride] = self.row()?;
        let mut planes = vec![Vec::with_capacity(self.height * self.width); channels];
        for row in pixels.chunks(stride).map(|line| &line[..row]) {
            for (channel, plane) in planes.iter_mut().enumerate() {
                let values = row.chunks_exact(bytes).skip(channel).step_by(channels);
                plane.extend(values.map(|value| match *value {
                    [a, b, c, d] => f32::from_ne_bytes([a, b, c, d]),
                    _ => f32::from(value[0]),
                }));
            }
        }
        let shape = IxDyn(&[channels, self.height, self.width]);
        let data = Tensor::from_shape_vec(shape, planes.concat())
            .map_err(|e| Error::with_source(ErrorKind::ShapeMismatch, "the rows do not fill the frame", e))?;
        Ok(Image::from_array(data, self.spacing().as_ref().map(<[f64; 2]>::as_slice))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LdsegStatus;

    fn frame(format: u32, height: usize, width: usize, stride: usize) -> LdsegFrame {
        LdsegFrame { pixels: std::ptr::null(), format, height, width, stride, spacing_y: 0.0, spacing_x: 0.0 }
    }

    #[test]
    fn rows_are_taken_by_their_stride() {
        let colour = frame(LDSEG_RGB_U8, 2, 2, 8);
        assert_eq!(colour.byte_length().unwrap(), 14);
        let image = colour.image(&[1, 2, 3, 4, 5, 6, 99, 99, 7, 8, 9, 10, 11, 12]).unwrap();
        assert_eq!(image.data.shape(), [3, 2, 2]);
        assert_eq!(image.data.as_slice().unwrap(), [1., 4., 7., 10., 2., 5., 8., 11., 3., 6., 9., 12.]);

        let mut real = frame(LDSEG_GREY_F32, 2, 1, 0);
        (real.spacing_y, real.spacing_x) = (0.5, 0.25);
        let image = real.image(&[1.5_f32.to_ne_bytes(), (-2.0_f32).to_ne_bytes()].concat()).unwrap();
        assert_eq!((image.data.as_slice().unwrap(), image.spacing().unwrap()), (&[1.5, -2.0][..], &[0.5, 0.25][..]));
        let error = real.image(&[1.5_f32.to_ne_bytes(), f32::NAN.to_ne_bytes()].concat()).unwrap_err();
        assert_eq!(error.status, LdsegStatus::Format);
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let most = usize::MAX;
        for (format, height, width, stride) in [
            (3, 1, 1, 0),
            (LDSEG_GREY_U8, 0, 1, 0),
            (LDSEG_GREY_U8, 1, 0, 0),
            (LDSEG_RGB_U8, 1, 2, 5),
            (LDSEG_GREY_F32, 1, most / 2, 0),
            (LDSEG_GREY_U8, most, 2, 0),
            (LDSEG_GREY_U8, 2, 1, most),
            (LDSEG_GREY_U8, 1, most, 0),
            (LDSEG_GREY_U8, 1 << 62, 1, 0),
            (LDSEG_RGB_U8, 1 << 20, 1 << 20, 0),
        ] {
            let error = frame(format, height, width, stride).byte_length().unwrap_err();
            assert_eq!(error.status, LdsegStatus::BadArgument, "{}", error.message);
        }
    }
}
