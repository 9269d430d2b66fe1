use super::*;
use crate::diffusion::ScheduleKind;

const PREDICTIONS: [Prediction; 4] = [Prediction::Epsilon, Prediction::V, Prediction::X0, Prediction::Reference];
const SHAPE: [usize; 4] = [2, 1, 4, 4];

fn cosine() -> Schedule {
    Schedule::new(ScheduleKind::Cosine, 1000).unwrap()
}

fn key(sample: u64) -> NoiseKey {
    NoiseKey { seed: 7, sample, frame: 0, window: 0, step: 0 }
}

fn request(schedule: &Schedule, sampler: Sampler, steps: usize) -> SampleRequest<'_> {
    const KEYS: [NoiseKey; 2] = [
        NoiseKey { seed: 7, sample: 0, frame: 0, window: 0, step: 0 },
        NoiseKey { seed: 7, sample: 1, frame: 0, window: 0, step: 0 },
    ];
    SampleRequest {
        schedule,
        prediction: Prediction::V,
        standardisation: LatentStandardisation::None,
        sampler,
        first: schedule.timesteps() - 1,
        steps: if sampler == Sampler::Direct { 1 } else { steps },
        noise_keys: &KEYS,
    }
}

/// Runs without an observer.
fn run(request: &SampleRequest, z_t: &Tensor, mut denoise: impl FnMut(&Tensor, usize) -> Tensor) -> Tensor {
    sample(request, z_t.clone(), &mut |z, t| Ok(denoise(z, t)), &mut |_, _| ()).unwrap()
}

fn difference(x: &Tensor, y: &Tensor) -> f32 {
    (x - y).iter().fold(0.0, |worst: f32, d| worst.max(d.abs()))
}

/// What a perfect denoiser outputs: the target for `z_0` and the noise that `z_t` holds.
fn oracle(request: &SampleRequest, z_0: &Tensor, z_t: &Tensor, t: usize) -> Tensor {
    let a_t = request.schedule.alpha_bar(t);
    let eps = Prediction::X0.eps(z_t, z_0, a_t);
    request.prediction.target(z_0, &eps, a_t)
}

#[test]
fn timesteps_fall_from_the_last_and_never_reach_zero() {
    assert_eq!(timesteps(999, 1).unwrap(), [999]);
    assert_eq!(timesteps(999, 2).unwrap(), [999, 500]);
    assert_eq!(timesteps(999, 4).unwrap(), [999, 749, 500, 250]);
    for steps in 1..=999 {
        let visited = timesteps(999, steps).unwrap();
        assert_eq!((visited.len(), visited[0]), (steps, 999));
        assert!(visited.is_sorted_by(|t, s| t > s) && visited[steps - 1] > 0);
    }
    assert_eq!(timesteps(500, 2).unwrap(), [500, 250], "from a latent that is half noise");
    for (first, steps) in [(999, 0), (999, 1000), (1, 2), (0, 1)] {
        let error = timesteps(first, steps).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Setting);
    }
}

/// The denoiser is called at exactly those timesteps, and every latent is observed, the result last.
#[test]
fn every_step_visits_its_timestep_and_is_observed() {
    let schedule = cosine();
    for sampler in Sampler::ALL {
        let request = request(&schedule, sampler, 5);
        let (mut called, mut observed, mut last) = (vec![], vec![], None);
        let result = sample(
            &request,
            Tensor::ones(&SHAPE[..]),
            &mut |z, t| {
                called.push(t);
                Ok(z * 0.5)
            },
            &mut |step, z| {
                observed.push(step);
                last = Some(z.clone());
            },
        )
        .unwrap();
        assert_eq!(called, timesteps(999, request.steps).unwrap());
        assert_eq!(observed, Vec::from_iter(1..=request.steps));
        assert_eq!(last, Some(result));
    }
}

/// Only the last step's rounding remains, since the oracle answers for the latent it is shown. The worst case is
/// one call at T-1 with a noise prediction: half a unit in the last place of eps, 1.2e-7 below 4, is divided by
/// sqrt(a_999) = 1/642, which makes 8e-5.
#[test]
fn the_true_noise_recovers_the_clean_latent() {
    let z_0 = normal_latent(key(10), &SHAPE);
    let z_t = normal_latent(key(11), &SHAPE);
    for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Quadratic] {
        let schedule = Schedule::new(kind, 1000).unwrap();
        for (sampler, prediction) in Sampler::ALL.into_iter().flat_map(|s| PREDICTIONS.map(|p| (s, p))) {
            for steps in [1, 2, 10] {
                let request = SampleRequest { prediction, ..request(&schedule, sampler, steps) };
                let mut eps = z_t.clone();
                let found = run(&request, &z_t, |z, t| {
                    eps = Prediction::X0.eps(z, &z_0, schedule.alpha_bar(t));
                    oracle(&request, &z_0, z, t)
                });
                // What the published decoder sees after one call is not an estimate of z_0.
                let expected = match (sampler, prediction) {
                    (Sampler::Direct, Prediction::Reference) => &z_t - &eps,
                    _ => z_0.clone(),
                };
                let worst = difference(&found, &expected);
                assert!(worst < 1e-4, "{kind:?} {sampler} {prediction:?} {steps}: {worst}");
            }
        }
    }
}

/// For data N(0, s^2) the posterior mean and the probability-flow path are known in closed form, so both solvers
/// can be held against the exact end of the path and against each other.
#[test]
fn dpm_and_ddim_agree_in_the_limit_of_many_steps() {
    const VARIANCE: f64 = 0.25;
    let schedule = Schedule::new(ScheduleKind::Cosine, 4000).unwrap();
    let marginal = |t: usize| {
        let a_t = schedule.alpha_bar(t);
        a_t * VARIANCE + 1.0 - a_t
    };
    let posterior_mean = |z: &Tensor, t: usize| {
        let scale = schedule.alpha_bar(t).sqrt() * VARIANCE / marginal(t);
        z.mapv(|x| (scale * f64::from(x)) as f32)
    };
    let z_t = normal_latent(key(0), &SHAPE);
    let exact = z_t.mapv(|x| x * (VARIANCE / marginal(3999)).sqrt() as f32);
    let solve = |sampler, steps| {
        let prediction = Prediction::X0;
        let request = SampleRequest { prediction, ..request(&schedule, sampler, steps) };
        run(&request, &z_t, posterior_mean)
    };
    let mut before = f32::INFINITY;
    for steps in [10, 40, 160, 640] {
        let (ddim, dpm) = (solve(Sampler::Ddim, steps), solve(Sampler::DpmPlusPlus, steps));
        let apart = difference(&ddim, &dpm);
        assert!(apart > 0.0 && apart < before / 2.0, "{steps} steps: {apart} after {before}");
        assert!(difference(&dpm, &exact) < difference(&ddim, &exact), "{steps} steps");
        before = apart;
    }
    assert!(before < 5e-3, "{before}");
    assert!(difference(&solve(Sampler::DpmPlusPlus, 640), &exact) < 1e-3);
}

/// The sigma of DDPM is right if the samples of N(0, s^2) come out with that spread.
#[test]
fn ddpm_draws_from_the_data_distribution() {
    const VARIANCE: f64 = 0.25;
    let schedule = cosine();
    let shape = [2, 1, 32, 32];
    let request = SampleRequest { prediction: Prediction::X0, ..request(&schedule, Sampler::Ddpm, 200) };
    let z = run(&request, &normal_latent(key(5), &shape), |z, t| {
        let a_t = schedule.alpha_bar(t);
        let scale = a_t.sqrt() * VARIANCE / (a_t * VARIANCE + 1.0 - a_t);
        z.mapv(|x| (scale * f64::from(x)) as f32)
    });
    // Five standard errors, 5 * 0.5 / sqrt(2 * 2048), and 0.011 for the steps being finite.
    assert!((z.std(0.0) - 0.5).abs() < 0.05, "{}", z.std(0.0));
}

/// The denoiser mixes the voxels of a sample, as a network does, but not the samples.
#[test]
fn batching_changes_nothing() {
    let schedule = cosine();
    let denoise = |z: &Tensor, t: usize| {
        let mut output = z.mapv(|x| (1.3 * x + t as f32 / 250.0).sin());
        for mut sample in output.axis_iter_mut(Axis(0)) {
            let sum = sample.sum();
            sample.mapv_inplace(|x| x - 0.1 * sum);
        }
        output
    };
    let z_t = normal_latent(key(3), &SHAPE);
    for (sampler, standardisation) in Sampler::ALL.into_iter().flat_map(|sampler| {
        [LatentStandardisation::None, LatentStandardisation::Clean, LatentStandardisation::EachStep]
            .map(|standardisation| (sampler, standardisation))
    }) {
        let both = SampleRequest { standardisation, ..request(&schedule, sampler, 6) };
        let together = run(&both, &z_t, denoise);
        for index in 0..2 {
            let alone = SampleRequest { noise_keys: &both.noise_keys[index..=index], ..both };
            let one = |z: &Tensor| z.slice_axis(Axis(0), (index..=index).into()).to_owned();
            let found = run(&alone, &one(&z_t), denoise);
            assert!(found.iter().all(|x| x.is_finite()));
            assert_eq!(found, one(&together), "{sampler} {standardisation:?} {index}");
        }
    }
}

/// Under `Clean`, scale and offset of the clean estimate are lost, so a denoiser wrong by those is put right.
#[test]
fn clean_standardisation_undoes_scale_and_offset() {
    let schedule = cosine();
    let mut z_0 = normal_latent(key(20), &SHAPE);
    standardise_per_sample(&mut z_0);
    for sampler in Sampler::ALL {
        let request = SampleRequest {
            prediction: Prediction::X0,
            standardisation: LatentStandardisation::Clean,
            ..request(&schedule, sampler, 4)
        };
        let found = run(&request, &normal_latent(key(21), &SHAPE), |_, _| &z_0 * 3.0 + 1.0);
        // The 1e-5 beside the standard deviation, twice.
        assert!(difference(&found, &z_0) < 1e-4, "{sampler}");
    }
}

#[test]
fn each_step_standardisation_covers_start_and_every_step() {
    let schedule = cosine();
    let standard =
        |z: &Tensor| z.axis_iter(Axis(0)).all(|z| z.mean().unwrap().abs() < 1e-5 && (z.std(0.0) - 1.0).abs() < 1e-4);
    for sampler in [Sampler::Ddim, Sampler::Ddpm, Sampler::DpmPlusPlus] {
        let request =
            SampleRequest { standardisation: LatentStandardisation::EachStep, ..request(&schedule, sampler, 4) };
        let start = normal_latent(key(30), &SHAPE) * 2.0 + 1.0;
        let mut denoise = |z: &Tensor, _: usize| {
            assert!(standard(z), "{sampler}");
            Ok(z.mapv(f32::sin))
        };
        let result = sample(&request, start, &mut denoise, &mut |_, z| assert!(standard(z)));
        assert!(standard(&result.unwrap()));
    }
}

#[test]
fn wrong_requests_are_named_errors() {
    let schedule = cosine();
    let attempt = |request: SampleRequest, shape: &[usize], output: &[usize]| {
        let mut denoise = |_: &Tensor, _: usize| Ok(Tensor::zeros(output));
        sample(&request, Tensor::zeros(shape), &mut denoise, &mut |_, _| ()).unwrap_err()
    };
    let ddim = request(&schedule, Sampler::Ddim, 2);
    let ddpm = request(&schedule, Sampler::Ddpm, 2);
    let direct = SampleRequest { steps: 2, ..request(&schedule, Sampler::Direct, 1) };
    let cases = [
        (SampleRequest { steps: 0, ..ddim }, &SHAPE[..], ErrorKind::Setting, "0 steps"),
        (SampleRequest { steps: 1000, ..ddim }, &SHAPE, ErrorKind::Setting, "1 to 999"),
        (direct, &SHAPE, ErrorKind::Setting, "takes 1 step, not 2"),
        (ddpm, &[3, 1, 4, 4], ErrorKind::Setting, "2 noise keys"),
        (ddim, &[4], ErrorKind::ShapeMismatch, "[4]"),
        (ddim, &[0, 1, 4, 4], ErrorKind::ShapeMismatch, "[0, 1, 4, 4]"),
        (ddim, &[2, 1, 8, 8], ErrorKind::ShapeMismatch, "[2, 1, 8, 8]"),
    ];
    for (request, shape, kind, words) in cases {
        let error = attempt(request, shape, &SHAPE);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn names_are_the_same_everywhere() {
    for sampler in Sampler::ALL {
        assert_eq!(sampler.to_string().parse::<Sampler>().unwrap(), sampler);
        assert_eq!(serde_json::to_value(sampler).unwrap(), sampler.name());
    }
    assert_eq!("DDIM".parse::<Sampler>().unwrap_err().kind(), ErrorKind::Setting);
}
