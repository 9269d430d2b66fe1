//! One way through a recording: open, decide, segment, measure, outputs.

pub mod heart;
