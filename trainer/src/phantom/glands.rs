//! The gland phantom: ellipses with a rim of nuclei and pale contents in pink stroma, coloured as haematoxylin and eosin
//! absorb light.

use std::f32::consts::TAU;
use std::path::Path;

use ldseg::Result;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{clouds, draw, save_png, soft_step};

/// Pixels along each side.
const SIDE: usize = 192;
/// Optical density of a unit of haematoxylin (nuclei, blue-violet) and of eosin (the rest, pink), for R, G and B.
const HAEMATOXYLIN: [f32; 3] = [0.65, 0.70, 0.29];
const EOSIN: [f32; 3] = [0.07, 0.99, 0.11];

/// One gland: a wobbly ellipse.
struct Gland {
    centre: [f32; 2],
    half: [f32; 2],
    angle: f32,
    /// Amplitude and phase of the outline's second to fourth waves.
    wobble: [[f32; 2]; 3],
    /// Size of the lumen relative to the gland, thickness of the nuclear rim in pixels.
    lumen: f32,
    rim: f32,
    /// Pale vacuoles around the lumen: row, column, radius.
    vacuoles: Vec<[f32; 3]>,
}

/// Stain taken up by each pixel.
struct Stain {
    haematoxylin: Vec<f32>,
    eosin: Vec<f32>,
}

/// Writes one picture and its mask.
pub(super) fn write(name: &str, rng: &mut ChaCha8Rng, dir: &Path) -> Result<()> {
    let glands = draw_glands(rng);
    let inside = |index: usize| glands.iter().any(|gland| gland.depth(pixel(index)) > 0.0);
    let mask: Vec<u8> = (0..SIDE * SIDE).map(|index| if inside(index) { 255 } else { 0 }).collect();
    let picture = picture(&glands, &mask, rng);
    save_png(&dir.join(format!("images/{name}.png")), &picture, [SIDE; 2], image::ExtendedColorType::Rgb8)?;
    save_png(&dir.join(format!("labels/{name}.png")), &mask, [SIDE; 2], image::ExtendedColorType::L8)
}

/// The row and column of a pixel.
fn pixel(index: usize) -> [f32; 2] {
    [(index / SIDE) as f32, (index % SIDE) as f32]
}

/// Up to nine glands that don't touch; the first always fits.
fn draw_glands(rng: &mut ChaCha8Rng) -> Vec<Gland> {
    let wanted = rng.random_range(3..=9);
    let mut glands: Vec<Gland> = Vec::new();
    for _ in 0..60 {
        let gland = Gland::draw(rng);
        let apart = |other: &Gland| {
            let distance = (gland.centre[0] - other.centre[0]).hypot(gland.centre[1] - other.centre[1]);
            distance > 1.05 * (gland.reach_towards(other.centre) + other.reach_towards(gland.centre)) + 4.0
        };
        if glands.len() < wanted && glands.iter().all(apart) {
            glands.push(gland);
        }
    }
    glands
}

impl Gland {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let long = draw(22.0, 46.0, rng);
        let half = [long, long * draw(0.5, 0.95, rng)];
        let centre = [draw(8.0, 184.0, rng), draw(8.0, 184.0, rng)];
        let wobble = std::array::from_fn(|_| [draw(0.0, 0.05, rng), draw(0.0, TAU, rng)]);
        let angle = draw(0.0, TAU, rng);
        let mut gland = Self {
            centre,
            half,
            angle,
            wobble,
            lumen: draw(0.15, 0.4, rng),
            rim: draw(6.0, 9.0, rng),
            vacuoles: vec![],
        };
        let vacuoles = rng.random_range(5..=16);
        for _ in 0..vacuoles {
            let (direction, share) = (draw(0.0, TAU, rng), draw(0.4, 0.66, rng));
            let at = share * gland.reach(direction);
            let place = [gland.centre[0] + at * direction.sin(), gland.centre[1] + at * direction.cos()];
            gland.vacuoles.push([place[0], place[1], draw(3.0, 6.0, rng)]);
        }
        gland
    }

    /// Distance from the centre to the outline in a direction.
    fn reach(&self, direction: f32) -> f32 {
        let (sin, cos) = (direction - self.angle).sin_cos();
        let ellipse = 1.0 / (cos / self.half[0]).hypot(sin / self.half[1]);
        let wave = |(order, [amplitude, phase]): (usize, &[f32; 2])| {
            amplitude * ((order + 2) as f32 * direction + phase).cos()
        };
        ellipse * (1.0 + self.wobble.iter().enumerate().map(wave).sum::<f32>())
    }

    fn reach_towards(&self, [row, column]: [f32; 2]) -> f32 {
        self.reach((row - self.centre[0]).atan2(column - self.centre[1]))
    }

    /// How far inside the outline a point is, in pixels along the ray from the centre.
    fn depth(&self, [row, column]: [f32; 2]) -> f32 {
        let distance = (row - self.centre[0]).hypot(column - self.centre[1]);
        // Most pixels are beyond any reach, which saves the trigonometry.
        let reach = 1.15 * self.half[0];
        if distance > reach { reach - distance } else { self.reach_towards([row, column]) - distance }
    }
}

/// The RGB picture.
fn picture(glands: &[Gland], mask: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut stain = stroma(rng);
    let texture = clouds([1, SIDE, SIDE], 5, rng);
    glands.iter().for_each(|gland| stain.paint_gland(gland, &texture, rng));
    stain.scatter_nuclei(mask, rng);
    let (more_h, more_e) = (draw(0.8, 1.2, rng), draw(0.75, 1.25, rng));
    let grain = clouds([3, SIDE, SIDE], 2, rng);
    let mut rgb = Vec::with_capacity(3 * SIDE * SIDE);
    for index in 0..SIDE * SIDE {
        for channel in 0..3 {
            // Beer-Lambert: what is let through falls exponentially with the stain.
            let density = more_h * stain.haematoxylin[index].max(0.0) * HAEMATOXYLIN[channel]
                + more_e * stain.eosin[index].max(0.0) * EOSIN[channel];
            let light = 246.0 * (-density).exp() + 5.0 * grain[channel * SIDE * SIDE + index];
            rgb.push(light.clamp(0.0, 255.0) as u8);
        }
    }
    rgb
}

/// Pink fibres of uneven density, with clefts where the section has torn.
fn stroma(rng: &mut ChaCha8Rng) -> Stain {
    let (slow, fibre, tear) =
        (clouds([1, SIDE, SIDE], 24, rng), clouds([1, SIDE, SIDE], 4, rng), clouds([1, SIDE, SIDE], 16, rng));
    let eosin = (0..SIDE * SIDE).map(|index| {
        let cleft = soft_step(tear[index] - 1.5, 0.6);
        (0.62 + 0.10 * slow[index] + 0.10 * fibre[index]) * (1.0 - 0.9 * cleft)
    });
    let eosin: Vec<f32> = eosin.collect();
    let haematoxylin = eosin.iter().zip(&slow).map(|(eosin, slow)| eosin * (0.22 + 0.05 * slow)).collect();
    Stain { haematoxylin, eosin }
}

impl Stain {
    /// Blends both stains towards given values.
    fn blend(&mut self, index: usize, share: f32, [haematoxylin, eosin]: [f32; 2]) {
        self.haematoxylin[index] += (haematoxylin - self.haematoxylin[index]) * share;
        self.eosin[index] += (eosin - self.eosin[index]) * share;
    }

    /// Cytoplasm, lumen, vacuoles, then the rim of nuclei.
    fn paint_gland(&mut self, gland: &Gland, texture: &[f32], rng: &mut ChaCha8Rng) {
        for (index, texture) in texture.iter().enumerate() {
            let place = pixel(index);
            let depth = gland.depth(place);
            if depth < -2.0 {
                continue;
            }
            self.blend(index, soft_step(depth, 2.0), [0.45 + 0.08 * texture, 0.42 + 0.06 * texture]);
            let lumen = gland.lumen * gland.reach_towards(place) - (gland.reach_towards(place) - depth);
            self.blend(index, soft_step(lumen, 3.0), [0.06, 0.08 + 0.03 * texture]);
            for [row, column, radius] in &gland.vacuoles {
                let inside = radius - (place[0] - row).hypot(place[1] - column);
                self.blend(index, 0.85 * soft_step(inside, 2.0), [0.1, 0.1 + 0.03 * texture]);
            }
        }
        let around = (gland.half[0] + gland.half[1]) / 2.0 * TAU;
        for number in 0..(around / 3.2) as usize {
            let direction = TAU * number as f32 / (around / 3.2) + draw(-0.04, 0.04, rng);
            let at = gland.reach(direction) - gland.rim * draw(0.35, 0.8, rng);
            let centre = [gland.centre[0] + at * direction.sin(), gland.centre[1] + at * direction.cos()];
            self.paint_nucleus(centre, [draw(2.6, 4.0, rng), draw(1.6, 2.4, rng)], direction, draw(1.1, 1.7, rng));
        }
    }

    /// One nucleus, an ellipse whose long half-axis points along `direction`.
    fn paint_nucleus(&mut self, centre: [f32; 2], half: [f32; 2], direction: f32, density: f32) {
        let (sin, cos) = direction.sin_cos();
        let span = |middle: f32| (middle - 6.0).max(0.0) as usize..((middle + 7.0).max(0.0) as usize).min(SIDE);
        for row in span(centre[0]) {
            for column in span(centre[1]) {
                let (down, right) = (row as f32 - centre[0], column as f32 - centre[1]);
                let along = (down * sin + right * cos) / half[0];
                let across = (right * sin - down * cos) / half[1];
                let share = soft_step(1.0 - along.hypot(across), 0.5);
                self.blend(row * SIDE + column, 0.9 * share, [density, 0.35]);
            }
        }
    }

    /// Single nuclei in the stroma.
    fn scatter_nuclei(&mut self, mask: &[u8], rng: &mut ChaCha8Rng) {
        let count = rng.random_range(60..240);
        for _ in 0..count {
            let centre = [draw(0.0, SIDE as f32, rng), draw(0.0, SIDE as f32, rng)];
            let (half, direction) = ([draw(1.8, 3.6, rng), draw(1.0, 2.0, rng)], draw(0.0, TAU, rng));
            let density = draw(1.0, 1.8, rng);
            if mask[centre[0] as usize * SIDE + centre[1] as usize] == 0 {
                self.paint_nucleus(centre, half, direction, density);
            }
        }
    }
}
