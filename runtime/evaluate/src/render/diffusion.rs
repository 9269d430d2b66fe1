//! The latent on its way from noise to a segmentation.

use ndarray::Axis;

use super::panels::{Window, flat, intensities};
use super::{Column, Figure, Panel, View};
use ldseg::Result;
use ldseg::diffusion::timesteps;
use ldseg::image::Image;
use ldseg::segmenter::{SegmentOptions, Segmenter};
use ldseg_io::overlay;

/// The image, the latent, the segmentation that it decodes to, and this over the image: for the starting noise and after
/// each step. The last column is what [`Segmenter::segment`] gives with the same options.
///
/// A latent's channels are tiles with one scale for the whole figure; below are its least and greatest value.
///
/// # Errors
/// Those of [`Segmenter::trace`]; [`ErrorKind::Setting`](ldseg::ErrorKind::Setting) for a view that does not fit the image.
pub fn diffusion(segmenter: &mut Segmenter, image: &Image, options: &SegmentOptions, view: View) -> Result<Figure> {
    let window = Window::new(view, image)?;
    let traced = segmenter.trace(image, options)?;
    let limit = traced.iter().flat_map(|(z, _)| z).fold(f32::MIN_POSITIVE, |limit, v| limit.max(v.abs()));
    let colours: Vec<[u8; 3]> = segmenter.manifest().classes.iter().map(|class| class.colour).collect();
    let shown = window.image(image)?;
    let source = intensities(&shown, &colours)?;
    let mut columns = Vec::with_capacity(traced.len());
    for (caption, (z, labels)) in captions(segmenter, options)?.into_iter().zip(&traced) {
        let labels = window.labels(labels);
        let (low, high) = z.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        let latent = window.latent(&z.index_axis(Axis(0), 0).to_owned(), limit)?;
        columns.push(Column {
            caption,
            panels: vec![
                Panel::plain(source.clone()),
                Panel { picture: latent, caption: format!("{low:.1} to {high:.1}") },
                Panel::plain(flat(&labels, &colours)),
                Panel::plain(overlay(&shown, &labels, &colours)?),
            ],
        });
    }
    let rows = ["image", "latent z", "decoded", "overlay"].map(str::to_owned).to_vec();
    Ok(Figure { rows, columns })
}

/// What the latents are: noise at T - 1, then noisy as at the timestep that the next step starts from, at last clean.
fn captions(segmenter: &Segmenter, options: &SegmentOptions) -> Result<Vec<String>> {
    let visited = timesteps(segmenter.manifest().timesteps - 1, options.steps)?;
    let at = |step: usize| visited.get(step).map_or_else(|| "clean".to_owned(), |t| format!("t = {t}"));
    let mut captions = vec![format!("noise, {}", at(0))];
    captions.extend((1..=visited.len()).map(|step| format!("step {step}, {}", at(step))));
    Ok(captions)
}
