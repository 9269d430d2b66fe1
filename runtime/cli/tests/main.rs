//! The command `ldseg` from end to end, without burn: bundles are fixtures, not trained here. What is skipped is said on
//! standard error.

#![expect(unreachable_pub, reason = "one binary, whose modules share helpers")]

mod bad_input;
mod dicom;
mod documents;
mod evaluate;
mod examples;
mod full_disk;
#[cfg(feature = "docs")]
mod manual;
mod measure;
mod metrics;
mod render;
mod report;
mod robustness;
mod sampling;
mod sector;
mod stream;
#[path = "../../../tests/tests/common.rs"]
mod support;
