//! How long each frame of a cine is shown.

use dicom_core::Tag;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::{number, numbers};

/// How long a frame is shown whose file does not say, as for GIF.
const UNTIMED: f64 = 0.1;

/// A tag that tells frame times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    FrameTime,
    FrameTimeVector,
    CineRate,
    RecommendedDisplayFrameRate,
}

/// Seconds for each of `frames` frames: of the tag that the Frame Increment Pointer names, else of the first that is usable
/// of Frame Time, Frame Time Vector, Cine Rate and Recommended Display Frame Rate. Where the tag that is named is unusable, or
/// none is there, a note says so.
pub(super) fn seconds(object: &InMemDicomObject, frames: usize, notes: &mut Vec<String>) -> Vec<f64> {
    use Source::{CineRate, FrameTime, FrameTimeVector, RecommendedDisplayFrameRate};
    let pointed = increment_pointer(object);
    let named = match pointed.first() {
        Some(&tags::FRAME_TIME) => Some(FrameTime),
        Some(&tags::FRAME_TIME_VECTOR) => Some(FrameTimeVector),
        _ => None,
    };
    let order = [FrameTime, FrameTimeVector, CineRate, RecommendedDisplayFrameRate];
    let rest = order.into_iter().filter(|source| Some(*source) != named);
    for (index, source) in named.into_iter().chain(rest).enumerate() {
        let Some(seconds) = source.seconds(object, frames) else { continue };
        match named {
            Some(named) if index > 0 => {
                notes.push(format!(
                    "its Frame Increment Pointer names the {}, which is not usable: the {} is taken",
                    named.name(),
                    source.name()
                ));
            }
            None if !pointed.is_empty() => {
                notes.push(format!(
                    "its frames are counted by {}, not by time: the {} is taken",
                    pointed[0],
                    source.name()
                ));
            }
            _ => {}
        }
        return seconds;
    }
    notes.push(format!("its frame time is unknown: {UNTIMED} s is assumed"));
    vec![UNTIMED; frames]
}

fn increment_pointer(object: &InMemDicomObject) -> Vec<Tag> {
    match object.get(tags::FRAME_INCREMENT_POINTER).map(|element| element.value()) {
        Some(Value::Primitive(PrimitiveValue::Tags(tags))) => tags.to_vec(),
        _ => Vec::new(),
    }
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::FrameTime => "Frame Time",
            Self::FrameTimeVector => "Frame Time Vector",
            Self::CineRate => "Cine Rate",
            Self::RecommendedDisplayFrameRate => "Recommended Display Frame Rate",
        }
    }

    /// `None` where it does not tell a time above 0 for each of `frames` frames.
    fn seconds(self, object: &InMemDicomObject, frames: usize) -> Option<Vec<f64>> {
        let usable = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
        let all = |seconds: Option<f64>| seconds.filter(usable).map(|seconds| vec![seconds; frames]);
        match self {
            Self::FrameTime => all(number(object, tags::FRAME_TIME).map(|milliseconds| milliseconds / 1000.0)),
            // The times from each frame to the one before it, so the first is 0; the last frame is shown as long as the one
            // before it.
            Self::FrameTimeVector => {
                let vector = numbers(object, tags::FRAME_TIME_VECTOR);
                let steps: Vec<f64> = vector.iter().skip(1).map(|milliseconds| milliseconds / 1000.0).collect();
                let last = *steps.last()?;
                (vector.len() == frames && steps.iter().all(usable)).then(|| [steps, vec![last]].concat())
            }
            Self::CineRate => all(number(object, tags::CINE_RATE).map(|rate| 1.0 / rate)),
            Self::RecommendedDisplayFrameRate => {
                all(number(object, tags::RECOMMENDED_DISPLAY_FRAME_RATE).map(|rate| 1.0 / rate))
            }
        }
    }
}
