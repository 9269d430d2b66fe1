//! The C interface: `include/ldseg.h` is made from this file and describes it to users.
//!
//! Only the functions of this file touch foreign pointers, each in a few lines; what they do is in `frame` and
//! `session`, in safe code.

#![expect(unsafe_code, reason = "the one place that talks to foreign code")]

mod frame;
mod session;
mod status;

use std::ffi::{CStr, c_char};
use std::ptr;

pub use frame::{LDSEG_GREY_F32, LDSEG_GREY_U8, LDSEG_RGB_U8, LdsegFrame};
pub use session::{
    LdsegChamber, LdsegClass, LdsegOpenOptions, LdsegSegmentOptions, LdsegSegmentation, LdsegSegmenter, LdsegTimings,
    LdsegView,
};
pub use status::LdsegStatus;
use status::{Failure, guard};

/// Loads the bundle in the folder `bundle`, UTF-8, and stores a segmenter that `ldseg_close` ends. `options` may be
/// NULL: all defaults.
///
/// # Safety
/// Pointers are NULL or valid for what they point to, strings end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ldseg_open(
    bundle: *const c_char,
    options: *const LdsegOpenOptions,
    segmenter: *mut *mut LdsegSegmenter,
) -> LdsegStatus {
    guard(|| {
        // SAFETY: the caller passes NULL or a place for a pointer.
        let segmenter = unsafe { segmenter.as_mut() }.ok_or(Failure::null("segmenter"))?;
        *segmenter = ptr::null_mut();
        // SAFETY: the caller passes NULL or valid options, which outlive this call, as do their strings.
        let options = unsafe { options.as_ref() };
        // SAFETY: the caller passes NULL or strings that end with a zero.
        let text = |name, pointer| unsafe { text(name, pointer) };
        let bundle = text("bundle", bundle)?.ok_or(Failure::null("bundle"))?;
        let opened = match options {
            None => LdsegSegmenter::open(bundle, None, None, 0, None)?,
            Some(options) => LdsegSegmenter::open(
                bundle,
                text("engine", options.engine)?,
                text("device", options.device)?,
                options.threads,
                text("ort_library", options.ort_library)?,
            )?,
        };
        *segmenter = Box::into_raw(Box::new(opened));
        Ok(())
    })
}

/// Ends a segmenter; NULL is allowed. Its class names are gone then, its segmentations stay. No other call may be using
/// it.
///
/// # Safety
/// `segmenter` is NULL or came from `ldseg_open`, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ldseg_close(segmenter: *mut LdsegSegmenter) {
    if !segmenter.is_null() {
        guard(|| {
            // SAFETY: it came from `Box::into_raw` in `ldseg_open`, and the caller gives it up.
            drop(unsafe { Box::from_raw(segmenter) });
            Ok(())
        });
    }
}

/// Number of classes, background included; 0 for NULL.
///
/// # Safety
/// `segmenter` is NULL or came from `ldseg_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ldseg_class_count(segmenter: *const LdsegSegmenter) -> usize {
    // SAFETY: the caller passes NULL or an open segmenter, which is only ever shared.
    unsafe { segmenter.as_ref() }.map_or(0, LdsegSegmenter::class_count)
}

/// Name and colour of class `index`, counted from 0, the background.
///
/// # Safety
/// `segmenter` is NULL or came from `ldseg_open`; `out` is NULL or a place for a class.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ldseg_class(
    segmenter: *const LdsegSegmenter,
    index: usize,
    out: *mut LdsegClass,
) -> LdsegStatus {
    guard(|| {
        // SAFETY: the caller passes NULL or an open segmenter, which is only ever shared.
        let segmenter = unsafe { segmenter.as_ref() }.ok_or(Failure::null("segmenter"))?;
        let class = segmenter.class(index)?;
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        // SAFETY: it is a place for a class; what is there now is not read.
        unsafe { out.write(class) };
        Ok(())
    })
}

/// Segments one frame, and stores a segmentation that `ldseg_segmentation_free` frees. The same frame, options and
/// engine give the same answer, bit by bit. `options` may be NULL: all defaults. The pixels are not used after the call.
///
/// # Safety
/// Pointers are NULL or valid for what they point to, the pixels for all rows; `segmenter` came from `ldseg_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ldseg_segment(
    segmenter: *const LdsegSegmenter,
    frame: *const LdsegFrame,
    options: *const LdsegSegmentOptions,
    segmentation: *mut *mut LdsegSegmentation,
) -> LdsegStatus {
    guard(|| {
        // SAFETY: the caller passes NULL or a place for a pointer.
        let segmentation = unsafe { segmentation.as_mut() }.ok_or(Failure::null("segmentation"))?;
        *segmentation = ptr::null_mut();
        // SAFETY: the caller passes NULL or an open segmenter, which is only ever shared.
        let segmenter = unsafe { segmenter.as_ref() }.ok_or(Failure::null("segmenter"))?;
        // SAFETY: the caller passes NULL or a frame.
        let frame = unsafe { frame.as_ref() }.ok_or(Failure::null("frame"))?;
        // SAFETY: the caller passes NULL or options.
        let options = unsafe { options.as_ref() };
        let sampler = match options {
            // SAFETY: the caller passes NULL or a string that ends with a zero.
            Some(options) => unsafe { text("sampler", options.sampler) }?,
            None => None,
        };
        let length = frame.byte_length()?;
        if frame.pixels.is_null() {
            return Err(Failure::null("pixels"));
        }
        // SAFETY: it is not NULL, bytes need no alignment, and the caller's rows are `length` bytes, which is at most
        // `isize::MAX`. They are not written to while this call runs.
        let pixels = unsafe { std::slice::from_raw_parts(frame.pixels.cast::<u8>(), length) };
        let result = segmenter.segment(frame, pixels, sampler, options)?;
        *segmentation = Box::into_raw(Box::new(result));
        Ok(())
    })
}

/// Shows what a segmentation holds. The pointers stay valid until it is freed.
///
/// # Safety
/// `segmentation` is NULL or came from `ldseg_segment`; `out` is NULL or a place for a view.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ldseg_view(segmentation: *const LdsegSegmentation, out: *mut LdsegView) -> LdsegStatus {
    guard(|| {
        // SAFETY: the caller passes NULL or a segmentation that was not freed, which is only ever shared.
        let segmentation = unsafe { segmentation.as_ref() }.ok_or(Failure::null("segmentation"))?;
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        // SAFETY: it is a place for a view; what is there now is not read.
        unsafe { out.write(segmentation.view()) };
        Ok(())
    })
}

/// Frees a segmentation; NULL is allowed.
///
/// # Safety
/// `segmentation` is NULL or came from `ldseg_segment`, and neither it nor its view is used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ldseg_segmentation_free(segmentation: *mut LdsegSegmentation) {
    if !segmentation.is_null() {
        guard(|| {
            // SAFETY: it came from `Box::into_raw` in `ldseg_segment`, and the caller gives it up.
            drop(unsafe { Box::from_raw(segmentation) });
            Ok(())
        });
    }
}

/// What went wrong in the last call of this thread that returned another status than `LDSEG_STATUS_OK`, UTF-8; empty
/// before the first. Valid until the thread's next such call.
#[unsafe(no_mangle)]
pub extern "C" fn ldseg_last_error() -> *const c_char {
    status::last_error()
}

/// The library's version, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn ldseg_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version holds no zero"),
    };
    VERSION.as_ptr()
}

/// A string argument; `None` for NULL.
///
/// # Safety
/// `pointer` is NULL or points to a string that ends with a zero and stays as it is for `'a`.
unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as this function asks for.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map(Some).map_err(|_| Failure::argument(format!("{name} is not UTF-8")))
}
