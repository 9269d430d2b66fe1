//! The apical echo phantom: a heart drawn in echo strength (dB), imaged as speckle, attenuated and log-compressed.

use std::path::Path;

use ldseg::Result;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{clouds, draw, save_png, soft_step, white};
use crate::data::filter::smooth;

/// Pixels along each side.
const SIDE: usize = 224;
/// Share of the long axis over which the ventricle narrows to its apex.
const TAPER: f32 = 2.4;

/// What one heart and its scan keep from end-diastole to end-systole.
struct Scan {
    /// The fan: its tip (row, column), its length in pixels and half its opening in radians.
    tip: [f32; 2],
    reach: f32,
    opening: f32,
    /// Middle of the mitral plane (row, column), and the tilt of the long axis from the vertical in radians.
    mitral: [f32; 2],
    tilt: f32,
    heart: Heart,
    /// Echo strength in dB: cavities, myocardium, surroundings.
    blood: f32,
    muscle: f32,
    tissue: f32,
    /// Displayed range in dB, loss in dB from tip to far end, and brightness of the display.
    range: f32,
    attenuation: f32,
    gain: f32,
    /// Shadows: angle, half-width (radians) and depth of the loss in dB.
    dropouts: Vec<[f32; 3]>,
    /// Strength in dB of the near-field haze.
    haze: f32,
}

/// Sizes in pixels: inner length and half-width of the ventricle, its wall, length and half-width of the atrium.
#[derive(Clone, Copy)]
struct Heart {
    length: f32,
    width: f32,
    wall: f32,
    atrium_length: f32,
    atrium_width: f32,
}

/// Writes end-diastole and end-systole of one phantom, each with its labels.
pub(super) fn write(name: &str, rng: &mut ChaCha8Rng, dir: &Path) -> Result<()> {
    let scan = Scan::draw(rng);
    let [diastole, systole] = [scan.heart, scan.heart.contracted(rng)];
    for (phase, heart) in [("ED", diastole), ("ES", systole)] {
        let labels = scan.labels(&heart);
        let picture = scan.picture(&heart, rng);
        let grey = image::ExtendedColorType::L8;
        save_png(&dir.join(format!("{name}_{phase}.png")), &picture, [SIDE; 2], grey)?;
        save_png(&dir.join(format!("{name}_{phase}_gt.png")), &labels, [SIDE; 2], grey)?;
    }
    Ok(())
}

impl Heart {
    /// The same heart at end-systole: shorter and narrower, its wall thicker, its atrium full.
    fn contracted(self, rng: &mut ChaCha8Rng) -> Self {
        let width = draw(0.66, 0.82, rng);
        Self {
            length: self.length * draw(0.84, 0.92, rng),
            width: self.width * width,
            wall: self.wall * (1.0 + 0.9 * (1.0 - width)),
            atrium_length: self.atrium_length * draw(1.1, 1.25, rng),
            atrium_width: self.atrium_width * draw(1.05, 1.2, rng),
        }
    }

    /// How far inside the ventricle a point is, grown by `grow` pixels: positive inside, roughly in pixels. `u` runs from
    /// the mitral plane to the apex, `v` across. Open at the base.
    fn ventricle(&self, [u, v]: [f32; 2], grow: f32) -> f32 {
        let (length, width) = (self.length + grow, self.width + grow);
        let along = (u / length).clamp(-0.2, 1.0);
        // A bullet: full at a third of its length, a little narrower at the base.
        let outline = (1.0 - along.max(0.0).powf(TAPER)).max(0.0).sqrt() * (0.88 + 0.36 * along * (1.0 - along));
        (width * outline - v.abs()).min(length - u)
    }

    /// How far inside the atrium a point is: a rounded shape that hangs from the mitral plane.
    fn atrium(&self, [u, v]: [f32; 2]) -> f32 {
        let (centre, half) = (-0.44 * self.atrium_length, 0.56 * self.atrium_length);
        let along = ((u - centre) / half).abs().powf(2.3);
        let across = (v / self.atrium_width).abs().powf(2.3);
        (1.0 - (along + across).powf(1.0 / 2.3)) * self.atrium_width
    }
}

impl Scan {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let length = draw(80.0, 112.0, rng);
        let width = length * draw(0.25, 0.34, rng);
        let reach = draw(200.0, 214.0, rng);
        let shadows = rng.random_range(0..=2);
        let opening = draw(0.62, 0.78, rng);
        let heart = Heart {
            length,
            width,
            wall: draw(10.0, 16.0, rng),
            atrium_length: draw(42.0, 58.0, rng),
            atrium_width: width * draw(0.75, 1.05, rng),
        };
        let apex = draw(26.0, 42.0, rng);
        Self {
            tip: [draw(2.0, 6.0, rng), 112.0 + draw(-4.0, 4.0, rng)],
            reach,
            opening,
            mitral: [apex + length, 112.0 + draw(-16.0, 16.0, rng)],
            tilt: draw(-0.2, 0.2, rng),
            heart,
            blood: draw(-38.0, -27.0, rng),
            muscle: draw(-13.0, -6.0, rng),
            tissue: draw(-14.0, -8.0, rng),
            range: draw(48.0, 60.0, rng),
            attenuation: draw(2.0, 14.0, rng),
            gain: draw(-4.0, 5.0, rng),
            dropouts: (0..shadows)
                .map(|_| [draw(-opening, opening, rng), draw(0.04, 0.14, rng), draw(6.0, 20.0, rng)])
                .collect(),
            haze: draw(-26.0, -12.0, rng),
        }
    }

    /// A pixel's depth and angle in the fan.
    fn polar(&self, [row, column]: [usize; 2]) -> [f32; 2] {
        let (down, across) = (row as f32 - self.tip[0], column as f32 - self.tip[1]);
        [down.hypot(across), across.atan2(down)]
    }

    fn in_fan(&self, [depth, angle]: [f32; 2]) -> bool {
        depth > 3.0 && depth < self.reach && angle.abs() < self.opening
    }

    /// A pixel's place in the heart: along the long axis from the mitral plane to the apex, and across it.
    fn in_heart(&self, [row, column]: [usize; 2]) -> [f32; 2] {
        let (up, across) = (self.mitral[0] - row as f32, column as f32 - self.mitral[1]);
        let (sin, cos) = self.tilt.sin_cos();
        [up * cos + across * sin, across * cos - up * sin]
    }

    fn labels(&self, heart: &Heart) -> Vec<u8> {
        let label = |index: usize| {
            let pixel = [index / SIDE, index % SIDE];
            let place = self.in_heart(pixel);
            if !self.in_fan(self.polar(pixel)) {
                0
            } else if place[0] >= 0.0 && heart.ventricle(place, 0.0) > 0.0 {
                1
            } else if place[0] >= 0.0 && heart.ventricle(place, heart.wall) > 0.0 {
                2
            } else if place[0] < 0.0 && heart.atrium(place) > 0.0 {
                3
            } else {
                0
            }
        };
        (0..SIDE * SIDE).map(label).collect()
    }

    /// The 8-bit picture.
    fn picture(&self, heart: &Heart, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let speckle = speckle(rng);
        let texture = clouds([1, SIDE, SIDE], 18, rng);
        let fine = clouds([1, SIDE, SIDE], 6, rng);
        let shown = |index: usize| {
            let pixel = [index / SIDE, index % SIDE];
            let polar = self.polar(pixel);
            if !self.in_fan(polar) {
                return 0;
            }
            let strength = self.strength(heart, self.in_heart(pixel), texture[index], fine[index]);
            let near = self.haze - 55.0 * polar[0] / self.reach;
            // Echoes of tissue and haze add as powers.
            let total = 10.0 * (10f32.powf(strength / 10.0) + 10f32.powf(near / 10.0)).log10();
            let level = total - self.loss(polar) + self.gain + speckle[index];
            ((1.0 + level / self.range).clamp(0.0, 1.0) * 255.0) as u8
        };
        (0..SIDE * SIDE).map(shown).collect()
    }

    /// Loss in dB on the way to a place in the fan: depth, and shadows that begin below the ribs.
    fn loss(&self, [depth, angle]: [f32; 2]) -> f32 {
        let shadow = |[at, width, loss]: &[f32; 3]| loss * (-((angle - at) / width).powi(2) / 2.0).exp();
        let edge = 8.0 * (angle.abs() / self.opening).powi(6);
        self.attenuation * depth / self.reach + edge + self.dropouts.iter().map(shadow).sum::<f32>()
    }

    /// Mean echo strength in dB at a place in the heart.
    fn strength(&self, heart: &Heart, place: [f32; 2], texture: f32, fine: f32) -> f32 {
        let [u, v] = place;
        let mut strength = self.tissue + 3.5 * texture + 2.0 * fine;
        let mut paint = |inside: f32, value: f32| strength += (value - strength) * soft_step(inside, 4.0);
        // The right heart, unlabelled, and the bright pericardium along the free wall.
        let right = v + heart.width + heart.wall + 15.0;
        let bend = 1.0 - ((u - 0.25 * heart.length) / (0.72 * heart.length)).powi(2);
        paint((17.0 * bend.max(0.0).sqrt() - right.abs()).min(17.0 * bend), self.blood + 4.0 + 3.0 * texture);
        let right_atrium = 1.0 - ((u + 26.0) / 22.0).hypot((right + 2.0) / 17.0);
        paint(17.0 * right_atrium, self.blood + 3.0 + 2.0 * texture);
        let outside = heart.ventricle(place, heart.wall);
        let pericardium = 3.0 - (outside + 3.0).abs();
        if v > 0.0 && u > 0.0 {
            paint(pericardium, self.muscle + 6.0);
        }
        paint(outside.min(u + 2.0), self.muscle + 2.5 * texture + 2.0 * fine);
        let wall = 6.0 - (heart.atrium(place) + 5.0).abs();
        paint(wall.min(1.0 - u), self.muscle + 1.0 + 2.5 * fine);
        paint(heart.atrium(place).min(3.0 - u), self.blood + 2.0 * texture);
        paint(heart.ventricle(place, 0.0).min(u + 2.0), self.blood + 2.5 * texture + fine);
        // The closed leaflets of the mitral valve, a shallow tent.
        let leaflet = u - 6.0 * (1.0 - v.abs() / heart.width);
        paint((2.0 - leaflet.abs()).min(heart.width - v.abs()), self.muscle + 2.0 + 3.0 * fine);
        strength
    }
}

/// Fully developed speckle in dB, mean power 0 dB: the magnitude (Rayleigh) of complex Gaussian scatter blurred by a point
/// spread wider across the beam than along it.
fn speckle(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut part = || {
        let mut field = white(SIDE * SIDE, rng);
        [0, 0, 1, 1, 1, 1].into_iter().for_each(|axis| smooth(&mut field, &[SIDE, SIDE], axis));
        super::standardise(&mut field);
        field
    };
    let (real, imaginary) = (part(), part());
    let decibels = |(a, b): (&f32, &f32)| 10.0 * ((a * a + b * b) / 2.0).max(1e-3).log10();
    let mut speckle: Vec<f32> = real.iter().zip(&imaginary).map(decibels).collect();
    // Scan conversion interpolates.
    [0, 1].into_iter().for_each(|axis| smooth(&mut speckle, &[SIDE, SIDE], axis));
    speckle
}
