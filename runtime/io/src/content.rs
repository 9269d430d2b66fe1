//! Which format a file is in. The content decides; its name only says what was meant where the content is of no known format,
//! so that the error tells what is wrong with it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ::image::ImageFormat;
use flate2::read::GzDecoder;
use ldseg::{Error, ErrorKind, Result};

/// The file formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Picture(ImageFormat),
    Gif,
    Avi,
    #[cfg(feature = "dicom")]
    Dicom,
    Nifti {
        compressed: bool,
    },
    MetaImage,
}

/// Endings of names, and what they say.
const NAMES: &[(&str, Format)] = &[
    (".png", Format::Picture(ImageFormat::Png)),
    (".bmp", Format::Picture(ImageFormat::Bmp)),
    (".jpg", Format::Picture(ImageFormat::Jpeg)),
    (".jpeg", Format::Picture(ImageFormat::Jpeg)),
    (".tif", Format::Picture(ImageFormat::Tiff)),
    (".tiff", Format::Picture(ImageFormat::Tiff)),
    (".gif", Format::Gif),
    (".avi", Format::Avi),
    #[cfg(feature = "dicom")]
    (".dcm", Format::Dicom),
    #[cfg(feature = "dicom")]
    (".dicom", Format::Dicom),
    #[cfg(feature = "dicom")]
    (".ima", Format::Dicom),
    (".nii", Format::Nifti { compressed: false }),
    (".nii.gz", Format::Nifti { compressed: true }),
    (".mhd", Format::MetaImage),
    (".mha", Format::MetaImage),
];

/// What names of label maps add to those of their images: ours and CAMUS's, and GlaS's.
pub const LABEL_SUFFIXES: [&str; 2] = ["_gt", "_anno"];

/// Bytes at the start of a file that tell its format: a NIfTI header, and the first lines of a MetaImage.
const HEAD: usize = 512;
const NIFTI_HEADER: usize = 348;

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Picture(ImageFormat::Png) => "PNG",
            Self::Picture(ImageFormat::Bmp) => "BMP",
            Self::Picture(ImageFormat::Jpeg) => "JPEG",
            Self::Picture(ImageFormat::Tiff) => "TIFF",
            Self::Picture(_) => "picture",
            Self::Gif => "GIF",
            Self::Avi => "AVI",
            #[cfg(feature = "dicom")]
            Self::Dicom => "DICOM",
            Self::Nifti { compressed: false } => "NIfTI that is not compressed",
            Self::Nifti { compressed: true } => "compressed NIfTI",
            Self::MetaImage => "MetaImage",
        }
    }
}

/// Stem and format of a file by its name; `None` for names that are hidden or end otherwise.
pub(crate) fn split_name(path: &Path) -> Option<(String, Format)> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let lower = name.to_ascii_lowercase();
    let &(extension, format) = NAMES.iter().find(|(extension, _)| lower.ends_with(extension))?;
    let stem = &name[..name.len() - extension.len()];
    (!stem.is_empty() && !stem.starts_with('.')).then(|| (stem.to_owned(), format))
}

/// The format of a file, and a note where its name says another one.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read, [`ErrorKind::Format`] where neither content nor name say which format it is in.
pub(crate) fn format(path: &Path) -> Result<(Format, Option<String>)> {
    let named = split_name(path).map(|(_, format)| format);
    let found = by_content(path).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be read", e))?;
    match (found, named) {
        (Some(found), Some(named)) if found != named => {
            Ok((found, Some(format!("is a {}, though its name says {}", found.name(), named.name()))))
        }
        (Some(format), _) | (None, Some(format)) => Ok((format, None)),
        (None, None) => {
            let known: Vec<&str> = NAMES.iter().map(|(extension, _)| *extension).collect();
            let message = format!("is of no known image format, expected {}", known.join(" "));
            Err(Error::new(ErrorKind::Format, message))
        }
    }
}

/// The format that a file's first bytes show.
fn by_content(path: &Path) -> io::Result<Option<Format>> {
    let head = head(open(path)?)?;
    let is = |at: usize, magic: &[u8]| head.get(at..at + magic.len()) == Some(magic);
    let nifti = |head: &[u8]| {
        let size = head.first_chunk().map(|&size| [i32::from_le_bytes(size), i32::from_be_bytes(size)]);
        let version = size.is_some_and(|sizes| sizes.contains(&540) && head.get(4..7) == Some(b"n+2"));
        version || size.is_some_and(|sizes| sizes.contains(&348)) && matches!(head.get(344..347), Some(b"n+1" | b"ni1"))
    };
    Ok(Some(match () {
        // Before all else: a DICOM's preamble may make it a TIFF too, for readers that know no DICOM.
        #[cfg(feature = "dicom")]
        () if is(128, b"DICM") => Format::Dicom,
        () if is(0, b"\x89PNG\r\n\x1a\n") => Format::Picture(ImageFormat::Png),
        () if is(0, &[0xFF, 0xD8, 0xFF]) => Format::Picture(ImageFormat::Jpeg),
        () if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| is(0, *magic)) => {
            Format::Picture(ImageFormat::Tiff)
        }
        // Two letters are few: four bytes that are reserved, and the size of the next header.
        () if is(0, b"BM")
            && is(6, &[0; 4])
            && matches!(head.get(14..18), Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) =>
        {
            Format::Picture(ImageFormat::Bmp)
        }
        () if is(0, b"GIF87a") || is(0, b"GIF89a") => Format::Gif,
        () if is(0, b"RIFF") && is(8, b"AVI ") => Format::Avi,
        #[cfg(feature = "dicom")]
        () if is(0, b"DICM") || super::dicom::bare_syntax(&head).is_some() => Format::Dicom,
        () if nifti(&head) => Format::Nifti { compressed: false },
        () if is(0, &[0x1F, 0x8B]) => {
            let inside = self::head(GzDecoder::new(open(path)?).take(NIFTI_HEADER as u64)).unwrap_or_default();
            return Ok(nifti(&inside).then_some(Format::Nifti { compressed: true }));
        }
        () if is_meta_image(&head) => Format::MetaImage,
        () => return Ok(None),
    }))
}

/// Opens a file, and nothing that only looks like one: a pipe would keep its reader waiting for ever, a device never ends.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    File::open(path)
}

/// The first bytes, fewer where there are no more.
fn head(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    reader.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether lines of keys and values begin, the number of axes among them.
fn is_meta_image(head: &[u8]) -> bool {
    let text: String =
        head.iter().take_while(|byte| byte.is_ascii() && **byte != 0).map(|&byte| byte as char).collect();
    let mut lines = text.lines();
    let keys = lines.clone().all(|line| line.contains('=')) || lines.next().is_some_and(|line| line.contains('='));
    keys && text.lines().any(|line| line.split('=').next().is_some_and(|key| key.trim() == "NDims"))
}

/// What a folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderContent {
    /// Files that are images, or whose names say so, sorted.
    pub images: Vec<PathBuf>,
    /// Files that are none, sorted, but for hidden ones and the voxels that belong to a MetaImage header.
    pub left_out: Vec<PathBuf>,
    /// Folders below it, sorted, but for hidden ones. Nobody has looked into them.
    pub folders: Vec<PathBuf>,
}

impl FolderContent {
    /// What to tell of the files that were left out: their number, and the names of the first of them.
    pub fn note(&self) -> Option<String> {
        let (count, shown) = named(&self.left_out);
        match count {
            0 => None,
            1 => Some(format!("1 file is no image and is left out: {shown}")),
            _ => Some(format!("{count} files are no images and are left out: {shown}")),
        }
    }

    /// What to tell of the folders below it, as of the files in [`Self::note`].
    pub fn note_of_folders(&self) -> Option<String> {
        let (count, shown) = named(&self.folders);
        match count {
            0 => None,
            1 => Some(format!("1 folder below it is not looked into: {shown}")),
            _ => Some(format!("{count} folders below it are not looked into: {shown}")),
        }
    }
}

/// How many there are, and the names of the first of them.
fn named(paths: &[PathBuf]) -> (usize, String) {
    const NAMED: usize = 5;
    let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
    let shown = names.iter().take(NAMED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    (names.len(), shown + &more)
}

/// The images in a folder, not in folders below it: what a file holds decides, or what its name says it holds. A link to
/// nothing whose name says that it is an image counts as one, so that whoever reads it is told.
///
/// # Errors
/// [`ErrorKind::Io`] where the folder cannot be read.
pub fn images_in(folder: &Path) -> Result<FolderContent> {
    let failed = |e| Error::with_source(ErrorKind::Io, "cannot read the folder", e).in_file(folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
    paths.sort();
    let ends = |path: &Path, wanted: &[&str]| {
        path.extension().is_some_and(|extension| wanted.iter().any(|wanted| extension.eq_ignore_ascii_case(wanted)))
    };
    if paths.iter().any(|path| ends(path, &["mhd"])) {
        paths.retain(|path| !ends(path, &["raw", "zraw"]));
    }
    let mut content = FolderContent::default();
    for path in paths {
        if path.is_dir() {
            content.folders.push(path);
        } else if path.is_file() && is_image_file(&path) || !path.exists() && split_name(&path).is_some() {
            content.images.push(path);
        } else {
            content.left_out.push(path);
        }
    }
    Ok(content)
}

/// Whether a file is an image that [`crate::read_recording`] knows: its name says so, or its content is one. Hidden files are
/// not, nor the directory of a DICOM medium.
pub fn is_image_file(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.starts_with('.') || name.eq_ignore_ascii_case("DICOMDIR") {
        return false;
    }
    split_name(path).is_some() || path.is_file() && by_content(path).is_ok_and(|format| format.is_some())
}

/// The file's name without folder and extension, both parts of `.nii.gz` included; `None` for a name that does not end as
/// images' names do.
pub fn case_name(path: &Path) -> Option<String> {
    split_name(path).map(|(stem, _)| stem)
}

/// What a file's outputs are named after: [`case_name`], or the whole name where it does not end as images' names do, since
/// what follows a dot may be a part of a number then.
pub fn output_name(path: &Path) -> Option<String> {
    case_name(path).or_else(|| path.file_name().map(|name| name.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read_image, read_recording};

    #[test]
    fn names_give_format_and_case() {
        let case = |name: &str| case_name(Path::new(name));
        assert_eq!(case("a/case.1.NII.gz").as_deref(), Some("case.1"));
        assert_eq!(case("scan.JPEG").as_deref(), Some("scan"));
        for name in ["a.raw", ".png", "._a.png", "png", "a.gz", "a/"] {
            assert_eq!(case(name), None, "{name}");
        }
        let message = read_image(Path::new("notes.txt")).unwrap_err().to_string();
        assert!(message.starts_with("notes.txt: cannot be read"), "{message}");
    }

    #[test]
    fn the_content_decides_and_a_name_that_says_otherwise_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let picture = ::image::RgbImage::from_fn(8, 8, |x, y| ::image::Rgb([(x * 9 + y) as u8; 3]));
        for (name, format) in [
            ("png", ImageFormat::Png),
            ("bmp", ImageFormat::Bmp),
            ("jpeg", ImageFormat::Jpeg),
            ("tiff", ImageFormat::Tiff),
            ("gif", ImageFormat::Gif),
        ] {
            let made = path(name);
            picture.save_with_format(&made, format).unwrap();
            for (copy, notes) in [("IM000001".to_owned(), 0), (format!("a.{name}"), 0), ("a.nii.gz".into(), 1)] {
                fs::copy(&made, path(&copy)).unwrap();
                let read = read_recording(&path(&copy)).unwrap();
                assert_eq!(read.frame(0).unwrap().data.shape()[1..], [8, 8], "{name}");
                assert_eq!(read.notes().len(), notes, "{name} as {copy}: {:?}", read.notes());
                assert!(read.notes().iter().all(|note| note.contains("though its name says compressed NIfTI")));
            }
        }
        // What is none keeps the reason that its name gives.
        fs::write(path("a.png"), "<html>not found</html>").unwrap();
        let error = read_image(&path("a.png")).unwrap_err().to_string();
        assert!(error.contains("a.png: is not a readable PNG"), "{error}");
        fs::write(path("page"), "<html>not found</html>").unwrap();
        let error = read_image(&path("page")).unwrap_err().to_string();
        assert!(error.contains("page: is of no known image format"), "{error}");
    }

    #[test]
    fn a_folder_s_images_and_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        ::image::GrayImage::new(2, 2).save_with_format(path("IM0"), ImageFormat::Png).unwrap();
        fs::write(path("b.mhd"), "NDims = 2\nDimSize = 1 1\nElementType = MET_UCHAR\nElementDataFile = b.raw\n")
            .unwrap();
        for name in ["b.raw", ".hidden", "list.txt", "DICOMDIR", "c.png"] {
            fs::write(path(name), [0]).unwrap();
        }
        // As short as this, numbers may look like a DICOM without its preamble: those of a MetaImage are not looked at.
        fs::write(path("b.raw"), [8, 0, 5, 0, 4, 0, 0, 0, 1, 2, 3, 4]).unwrap();
        fs::create_dir(path("folder")).unwrap();
        let content = images_in(dir.path()).unwrap();
        assert_eq!(content.images, ["IM0", "b.mhd", "c.png"].map(path));
        assert_eq!(content.note().unwrap(), "2 files are no images and are left out: DICOMDIR, list.txt");
        assert_eq!(content.note_of_folders().unwrap(), "1 folder below it is not looked into: folder");
        #[cfg(unix)]
        {
            for name in ["gone.png", "gone"] {
                std::os::unix::fs::symlink(path("nothing"), path(name)).unwrap();
            }
            let content = images_in(dir.path()).unwrap();
            assert!(content.images.contains(&path("gone.png")) && content.left_out.contains(&path("gone")));
        }
        fs::copy(path("b.mhd"), path("header")).unwrap();
        assert_eq!(format(&path("header")).unwrap().0, Format::MetaImage);
        assert_eq!(images_in(&path("folder")).unwrap().note(), None);
    }
}
