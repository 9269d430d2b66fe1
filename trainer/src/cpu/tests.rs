//! The kernels against burn's stock operations and against finite differences.

use burn::tensor::activation::silu;
use burn::tensor::module::{conv2d, conv3d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor, Tolerance};

use super::*;

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::<D>::random(shape, Distribution::Normal(0.0, 1.0), device).require_grad()
}

/// Gradients of sum(y * weights) with respect to each input.
fn assert_same<const D: usize>(ours: &Tensor<D>, stock: &Tensor<D>, inputs: [(Tensor<D>, Tensor<1>, Tensor<1>); 1]) {
    let tolerance = Tolerance::<f32>::relative(1e-3).set_absolute(2e-4);
    ours.to_data().assert_approx_eq(&stock.to_data(), tolerance);
    let device = Device::flex().autodiff();
    let weights = Tensor::<D>::random(ours.dims(), Distribution::Normal(0.0, 1.0), &device);
    let gradients = (ours.clone() * weights.clone()).sum().backward();
    let expected = (stock.clone() * weights).sum().backward();
    let [(x, a, b)] = inputs;
    let close = |a: Option<Tensor<1>>, b: Option<Tensor<1>>| match (a, b) {
        (Some(a), Some(b)) => a.to_data().assert_approx_eq(&b.to_data(), tolerance),
        _ => panic!("an input has no gradient"),
    };
    let flat = |x: Tensor<D>| {
        let n: usize = x.dims().iter().product();
        x.reshape([n])
    };
    close(x.grad(&gradients).map(flat), x.grad(&expected).map(flat));
    close(a.grad(&gradients), a.grad(&expected));
    close(b.grad(&gradients), b.grad(&expected));
}

/// (batch, channels in, channels out, groups, kernel, stride, padding, size)
type Case = (usize, usize, usize, usize, usize, usize, (usize, usize), [usize; 3]);

const CASES: [Case; 9] = [
    (2, 3, 4, 1, 3, 1, (1, 1), [6, 7, 9]),
    (5, 4, 6, 2, 3, 1, (1, 1), [5, 8, 6]),
    (3, 4, 4, 1, 3, 2, (0, 1), [6, 8, 10]),
    (1, 5, 3, 1, 1, 1, (0, 0), [4, 5, 6]),
    (2, 4, 8, 4, 1, 1, (0, 0), [3, 4, 4]),
    (6, 2, 3, 1, 2, 1, (0, 1), [4, 6, 5]),
    // One filter a channel.
    (3, 5, 5, 5, 3, 1, (1, 1), [5, 7, 12]),
    (2, 3, 3, 3, 2, 1, (0, 1), [4, 6, 5]),
    (2, 4, 4, 4, 3, 2, (1, 1), [5, 7, 9]),
];

#[test]
fn convolution_equals_stock_in_2d() {
    let device = Device::flex().autodiff();
    device.seed(1);
    for (n, c_in, c_out, groups, k, s, pad, [_, h, w]) in CASES {
        let (x, b) = (random([n, c_in, h, w], &device), random([c_out], &device));
        let weight = random([c_out, c_in / groups, k, k], &device);
        let shape = ConvShape { stride: vec![s; 2], padding: vec![pad; 2], groups };
        // A graph can be gone through backwards once only.
        let ours = || conv(&x, &weight, &b, &shape).expect("flex has the kernel");
        let options = ConvOptions::new_with_padding([s; 2], [pad; 2], [1; 2], groups);
        let stock = || conv2d(x.clone(), weight.clone(), Some(b.clone()), options.clone());
        let len: usize = weight.dims().iter().product();
        // The weight takes part as a leaf of its own.
        let tolerance = Tolerance::<f32>::relative(1e-3).set_absolute(2e-4);
        let probe = Tensor::<4>::random(ours().dims(), Distribution::Normal(0.0, 1.0), &device);
        let (g, e) = ((ours() * probe.clone()).sum().backward(), (stock() * probe).sum().backward());
        let of_weight = |g| weight.grad(g).expect("a gradient").reshape([len]).to_data();
        of_weight(&g).assert_approx_eq(&of_weight(&e), tolerance);
        assert_same(&ours(), &stock(), [(x.clone(), b.clone(), b.clone())]);
    }
}

#[test]
fn convolution_equals_stock_in_3d() {
    let device = Device::flex().autodiff();
    device.seed(2);
    for (n, c_in, c_out, groups, k, s, pad, [d, h, w]) in CASES.into_iter().filter(|case| case.6.0 == case.6.1) {
        let (x, b) = (random([n, c_in, d, h, w], &device), random([c_out], &device));
        let weight = random([c_out, c_in / groups, k, k, k], &device);
        let shape = ConvShape { stride: vec![s; 3], padding: vec![pad; 3], groups };
        let ours = conv(&x, &weight, &b, &shape).expect("flex has the kernel");
        let options = ConvOptions::new([s; 3], [pad.0; 3], [1; 3], groups);
        let stock = conv3d(x.clone(), weight.clone(), Some(b.clone()), options);
        assert_same(&ours, &stock, [(x, b.clone(), b)]);
    }
}

#[test]
fn group_norm_equals_its_definition() {
    let device = Device::flex().autodiff();
    device.seed(3);
    for (n, channels, groups, [h, w], activate) in
        [(3, 8, 2, [5, 7], true), (2, 6, 6, [4, 4], false), (1, 4, 1, [33, 40], true)]
    {
        let x = random([n, channels, h, w], &device);
        let (gamma, beta) = (random([channels], &device), random([channels], &device));
        let ours = group_norm(&x, &gamma, &beta, groups, 1e-3, activate).expect("flex has the kernel");
        let grouped = x.clone().reshape([n, groups, channels / groups * h * w]);
        let centred = grouped.clone() - grouped.mean_dim(2);
        let variance = (centred.clone() * centred.clone()).mean_dim(2);
        let normalised = (centred / (variance + 1e-3).sqrt()).reshape([n, channels, h, w]);
        let per_channel = [1, channels, 1, 1];
        let z = normalised * gamma.clone().reshape(per_channel) + beta.clone().reshape(per_channel);
        let stock = if activate { silu(z) } else { z };
        assert_same(&ours, &stock, [(x, gamma, beta)]);
    }
}

#[test]
fn segmentation_losses_equal_their_definition() {
    let device = Device::flex().autodiff();
    device.seed(4);
    for [n, classes, h, w] in [[3, 4, 17, 19], [1, 2, 3, 5]] {
        let logits = random([n, classes, h, w], &device) * 3.0;
        let logits = logits.detach().require_grad();
        let label = |i: usize| (i * i + i / 7) % classes;
        let hot =
            |i: usize| f32::from(u8::from(label(i / (classes * h * w) * h * w + i % (h * w)) == i / (h * w) % classes));
        let one_hot = TensorData::new((0..n * classes * h * w).map(hot).collect(), [n, classes, h, w]);
        let one_hot = Tensor::<4>::from_data(one_hot, &device);
        let weights = Tensor::<1>::from_data([0.7, 1.9], &device);
        let ours = segmentation_losses(&logits, &one_hot).expect("flex has the kernel");
        let stock = Tensor::cat(crate::train::loss::segmentation_losses(logits.clone(), one_hot).to_vec(), 0);
        let tolerance = Tolerance::<f32>::relative(1e-5).set_absolute(1e-6);
        ours.to_data().assert_approx_eq(&stock.to_data(), tolerance);
        let gradient = |losses: Tensor<1>| {
            let gradients = (losses * weights.clone()).sum().backward();
            logits.grad(&gradients).expect("the logits are tracked").to_data()
        };
        let (ours, stock) = (gradient(ours), gradient(stock));
        ours.assert_approx_eq(&stock, Tolerance::<f32>::relative(1e-4).set_absolute(2e-7));
    }
}

#[test]
fn convolution_gradient_equals_finite_differences() {
    let g = conv_geometry(
        &[2, 2, 5, 6],
        &[3, 2, 3, 3],
        &ConvShape { stride: vec![2, 1], padding: vec![(0, 1), (1, 1)], groups: 1 },
    );
    let number = |i: usize| ((i * 37 % 101) as f32 / 50.0) - 1.0;
    let x: Vec<f32> = (0..120).map(number).collect();
    let w: Vec<f32> = (0..54).map(|i| number(i + 7)).collect();
    let y_len = 2 * 3 * g.output.iter().product::<usize>();
    let dy: Vec<f32> = (0..y_len).map(|i| number(i + 3)).collect();
    let loss = |x: &[f32], w: &[f32]| -> f64 {
        conv::forward(&g, x, w, None).iter().zip(&dy).map(|(y, dy)| f64::from(y * dy)).sum()
    };
    let gradients = conv::backward(&g, &x, &w, &dy, true);
    let dx = gradients.x.expect("asked for");
    let check = |values: &[f32], gradient: &[f32], loss: &dyn Fn(&[f32]) -> f64| {
        for index in (0..values.len()).step_by(5) {
            let shifted = |by: f32| {
                let mut values = values.to_vec();
                values[index] += by;
                loss(&values)
            };
            let difference = (shifted(0.5) - shifted(-0.5)) as f32;
            assert!((difference - gradient[index]).abs() < 1e-3, "{index}: {difference} and {}", gradient[index]);
        }
    };
    check(&x, &dx, &|x| loss(x, &w));
    check(&w, &gradients.w, &|w| loss(&x, w));
}

#[test]
fn sigmoid_is_accurate() {
    for i in -4000..=4000 {
        let x = i as f32 / 40.0;
        let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
        let error = (f64::from(sigmoid(x)) - exact).abs() / exact.max(1e-37);
        assert!(error < 5e-7 || x < -86.0, "sigmoid({x}): relative error {error}");
    }
}
