//! What an evaluation, a study of robustness and a benchmark found.

use std::collections::BTreeSet;

use super::found::{Benchmark, Bin, Case, Evaluation, Robustness, Summary};
use super::html::Html;
use super::plot::{Plot, Series};
use ldseg::metrics::nanmean;

/// Names of measures in JSON, and for people.
const MEASURES: [(&str, &str); 18] = [
    ("dice", "Dice"),
    ("iou", "IoU"),
    ("hausdorff_mm", "Hausdorff distance, mm"),
    ("hd95_mm", "HD95, mm"),
    ("assd_mm", "ASSD, mm"),
    ("nsd", "Surface Dice"),
    ("volume_difference_ml", "Volume difference, ml"),
    ("area_difference_mm2", "Area difference, mm²"),
    ("hausdorff_surfel_mm", "Hausdorff distance between surfels, mm"),
    ("hd95_surfel_mm", "HD95 between surfels, mm"),
    ("assd_surfel_mm", "ASSD between surfels, mm"),
    ("object_f1", "Object F1"),
    ("object_dice", "Object Dice"),
    ("object_hausdorff_mm", "Object Hausdorff distance, mm"),
    ("generalised_energy_distance", "Generalised energy distance"),
    ("expected_calibration_error", "Expected calibration error"),
    ("expected_calibration_error_foreground", "Expected calibration error near the foreground"),
    ("uncertainty_error_correlation", "Rank correlation of uncertainty and error"),
];

fn named(measure: &str) -> String {
    MEASURES.iter().find(|(name, _)| *name == measure).map_or(measure, |(_, name)| name).to_owned()
}

/// The averages of every measure and class.
pub(super) fn metrics(found: &Evaluation, html: &mut Html) {
    let patients: BTreeSet<&str> = found.cases.iter().map(|case| case.patient.as_str()).collect();
    let caption = format!(
        "Mean over {} images of {} patients, with the bootstrap 95 % interval in brackets.",
        found.cases.len(),
        patients.len()
    );
    let mut titles = vec!["Measure".to_owned()];
    let class = |index: &u8| found.class_names.get(index).cloned().unwrap_or_else(|| format!("class {index}"));
    titles.extend(found.summary.keys().map(class));
    // In the order of the list above; the JSON has them in that order too, but maps sort by name.
    let of_classes = || found.summary.values();
    let unknown = of_classes().flat_map(|measures| measures.keys().map(String::as_str)).collect::<BTreeSet<_>>();
    let known = MEASURES.iter().map(|(name, _)| *name);
    let unlisted = unknown.iter().copied().filter(|name| MEASURES.iter().all(|(known, _)| known != name));
    let order: Vec<&str> = known.chain(unlisted).collect();
    let row = |measure: &&str| {
        let summaries: Vec<_> = of_classes().map(|measures| measures.get(*measure)).collect();
        summaries.iter().any(|summary| summary.is_some_and(|summary| summary.n > 0)).then(|| {
            let cells =
                summaries.into_iter().map(|summary| summary.map_or_else(String::new, |s| cell(s, found.cases.len())));
            std::iter::once(named(measure)).chain(cells).collect()
        })
    };
    html.table(&caption, &titles, &order.iter().filter_map(row).collect::<Vec<_>>());
    if found.cases.iter().any(|case| case.spacing_from == "unknown") {
        html.element("p", &[("class", &"note")], |html| {
            html.text("Of some files the spacing is not known: they have no measure in mm or ml.");
        });
    }
    if !found.failed.is_empty() {
        html.line("p", &format!("{} images could not be scored:", found.failed.len()));
        html.element("ul", &[], |html| {
            found.failed.iter().for_each(|failed| html.line("li", &format!("{}: {}", failed.name, failed.error)));
        });
    }
}

/// Mean and interval, and how many images the mean is over where not all have a value.
fn cell(summary: &Summary, cases: usize) -> String {
    let Summary { mean, ci95: [low, high], n } = summary;
    // Three digits of a share, fewer decimals of what is larger.
    let digits = match mean.unwrap_or(0.0).abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 2.0 => 2,
        _ => 3,
    };
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"));
    let some = if *n < cases { format!(", n = {n}") } else { String::new() };
    format!("{} ({} to {}){some}", number(*mean), number(*low), number(*high))
}

/// Calibration and what the samples of an image are worth.
pub(super) fn calibration(found: &Evaluation, html: &mut Html) {
    let Some(sampling) = &found.sampling else {
        return html.missing(
            "There is no calibration: `ldseg segment --samples N --keep-samples` writes what `ldseg evaluate` needs for it.",
        );
    };
    let rows: Vec<_> = MEASURES
        .iter()
        .filter_map(|(name, title)| {
            let summary = sampling.summary.get(*name)?;
            Some(vec![(*title).to_owned(), cell(summary, found.cases.len())])
        })
        .collect();
    html.table("Mean over the images, with the bootstrap 95 % interval.", &["Measure".into(), "Mean".into()], &rows);
    let series = |name: &str, bins: &[Bin]| Series {
        name: name.into(),
        points: bins.iter().filter_map(|bin| Some([bin.confidence?, bin.accuracy?])).collect(),
        band: Vec::new(),
    };
    let all: u64 = sampling.reliability.iter().map(|bin| bin.voxels).sum();
    html.element("div", &[("class", &"plots")], |html| {
        Plot {
            title: "Reliability diagram".into(),
            description: format!("Accuracy against confidence in bins, over {all} voxels"),
            x: "confidence (largest probability)",
            y: "accuracy",
            range: Some([0.0, 1.0]),
            diagonal: true,
            series: vec![
                series("all voxels", &sampling.reliability),
                series("near the foreground", &sampling.reliability_foreground),
            ],
            ..Plot::default()
        }
        .draw(html);
    });
    html.element("p", &[("class", &"note")], |html| {
        html.text(
            "On the dotted line a voxel is right as often as its probability says; below it the model is too sure.",
        );
    });
}

/// One plot a corruption: the mean Dice of each bundle, or of the only bundle each class.
pub(super) fn robustness(found: &Robustness, html: &mut Html) {
    html.line("p", &format!("Mean Dice over {} images with its 95 % interval, against the strength.", found.images));
    let lowest = found.curves.iter().filter_map(|point| point.dice.ci95[0].or(point.dice.mean));
    let lowest = (lowest.fold(1.0, f64::min) * 10.0).floor() / 10.0;
    let mut corruptions: Vec<&str> = Vec::new();
    for point in found.curves.iter().filter(|point| point.corruption != "none") {
        if !corruptions.contains(&point.corruption.as_str()) {
            corruptions.push(&point.corruption);
        }
    }
    html.element("div", &[("class", &"plots")], |html| {
        for corruption in corruptions {
            let series = lines(found, corruption);
            let ends: Vec<_> =
                series.iter().filter_map(|line| Some(format!("{} {:.3}", line.name, line.points.last()?[1]))).collect();
            Plot {
                title: corruption.replace('_', "-"),
                description: format!("At the greatest strength: {}", ends.join(", ")),
                x: "strength",
                y: "Dice",
                range: Some([lowest.min(0.9), 1.0]),
                series,
                ..Plot::default()
            }
            .draw(html);
        }
    });
}

fn lines(found: &Robustness, corruption: &str) -> Vec<Series> {
    let several = found.bundles.len() > 1;
    let mut lines: Vec<Series> = Vec::new();
    for point in found.curves.iter().filter(|point| point.corruption == corruption) {
        if several && point.class != "mean" {
            continue;
        }
        let name = if several { &point.bundle } else { &point.class };
        let index = lines.iter().position(|line| line.name == *name).unwrap_or_else(|| {
            lines.push(Series { name: name.clone(), ..Series::default() });
            lines.len() - 1
        });
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        lines[index].points.push([point.strength, number(point.dice.mean)]);
        lines[index].band.push([point.strength, number(point.dice.ci95[0]), number(point.dice.ci95[1])]);
    }
    lines
}

/// Times and memory.
pub(super) fn timings(found: &Benchmark, html: &mut Html) {
    let caption = format!(
        "{} with {} on {}. Threads: {}, steps: {}, runs: {}.",
        found.bundle, found.engine, found.device, found.threads, found.steps, found.runs
    );
    let ms = |seconds: f64| format!("{:.1}", 1e3 * seconds);
    let mut rows = vec![vec!["loading".to_owned(), ms(found.load_seconds), String::new(), String::new()]];
    rows.extend(found.stages.iter().map(|stage| {
        let times = [stage.median_seconds, stage.min_seconds, stage.max_seconds].map(ms);
        std::iter::once(stage.name.replace('_', " ")).chain(times).collect()
    }));
    html.table(&caption, &["Stage", "Median, ms", "Least, ms", "Greatest, ms"].map(str::to_owned), &rows);
    if let Some(bytes) = found.peak_memory_bytes {
        html.line("p", &format!("The process held {:.0} MiB at most.", bytes as f64 / f64::from(1 << 20)));
    }
}

/// The cases with the greatest, the middle and the least mean Dice over the classes, each with what it is; fewer where
/// there are fewer cases.
pub(super) fn remarkable(found: &Evaluation) -> Vec<(&'static str, &Case, f64)> {
    let mean = |case: &Case| {
        let dice = case.classes.values().map(|values| values.get("dice").copied().flatten().unwrap_or(f64::NAN));
        nanmean(&dice.collect::<Vec<_>>())
    };
    let mut ranked: Vec<_> =
        found.cases.iter().map(|case| (case, mean(case))).filter(|(_, dice)| !dice.is_nan()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let places = match ranked.len() {
        0 => vec![],
        1 => vec![("Only", 0)],
        2 => vec![("Best", 0), ("Worst", 1)],
        n => vec![("Best", 0), ("Median", n / 2), ("Worst", n - 1)],
    };
    places.into_iter().map(|(what, place)| (what, ranked[place].0, ranked[place].1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(dice: &[Option<f64>]) -> Evaluation {
        let case = |(index, dice): (usize, &Option<f64>)| {
            serde_json::json!({"name": index.to_string(), "patient": "p", "spacing_from": "labels",
                "classes": {"1": {"dice": dice}, "2": {"dice": null}}})
        };
        let cases: Vec<_> = dice.iter().enumerate().map(case).collect();
        let summary = serde_json::json!({"1": {
            "nsd": {"mean": 0.5, "ci95": [null, null], "n": 1},
            "dice": {"mean": 0.75, "ci95": [0.5, 1.0], "n": dice.len()}}});
        serde_json::from_value(serde_json::json!({"cases": cases, "summary": summary, "failed": [
            {"name": "<x>", "error": "torn"}]}))
        .unwrap()
    }

    #[test]
    fn best_median_and_worst_are_found() {
        let places = |dice: &[Option<f64>]| -> Vec<_> {
            let found = evaluation(dice);
            remarkable(&found).into_iter().map(|(what, case, _)| (what, case.name.clone())).collect()
        };
        let of = |what: &'static str, name: &str| (what, name.to_owned());
        assert_eq!(
            places(&[Some(0.5), Some(0.9), None, Some(0.2)]),
            [of("Best", "1"), of("Median", "0"), of("Worst", "3")]
        );
        assert_eq!(places(&[Some(0.5), Some(0.9)]), [of("Best", "1"), of("Worst", "0")]);
        assert!(places(&[None]).is_empty() && places(&[Some(0.1)]).len() == 1);
    }

    #[test]
    fn tables_have_the_numbers_in_order() {
        let mut html = Html::default();
        metrics(&evaluation(&[Some(0.5), Some(1.0)]), &mut html);
        calibration(&evaluation(&[Some(1.0)]), &mut html);
        let html = html.into_string();
        let (dice, nsd) = (html.find("<td>0.750 (0.500 to 1.000)</td>"), html.find("<td>0.500 (– to –), n = 1</td>"));
        assert!(dice.is_some() && dice < nsd, "{html}");
        assert!(html.contains("&lt;x&gt;: torn") && html.contains("There is no calibration"));
    }
}
