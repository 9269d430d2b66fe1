//! Label maps with a palette, written and judged by Pillow, which gives a palette's indices as they are stored.

#[path = "../../../tests/tests/skip.rs"]
#[expect(unreachable_pub, reason = "several crates share it")]
mod skip;

use std::env;
use std::process::{Command, Stdio};

use ldseg_io::read_label_file;

/// Writes pictures into the folder of its argument; prints a line for each: name, height, width and Pillow's own values.
const WRITER: &str = "
import sys, numpy as np
from PIL import Image
folder = sys.argv[1]
rng = np.random.default_rng(1)
colours = [0, 0, 0, 220, 50, 47, 64, 160, 70, 38, 120, 210] + [7, 8, 9] * 252
for name, classes, options in [
    ('bits1.png', 2, dict(bits=1)), ('bits2.png', 4, dict(bits=2)), ('bits4.png', 9, dict(bits=4)), ('bits8.png', 40, {}),
    ('transparent.png', 4, dict(transparency=0)), ('plain.gif', 4, {}), ('interlaced.gif', 9, dict(interlace=1)),
    ('bits8.bmp', 40, {}), ('plain.tif', 40, {}), ('lzw.tif', 40, dict(compression='tiff_lzw')),
    ('deflate.tif', 9, dict(compression='tiff_adobe_deflate')), ('packbits.tif', 9, dict(compression='packbits')),
]:
    for size in [(13, 17), (64, 48), (1, 1)]:
        values = rng.integers(0, classes, size, dtype=np.uint8)
        picture = Image.fromarray(values, mode='P')
        picture.putpalette(colours)
        path = f'{folder}/{size[0]}_{name}'
        picture.save(path, optimize=False, **options)
        stored = np.asarray(Image.open(path))
        assert Image.open(path).mode == 'P' and (stored == values).all(), name
        print(f'{size[0]}_{name}', *size, *stored.ravel())
";

#[test]
fn indices_are_those_that_pillow_reads() {
    let mut python = Command::new("python3");
    if let Some(path) = env::var_os("LDSEG_PYTHON_PATH") {
        python.env("PYTHONPATH", path);
    }
    let folder = tempfile::tempdir().unwrap();
    let output = python.arg("-c").arg(WRITER).arg(folder.path()).stdin(Stdio::null()).output();
    let text = match output {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("ModuleNotFoundError") => {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        _ => {
            let why = "python3 has not all of numpy, PIL; scripts/test.sh fetches them";
            return skip::skip(skip::Need::Python, "palettes by Pillow", why);
        }
    };
    assert_eq!(text.lines().count(), 36);
    for line in text.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let numbers: Vec<usize> = words.map(|word| word.parse().unwrap()).collect();
        let file = read_label_file(&folder.path().join(name)).unwrap();
        let labels = file.labels();
        assert_eq!(labels.shape(), &numbers[..2], "{name}");
        assert!(labels.iter().map(|label| usize::from(*label)).eq(numbers[2..].iter().copied()), "{name}");
        // Pillow leaves out of the palette what the picture does not hold.
        let colours = [[0, 0, 0], [220, 50, 47], [64, 160, 70], [38, 120, 210]];
        let palette = file.palette.unwrap();
        let known = palette.len().min(colours.len());
        assert_eq!(palette[..known], colours[..known], "{name}");
    }
}
