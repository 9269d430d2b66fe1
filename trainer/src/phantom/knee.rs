//! The knee phantom: femur and tibia as smooth unions of simple solids, with bright marrow, dark cortex and cartilage,
//! inside muscle and fat, under a bias field and noise.

use std::path::Path;

use ldseg::image::Labels;
use ldseg::{Result, Tensor};
use ldseg_io::{OutputForm, write_labels, write_scalar};
use ndarray::IxDyn;
use rand_chacha::ChaCha8Rng;

use super::{clouds, draw, soft_step, white};

/// Voxels: towards the head, to the back, across.
const SIZE: [usize; 3] = [56, 40, 48];
/// Spacing of the voxels along the same axes, mm.
const SPACING: [f32; 3] = [1.9, 2.4, 1.7];
const FEMUR: u8 = 1;
const TIBIA: u8 = 2;
const CARTILAGE: u8 = 3;
/// Thickness of the cartilage, and how far from the joint line it reaches, mm.
const CARTILAGE_THICKNESS: f32 = 3.0;
const CARTILAGE_HEIGHT: f32 = 12.0;

/// Sizes in mm, from the middle of the joint line; z towards the head, y to the back, x across.
struct Knee {
    joint: [f32; 3],
    /// Overall size, 1 in the mean.
    scale: f32,
    /// Varus or valgus: sideways lean of the bones' shafts, mm per mm.
    lean: f32,
    shaft: [f32; 2],
    condyles: [[f32; 3]; 2],
    plateau: [f32; 3],
    /// Half-axes of the leg (y, x), thickness of its fat.
    leg: [f32; 2],
    fat: f32,
}

/// Signed distances in mm to both bones, negative inside.
struct Distances {
    femur: f32,
    tibia: f32,
}

/// Writes one volume and its labels, where asked with cartilage as a class, with the same oblique affine.
pub(super) fn write(name: &str, with_cartilage: bool, rng: &mut ChaCha8Rng, dir: &Path) -> Result<()> {
    let knee = Knee::draw(rng);
    let wobble = clouds(SIZE, 9, rng);
    let distances: Vec<Distances> =
        (0..wobble.len()).map(|index| knee.distances(place(index), 0.7 * wobble[index])).collect();
    let label = |index: usize| match &distances[index] {
        Distances { femur, .. } if *femur < 0.0 => FEMUR,
        Distances { tibia, .. } if *tibia < 0.0 => TIBIA,
        distances if with_cartilage && knee.cartilage(place(index), distances) > 0.0 => CARTILAGE,
        _ => 0,
    };
    let values = knee.intensities(&distances, rng);
    let form = draw_form(rng);
    let at = |index: IxDyn| (index[0] * SIZE[1] + index[1]) * SIZE[2] + index[2];
    let image = Tensor::from_shape_fn(IxDyn(&SIZE), |index| values[at(index)]);
    let labels = Labels::from_shape_fn(IxDyn(&SIZE), |index| label(at(index)));
    write_scalar(&dir.join(format!("images/{name}.nii.gz")), &image, &form)?;
    write_labels(&dir.join(format!("labels/{name}.nii.gz")), &labels, &form)
}

/// A voxel's place in mm from the middle of the volume.
fn place(index: usize) -> [f32; 3] {
    let at = [index / (SIZE[1] * SIZE[2]), index / SIZE[2] % SIZE[1], index % SIZE[2]];
    std::array::from_fn(|axis| (at[axis] as f32 - (SIZE[axis] as f32 - 1.0) / 2.0) * SPACING[axis])
}

/// A slightly oblique scan whose first axis runs from left to right, as many do.
fn draw_form(rng: &mut ChaCha8Rng) -> OutputForm {
    let [a, b] = std::array::from_fn(|_| f64::from(draw(-0.2, 0.2, rng)));
    let ((sin_a, cos_a), (sin_b, cos_b)) = (a.sin_cos(), b.sin_cos());
    let offset = std::array::from_fn(|_| f64::from(draw(-60.0, 60.0, rng)));
    // Columns of a rotation about z by a and about x by b, x reversed.
    let direction =
        [[-cos_a, -sin_a * cos_b, -sin_a * sin_b], [-sin_a, cos_a * cos_b, cos_a * sin_b], [0.0, -sin_b, cos_b]];
    OutputForm::placed(offset, direction, [SPACING[2], SPACING[1], SPACING[0]].map(f64::from))
}

impl Knee {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let condyle = |rng: &mut ChaCha8Rng| [draw(13.0, 16.0, rng), draw(20.0, 25.0, rng), draw(12.5, 15.5, rng)];
        Self {
            joint: std::array::from_fn(|_| draw(-4.0, 4.0, rng)),
            scale: draw(0.85, 1.0, rng),
            lean: draw(-0.12, 0.12, rng),
            shaft: [draw(12.0, 16.0, rng), draw(12.0, 16.0, rng)],
            condyles: [condyle(rng), condyle(rng)],
            plateau: [draw(9.0, 12.0, rng), draw(17.0, 21.0, rng), draw(30.0, 35.0, rng)],
            leg: [draw(41.0, 45.0, rng), draw(36.0, 39.0, rng)],
            fat: draw(3.5, 7.0, rng),
        }
    }

    /// Signed distances at a place, both surfaces moved outwards by `wobble` mm.
    fn distances(&self, place: [f32; 3], wobble: f32) -> Distances {
        let [z, y, x]: [f32; 3] = std::array::from_fn(|axis| (place[axis] - self.joint[axis]) / self.scale);
        let shaft = |end: f32, radius: f32| {
            // A long capsule that begins at height `end` and widens towards the joint.
            let beyond = ((end - z) * end.signum()).max(0.0);
            let widening = 7.0 * (-(z.abs() - end.abs()).max(0.0) / 14.0).exp();
            (x - self.lean * z).hypot(y).hypot(beyond) - radius - widening
        };
        let condyle = |side: f32, half: [f32; 3]| ellipsoid([z - half[0] - 1.0, y - 4.0, x - side * 18.0], half);
        let [inner, outer] = self.condyles;
        let condyles = smooth_union(condyle(-1.0, inner), condyle(1.0, outer), 3.0);
        let plateau = ellipsoid([z + self.plateau[0] + 4.5, y, x], self.plateau);
        let femur = smooth_union(condyles, shaft(26.0, self.shaft[0]), 9.0);
        let tibia = smooth_union(plateau, shaft(-28.0, self.shaft[1]), 9.0);
        // Where a wobble would make the bones touch, they keep half a millimetre each.
        let gap = (femur + tibia) / 2.0;
        let grown = |distance: f32| (distance * self.scale - wobble).max(distance - gap + 0.5);
        Distances { femur: grown(femur), tibia: grown(tibia) }
    }

    /// How far inside the cartilage, which lines the bones at the joint, a place outside the bones is, mm; further away
    /// the bone is bare.
    fn cartilage(&self, place: [f32; 3], distances: &Distances) -> f32 {
        let height = (place[0] - self.joint[0]).abs();
        (CARTILAGE_THICKNESS - distances.femur.min(distances.tibia)).min(CARTILAGE_HEIGHT - height)
    }

    /// Signal of each voxel, about 0 to 1000.
    fn intensities(&self, distances: &[Distances], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let (slow, fine) = (clouds(SIZE, 12, rng), clouds(SIZE, 3, rng));
        let bias: [f32; 3] = std::array::from_fn(|_| draw(-0.3, 0.3, rng));
        let [marrow, muscle, cartilage] = [draw(0.62, 0.85, rng), draw(0.25, 0.4, rng), draw(0.5, 0.65, rng)];
        let sigma = draw(0.02, 0.05, rng);
        let (real, imaginary) = (white(distances.len(), rng), white(distances.len(), rng));
        // A coil sees less of what is further from it.
        let (coil, fall) = ([draw(-30.0, 30.0, rng), -60.0, draw(-25.0, 25.0, rng)], draw(0.0, 0.5, rng));
        let signal = |index: usize| {
            let place = place(index);
            let Distances { femur, tibia } = distances[index];
            let bone = femur.min(tibia);
            let leg = (1.0 - (place[1] / self.leg[0]).hypot(place[2] / self.leg[1])) * self.leg[1];
            let mut signal = 0.0;
            let mut paint = |inside: f32, value: f32| signal += (value - signal) * soft_step(inside, 2.0);
            paint(leg, 0.85 + 0.04 * fine[index]);
            paint(leg - self.fat, muscle + 0.05 * slow[index] + 0.04 * fine[index]);
            paint(self.cartilage(place, &distances[index]), cartilage + 0.03 * fine[index]);
            let height = (place[0] - self.joint[0]).abs();
            paint(if height < CARTILAGE_HEIGHT { -bone } else { 1.0 - bone }, 0.08);
            paint(-bone - 2.0, marrow + 0.04 * slow[index] + 0.05 * fine[index]);
            let slope: f32 = (0..3).map(|axis| bias[axis] * place[axis] / 50.0).sum();
            let squared: f32 = (0..3).map(|axis| ((place[axis] - coil[axis]) / 60.0).powi(2)).sum();
            let biased = signal * ((1.0 + slope + 0.05 * slow[index]) * (1.0 - fall * (squared - 1.0) / 4.0)).max(0.2);
            // The magnitude of a complex signal: Rician noise.
            (1000.0 * (biased + sigma * real[index]).hypot(sigma * imaginary[index])).round()
        };
        (0..distances.len()).map(signal).collect()
    }
}

/// Approximate signed distance to an ellipsoid around the origin.
fn ellipsoid(place: [f32; 3], half: [f32; 3]) -> f32 {
    let norm = |power: i32| (0..3).map(|axis| (place[axis] / half[axis].powi(power)).powi(2)).sum::<f32>().sqrt();
    norm(1) * (norm(1) - 1.0) / norm(2).max(1e-6)
}

/// The union of two solids whose seam is rounded over `radius` mm.
fn smooth_union(a: f32, b: f32, radius: f32) -> f32 {
    let overlap = (radius - (a - b).abs()).max(0.0) / radius;
    a.min(b) - overlap * overlap * radius / 4.0
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Median signal of the voxels for which `of` holds.
    fn median(values: &[f32], of: impl Fn(usize) -> bool) -> f32 {
        let mut values: Vec<f32> =
            values.iter().enumerate().filter(|(index, _)| of(*index)).map(|(_, value)| *value).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    }

    #[test]
    fn cartilage_is_a_rim_at_the_joint_with_a_signal_of_its_own() {
        for seed in 0..4 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let knee = Knee::draw(&mut rng);
            let count: usize = SIZE.iter().product();
            let distances: Vec<Distances> = (0..count).map(|index| knee.distances(place(index), 0.0)).collect();
            let values = knee.intensities(&distances, &mut rng);
            let bone = |index: usize| distances[index].femur.min(distances[index].tibia);
            let inside = |index: usize| bone(index) >= 0.0 && knee.cartilage(place(index), &distances[index]) > 0.0;
            let part = (0..count).filter(|index| inside(*index)).count() as f32 / count as f32;
            assert!((0.01..0.15).contains(&part), "seed {seed}: {part}");
            let cartilage = median(&values, |index| inside(index) && (1.0..2.0).contains(&bone(index)));
            let cortex = median(&values, |index| (-1.6..-0.6).contains(&bone(index)));
            let marrow = median(&values, |index| bone(index) < -5.0);
            assert!(cartilage > 1.2 * cortex && marrow > 1.2 * cortex, "{seed}: {cartilage} {cortex} {marrow}");
        }
    }
}
