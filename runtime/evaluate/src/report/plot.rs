//! Line plots as SVG inside the document.

use super::html::Html;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 280.0;
/// Left, top, right, bottom of the area that is drawn into.
const AREA: [f64; 4] = [54.0, 12.0, 460.0, 236.0];
/// Colours in the style sheet; lines of one colour differ in their dashes, which also tells them apart in print.
const COLOURS: usize = 6;
const DASHES: [&str; 4] = ["none", "7 3", "2 3", "9 3 2 3"];

/// A line of a plot.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    pub(super) name: String,
    /// (x, y) in the order of x.
    pub(super) points: Vec<[f64; 2]>,
    /// (x, low, high) of an interval, or nothing.
    pub(super) band: Vec<[f64; 3]>,
}

/// A plot with its legend.
#[derive(Debug, Clone, Default)]
pub(super) struct Plot {
    pub(super) title: String,
    /// What there is to see, for those who do not see it.
    pub(super) description: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    /// Ends of the y axis; those of the values where there is `None`.
    pub(super) range: Option<[f64; 2]>,
    /// Powers of ten along y; all values are positive then.
    pub(super) logarithmic: bool,
    /// A line of equal x and y.
    pub(super) diagonal: bool,
    pub(super) series: Vec<Series>,
}

impl Plot {
    /// A `figure` with the title, the plot and its legend. Points that are not finite are left out.
    pub(super) fn draw(&self, html: &mut Html) {
        html.element("figure", &[], |html| {
            html.line("figcaption", &self.title);
            let view = format!("0 0 {WIDTH} {HEIGHT}");
            let label = format!("{}. {}", self.title, self.description);
            html.element("svg", &[("viewBox", &view), ("role", &"img"), ("aria-label", &label)], |html| {
                let axes = Axes::of(self);
                axes.draw(self, html);
                self.series.iter().enumerate().for_each(|(index, series)| axes.series(index, series, html));
            });
            if self.series.len() > 1 {
                html.element("ul", &[("class", &"legend")], |html| self.legend(html));
            }
        });
    }

    fn legend(&self, html: &mut Html) {
        for (index, series) in self.series.iter().enumerate() {
            html.element("li", &[], |html| {
                html.element("svg", &[("viewBox", &"0 0 32 10"), ("aria-hidden", &"true")], |html| {
                    let (class, dashes) = (class(index, "series"), DASHES[index % DASHES.len()]);
                    html.void("path", &[("d", &"M0 5H32"), ("class", &class), ("stroke-dasharray", &dashes)]);
                });
                html.text(&series.name);
            });
        }
    }
}

fn class(index: usize, kind: &str) -> String {
    format!("s{} {kind}", index % COLOURS)
}

/// From values to places.
struct Axes {
    x: [f64; 2],
    y: [f64; 2],
    logarithmic: bool,
}

impl Axes {
    fn of(plot: &Plot) -> Self {
        let points = || plot.series.iter().flat_map(|series| &series.points);
        let y = |value: f64| if plot.logarithmic { value.log10() } else { value };
        let highs = plot.series.iter().flat_map(|series| &series.band).flat_map(|[_, low, high]| [*low, *high]);
        let values = points().map(|point| point[1]).chain(highs);
        let y = plot.range.unwrap_or_else(|| rounded(ends(values.map(y)), plot.logarithmic));
        // Equal values lie on a diagonal where both axes have the same ends.
        let x = if plot.diagonal { y } else { ends(points().map(|point| point[0])) };
        Self { x, y, logarithmic: plot.logarithmic }
    }

    fn place(&self, x: f64, y: f64) -> [f64; 2] {
        let [left, top, right, bottom] = AREA;
        let y = if self.logarithmic { y.log10() } else { y };
        let part = |value: f64, ends: [f64; 2]| ((value - ends[0]) / (ends[1] - ends[0])).clamp(0.0, 1.0);
        let (across, up) = (part(x, self.x), part(y, self.y));
        [left + across * (right - left), bottom - up * (bottom - top)].map(|at| (at * 100.0).round() / 100.0)
    }

    fn draw(&self, plot: &Plot, html: &mut Html) {
        let [left, top, right, bottom] = AREA;
        let values = if self.logarithmic { powers(self.y) } else { ticks(self.y) };
        for value in values {
            let y = self.place(self.x[0], value)[1];
            html.void("path", &[("class", &"grid"), ("d", &format!("M{left} {y}H{right}"))]);
            let place: [(&str, f64); 2] = [("x", left - 6.0), ("y", y + 4.0)];
            label(html, &short(value), place, "end");
        }
        for tick in ticks(self.x) {
            let x = self.place(tick, 1.0)[0];
            html.void("path", &[("class", &"axis"), ("d", &format!("M{x} {bottom}v4"))]);
            label(html, &short(tick), [("x", x), ("y", bottom + 18.0)], "middle");
        }
        html.void("path", &[("class", &"axis"), ("d", &format!("M{left} {top}V{bottom}H{right}"))]);
        label(html, plot.x, [("x", (left + right) / 2.0), ("y", HEIGHT - 8.0)], "middle");
        let middle = (top + bottom) / 2.0;
        let turned = format!("rotate(-90 12 {middle})");
        let attributes: super::html::Attributes =
            &[("x", &12.0), ("y", &middle), ("text-anchor", &"middle"), ("transform", &turned)];
        html.element("text", attributes, |html| html.text(plot.y));
        if plot.diagonal {
            let ([x0, y0], [x1, y1]) = (self.place(self.y[0], self.y[0]), self.place(self.y[1], self.y[1]));
            html.void("path", &[("class", &"ideal"), ("d", &format!("M{x0} {y0}L{x1} {y1}"))]);
        }
    }

    fn series(&self, index: usize, series: &Series, html: &mut Html) {
        let band: Vec<_> = series.band.iter().filter(|band| band.iter().all(|v| v.is_finite())).collect();
        if !band.is_empty() {
            let upper = band.iter().map(|[x, _, high]| self.place(*x, *high));
            let lower = band.iter().rev().map(|[x, low, _]| self.place(*x, *low));
            let outline = format!("{}Z", path(upper.chain(lower)));
            html.void("path", &[("class", &class(index, "band")), ("d", &outline)]);
        }
        let points: Vec<_> = series.points.iter().filter(|point| point.iter().all(|v| v.is_finite())).collect();
        let line = path(points.iter().map(|[x, y]| self.place(*x, *y)));
        let dashes = DASHES[index % DASHES.len()];
        html.void("path", &[("class", &class(index, "series")), ("d", &line), ("stroke-dasharray", &dashes)]);
        // Few points are measurements that one wants to see, many are a curve.
        for [x, y] in points.iter().filter(|_| points.len() <= 20) {
            let [x, y] = self.place(*x, *y);
            html.void("circle", &[("class", &class(index, "mark")), ("cx", &x), ("cy", &y), ("r", &2.6)]);
        }
    }
}

fn label(html: &mut Html, text: &str, [x, y]: [(&'static str, f64); 2], anchor: &str) {
    html.element("text", &[(x.0, &x.1), (y.0, &y.1), ("text-anchor", &anchor)], |html| html.text(text));
}

fn path(points: impl Iterator<Item = [f64; 2]>) -> String {
    points.enumerate().map(|(index, [x, y])| format!("{}{x} {y}", if index == 0 { "M" } else { "L" })).collect()
}

/// The least and the greatest finite value, never the same.
fn ends(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let finite = values.filter(|value| value.is_finite());
    let [low, high] = finite.fold([f64::MAX, f64::MIN], |[low, high], v| [low.min(v), high.max(v)]);
    if low > high {
        [0.0, 1.0]
    } else if low == high {
        [low - 0.5, high + 0.5]
    } else {
        [low, high]
    }
}

/// Ends moved outwards to the next round number; powers of ten stay as they are.
fn rounded([low, high]: [f64; 2], logarithmic: bool) -> [f64; 2] {
    let step = step([low, high]);
    if logarithmic { [low, high] } else { [(low / step).floor() * step, (high / step).ceil() * step] }
}

/// The distance of three to seven round numbers between two ends.
fn step([low, high]: [f64; 2]) -> f64 {
    let rough = (high - low) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power).find(|step| *step >= rough * 0.999).unwrap_or(rough)
}

/// Round numbers between two ends.
fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let step = step([low, high]);
    let (first, last) = ((low / step - 1e-6).ceil() as i64, (high / step + 1e-6).floor() as i64);
    (first..=last).map(|index| index as f64 * step).collect()
}

/// 1, 2 and 5 times powers of ten between two ends, which are logarithms.
fn powers([low, high]: [f64; 2]) -> Vec<f64> {
    let all = (low.floor() as i32..=high.ceil() as i32).flat_map(|p| [1.0, 2.0, 5.0].map(|part| part * 10_f64.powi(p)));
    all.filter(|value| (low - 1e-9..=high + 1e-9).contains(&value.log10())).collect()
}

/// A number with four digits at most.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let size = value.abs();
    if !(1e-3..1e5).contains(&size) {
        let power = size.log10().floor();
        let digits = (value / 10_f64.powf(power) * 100.0).round() / 100.0;
        return format!("{digits}e{power}");
    }
    let rounded = (value * 1e4).round() / 1e4;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_ends() {
        assert_eq!(ticks([0.0, 1.0]).len(), 6);
        assert_eq!(ticks([1.0, 50.0]), [10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(powers([-1.0, 0.31]), [0.1, 0.2, 0.5, 1.0, 2.0]);
        let ends = rounded([0.0, 9.99e-4], false);
        assert!(ends[0] == 0.0 && (ends[1] - 1e-3).abs() < 1e-9);
        for ends in [[0.0, 0.2], [0.83, 0.97], [-3.0, 2.6], [1e-5, 9e-4]] {
            let ticks = ticks(ends);
            assert!((2..=8).contains(&ticks.len()), "{ends:?}: {ticks:?}");
            assert!(ticks.iter().all(|tick| *tick >= ends[0] - 1e-9 && *tick <= ends[1] + 1e-9));
        }
        assert_eq!([0.0, 0.05, 12.5, 1e-4, 200.0].map(short), ["0", "0.05", "12.5", "1e-4", "200"]);
    }

    #[test]
    fn a_plot_places_its_points_and_leaves_out_what_is_not_finite() {
        let points = vec![[0.0, 0.0], [1.0, f64::NAN], [2.0, 1.0]];
        let series = Series { name: "<a>".into(), points, band: vec![[0.0, -0.5, 0.5], [2.0, 0.5, 1.5]] };
        let plot = Plot {
            title: "t".into(),
            range: Some([0.0, 1.0]),
            series: vec![series.clone(), series],
            ..Plot::default()
        };
        let mut html = Html::default();
        plot.draw(&mut html);
        let html = html.into_string();
        let [left, top, right, bottom] = AREA;
        assert!(html.contains(&format!("d=\"M{left} {bottom}L{right} {top}\"")), "{html}");
        assert!(!html.contains("NaN") && html.contains("&lt;a&gt;") && !html.contains("<a>"));
        assert_eq!(html.matches("<circle").count(), 4);
    }

    #[test]
    fn a_diagonal_goes_through_what_is_equal() {
        let points = vec![[0.4, 0.5], [0.8, 0.8]];
        let series = vec![Series { points, ..Series::default() }];
        let plot = Plot { diagonal: true, range: Some([0.0, 1.0]), series, ..Plot::default() };
        let mut html = Html::default();
        plot.draw(&mut html);
        let html = html.into_string();
        let [left, top, right, bottom] = AREA;
        assert!(html.contains(&format!("d=\"M{left} {bottom}L{right} {top}\"")), "{html}");
        let on_it = [left + 0.8 * (right - left), bottom - 0.8 * (bottom - top)].map(|at| (at * 100.0).round() / 100.0);
        assert!(html.contains(&format!("cx=\"{}\" cy=\"{}\"", on_it[0], on_it[1])), "{html}");
    }

    #[test]
    fn without_a_point_there_are_axes_still() {
        let mut html = Html::default();
        Plot { series: vec![Series::default()], ..Plot::default() }.draw(&mut html);
        assert!(html.into_string().contains("class=\"axis\""));
        let mut html = Html::default();
        let points = vec![[1.0, 1e-3], [2.0, 1e-4]];
        Plot { logarithmic: true, series: vec![Series { points, ..Series::default() }], ..Plot::default() }
            .draw(&mut html);
        let html = html.into_string();
        assert!(html.contains(">1e-4<") && !html.contains("NaN"), "{html}");
    }
}
