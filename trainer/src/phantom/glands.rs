//! The gland phantom: ellipses with a rim of nuclei and pale contents in pink stroma, some of them touching, coloured as
//! haematoxylin and eosin absorb light.

use std::f32::consts::{PI, TAU};
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

/// Writes one picture, its mask and its glands' numbers.
pub(super) fn write(name: &str, rng: &mut ChaCha8Rng, dir: &Path) -> Result<()> {
    let glands = draw_glands(rng);
    let owners = owners(&glands);
    let mask: Vec<u8> = owners.iter().map(|owner| if *owner > 0 { 255 } else { 0 }).collect();
    let picture = picture(&glands, &owners, rng);
    save_png(&dir.join(format!("instances/{name}.png")), &owners, [SIDE; 2], image::ExtendedColorType::L8)?;
    save_png(&dir.join(format!("images/{name}.png")), &picture, [SIDE; 2], image::ExtendedColorType::Rgb8)?;
    save_png(&dir.join(format!("labels/{name}.png")), &mask, [SIDE; 2], image::ExtendedColorType::L8)
}

/// The row and column of a pixel.
fn pixel(index: usize) -> [f32; 2] {
    [(index / SIDE) as f32, (index % SIDE) as f32]
}

/// The number of the gland at each pixel, counted from 1, 0 for none. Where glands touch, a pixel belongs to the
/// one in which it lies deeper.
fn owners(glands: &[Gland]) -> Vec<u8> {
    let owner = |index: usize| {
        let depths = glands.iter().map(|gland| gland.depth(pixel(index))).zip(1..);
        depths.filter(|(depth, _)| *depth > 0.0).max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, number)| number)
    };
    (0..SIDE * SIDE).map(owner).collect()
}

/// Up to nine glands that don't touch, the first of which always fits, and up to three more that lie back to back with one
/// of them.
fn draw_glands(rng: &mut ChaCha8Rng) -> Vec<Gland> {
    let wanted = rng.random_range(3..=9);
    let mut glands: Vec<Gland> = Vec::new();
    for _ in 0..60 {
        let gland = Gland::draw(rng);
        if glands.len() < wanted && glands.iter().all(|other| gland.is_apart(other)) {
            glands.push(gland);
        }
    }
    let alone = glands.len();
    let (touching, mut tries) = (rng.random_range(0..=3), 0);
    while glands.len() < alone + touching && tries < 120 {
        let partner = rng.random_range(0..alone);
        let gland = Gland::draw(rng).beside(&glands[partner], draw(0.0, TAU, rng));
        let within = gland.centre.iter().all(|at| (8.0..SIDE as f32 - 8.0).contains(at));
        if within && glands.iter().enumerate().all(|(number, other)| number == partner || gland.is_apart(other)) {
            glands.push(gland);
        }
        tries += 1;
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

    fn is_apart(&self, other: &Self) -> bool {
        let distance = (self.centre[0] - other.centre[0]).hypot(self.centre[1] - other.centre[1]);
        distance > 1.05 * (self.reach_towards(other.centre) + other.reach_towards(self.centre)) + 4.0
    }

    /// The same gland, moved until it touches another one in a direction as seen from that.
    fn beside(mut self, other: &Self, direction: f32) -> Self {
        let distance = other.reach(direction) + self.reach(direction + PI) - 1.0;
        let (sin, cos) = direction.sin_cos();
        let centre = [other.centre[0] + distance * sin, other.centre[1] + distance * cos];
        let moved = [centre[0] - self.centre[0], centre[1] - self.centre[1]];
        for vacuole in &mut self.vacuoles {
            vacuole[0] += moved[0];
            vacuole[1] += moved[1];
        }
        self.centre = centre;
        self
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
fn picture(glands: &[Gland], owners: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut stain = stroma(rng);
    let texture = clouds([1, SIDE, SIDE], 5, rng);
    for (gland, number) in glands.iter().zip(1..) {
        // Only as far as no other gland lies there.
        let free: Vec<bool> = owners.iter().map(|owner| *owner == 0 || *owner == number).collect();
        stain.paint_gland(gland, &free, &texture, rng);
    }
    stain.scatter_nuclei(owners, rng);
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
    fn paint_gland(&mut self, gland: &Gland, free: &[bool], texture: &[f32], rng: &mut ChaCha8Rng) {
        for (index, texture) in texture.iter().enumerate() {
            let place = pixel(index);
            let depth = gland.depth(place);
            if depth < -2.0 || !free[index] {
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
    fn scatter_nuclei(&mut self, owners: &[u8], rng: &mut ChaCha8Rng) {
        let count = rng.random_range(60..240);
        for _ in 0..count {
            let centre = [draw(0.0, SIDE as f32, rng), draw(0.0, SIDE as f32, rng)];
            let (half, direction) = ([draw(1.8, 3.6, rng), draw(1.0, 2.0, rng)], draw(0.0, TAU, rng));
            let density = draw(1.0, 1.8, rng);
            if owners[centre[0] as usize * SIDE + centre[1] as usize] == 0 {
                self.paint_nucleus(centre, half, direction, density);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn some_glands_touch_and_each_pixel_is_of_one() {
        let mut touching = 0;
        for seed in 0..12 {
            let glands = draw_glands(&mut ChaCha8Rng::seed_from_u64(seed));
            let owners = owners(&glands);
            for (gland, number) in glands.iter().zip(1_u8..) {
                let own = |index: &usize| owners[*index] == number;
                assert!((0..owners.len()).filter(own).all(|index| gland.depth(pixel(index)) > 0.0));
                assert!(owners.contains(&number), "gland {number} of seed {seed} is not seen");
            }
            let other = |a: u8, b: u8| a > 0 && b > 0 && a != b;
            touching += owners.chunks(SIDE).filter(|row| row.windows(2).any(|pair| other(pair[0], pair[1]))).count();
        }
        assert!(touching > 20, "{touching} rows of twelve pictures hold glands that touch");
    }
}
