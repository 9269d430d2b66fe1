//! The sampler of the published release, kept to follow the latents that it stored.
//!
//! It differs from [`ldseg::diffusion::sample`] on purpose: its timesteps are spread evenly over 0..=T-1, between the whole ones
//! too, and the last of them is t = 0, where alpha bar is 1 and the denoiser's answer counts for nothing.

use ldseg::diffusion::{MAX_TIMESTEPS, Prediction, cosine_alpha_bar, ddim_step, linspace, standardise_per_sample};
use ldseg::{Error, ErrorKind, Result, Tensor};

/// The timesteps of the published sampler and their alpha bar, in the order in which they are visited.
///
/// The release builds its cosine schedule for these, whatever schedule it was trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedSteps {
    times: Vec<f64>,
    alpha_bar: Vec<f64>,
}

impl PublishedSteps {
    /// `steps` timesteps from T-1 down to 0, T being `timesteps`.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] unless 2 <= `steps` <= T <= [`MAX_TIMESTEPS`].
    pub fn new(timesteps: usize, steps: usize) -> Result<Self> {
        if !(2..=timesteps.min(MAX_TIMESTEPS)).contains(&steps) || timesteps > MAX_TIMESTEPS {
            return Err(Error::new(
                ErrorKind::Setting,
                format!("the published sampler is to take {steps} of {timesteps} timesteps, expected 2 to all of them"),
            ));
        }
        let mut times: Vec<f64> = linspace(0.0, (timesteps - 1) as f64, steps).collect();
        times.reverse();
        let alpha_bar = times.iter().map(|t| cosine_alpha_bar(*t, timesteps)).collect();
        Ok(Self { times, alpha_bar })
    }

    /// The timesteps, the greatest first.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// `a_t` at each of them.
    pub fn alpha_bar(&self) -> &[f64] {
        &self.alpha_bar
    }

    /// `a_s` after the step at `index`; the last one stays at its own timestep.
    fn next_alpha_bar(&self, index: usize) -> f64 {
        *self.alpha_bar.get(index + 1).unwrap_or(&self.alpha_bar[index])
    }

    /// How far a change of the noise estimate moves the latent after the step at `index`, before it is standardised:
    /// `|sqrt(a_s) sqrt(1 - a_t) / sqrt(a_t) - sqrt(1 - a_s)|`.
    ///
    /// # Panics
    /// Unless `index` is below the number of steps.
    pub fn amplification(&self, index: usize) -> f64 {
        let (a_t, a_s) = (self.alpha_bar[index], self.next_alpha_bar(index));
        let (_, of_output) = Prediction::Reference.z_0_coefficients(a_t);
        (a_s.sqrt() * of_output + (1.0 - a_s).sqrt()).abs()
    }

    /// The latent after the DDIM step at `index` from `z_t` `[N, C, ...]`, standardised per sample, `output` being the
    /// denoiser's at this timestep.
    ///
    /// # Panics
    /// Unless `index` is below the number of steps and the shapes are equal.
    pub fn step(&self, index: usize, z_t: &Tensor, output: &Tensor) -> Tensor {
        let mut z_s = self.unscaled_step(index, z_t, output);
        standardise_per_sample(&mut z_s);
        z_s
    }

    /// As [`Self::step`], not standardised yet.
    ///
    /// # Panics
    /// As [`Self::step`].
    pub fn unscaled_step(&self, index: usize, z_t: &Tensor, output: &Tensor) -> Tensor {
        let a_t = self.alpha_bar[index];
        let z_0 = Prediction::Reference.z_0(z_t, output, a_t);
        ddim_step(&z_0, &Prediction::Reference.eps(z_t, output, a_t), self.next_alpha_bar(index))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    /// The amplifications that the first step is known for: 642 with 2 steps, about 72 with 15.
    #[test]
    fn timesteps_end_at_zero_and_the_first_step_amplifies() {
        let two = PublishedSteps::new(1000, 2).unwrap();
        assert_eq!(two.times(), [999.0, 0.0]);
        assert_eq!(two.alpha_bar()[1], 1.0);
        assert!((two.amplification(0) - 641.66).abs() < 0.01, "{}", two.amplification(0));
        let fifteen = PublishedSteps::new(1000, 15).unwrap();
        assert_eq!(fifteen.times().len(), 15);
        assert!((fifteen.times()[1] - 999.0 * 13.0 / 14.0).abs() < 1e-9);
        assert!((fifteen.amplification(0) - 71.2).abs() < 0.1, "{}", fifteen.amplification(0));
    }

    /// At t = 0 the output changes nothing.
    #[test]
    fn the_last_call_counts_for_nothing() {
        let steps = PublishedSteps::new(1000, 4).unwrap();
        let z = array![[-1.0_f32, 0.5, 1.25]].into_dyn();
        assert_eq!(steps.amplification(3), 0.0);
        assert_eq!(steps.unscaled_step(3, &z, &(&z * 100.0)), z);
    }

    #[test]
    fn steps_out_of_range_are_a_setting_error() {
        for (timesteps, steps) in [(1000, 1), (1000, 1001), (0, 0), (usize::MAX, 2)] {
            assert_eq!(PublishedSteps::new(timesteps, steps).unwrap_err().kind(), ErrorKind::Setting);
        }
    }
}
