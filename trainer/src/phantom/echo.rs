//! The apical echo phantom: a heart drawn in echo strength (dB), imaged as speckle along the beams of a fan, attenuated,
//! shadowed and log-compressed, with walls that drop out and gain that varies with depth.

use std::f32::consts::{FRAC_PI_2, PI};
use std::path::Path;

use ldseg::document::SCHEMA_VERSION;
use ldseg::files::write_bytes;
use ldseg::image::Labels;
use ldseg::{Error, ErrorKind, Result};
use ldseg_io::{OutputForm, write_cine, write_labels};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{clouds, draw, save_png, soft_step, white};
use crate::data::filter::smooth;

/// Pixels along each side.
const SIDE: usize = 224;
/// Share of the long axis over which the ventricle narrows to its apex.
const TAPER: f32 = 2.4;
/// Frames of a cine, which holds one heartbeat.
const FRAMES: usize = 24;
/// Time from one frame to the next.
const FRAME_SECONDS: f64 = 0.04;
/// Pixel spacing of a cine.
const MILLIMETRES: f64 = 0.8;
/// Part of a heartbeat after which the ventricle is smallest.
const SYSTOLE: f32 = 0.35;
/// Samples of the speckle along the beam, and beams across the fan.
const SAMPLES: usize = 224;
const BEAMS: usize = 128;
/// Correlation of the speckle of one frame with that of the next.
const SPECKLE_MEMORY: f32 = 0.7;

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
    shadows: Vec<Shadow>,
    /// Strength in dB of the near-field haze.
    haze: f32,
    voids: Vec<Void>,
    /// Gain in dB at depths from the tip to the far end, as the sliders of a device set it.
    sliders: [f32; 6],
}

/// What lies behind a rib, or a calcification.
struct Shadow {
    /// Angle and half-width, radians.
    at: f32,
    width: f32,
    /// Where it begins, as a part of the fan's length, and its loss in dB.
    start: f32,
    loss: f32,
}

/// A stretch of the ventricle's wall along the beam, which returns little.
struct Void {
    /// Part of the long axis, and which side: -1 or 1.
    along: f32,
    side: f32,
    /// Extent in pixels, and loss in dB.
    radius: f32,
    loss: f32,
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
        let (speckle, tissue) = (Speckle::draw(rng), Tissue::draw(rng));
        let picture = scan.picture(&heart, &speckle.decibels(), &tissue);
        let grey = image::ExtendedColorType::L8;
        save_png(&dir.join(format!("{name}_{phase}.png")), &picture, [SIDE; 2], grey)?;
        save_png(&dir.join(format!("{name}_{phase}_gt.png")), &labels, [SIDE; 2], grey)?;
    }
    Ok(())
}

/// Writes one heartbeat as a GIF, its labels as a NIfTI with the frames along the third axis, and the ventricle's volumes.
pub(super) fn write_beat(name: &str, rng: &mut ChaCha8Rng, dir: &Path) -> Result<()> {
    let scan = Scan::draw(rng);
    let [diastole, systole] = [scan.heart, scan.heart.contracted(rng)];
    let (mut speckle, tissue) = (Speckle::draw(rng), Tissue::draw(rng));
    let (mut pictures, mut labels, mut volumes) = (Vec::new(), Vec::new(), Vec::new());
    for frame in 0..FRAMES {
        let heart = diastole.towards(&systole, contraction(frame as f32 / FRAMES as f32));
        let grey = scan.picture(&heart, &speckle.decibels(), &tissue);
        let at = |x: u32, y: u32| image::Rgb([grey[y as usize * SIDE + x as usize]; 3]);
        pictures.push(image::RgbImage::from_fn(SIDE as u32, SIDE as u32, at));
        labels.extend(scan.labels(&heart));
        volumes.push(heart.volume());
        speckle.drift(rng);
    }
    write_cine(&dir.join(format!("{name}.gif")), pictures, &[FRAME_SECONDS; FRAMES])?;
    let labels = Labels::from_shape_vec(vec![FRAMES, SIDE, SIDE], labels)
        .map_err(|e| Error::with_source(ErrorKind::ShapeMismatch, "the frames have another size", e))?;
    let form = OutputForm::cine(Some([MILLIMETRES; 2]));
    write_labels(&dir.join(format!("{name}_gt.nii.gz")), &labels, &form)?;
    write_bytes(&dir.join(format!("{name}.json")), truth(&volumes).as_bytes())
}

/// The JSON beside a cine: volumes in ml, and the ejection fraction (EDV - ESV) / EDV that follows.
fn truth(volumes: &[f64]) -> String {
    let fold = |f: fn(f64, f64) -> f64| volumes.iter().copied().reduce(f).unwrap_or(f64::NAN);
    let (largest, smallest) = (fold(f64::max), fold(f64::min));
    let document = serde_json::json!({
        "schema_version": SCHEMA_VERSION,
        "frame_seconds": FRAME_SECONDS,
        "pixel_spacing_mm": MILLIMETRES,
        "left_ventricle_volume_ml": volumes,
        "ejection_fraction": (largest - smallest) / largest,
    });
    format!("{document:#}\n")
}

/// How far the ventricle has contracted at a part of the heartbeat: from 0, at its start and end, to 1.
fn contraction(beat: f32) -> f32 {
    if beat < SYSTOLE {
        (FRAC_PI_2 * beat / SYSTOLE).sin().powi(2)
    } else {
        // Fills fast, then slowly.
        (FRAC_PI_2 * (beat - SYSTOLE) / (1.0 - SYSTOLE)).cos().powi(3)
    }
}

impl Heart {
    /// Between this heart and another.
    fn towards(&self, other: &Self, part: f32) -> Self {
        let mix = |a: f32, b: f32| a + part * (b - a);
        Self {
            length: mix(self.length, other.length),
            width: mix(self.width, other.width),
            wall: mix(self.wall, other.wall),
            atrium_length: mix(self.atrium_length, other.atrium_length),
            atrium_width: mix(self.atrium_width, other.atrium_width),
        }
    }

    /// Half-width of the ventricle, grown by `grow` pixels, at the part `along` of its long axis, 0 to 1.
    fn outline(&self, along: f32, grow: f32) -> f32 {
        // A bullet: full at a third of its length, a little narrower at the base.
        let share = (1.0 - along.max(0.0).powf(TAPER)).max(0.0).sqrt() * (0.88 + 0.36 * along * (1.0 - along));
        (self.width + grow) * share
    }

    /// The ventricle's volume in ml, its outline turned about the long axis: the sum of discs.
    fn volume(&self) -> f64 {
        const DISCS: usize = 1000;
        let disc = |k: usize| f64::from(PI * self.outline((k as f32 + 0.5) / DISCS as f32, 0.0).powi(2));
        let cubic_pixels = (0..DISCS).map(disc).sum::<f64>() * f64::from(self.length) / DISCS as f64;
        cubic_pixels * MILLIMETRES.powi(3) / 1000.0
    }

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
        let length = self.length + grow;
        (self.outline((u / length).clamp(-0.2, 1.0), grow) - v.abs()).min(length - u)
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
            shadows: (0..shadows)
                .map(|_| Shadow {
                    at: draw(-opening, opening, rng),
                    width: draw(0.04, 0.14, rng),
                    loss: draw(6.0, 20.0, rng),
                    start: 0.0,
                })
                .collect(),
            haze: draw(-26.0, -12.0, rng),
            voids: Vec::new(),
            sliders: [0.0; 6],
        }
        .with_artefacts(rng)
    }

    /// Drawn after all else, so that a seed keeps its heart.
    fn with_artefacts(mut self, rng: &mut ChaCha8Rng) -> Self {
        for shadow in &mut self.shadows {
            // Behind a rib from the probe on, or behind something in the tissue.
            if rng.random::<f32>() < 0.4 {
                shadow.start = draw(0.15, 0.6, rng);
            }
        }
        let voids = rng.random_range(0..=2);
        let side = |rng: &mut ChaCha8Rng| if rng.random::<f32>() < 0.7 { 1.0 } else { -1.0 };
        let void = |_| Void {
            along: draw(0.2, 0.9, rng),
            side: side(rng),
            radius: draw(9.0, 22.0, rng),
            loss: draw(5.0, 16.0, rng),
        };
        self.voids = (0..voids).map(void).collect();
        self.sliders = std::array::from_fn(|_| draw(-2.5, 2.5, rng));
        self
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

    /// The 8-bit picture, with speckle in dB.
    fn picture(&self, heart: &Heart, speckle: &[f32], tissue: &Tissue) -> Vec<u8> {
        let shown = |index: usize| {
            let pixel = [index / SIDE, index % SIDE];
            let polar = self.polar(pixel);
            if !self.in_fan(polar) {
                return 0;
            }
            let place = self.in_heart(pixel);
            let strength = self.strength(heart, place, tissue.coarse[index], tissue.fine[index])
                - self.voids.iter().map(|void| void.loss_at(heart, place)).sum::<f32>();
            let near = self.haze - 55.0 * polar[0] / self.reach;
            // Echoes of tissue and haze add as powers.
            let total = 10.0 * (10f32.powf(strength / 10.0) + 10f32.powf(near / 10.0)).log10();
            let level = total - self.loss(polar) + self.gain_at(polar[0]) + self.scan_converted(speckle, polar);
            ((1.0 + level / self.range).clamp(0.0, 1.0) * 255.0) as u8
        };
        (0..SIDE * SIDE).map(shown).collect()
    }

    /// Brightness in dB at a depth.
    fn gain_at(&self, depth: f32) -> f32 {
        let place = (depth / self.reach).clamp(0.0, 1.0) * (self.sliders.len() - 1) as f32;
        let low = (place as usize).min(self.sliders.len() - 2);
        let part = place - low as f32;
        self.gain + self.sliders[low] * (1.0 - part) + self.sliders[low + 1] * part
    }

    /// The speckle at a place in the fan, interpolated between samples and beams.
    fn scan_converted(&self, speckle: &[f32], [depth, angle]: [f32; 2]) -> f32 {
        let at = |part: f32, count: usize| {
            let place = part.clamp(0.0, 1.0) * (count - 1) as f32;
            let low = (place as usize).min(count - 2);
            (low, place - low as f32)
        };
        let (sample, down) = at(depth / self.reach, SAMPLES);
        let (beam, across) = at(0.5 + 0.5 * angle / self.opening, BEAMS);
        let line = |sample: usize| {
            let first = sample * BEAMS + beam;
            speckle[first] * (1.0 - across) + speckle[first + 1] * across
        };
        line(sample) * (1.0 - down) + line(sample + 1) * down
    }

    /// Loss in dB on the way to a place in the fan: depth, and shadows.
    fn loss(&self, [depth, angle]: [f32; 2]) -> f32 {
        let shadow = |shadow: &Shadow| {
            let behind = soft_step(depth - shadow.start * self.reach, 8.0);
            shadow.loss * behind * (-((angle - shadow.at) / shadow.width).powi(2) / 2.0).exp()
        };
        let edge = 8.0 * (angle.abs() / self.opening).powi(6);
        self.attenuation * depth / self.reach + edge + self.shadows.iter().map(shadow).sum::<f32>()
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

impl Void {
    /// Loss in dB at a place in the heart: around the middle of the wall.
    fn loss_at(&self, heart: &Heart, [u, v]: [f32; 2]) -> f32 {
        let across = self.side * (heart.outline(self.along, 0.0) + heart.wall / 2.0);
        let distance = (u - self.along * heart.length).hypot(2.0 * (v - across));
        self.loss * (-(distance / self.radius).powi(2) / 2.0).exp()
    }
}

/// Slow variation of the echo strength, of unit variance.
struct Tissue {
    coarse: Vec<f32>,
    fine: Vec<f32>,
}

impl Tissue {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self { coarse: clouds([1, SIDE, SIDE], 18, rng), fine: clouds([1, SIDE, SIDE], 6, rng) }
    }
}

/// Fully developed speckle: complex Gaussian scatter blurred by a point spread, real and imaginary part, `[SAMPLES, BEAMS]`.
/// The spread is that of a beam: as wide in angle everywhere, so wider across the further away, and short along the beam.
struct Speckle {
    parts: [Vec<f32>; 2],
}

impl Speckle {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut part = || {
            let mut field = white(SAMPLES * BEAMS, rng);
            [0, 0, 1, 1].into_iter().for_each(|axis| smooth(&mut field, &[SAMPLES, BEAMS], axis));
            super::standardise(&mut field);
            field
        };
        Self { parts: [part(), part()] }
    }

    /// To the next frame: scatterers move out of the plane, others into it.
    fn drift(&mut self, rng: &mut ChaCha8Rng) {
        let fresh = (1.0 - SPECKLE_MEMORY * SPECKLE_MEMORY).sqrt();
        for (part, new) in self.parts.iter_mut().zip(Self::draw(rng).parts) {
            part.iter_mut().zip(new).for_each(|(value, new)| *value = SPECKLE_MEMORY * *value + fresh * new);
        }
    }

    /// The magnitude (Rayleigh) in dB, mean power 0 dB.
    fn decibels(&self) -> Vec<f32> {
        let [real, imaginary] = &self.parts;
        let decibels = |(a, b): (&f32, &f32)| 10.0 * ((a * a + b * b) / 2.0).max(1e-3).log10();
        let mut speckle: Vec<f32> = real.iter().zip(imaginary).map(decibels).collect();
        // As devices do before they show it.
        [0, 1].into_iter().for_each(|axis| smooth(&mut speckle, &[SAMPLES, BEAMS], axis));
        speckle
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_beat_shrinks_the_ventricle_and_fills_it_again() {
        assert_eq!((contraction(0.0), contraction(SYSTOLE)), (0.0, 1.0));
        assert!(contraction(0.999) < 1e-3);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let heart = Scan::draw(&mut rng).heart;
        let systole = heart.contracted(&mut rng);
        let volumes = [0.0, 0.5, 1.0].map(|part| heart.towards(&systole, part).volume());
        assert!(volumes[0] > volumes[1] && volumes[1] > volumes[2], "{volumes:?}");
        assert!(volumes.iter().all(|volume| (10.0..300.0).contains(volume)), "{volumes:?}");
    }

    /// Speckle is a beam wide in angle: neighbouring columns are the more alike the deeper they lie.
    #[test]
    fn speckle_is_wider_across_the_further_away() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let scan = Scan::draw(&mut rng);
        let speckle = Speckle::draw(&mut rng).decibels();
        let shown = |depth: f32, across: f32| scan.scan_converted(&speckle, [depth.hypot(across), across.atan2(depth)]);
        let change = |depth: f32| {
            let rows = (0..20).flat_map(|row| (-12..12).map(move |column| (depth + row as f32, column as f32)));
            let changes: Vec<f32> =
                rows.map(|(depth, across)| (shown(depth, across) - shown(depth, across + 1.0)).abs()).collect();
            changes.iter().sum::<f32>() / changes.len() as f32
        };
        let changes = [40.0, 100.0, 180.0].map(change);
        assert!(changes[0] > 1.3 * changes[1] && changes[1] > 1.3 * changes[2], "{changes:?}");
    }

    #[test]
    fn walls_drop_out_and_shadows_begin_where_they_are_told() {
        let mut scan = Scan::draw(&mut ChaCha8Rng::seed_from_u64(5));
        scan.shadows = vec![Shadow { at: 0.1, width: 0.05, start: 0.5, loss: 12.0 }];
        let at = |part: f32, angle: f32| scan.loss([part * scan.reach, angle]) - scan.loss([part * scan.reach, -angle]);
        assert!(at(0.4, 0.1).abs() < 0.1 && (at(0.8, 0.1) - 12.0).abs() < 0.1);
        let (heart, void) = (scan.heart, Void { along: 0.5, side: 1.0, radius: 10.0, loss: 8.0 });
        let wall = heart.outline(0.5, 0.0) + heart.wall / 2.0;
        assert!((void.loss_at(&heart, [0.5 * heart.length, wall]) - 8.0).abs() < 1e-3);
        assert!(void.loss_at(&heart, [0.5 * heart.length, -wall]) < 0.01);
    }

    /// The label map's own discs, one a row of pixels along the long axis of an upright heart.
    #[test]
    fn the_volume_is_that_of_the_labels() {
        let mut scan = Scan::draw(&mut ChaCha8Rng::seed_from_u64(5));
        (scan.tilt, scan.mitral[1]) = (0.0, 112.0);
        let labels = scan.labels(&scan.heart);
        let row = |row: &[u8]| row.iter().filter(|label| **label == 1).count() as f64 / 2.0;
        let discs = labels.chunks(SIDE).map(|labels| std::f64::consts::PI * row(labels).powi(2)).sum::<f64>();
        let volume = discs * MILLIMETRES.powi(3) / 1000.0;
        assert!((volume / scan.heart.volume() - 1.0).abs() < 0.03, "{volume} ml, {} ml", scan.heart.volume());
    }
}
