//! The `ldseg-train` command on data and runs that are not as they should be.

mod labels;
mod manual;
mod runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image::{GrayImage, Luma};

/// A network of milliseconds.
const RECIPE: &str = "
name: tiny
seed: 1
data: {source: synthetic, licence: none, intended_use: test}
classes:
- {name: background, colour: [0, 0, 0], values: [0]}
- {name: disc, colour: [220, 50, 47], values: [1]}
network: {preset: compact, input_size: [32, 32], channels: 1, downsampling: 8, widths: [8, 16], label_widths: [8, 16],
  embedding_channels: 8, latent_channels: 4, denoiser_widths: [8], denoiser_blocks: 0, denoiser_attention: [false]}
validation: 2
training: {epochs: 2, batch_size: 4, warmup_steps: 1, ema_decay: 0.9}
";

/// A folder with a recipe and a data set in the layout of two folders.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// `cases` pictures of a disc, `c00` and so on.
    fn new(cases: usize) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["data/images", "data/labels"] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        fs::write(place.path("recipe.yaml"), RECIPE).unwrap();
        (0..cases).for_each(|number| place.add(number));
        place
    }

    fn add(&self, number: usize) {
        let (name, centre) = (format!("c{number:02}.png"), 10 + number as i64);
        let inside = |x: u32, y: u32| (i64::from(x) - centre).pow(2) + (i64::from(y) - 16).pow(2) < 49;
        let shade = |x, y| if inside(x, y) { 180 } else { 40 + ((x * 7 + y * 13 + number as u32) % 30) as u8 };
        let save = |picture: GrayImage, folder: &str| picture.save(self.path(folder).join(&name)).unwrap();
        save(GrayImage::from_fn(32, 32, |x, y| Luma([shade(x, y)])), "data/images");
        save(GrayImage::from_fn(32, 32, |x, y| Luma([u8::from(inside(x, y))])), "data/labels");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ldseg-train"));
        command.current_dir(self.folder.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Trains into the folder `run`; `more` are further arguments.
    fn fit(&self, more: &[&str]) -> Ran {
        self.run(&[&["fit", "recipe.yaml", "--data", "data", "--output", "run"], more].concat())
    }

    fn inspect(&self) -> Ran {
        self.run(&["inspect", "data"])
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// It must have ended with `code`, and said `expected` on standard error.
    #[track_caller]
    fn fails(&self, code: i32, expected: &str) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stderr.contains(expected), "expected '{expected}' in: {}", self.stderr);
    }

    #[track_caller]
    fn says(&self, expected: &str) {
        let text = format!("{}{}", self.stdout, self.stderr);
        assert!(text.contains(expected), "expected '{expected}' in: {text}");
    }

    #[track_caller]
    fn does_not_say(&self, unexpected: &str) {
        let text = format!("{}{}", self.stdout, self.stderr);
        assert!(!text.contains(unexpected), "did not expect '{unexpected}' in: {text}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
