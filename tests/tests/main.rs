//! What needs both crates: burn, tract and ONNX Runtime held equal, and the commands from end to end.
//!
//! ONNX Runtime is compared where `ORT_DYLIB_PATH` names its library; what is skipped is said on standard error.

#![expect(unreachable_pub, reason = "one binary, whose modules share helpers")]

mod bad_input;
mod c_interface;
mod calibrate;
mod data_in;
mod dicom;
mod entry_points;
mod equivalence;
mod evaluate;
mod gpu;
mod inspect;
mod measure;
mod metrics;
mod orientation;
mod pipeline;
mod published;
mod python;
mod reference;
mod render;
mod report;
mod resume;
mod robustness;
mod sampling;
mod sector;
mod stream;
mod support;
mod walls;
