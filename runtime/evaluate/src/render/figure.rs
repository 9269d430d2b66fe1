//! A table of pictures with captions, as a sheet or as an animation.

use std::path::Path;

use ::image::{Rgb, RgbImage, imageops};

use super::text;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{write_cine, write_picture};

/// Around and between all parts, pixels.
const GAP: u32 = 6;
const PAPER: Rgb<u8> = Rgb([255; 3]);
/// How long a frame is shown, and the last one, which is the result.
const SECONDS: [f64; 2] = [0.4, 2.0];

/// A picture with a line below it, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// The picture.
    pub picture: RgbImage,
    /// The line.
    pub caption: String,
}

/// A moment: one panel for each of the figure's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What moment it is.
    pub caption: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// Moments side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What the rows show.
    pub rows: Vec<String>,
    /// From left to right, or from first to last.
    pub columns: Vec<Column>,
}

impl Panel {
    /// A picture without a caption.
    pub fn plain(picture: RgbImage) -> Self {
        Self { picture, caption: String::new() }
    }
}

impl Figure {
    /// All moments on one picture, the rows named at the left.
    pub fn sheet(&self) -> RgbImage {
        let names = self.rows.iter().map(|name| text::width(name)).max().unwrap_or(0);
        let width = self.cell_width();
        let left = names + 2 * GAP;
        let mut tops = vec![text::LINE + 2 * GAP];
        tops.extend((0..self.rows.len()).map(|row| self.row_height(row)));
        (1..tops.len()).for_each(|row| tops[row] += tops[row - 1]);
        let height = tops.last().copied().unwrap_or(0);
        let mut sheet = RgbImage::from_pixel(left + self.columns.len() as u32 * width, height, PAPER);
        for (name, top) in self.rows.iter().zip(&tops) {
            text::write(&mut sheet, name, [GAP, *top]);
        }
        for (index, column) in self.columns.iter().enumerate() {
            let x = left + index as u32 * width;
            text::write(&mut sheet, &column.caption, [x, GAP]);
            column.panels.iter().zip(&tops).for_each(|(panel, top)| place(&mut sheet, panel, [x, *top]));
        }
        sheet
    }

    /// One picture a moment, all of one size: the panels from left to right, the rows' names above them.
    pub fn frames(&self) -> Vec<RgbImage> {
        let cell = self.rows.iter().map(|name| text::width(name) + GAP).fold(self.cell_width(), u32::max);
        let captions = self.columns.iter().map(|column| text::width(&column.caption)).max().unwrap_or(0);
        let width = (self.rows.len() as u32 * cell + GAP).max(captions + 2 * GAP);
        let top = 2 * text::LINE + 3 * GAP;
        let height = (0..self.rows.len()).map(|row| self.row_height(row)).max().unwrap_or(0);
        let frame = |column: &Column| {
            let mut frame = RgbImage::from_pixel(width, top + height, PAPER);
            text::write(&mut frame, &column.caption, [GAP, GAP]);
            for (index, (name, panel)) in self.rows.iter().zip(&column.panels).enumerate() {
                let x = GAP + index as u32 * cell;
                text::write(&mut frame, name, [x, text::LINE + 2 * GAP]);
                place(&mut frame, panel, [x, top]);
            }
            frame
        };
        self.columns.iter().map(frame).collect()
    }

    /// Writes the sheet to a file that ends in `.png`, the animation to one in `.gif`. It appears whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] for another ending, [`ErrorKind::Io`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Self::check_name(path)?;
        if !is(path, "gif") {
            return write_picture(path, &self.sheet());
        }
        let mut seconds = vec![SECONDS[0]; self.columns.len()];
        seconds.last_mut().into_iter().for_each(|last| *last = SECONDS[1]);
        write_cine(path, self.frames(), &seconds)
    }

    /// Whether [`Self::write`] can write to a file of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where it ends neither in `.png` nor in `.gif`.
    pub fn check_name(path: &Path) -> Result<()> {
        if is(path, "png") || is(path, "gif") {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Setting, "is no name for a figure, expected .png or .gif").in_file(path))
    }

    /// Width of the place that a panel or a caption takes, with the gap after it.
    fn cell_width(&self) -> u32 {
        let panels = || self.columns.iter().flat_map(|column| &column.panels);
        let captions = self.columns.iter().map(|column| &column.caption).chain(panels().map(|panel| &panel.caption));
        let pictures = panels().map(|panel| panel.picture.width());
        pictures.chain(captions.map(|line| text::width(line))).max().unwrap_or(0) + GAP
    }

    /// Height of a row with its captions, where it has any, and the gap below it.
    fn row_height(&self, row: usize) -> u32 {
        let panels = || self.columns.iter().filter_map(|column| column.panels.get(row));
        let line = if panels().any(|panel| !panel.caption.is_empty()) { text::LINE } else { 0 };
        panels().map(|panel| panel.picture.height()).max().unwrap_or(0) + line + GAP
    }
}

fn place(sheet: &mut RgbImage, panel: &Panel, [x, y]: [u32; 2]) {
    imageops::replace(sheet, &panel.picture, x.into(), y.into());
    text::write(sheet, &panel.caption, [x, y + panel.picture.height()]);
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let panel = |grey: u8| Panel {
            picture: RgbImage::from_pixel(20, 10, Rgb([grey, 0, 200])),
            caption: if grey == 40 { "a long caption".into() } else { String::new() },
        };
        let column = |index: u8| Column {
            caption: format!("step {index}"),
            panels: (1..=2).map(|row| panel(20 * (index + 1) * row)).collect(),
        };
        Figure { rows: vec!["image".into(), "labels".into()], columns: (0..3).map(column).collect() }
    }

    /// Pixels of a panel, and the corner of their bounding box.
    fn find(picture: &RgbImage, grey: u8) -> (usize, [u32; 2]) {
        let found: Vec<_> = picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0 == [grey, 0, 200]).collect();
        let corner = [found.iter().map(|at| at.0).min().unwrap(), found.iter().map(|at| at.1).min().unwrap()];
        (found.len(), corner)
    }

    #[test]
    fn a_sheet_has_moments_across_and_rows_down() {
        let sheet = figure().sheet();
        let (first, [x, y]) = find(&sheet, 20);
        assert_eq!(first, 200);
        let ([below_x, below_y], [last_x, last_y]) = (find(&sheet, 120).1, find(&sheet, 60).1);
        assert!(below_x == last_x && below_y > y && last_x > x && last_y == y);
        assert!(x > text::width("labels"));
    }

    #[test]
    fn frames_have_one_size_and_rows_across() {
        let frames = figure().frames();
        assert_eq!(frames.len(), 3);
        assert!(frames.iter().all(|frame| frame.dimensions() == frames[0].dimensions()));
        let ([x, y], [right, same]) = (find(&frames[2], 60).1, find(&frames[2], 120).1);
        assert!(right >= x + text::width("a long caption") && y == same);
    }

    #[test]
    fn the_ending_chooses_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let (gif, png) = (dir.path().join("a.GIF"), dir.path().join("a.png"));
        figure().write(&gif).unwrap();
        figure().write(&png).unwrap();
        let cine = ldseg_io::read_recording(&gif).unwrap();
        assert_eq!(cine.seconds(), [SECONDS[0], SECONDS[0], SECONDS[1]]);
        assert_eq!(ldseg_io::read_image(&png).unwrap().data.shape()[0], 3);
        assert_eq!(figure().write(Path::new("a.svg")).unwrap_err().kind(), ErrorKind::Setting);
    }
}
