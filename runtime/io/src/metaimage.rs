//! MetaImage: a text header with the voxels in a file beside it (`.mhd`) or after it (`.mha`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path};

use flate2::bufread::ZlibDecoder;
use ndarray::{ArrayD, IxDyn};

use super::form::{Form, OutputForm, affine_from_lps};
use super::limits::Limits;
use super::recording::Recording;
use super::voxels::{Element, Encoding, check_length, decode, voxel_count};
use ldseg::image::{Geometry, Image, Orientation};
use ldseg::{Error, ErrorKind, Result, Tensor};

/// Real headers have a few hundred bytes; more means that the file is something else.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// Reads a MetaImage as `[C, Y, X]` or `[C, Z, Y, X]`.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Recording> {
    let mut file = open(path).map_err(|e| Error::with_source(ErrorKind::Io, "cannot be read", e))?;
    let (header, header_bytes) = Header::read(&mut file.reader)?;
    let grid = header.grid()?;
    let channels = header.channels()?;
    let count = voxel_count(&[grid.dims.as_slice(), &[channels]].concat())?;
    // Interleaved channels are copied to be put apart.
    limits.check_still(&grid.dims, channels, if channels == 1 { 0 } else { size_of::<f32>() })?;
    let encoding = header.encoding()?;
    let compressed = header.flag(&["CompressedData"])?;
    let voxels = match header.data_file()? {
        None => {
            file.length = file.length.saturating_sub(header_bytes as u64);
            read_voxels(file, compressed, count, encoding)
        }
        Some(name) => {
            let missing = |e| Error::with_source(ErrorKind::Io, format!("its voxel file {name} cannot be read"), e);
            read_voxels(open(&path.with_file_name(name)).map_err(missing)?, compressed, count, encoding)
        }
    }?;
    let data = channels_first(voxels, channels, &grid.dims)?;
    let axes = grid.dims.len();
    let (geometry, placed, notes) = place(&grid, axes);
    let Grid { offset, direction, spacing, .. } = grid;
    let form = OutputForm(Form::Placed { offset, direction, spacing, placed });
    Ok(Recording::still(Image { data, geometry }, form).noted(notes))
}

/// The geometry of an image with so many spatial axes, whether it has a place in space, and what is odd about the header.
fn place(grid: &Grid, axes: usize) -> (Geometry, bool, Vec<String>) {
    let mut notes = Vec::new();
    if let Some(unit) = &grid.unit {
        notes.push(format!("says that its lengths are in {unit}: they are taken so, where most readers take mm"));
    }
    let affine = affine_from_lps(&grid.offset, &grid.direction, &grid.spacing.unwrap_or([1.0; 3]), axes);
    let placed = match axes {
        3 => grid.directed && Orientation::of(&affine).is_some(),
        _ => grid.directed,
    };
    if axes == 3 && !placed {
        let why = if grid.directed { "a TransformMatrix that does not span space" } else { "no TransformMatrix" };
        notes.push(format!("has {why}: how it lies in space is unknown, and it is taken as stored"));
    }
    if placed && let Some([says, found]) = grid.contradiction {
        notes.push(format!(
            "its AnatomicalOrientation says {says}, its TransformMatrix {found}: the TransformMatrix is believed"
        ));
    }
    let spacing = grid.spacing.map(|spacing| spacing[..axes].iter().rev().copied().collect());
    let mut geometry = if placed { Geometry::default().placed(affine) } else { Geometry::default() };
    geometry.spacing = spacing;
    (geometry, placed, notes)
}

struct Source {
    reader: BufReader<File>,
    length: u64,
}

fn open(path: &Path) -> std::io::Result<Source> {
    let file = super::content::open(path)?;
    let length = file.metadata()?.len();
    Ok(Source { reader: BufReader::new(file), length })
}

fn read_voxels(source: Source, compressed: bool, count: usize, encoding: Encoding) -> Result<Vec<f32>> {
    check_length((count * encoding.element.size()) as u64, source.length, compressed)?;
    let mut reader: Box<dyn Read> =
        if compressed { Box::new(ZlibDecoder::new(source.reader)) } else { Box::new(source.reader) };
    let voxels = decode(&mut reader, count, encoding)?;
    if compressed {
        // zlib's checksum comes after the data: one more byte asked for compares it.
        reader.read(&mut [0]).map_err(|e| Error::with_source(ErrorKind::Format, "has damaged compressed voxels", e))?;
    }
    Ok(voxels)
}

/// Voxels with interleaved channels, x fastest, as `[C, (Z,) Y, X]`.
fn channels_first(voxels: Vec<f32>, channels: usize, dims: &[usize]) -> Result<Tensor> {
    let mut shape: Vec<usize> = dims.iter().rev().copied().collect();
    shape.push(channels);
    let interleaved = ArrayD::from_shape_vec(IxDyn(&shape), voxels)
        .map_err(|e| Error::with_source(ErrorKind::Format, "has another number of voxels than its header says", e))?;
    let order: Vec<usize> = std::iter::once(dims.len()).chain(0..dims.len()).collect();
    let planes = interleaved.permuted_axes(IxDyn(&order));
    // A single channel lies as it is wanted, and is not copied.
    Ok(if planes.is_standard_layout() { planes } else { planes.as_standard_layout().into_owned() })
}

/// Sizes without a third axis of 1; the rest in the file's order x, y, z, padded to three axes.
struct Grid {
    dims: Vec<usize>,
    /// `None` where it is not known.
    spacing: Option<[f64; 3]>,
    offset: [f64; 3],
    /// Unit vectors along x, y and z, LPS.
    direction: [[f64; 3]; 3],
    /// The unit that the header's lengths had, where it is not mm.
    unit: Option<String>,
    /// Whether the header tells the direction.
    directed: bool,
    /// The orientations that the header's anatomical orientation and its matrix say, where they differ.
    contradiction: Option<[Orientation; 2]>,
}

/// The `Key = value` lines.
struct Header(BTreeMap<String, String>);

impl Header {
    /// Reads up to and including `ElementDataFile`, the last line of every header; also returns its length in bytes.
    fn read(reader: &mut impl BufRead) -> Result<(Self, usize)> {
        let mut entries = BTreeMap::new();
        let mut length = 0;
        loop {
            let mut line = Vec::new();
            let room = (MAX_HEADER_BYTES - length) as u64;
            let read = reader.by_ref().take(room).read_until(b'\n', &mut line);
            length += read.map_err(|e| Error::with_source(ErrorKind::Io, "cannot be read", e))?;
            if line.is_empty() {
                return Err(unreadable("its header has no ElementDataFile line"));
            }
            let line = String::from_utf8_lossy(&line);
            if line.trim().is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(unreadable("its header has a line that is not 'Key = value'"));
            };
            entries.insert(key.trim().to_owned(), value.trim().to_owned());
            if key.trim() == "ElementDataFile" {
                return Ok((Self(entries), length));
            }
        }
    }

    /// The value under the first of the names that is there.
    fn get(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|&name| self.0.get(name)).map(String::as_str)
    }

    fn required(&self, name: &str) -> Result<&str> {
        self.get(&[name]).ok_or_else(|| unreadable(&format!("its header has no {name}")))
    }

    /// True or False; False where absent.
    fn flag(&self, names: &[&str]) -> Result<bool> {
        match self.get(names).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(unreadable(&format!("{} is '{other}', expected True or False", names[0]))),
        }
    }

    /// `count` finite numbers; `None` where absent.
    fn numbers(&self, names: &[&str], count: usize) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(names) else {
            return Ok(None);
        };
        let numbers: Option<Vec<f64>> =
            value.split_whitespace().map(|word| word.parse().ok().filter(|n: &f64| n.is_finite())).collect();
        numbers
            .filter(|numbers| numbers.len() == count)
            .map(Some)
            .ok_or_else(|| unreadable(&format!("{} is '{value}', expected {count} finite numbers", names[0])))
    }

    fn grid(&self) -> Result<Grid> {
        let axes = match self.required("NDims")? {
            "2" => 2,
            "3" => 3,
            other => return Err(unreadable(&format!("NDims is {other}, expected 2 or 3"))),
        };
        let size = self.required("DimSize")?;
        let mut dims = size
            .split_whitespace()
            .map(|word| word.parse::<usize>().ok())
            .collect::<Option<Vec<_>>>()
            .filter(|dims| dims.len() == axes)
            .ok_or_else(|| unreadable(&format!("DimSize is '{size}', expected {axes} whole numbers")))?;
        let mut spacing = None;
        if let Some(values) = self.numbers(&["ElementSpacing", "ElementSize"], axes)? {
            if values.iter().any(|&v| v <= 0.0) {
                return Err(unreadable(&format!("ElementSpacing is {values:?}, expected positive numbers")));
            }
            spacing.insert([1.0; 3])[..axes].copy_from_slice(&values);
        }
        let mut offset = [0.0; 3];
        if let Some(values) = self.numbers(&["Offset", "Position", "Origin"], axes)? {
            offset[..axes].copy_from_slice(&values);
        }
        let (mm, unit) = self.distance_unit()?;
        spacing.iter_mut().flatten().chain(&mut offset).for_each(|length| *length *= mm);
        let mut direction = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let matrix = self.numbers(&["TransformMatrix", "Rotation", "Orientation"], axes * axes)?;
        let named = self.anatomical_orientation(axes);
        let mut contradiction = None;
        match (&matrix, named) {
            (Some(values), _) => {
                for (row, values) in direction.iter_mut().zip(values.chunks_exact(axes)) {
                    row[..axes].copy_from_slice(values);
                }
                let found = Orientation::of(&affine_from_lps(&offset, &direction, &[1.0; 3], 3));
                contradiction =
                    named.zip(found).map(|((said, _), found)| [said, found]).filter(|[said, found]| said != found);
            }
            (None, Some((_, named))) => direction = named,
            (None, None) => {}
        }
        let directed = matrix.is_some() || named.is_some();
        if dims.get(2) == Some(&1) {
            dims.truncate(2);
        }
        Ok(Grid { dims, spacing, offset, direction, unit, directed, contradiction })
    }

    /// How many mm the unit of lengths is, and its name where it is not mm.
    fn distance_unit(&self) -> Result<(f64, Option<String>)> {
        let unit = self.get(&["DistanceUnits"]).unwrap_or("mm");
        let mm = match unit {
            "mm" | "?" => return Ok((1.0, None)),
            "um" => 1e-3,
            "cm" => 10.0,
            other => return Err(unreadable(&format!("DistanceUnits is {other}, expected um, mm or cm"))),
        };
        Ok((mm, Some(unit.to_owned())))
    }

    /// What `AnatomicalOrientation` says of a volume, with unit vectors along x, y and z (LPS). MetaImage names the side that
    /// each axis comes *from*: RAI is LPS.
    fn anatomical_orientation(&self, axes: usize) -> Option<(Orientation, [[f64; 3]; 3])> {
        let from = self.get(&["AnatomicalOrientation"]).filter(|_| axes == 3)?;
        let opposite = |letter: char| match letter {
            'R' => 'L',
            'L' => 'R',
            'A' => 'P',
            'P' => 'A',
            'S' => 'I',
            'I' => 'S',
            other => other,
        };
        let to: String = from.chars().map(opposite).collect();
        let orientation = to.parse().ok()?;
        let mut direction = [[0.0; 3]; 3];
        for (axis, letter) in direction.iter_mut().zip(to.chars()) {
            match letter {
                'L' => axis[0] = 1.0,
                'R' => axis[0] = -1.0,
                'P' => axis[1] = 1.0,
                'A' => axis[1] = -1.0,
                'S' => axis[2] = 1.0,
                _ => axis[2] = -1.0,
            }
        }
        Some((orientation, direction))
    }

    fn channels(&self) -> Result<usize> {
        match self.get(&["ElementNumberOfChannels"]) {
            None | Some("1") => Ok(1),
            Some("3") => Ok(3),
            Some(other) => Err(unreadable(&format!("ElementNumberOfChannels is {other}, expected 1 or 3"))),
        }
    }

    fn encoding(&self) -> Result<Encoding> {
        if self.get(&["BinaryData"]).is_some() && !self.flag(&["BinaryData"])? {
            return Err(unreadable("its voxels are text, expected BinaryData = True"));
        }
        if !matches!(self.get(&["HeaderSize"]), None | Some("0")) {
            return Err(unreadable("HeaderSize is set, expected voxel files without a header of their own"));
        }
        let element = match self.required("ElementType")? {
            "MET_UCHAR" => Element::U8,
            "MET_CHAR" => Element::I8,
            "MET_USHORT" => Element::U16,
            "MET_SHORT" => Element::I16,
            "MET_UINT" => Element::U32,
            "MET_INT" => Element::I32,
            "MET_FLOAT" => Element::F32,
            "MET_DOUBLE" => Element::F64,
            other => {
                let expected = "MET_UCHAR, CHAR, USHORT, SHORT, UINT, INT, FLOAT or DOUBLE";
                return Err(unreadable(&format!("ElementType is {other}, expected {expected}")));
            }
        };
        let big_endian = self.flag(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])?;
        Ok(Encoding { element, big_endian, slope: 1.0, inter: 0.0 })
    }

    /// The voxel file's plain name, or `None` where the voxels follow the header.
    fn data_file(&self) -> Result<Option<&str>> {
        let name = self.required("ElementDataFile")?;
        if matches!(name, "LOCAL" | "Local" | "local") {
            return Ok(None);
        }
        let mut parts = Path::new(name).components();
        let plain = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
        if !plain || name.contains(['/', '\\', '%']) || name.split_whitespace().next() == Some("LIST") {
            let expected = "expected LOCAL or the name of one file in the same folder";
            return Err(unreadable(&format!("ElementDataFile is '{name}', {expected}")));
        }
        Ok(Some(name))
    }
}

fn unreadable(message: &str) -> Error {
    Error::new(ErrorKind::Format, format!("is not a readable MetaImage: {message}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::super::{output_extension, read_image, read_labels, read_recording, write_labels};
    use super::*;
    use ldseg::image::Labels;

    const VOLUME: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\n\
        TransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 10 20 30\nElementSpacing = 0.5 0.75 2\nDimSize = 4 3 2\n\
        ElementType = MET_USHORT\nElementDataFile = a.raw\n";

    #[test]
    fn a_big_endian_volume_and_its_geometry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mhd");
        fs::write(&path, VOLUME).unwrap();
        fs::write(dir.path().join("a.raw"), (0..24_u16).flat_map(|v| (v * 100).to_be_bytes()).collect::<Vec<_>>())
            .unwrap();
        let recording = read_recording(&path).unwrap();
        let form = recording.form().clone();
        let image = recording.into_still(&path).unwrap();
        assert_eq!(image.data.shape(), [1, 2, 3, 4]);
        assert_eq!(image.data[[0, 1, 2, 3]], 2300.0);
        assert_eq!(image.spacing().unwrap(), [2.0, 0.75, 0.5]);
        assert_eq!(output_extension(&form, 3), "nii.gz");

        let labels = Labels::from_shape_fn(IxDyn(&[2, 3, 4]), |i| i[2] as u8);
        let output = dir.path().join("out.nii.gz");
        write_labels(&output, &labels, &form).unwrap();
        assert_eq!(read_labels(&output).unwrap(), labels);
        let written = read_recording(&output).unwrap();
        let Form::Nifti(header) = &written.form().0 else { panic!() };
        let header = header.clone();
        let written = written.into_still(&output).unwrap();
        assert_eq!(written.spacing(), image.spacing());
        assert_eq!(written.geometry.affine, image.geometry.affine);
        // x runs along +y in LPS, so along -y in RAS, 0.5 mm a step; y along -x in LPS, +x in RAS.
        assert_eq!(header.srow_x, [0.0, 0.75, 0.0, -10.0]);
        assert_eq!(header.srow_y, [-0.5, 0.0, 0.0, -20.0]);
        assert_eq!(header.srow_z, [0.0, 0.0, 2.0, 30.0]);
    }

    #[test]
    fn what_is_believed_of_place_and_spacing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mhd");
        fs::write(dir.path().join("a.raw"), [0; 48]).unwrap();
        let read = |text: String| {
            fs::write(&path, text).unwrap();
            let recording = read_recording(&path).unwrap();
            let (notes, form) = (recording.notes().to_vec(), recording.form().clone());
            let output = dir.path().join("out.nii.gz");
            write_labels(&output, &Labels::zeros(IxDyn(&[2, 3, 4])), &form).unwrap();
            let image = recording.into_still(&path).unwrap();
            let written = read_image(&output).unwrap();
            assert_eq!(written.spacing(), image.spacing(), "outputs say what the file says, and no more");
            assert_eq!(written.geometry.orientation(), image.geometry.orientation());
            let code = image.geometry.orientation().map(|found| found.to_string()).unwrap_or_default();
            (image.geometry.spacing, code, notes)
        };
        let without = |line: &str| {
            VOLUME.lines().filter(|found| !found.starts_with(line)).map(|l| format!("{l}\n")).collect::<String>()
        };
        let spacing = Some(vec![2.0, 0.75, 0.5]);
        // What SimpleITK says of such files.
        assert_eq!(read(VOLUME.into()), (spacing.clone(), "PRS".into(), vec![]));
        assert_eq!(read(without("ElementSpacing")), (None, "PRS".into(), vec![]));
        let (found, code, notes) = read(without("TransformMatrix"));
        assert_eq!((found, code.as_str()), (spacing.clone(), ""));
        assert!(notes[0].starts_with("has no TransformMatrix"), "{notes:?}");
        let named = |text: String, code: &str| format!("AnatomicalOrientation = {code}\n{text}");
        assert_eq!(read(named(without("TransformMatrix"), "RAI")), (spacing.clone(), "LPS".into(), vec![]));
        assert_eq!(read(named(without("TransformMatrix"), "ASL")), (spacing.clone(), "PIR".into(), vec![]));
        assert_eq!(read(named(VOLUME.into(), "ALI")).2, Vec::<String>::new());
        assert_eq!(read(named(VOLUME.into(), "???")).2, Vec::<String>::new());
        let cm = |lengths: &str| format!("DistanceUnits = cm\n{}", VOLUME.replace("0.5 0.75 2", lengths));
        let (found, _, notes) = read(cm("0.05 0.075 0.2"));
        assert!(found.unwrap().iter().zip([2.0, 0.75, 0.5]).all(|(a, b)| (a - b).abs() < 1e-9));
        assert!(notes.len() == 1 && notes[0].contains("lengths are in cm"), "{notes:?}");
        let (_, code, notes) = read(named(VOLUME.into(), "RAI"));
        assert_eq!(code, "PRS");
        assert!(notes[0].contains("says LPS, its TransformMatrix PRS"), "{notes:?}");
        let (_, code, notes) = read(VOLUME.replace("0 1 0 -1 0 0 0 0 1", "0 1 0 0 1 0 0 0 1"));
        assert!(code.is_empty() && notes[0].contains("does not span space"), "{notes:?}");
    }

    #[test]
    fn the_documentation_s_table_is_true() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mhd");
        fs::write(dir.path().join("a.raw"), [0; 48]).unwrap();
        let text = include_str!("../../../docs/files.md");
        let table = text.lines().skip_while(|line| !line.starts_with("| TransformMatrix |")).skip(2);
        let mut rows = 0;
        for line in table.take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let &[matrix, named, spacing, known, orientation, noted] = &cells[..] else { panic!("{line}") };
            let mut header = "NDims = 3\nDimSize = 4 3 2\nElementType = MET_USHORT\n".to_owned();
            let values = match matrix {
                "LPS" => Some("1 0 0 0 1 0 0 0 1"),
                "RAS" => Some("-1 0 0 0 -1 0 0 0 1"),
                "singular" => Some("1 0 0 1 0 0 0 0 1"),
                _ => None,
            };
            let spacings = [spacing; 3].join(" ");
            for (key, value) in [
                ("TransformMatrix", values),
                ("AnatomicalOrientation", Some(named).filter(|named| *named != "none")),
                ("ElementSpacing", Some(spacings.as_str()).filter(|_| spacing != "none")),
            ] {
                header += &value.map(|value| format!("{key} = {value}\n")).unwrap_or_default();
            }
            fs::write(&path, header + "ElementDataFile = a.raw\n").unwrap();
            let recording = read_recording(&path).unwrap();
            let notes = recording.notes().to_vec();
            let geometry = recording.into_still(&path).unwrap().geometry;
            assert_eq!(geometry.spacing, known.parse().ok().map(|mm| vec![mm; 3]), "{line}");
            let code = geometry.orientation().map_or("unknown".to_owned(), |found| found.to_string());
            assert_eq!(code, orientation, "{line}");
            assert_eq!(notes.len(), usize::from(!noted.is_empty()), "{line}: {notes:?}");
            assert!(notes.iter().all(|note| note.contains(noted)), "{line}: {notes:?}");
            rows += 1;
        }
        assert!(rows >= 8, "only {rows} rows");
    }

    #[test]
    fn compressed_local_colour_voxels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mha");
        let mut bytes = b"NDims = 2\nDimSize = 2 1\nElementNumberOfChannels = 3\nElementType = MET_UCHAR\n\
            CompressedData = True\nElementDataFile = LOCAL\n"
            .to_vec();
        let header_bytes = bytes.len();
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&[1, 2, 3, 4, 5, 6]).unwrap();
        bytes.extend(encoder.finish().unwrap());
        fs::write(&path, &bytes).unwrap();
        let recording = read_recording(&path).unwrap();
        assert_eq!(output_extension(recording.form(), 2), "png");
        let image = recording.into_still(&path).unwrap();
        assert_eq!(image.data.shape(), [3, 1, 2]);
        assert_eq!(image.data.iter().copied().collect::<Vec<_>>(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        for length in header_bytes..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(read_image(&path).unwrap_err().kind(), ErrorKind::Format, "{length}");
        }
    }

    #[test]
    fn what_a_header_may_not_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mhd");
        fs::write(dir.path().join("a.raw"), [0; 48]).unwrap();
        for (old, new, expected) in [
            ("= a.raw", "= ../a.raw", "same folder"),
            ("= a.raw", "= /a.raw", "same folder"),
            ("= a.raw", "= ..", "same folder"),
            ("= a.raw", "= LIST", "same folder"),
            ("= a.raw", "= a%03d.raw 1 2 1", "same folder"),
            ("= a.raw", "= b.raw", "voxel file b.raw cannot be read"),
            ("4 3 2", "4 3 3", "truncated"),
            ("4 3 2", "4 0 2", "is empty"),
            ("4 3 2", "4 -3 2", "DimSize"),
            ("4 3 2", "4 18446744073709551615 2", "absurd"),
            ("0.5 0.75 2", "0.5 nan 2", "ElementSpacing"),
            ("MET_USHORT", "MET_OTHER", "ElementType"),
            ("NDims = 3", "NDims = 4", "NDims"),
            ("NDims = 3", "NDims = 3\nDistanceUnits = feet", "DistanceUnits"),
            ("ElementDataFile", "Other", "ElementDataFile"),
            ("ObjectType = Image", "some text", "Key = value"),
        ] {
            fs::write(&path, VOLUME.replace(old, new)).unwrap();
            let message = read_image(&path).unwrap_err().to_string();
            assert!(message.contains("a.mhd: ") && message.contains(expected), "{new}: {message}");
        }
    }
}
