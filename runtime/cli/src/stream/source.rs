//! Where frames come from: raw pixels on standard input, or a folder that is being filled.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ldseg::queue::Queue;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::is_image_file;

/// How often a folder is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A frame that waits for its turn.
pub(super) struct Waiting {
    /// Counted from 0 over all that came, dropped ones included.
    pub(super) index: u64,
    pub(super) arrived: Instant,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// As read from standard input.
    Pixels(Vec<u8>),
    /// Read when its turn comes.
    File(PathBuf),
}

/// Puts frames of `bytes` bytes from `input` into the queue until its end.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read, [`ErrorKind::Format`] where it ends in the middle of a frame.
pub(super) fn read_pixels(mut input: impl Read, bytes: usize, queue: &Queue<Waiting>) -> Result<()> {
    for index in 0.. {
        let mut pixels = vec![0; bytes];
        let read = fill(&mut input, &mut pixels)
            .map_err(|e| Error::with_source(ErrorKind::Io, "standard input cannot be read", e))?;
        if read == 0 {
            break;
        }
        if read < bytes {
            let message = format!("standard input ends {read} bytes into frame {index}, expected {bytes}");
            return Err(Error::new(ErrorKind::Format, message));
        }
        if !queue.push(Waiting { index, arrived: Instant::now(), content: Content::Pixels(pixels) }) {
            break;
        }
    }
    Ok(())
}

/// As many bytes as there are, up to the buffer's length.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == IoErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Puts the image files that appear in `folder` into the queue, in the order of their names as far as they are there at
/// the same time, until nothing new has come for `idle`.
///
/// A file counts once its size has stayed the same from one look to the next; one that was renamed into place is whole
/// anyway.
///
/// # Errors
/// [`ErrorKind::Io`] where the folder cannot be read.
pub(super) fn watch(folder: &Path, idle: Option<Duration>, queue: &Queue<Waiting>) -> Result<()> {
    let failed = |e| Error::with_source(ErrorKind::Io, "cannot read the folder", e).in_file(folder);
    // What a file's size was at the last look; `None` once it is in the queue.
    let mut seen: HashMap<PathBuf, Option<u64>> = HashMap::new();
    // Files that are no images, and their size when they were looked into.
    let mut others: HashMap<PathBuf, u64> = HashMap::new();
    let (mut index, mut last_new) = (0, Instant::now());
    loop {
        let mut there = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let size = fs::metadata(&path).map_or(0, |data| data.len());
            if others.get(&path) == Some(&size) {
                continue;
            }
            if is_image_file(&path) {
                there.push(path);
            } else {
                others.insert(path, size);
            }
        }
        there.sort();
        // Files that are gone are forgotten: memory is bounded by what is in the folder.
        seen.retain(|path, _| there.binary_search(path).is_ok());
        others.retain(|path, _| path.exists());
        for path in there {
            let Ok(size) = fs::metadata(&path).map(|data| data.len()) else { continue };
            match seen.get(&path) {
                Some(None) => {}
                Some(Some(before)) if *before == size && size > 0 => {
                    seen.insert(path.clone(), None);
                    last_new = Instant::now();
                    if !queue.push(Waiting { index, arrived: last_new, content: Content::File(path) }) {
                        return Ok(());
                    }
                    index += 1;
                }
                _ => {
                    seen.insert(path, Some(size));
                    last_new = Instant::now();
                }
            }
        }
        if idle.is_some_and(|idle| last_new.elapsed() >= idle) {
            return Ok(());
        }
        sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use ldseg::queue::WhenFull;

    use super::*;

    /// Gives a few bytes at a time, as a pipe may.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = buffer.len().min(3).min(self.0.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn frames_are_cut_from_the_stream() {
        let bytes: Vec<u8> = (0..21).collect();
        let queue = Queue::new(8, WhenFull::Wait);
        read_pixels(Dribble(&bytes[..20]), 10, &queue).unwrap();
        let frame = |expected: u64| match queue.pop().unwrap().0 {
            Waiting { index, content: Content::Pixels(pixels), .. } if index == expected => pixels,
            _ => panic!("expected frame {expected}"),
        };
        assert_eq!((frame(0), frame(1)), (bytes[..10].to_vec(), bytes[10..20].to_vec()));
        let error = read_pixels(Dribble(&bytes), 10, &queue).unwrap_err();
        assert!(error.to_string().contains("ends 1 bytes into frame 2, expected 10"), "{error}");
    }

    #[test]
    fn a_folder_gives_each_file_once() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.png", "notes.md", ".hidden.png"] {
            fs::write(temp.path().join(name), "x").unwrap();
        }
        let queue = Queue::new(8, WhenFull::Wait);
        watch(temp.path(), Some(Duration::from_millis(100)), &queue).unwrap();
        queue.close();
        let mut names = Vec::new();
        while let Some((Waiting { content: Content::File(path), .. }, _)) = queue.pop() {
            names.push(path.file_name().unwrap().to_owned());
        }
        assert_eq!(names, ["a.png", "b.png"]);
        assert_eq!(watch(&temp.path().join("no"), None, &queue).unwrap_err().kind(), ErrorKind::Io);
    }
}
