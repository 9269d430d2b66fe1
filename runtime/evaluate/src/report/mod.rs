//! A report of a bundle as one HTML file: how it was trained, what it is worth, and how fast it runs. Nothing is loaded
//! from elsewhere and no script runs; it can be read on a small screen, in the dark and on paper.

mod evaluation;
mod examples;
mod found;
mod html;
mod plot;
mod run;

use std::path::{Path, PathBuf};

pub use examples::Images;

use found::{Benchmark, Evaluation, Robustness, read};
use html::Html;
use ldseg::Result;
use ldseg::bundle::{Bundle, Manifest};
use ldseg::engine::EngineOptions;
use ldseg::segmenter::Segmenter;
use run::Run;

/// What a report is made from; what is `None` is said to be missing.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Run folder of `ldseg-train fit`.
    pub run: Option<PathBuf>,
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Images of the evaluation, for pictures.
    pub images: Option<Images>,
    /// JSON that `ldseg evaluate` wrote.
    pub evaluation: Option<PathBuf>,
    /// JSON that `ldseg robustness` wrote.
    pub robustness: Option<PathBuf>,
    /// JSON that `ldseg bench --json` printed.
    pub benchmark: Option<PathBuf>,
}

/// The sections with their titles, in order.
const SECTIONS: [(&str, &str); 8] = [
    ("model", "Model"),
    ("training", "Training"),
    ("metrics", "Segmentation"),
    ("examples", "Best, median and worst"),
    ("robustness", "Robustness"),
    ("calibration", "Calibration"),
    ("timings", "Time and memory"),
    ("recipe", "Recipe"),
];

/// The report as HTML. The networks are loaded only where there are images to segment.
///
/// # Errors
/// Those of reading what is there, of loading the bundle and of segmenting.
pub fn report(sources: &Sources, engine: &EngineOptions) -> Result<String> {
    let bundle = Bundle::load(&sources.bundle)?;
    let run = sources.run.as_deref().map(Run::read).transpose()?;
    let evaluation: Option<Evaluation> = json(&sources.evaluation, "`ldseg evaluate`")?;
    let robustness: Option<Robustness> = json(&sources.robustness, "`ldseg robustness`")?;
    let benchmark: Option<Benchmark> = json(&sources.benchmark, "`ldseg bench --json`")?;
    let mut examples = Html::default();
    match (&evaluation, &sources.images) {
        (Some(found), Some(images)) => {
            let mut segmenter = Segmenter::from_bundle(&bundle, engine)?;
            examples::examples(found, images, &mut segmenter, &mut examples)?;
        }
        _ => examples.missing("There are no pictures: `--evaluation`, `--images` and `--labels` give them."),
    }
    let mut examples = Some(examples);
    let body = |id: &str, html: &mut Html| match (id, &evaluation, &run) {
        ("model", ..) => model(bundle.manifest(), html),
        ("training", _, Some(run)) => run.curves(html),
        ("recipe", _, Some(run)) => run.recipe(html),
        ("training" | "recipe", ..) => html.missing("The run folder is missing: `ldseg report RUN` shows it."),
        ("metrics", Some(found), _) => evaluation::metrics(found, html),
        ("calibration", Some(found), _) => evaluation::calibration(found, html),
        ("metrics" | "calibration", ..) => {
            html.missing("There is no evaluation: `--evaluation` takes that of `ldseg evaluate`.")
        }
        ("examples", ..) => html.append(examples.take().unwrap_or_default()),
        ("robustness", ..) => match &robustness {
            Some(found) => evaluation::robustness(found, html),
            None => html.missing("There is no study of robustness: `--robustness` takes that of `ldseg robustness`."),
        },
        _ => match &benchmark {
            Some(found) => evaluation::timings(found, html),
            None => html.missing("There are no times: `--benchmark` takes those of `ldseg bench --json`."),
        },
    };
    Ok(page(&bundle.manifest().name, body))
}

fn json<T: serde::de::DeserializeOwned>(path: &Option<PathBuf>, from: &str) -> Result<Option<T>> {
    path.as_deref().map(|path: &Path| read(path, from)).transpose()
}

/// The document around its sections.
fn page(name: &str, mut body: impl FnMut(&str, &mut Html)) -> String {
    let mut html = Html::default();
    html.fixed("<!DOCTYPE html>\n");
    html.element("html", &[("lang", &"en")], |html| {
        html.element("head", &[], |html| {
            html.void("meta", &[("charset", &"utf-8")]);
            html.void("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
            html.line("title", &format!("{name}: report"));
            html.element("style", &[], |html| html.fixed(include_str!("style.css")));
        });
        html.element("body", &[], |html| {
            html.element("header", &[], |html| {
                html.line("h1", name);
                html.element("p", &[("class", &"note")], |html| {
                    html.text("Segmentation by latent diffusion. Not a medical device: for research, with a person who checks the result.");
                });
            });
            html.element("nav", &[("aria-label", &"Sections")], |html| {
                html.element("ul", &[], |html| SECTIONS.iter().for_each(|section| link(*section, html)));
            });
            html.element("main", &[], |html| {
                for (id, title) in SECTIONS {
                    html.element("section", &[("id", &id)], |html| {
                        html.line("h2", title);
                        body(id, html);
                    });
                }
            });
        });
    });
    html.into_string()
}

fn link((id, title): (&str, &str), html: &mut Html) {
    html.element("li", &[], |html| {
        html.element("a", &[("href", &format!("#{id}"))], |html| html.text(title));
    });
}

/// What the manifest says.
fn model(manifest: &Manifest, html: &mut Html) {
    let sizes = |sizes: &[usize]| sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
    let provenance = &manifest.provenance;
    let bytes: u64 = manifest.files.values().map(|file| file.size).sum();
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let rows = [
        ("Input", format!("{}, channels: {}", sizes(&manifest.input_size), manifest.channels)),
        ("Latent", sizes(&manifest.latent_shape)),
        (
            "Diffusion",
            format!(
                "{} timesteps, schedule {}, prediction {}",
                manifest.timesteps,
                word(&manifest.schedule),
                word(&manifest.prediction)
            ),
        ),
        ("Sampler", format!("{}, steps: {}", manifest.default_sampler, manifest.default_steps)),
        ("Trained from", format!("recipe {}, seed {}", provenance.recipe, provenance.seed)),
        ("Exported", format!("{} by version {}", provenance.date, provenance.code_version)),
        ("Size", format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(title, text)| vec![title.to_owned(), text]).collect();
    html.table("The bundle's manifest.", &["Property".into(), "Value".into()], &rows);
    html.line("p", "Classes:");
    html.element("ul", &[("class", &"classes")], |html| {
        for (index, class) in manifest.classes.iter().enumerate() {
            let [r, g, b] = class.colour;
            let colour = format!("background:rgb({r},{g},{b})");
            html.element("li", &[], |html| {
                html.element("span", &[("class", &"swatch"), ("style", &colour)], |_| {});
                html.text(&format!("{index} {}", class.name));
            });
        }
    });
}
