//! TensorBoard event files with scalars: the TFRecord framing and the few protobuf fields that they need.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ldseg::{Error, ErrorKind, Result};

/// Writes one event file. Each record goes to the file at once, so a killed run loses nothing that was written.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts a new event file in `dir`, which is created if needed. A run that resumes starts one more: `first_step` is
    /// the first step it will write, and TensorBoard then drops what earlier files say from that step on.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file can't be written.
    pub fn create(dir: &Path, first_step: u64) -> Result<Self> {
        let failed = |error| Error::with_source(ErrorKind::Io, "can't create an event file", error).in_file(dir);
        fs::create_dir_all(dir).map_err(failed)?;
        // TensorBoard reads a folder's files in the order of their names.
        let nanoseconds = wall_time().as_nanos();
        let name = format!(
            "events.out.tfevents.{:010}.{:09}.ldseg.{}",
            nanoseconds / 1_000_000_000,
            nanoseconds % 1_000_000_000,
            std::process::id()
        );
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        let mut writer = Self { file, path };
        writer.event(0, 3, b"brain.Event:2")?;
        // SessionLog { status: START }
        writer.event(first_step, 7, &[1 << 3, 1])?;
        Ok(writer)
    }

    /// Writes one value of the curve `tag`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file can't be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<()> {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | 5);
        entry.extend(value.to_le_bytes());
        let mut summary = Vec::new();
        put_bytes(&mut summary, 1, &entry);
        self.event(step, 5, &summary)
    }

    /// Writes an Event: wall_time = 1 (double), step = 2 (int64) and one length-delimited field.
    fn event(&mut self, step: u64, field: u8, content: &[u8]) -> Result<()> {
        let mut event = vec![1 << 3 | 1];
        event.extend(wall_time().as_secs_f64().to_le_bytes());
        event.push(2 << 3);
        put_varint(&mut event, step);
        put_bytes(&mut event, field, content);
        let written = self.file.write_all(&record(&event));
        written.map_err(|error| Error::with_source(ErrorKind::Io, "can't write", error).in_file(&self.path))
    }
}

fn wall_time() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// TFRecord framing: length, its masked checksum, the data, their masked checksum; all little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(crc32c(&length)).to_le_bytes(), data, &masked(crc32c(data)).to_le_bytes()].concat()
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited protobuf field.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// TFRecord's masking, which keeps a checksum of data that hold checksums from degenerating.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: event records are a few dozen bytes.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_matches_the_known_vectors() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn records_are_framed_and_each_start_has_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        for first_step in [0, 300] {
            let mut writer = EventWriter::create(dir.path(), first_step).unwrap();
            writer.scalar("loss/total", first_step + 1, 0.5).unwrap();
        }
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 2);
        let bytes = fs::read(&files[0]).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let data = &bytes[at + 12..at + 12 + length];
            assert_eq!(record(data), &bytes[at..at + 16 + length]);
            records.push(data.to_vec());
            at += 16 + length;
        }
        assert_eq!(records.len(), 3);
        assert!(records[0].ends_with(b"brain.Event:2"));
        assert!(records[2].ends_with(&[b"\x0aloss/total\x15".as_slice(), &0.5f32.to_le_bytes()].concat()));
    }
}
