//! Frames one after the other, as the command line has it.

use std::time::Duration;

use ldseg::frames::FrameOptions;
use ldseg::segmenter::SegmentOptions;

/// Part of the timesteps from which a frame starts where `--warm-start on` leaves it open.
const MIDDLE: f64 = 0.5;

/// What a frame takes from the one before, and how long it may take.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FrameArgs {
    /// Where a cine's frame starts: `off`, from pure noise; `on` or a number above 0 to 1, from the frame before, noised
    /// anew up to that part of the timesteps (on: 0.5)
    #[arg(long, value_name = "off|on|PART", value_parser = warm_start, default_value = "off")]
    warm_start: WarmStart,
    /// Take as many denoiser calls as fit into this time for a frame, at least one and at most --steps
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    deadline_ms: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct WarmStart(Option<f64>);

fn warm_start(text: &str) -> Result<WarmStart, String> {
    match text {
        "off" => Ok(WarmStart(None)),
        "on" => Ok(WarmStart(Some(MIDDLE))),
        part => match part.parse::<f64>() {
            Ok(part) if part > 0.0 && part <= 1.0 => Ok(WarmStart(Some(part))),
            _ => Err("expected off, on, or a number above 0 to 1".into()),
        },
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    // An hour is far more than any frame takes.
    if value > 0.0 && value <= 3.6e6 {
        Ok(Duration::from_secs_f64(value / 1e3))
    } else {
        Err("expected a positive number of milliseconds".into())
    }
}

impl FrameArgs {
    pub(crate) fn options(self, segment: SegmentOptions) -> FrameOptions {
        FrameOptions { segment, warm_start: self.warm_start.0, deadline: self.deadline_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_starts_are_parsed() {
        let parsed = ["off", "on", "0.25", "1"].map(|text| warm_start(text).unwrap().0);
        assert_eq!(parsed, [None, Some(0.5), Some(0.25), Some(1.0)]);
        assert!(["0", "1.5", "nan", "yes", "-1"].iter().all(|text| warm_start(text).is_err()));
        assert!(["0", "-5", "nan", "inf", "x"].iter().all(|text| milliseconds(text).is_err()));
        assert_eq!(milliseconds("2.5"), Ok(Duration::from_micros(2500)));
    }
}
