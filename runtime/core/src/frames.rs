//! Frames one after the other: each may start from the one before, and as many steps are taken as there is time for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::image::Image;
use crate::segmenter::{SegmentOptions, Segmentation, Segmenter, WarmStart};
use crate::{Error, ErrorKind, Result, Tensor};

/// Frames whose times tell how many steps the next one can take.
const REMEMBERED: usize = 5;
/// Part of the deadline that is planned with: times vary.
const USED: f64 = 0.9;

/// How frames are segmented.
#[derive(Debug, Clone)]
pub struct FrameOptions {
    /// As for a still image; `steps` is the most where there is a deadline, and `frame` is not used.
    pub segment: SegmentOptions,
    /// From which part of the timesteps a frame's latent starts, as the frame before it noised anew, 0 to 1. `None`: every
    /// frame starts from pure noise, and depends on no other.
    pub warm_start: Option<f64>,
    /// For one frame, from its pixels to its labels. As many steps are taken as fit by the times of the frames before, and
    /// at least one; the answer then depends on the machine's speed.
    pub deadline: Option<Duration>,
}

/// Segments frames in order.
#[derive(Debug)]
pub struct Frames {
    options: FrameOptions,
    latents: Option<Tensor>,
    pace: VecDeque<Pace>,
}

/// A frame and whether it was in time.
#[derive(Debug)]
pub struct Frame {
    /// The segmentation; its `steps` are those that were taken.
    pub segmentation: Segmentation,
    /// From pixels to labels.
    pub time: Duration,
    /// Whether that was within the deadline, where there is one.
    pub in_time: Option<bool>,
}

/// What a frame took, seconds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// One denoiser call.
    step: f64,
    /// All else.
    rest: f64,
}

impl Frames {
    /// Nothing is segmented yet.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] for a warm start that is not above 0 and at most 1, or a deadline of 0.
    pub fn new(options: FrameOptions) -> Result<Self> {
        if let Some(part) = options.warm_start.filter(|part| !(*part > 0.0 && *part <= 1.0)) {
            return Err(Error::new(ErrorKind::Setting, format!("the warm start is {part}, expected above 0 to 1")));
        }
        if options.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Error::new(ErrorKind::Setting, "the deadline is 0, expected more"));
        }
        Ok(Self { options, latents: None, pace: VecDeque::new() })
    }

    /// Forgets the frame before: another cine begins.
    pub fn restart(&mut self) {
        self.latents = None;
    }

    /// Segments a frame; `index` seeds its noise.
    ///
    /// With a deadline the very first frame is segmented twice, since nothing tells before how long it takes.
    ///
    /// # Errors
    /// Those of [`Segmenter::segment_from`]. The frame after a failed one starts from pure noise.
    pub fn segment(&mut self, segmenter: &mut Segmenter, image: &Image, index: u64) -> Result<Frame> {
        if self.options.deadline.is_some() && self.pace.is_empty() {
            let rehearsal = SegmentOptions { steps: 1, ..self.options.segment.clone() };
            self.run(segmenter, image, &rehearsal, None)?;
        }
        let most = self.options.segment.steps;
        let steps = self.options.deadline.map_or(most, |deadline| steps_within(&self.pace, deadline, most));
        let options = SegmentOptions { frame: index, steps, ..self.options.segment.clone() };
        let latents = self.latents.take();
        let frame = self.run(segmenter, image, &options, latents.as_ref())?;
        if self.options.warm_start.is_some() {
            self.latents = Some(frame.segmentation.latents.clone());
        }
        Ok(frame)
    }

    fn run(
        &mut self,
        segmenter: &mut Segmenter,
        image: &Image,
        options: &SegmentOptions,
        latents: Option<&Tensor>,
    ) -> Result<Frame> {
        let start = Instant::now();
        let last = segmenter.manifest().timesteps - 1;
        let warm_start = self.options.warm_start.zip(latents).map(|(part, latents)| {
            let timestep = (part * last as f64).round() as usize;
            WarmStart { latents, timestep: timestep.clamp(options.steps, last) }
        });
        let segmentation = segmenter.segment_from(image, options, warm_start)?;
        let time = start.elapsed();
        let denoiser = segmentation.timings.denoiser.as_secs_f64();
        self.pace.truncate(REMEMBERED - 1);
        self.pace.push_front(Pace { step: denoiser / options.steps as f64, rest: time.as_secs_f64() - denoiser });
        let in_time = self.options.deadline.map(|deadline| time <= deadline);
        Ok(Frame { segmentation, time, in_time })
    }
}

/// As many steps as the slowest of the frames before leaves time for.
fn steps_within(pace: &VecDeque<Pace>, deadline: Duration, most: usize) -> usize {
    let slowest = |of: fn(&Pace) -> f64| pace.iter().map(of).fold(0.0, f64::max);
    let left = deadline.as_secs_f64() * USED - slowest(|pace| pace.rest);
    // A cast of what is below 0 or not a number gives 0.
    ((left / slowest(|pace| pace.step)) as usize).clamp(1, most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_steps_as_fit_and_never_fewer_than_one() {
        let pace: VecDeque<Pace> = [Pace { step: 0.002, rest: 0.010 }, Pace { step: 0.001, rest: 0.014 }].into();
        let steps = |ms: u64, most| steps_within(&pace, Duration::from_millis(ms), most);
        // 40 ms leave 36 - 14 = 22 ms for steps of 2 ms.
        assert_eq!([steps(40, 20), steps(40, 4), steps(10, 20), steps(1, 20)], [11, 4, 1, 1]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let manifest = crate::bundle::test_support::manifest();
        let options = FrameOptions { segment: SegmentOptions::defaults(&manifest), warm_start: None, deadline: None };
        assert!(Frames::new(options.clone()).is_ok());
        for wrong in [
            FrameOptions { warm_start: Some(0.0), ..options.clone() },
            FrameOptions { warm_start: Some(f64::NAN), ..options.clone() },
            FrameOptions { deadline: Some(Duration::ZERO), ..options },
        ] {
            assert_eq!(Frames::new(wrong).unwrap_err().kind(), ErrorKind::Setting);
        }
    }
}
