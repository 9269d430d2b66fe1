//! Where frames come from: raw pixels on standard input, or a folder that is being filled.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use ldseg::queue::Queue;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::is_image_file;

/// How often a folder is looked at.
const POLL: Duration = Duration::from_millis(20);
/// A file that has stayed the same for so long is taken to be written to its end.
const SETTLED: Duration = Duration::from_secs(1);

/// A frame that waits for its turn.
pub(super) struct Waiting {
    /// Counted from 0 over all that came, dropped ones included.
    pub(super) index: u64,
    pub(super) arrived: Instant,
    pub(super) content: Content,
    /// Of a file that may still be written to: a failure is not final, and goes here.
    pub(super) unsettled: Option<Unsettled>,
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
        if !queue.push(Waiting { index, arrived: Instant::now(), content: Content::Pixels(pixels), unsettled: None }) {
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

/// What tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self { size: data.len(), modified: data.modified().ok() })
    }
}

/// A file at the last look.
struct Seen {
    stamp: Stamp,
    since: Instant,
    queued: bool,
}

impl Seen {
    /// Whether nobody has written to it for a while.
    fn is_settled(&self) -> bool {
        let age = self.stamp.modified.and_then(|modified| modified.elapsed().ok());
        self.since.elapsed() >= SETTLED || age.is_some_and(|age| age >= SETTLED)
    }
}

/// Files that could not be read, but may not have been written to their end, and the frame that each is. Whoever has such a
/// file in hand holds a clone.
#[derive(Clone, Default)]
pub(super) struct Unsettled(Arc<Mutex<HashMap<PathBuf, u64>>>);

impl Unsettled {
    /// The file is to be read once more, as this frame.
    pub(super) fn again(&self, path: &Path, frame: u64) {
        self.lock().insert(path.to_path_buf(), frame);
    }

    fn take(&self, path: &Path) -> Option<u64> {
        self.lock().remove(path)
    }

    /// Whether none is left, and none in hand.
    fn is_empty(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the image files that appear in `folder` into the queue, in the order of their names as far as they are there at
/// the same time, until nothing new has come for `idle`. A file that is written anew is a new frame.
///
/// A file counts once it has stayed the same from one look to the next; one that was renamed into place is whole anyway. Where
/// it could not be read then, it is tried again when it has changed, or has not changed for [`SETTLED`].
///
/// # Errors
/// [`ErrorKind::Io`] where the folder cannot be read.
pub(super) fn watch(folder: &Path, idle: Option<Duration>, queue: &Queue<Waiting>) -> Result<()> {
    let failed = |e| Error::with_source(ErrorKind::Io, "cannot read the folder", e).in_file(folder);
    let mut seen: HashMap<PathBuf, Seen> = HashMap::new();
    // Files that are no images, as they were when they were looked into.
    let mut others: HashMap<PathBuf, Stamp> = HashMap::new();
    let (mut next, mut last_new, unsettled) = (0, Instant::now(), Unsettled::default());
    loop {
        let mut there = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(stamp) = Stamp::of(&path) else { continue };
            if others.get(&path) == Some(&stamp) {
                continue;
            }
            if is_image_file(&path) {
                there.push((path, stamp));
            } else {
                others.insert(path, stamp);
            }
        }
        there.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Files that are gone are forgotten: memory is bounded by what is in the folder.
        let is_there = |path: &PathBuf| there.binary_search_by(|(other, _)| other.cmp(path)).is_ok();
        seen.retain(|path, _| is_there(path));
        unsettled.lock().retain(|path, _| is_there(path));
        others.retain(|path, _| path.exists());
        for (path, stamp) in there {
            let Some(file) = seen.get_mut(&path).filter(|file| file.stamp == stamp) else {
                last_new = Instant::now();
                seen.insert(path, Seen { stamp, since: last_new, queued: false });
                continue;
            };
            let settled = file.is_settled();
            let frame = match (file.queued, settled) {
                // An empty file is likely to be filled yet.
                (false, false) if stamp.size == 0 => None,
                (false, _) => Some(unsettled.take(&path)),
                (true, true) => unsettled.take(&path).map(Some),
                (true, false) => None,
            };
            let Some(known) = frame else { continue };
            file.queued = true;
            last_new = Instant::now();
            let index = known.unwrap_or(next);
            next = next.max(index + 1);
            let unsettled = (!settled).then(|| unsettled.clone());
            if !queue.push(Waiting { index, arrived: last_new, content: Content::File(path), unsettled }) {
                return Ok(());
            }
        }
        if idle.is_some_and(|idle| last_new.elapsed() >= idle) && unsettled.is_empty() {
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

    /// Takes the next frame of a watched folder: its index, its name, and where a failure would go.
    fn next(queue: &Queue<Waiting>) -> (u64, String, Option<Unsettled>) {
        match queue.pop().unwrap().0 {
            Waiting { index, content: Content::File(path), unsettled, .. } => {
                (index, path.file_name().unwrap().to_string_lossy().into_owned(), unsettled)
            }
            Waiting { .. } => panic!("expected a file"),
        }
    }

    #[test]
    fn a_file_is_tried_again_until_it_is_settled_and_read_anew_when_it_is_written_anew() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.png");
        fs::write(&path, "ha").unwrap();
        let queue = Queue::new(8, WhenFull::Wait);
        std::thread::scope(|scope| {
            scope.spawn(|| watch(temp.path(), Some(Duration::from_millis(1)), &queue).unwrap());
            // Half of it could not be read.
            let (index, name, unsettled) = next(&queue);
            assert_eq!((index, name.as_str()), (0, "a.png"));
            unsettled.unwrap().again(&path, index);
            // The rest comes, and it still is the same frame.
            fs::write(&path, "half").unwrap();
            let (index, _, unsettled) = next(&queue);
            assert_eq!(index, 0);
            // It is not whole either, and nobody writes to it any more: this time a failure is final.
            unsettled.unwrap().again(&path, index);
            let (index, _, unsettled) = next(&queue);
            assert_eq!((index, unsettled.is_none()), (0, true));
        });
        // Nothing is left to wait for; what is written anew is a new frame.
        std::thread::scope(|scope| {
            scope.spawn(|| watch(temp.path(), Some(SETTLED / 2), &queue).unwrap());
            assert_eq!(next(&queue).0, 0);
            fs::write(&path, "another").unwrap();
            assert_eq!(next(&queue).0, 1);
        });
    }

    #[test]
    fn a_folder_gives_each_file_once() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.png", "notes.md", ".hidden.png"] {
            fs::write(temp.path().join(name), "x").unwrap();
        }
        let queue = Queue::new(8, WhenFull::Wait);
        let mut names = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                watch(temp.path(), Some(Duration::from_millis(100)), &queue).unwrap();
                queue.close();
            });
            while let Some((Waiting { content: Content::File(path), .. }, _)) = queue.pop() {
                names.push(path.file_name().unwrap().to_owned());
            }
        });
        assert_eq!(names, ["a.png", "b.png"]);
        assert_eq!(watch(&temp.path().join("no"), None, &queue).unwrap_err().kind(), ErrorKind::Io);
    }
}
