//! What needs several crates: burn, tract and ONNX Runtime held equal, training from end to end, and every way in. The tests
//! of the command `ldseg` alone are in `runtime/cli/tests`, and need no burn.
//!
//! ONNX Runtime is compared where `ORT_DYLIB_PATH` names its library; what is skipped is said on standard error.

#![expect(unreachable_pub, reason = "one binary, whose modules share helpers")]

mod c_interface;
mod calibrate;
mod common;
mod data_in;
mod entry_points;
mod equivalence;
mod fixtures;
mod gpu;
mod inspect;
mod orientation;
mod pipeline;
mod published;
mod python;
mod reference;
mod resume;
mod support;
mod walls;
