//! `ldseg report` on a tiny bundle, and what a browser makes of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::support::{Need, fixture, ldseg, skip};

/// Programs that can show a page without a screen.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A word that would be an element if it were not escaped.
const NASTY: &str = "<img src=x onerror=alert(1)>&\"'";

/// Everything that a report takes, in a folder.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let (bundle, data, predictions) = (place.path("bundle"), place.path("data"), place.path("predictions"));
        fixture("echo", &bundle);
        fixture("echo-data", &data);
        ldseg(&[&"segment", &data, &"--bundle", &bundle, &"--output", &predictions]).ok();
        let (metrics, robustness) = (place.path("metrics.json"), place.path("robustness"));
        ldseg(&[&"evaluate", &"--predictions", &predictions, &"--labels", &data, &"--output", &metrics]).ok();
        ldseg(&[
            &"robustness",
            &"--bundle",
            &bundle,
            &"--images",
            &data,
            &"--labels",
            &data,
            &"--output",
            &robustness,
            &"--levels",
            &"1",
            &"--corruptions",
            &"gaussian,blur",
        ])
        .ok();
        let bench = ldseg(&[&"bench", &"--bundle", &bundle, &"--runs", &"1", &"--json"]).ok();
        fs::write(place.path("bench.json"), bench).unwrap();
        let run = place.path("run");
        fs::create_dir(&run).unwrap();
        fs::write(run.join("recipe.yaml"), format!("name: {NASTY}\n")).unwrap();
        fs::write(run.join("split.yaml"), "train: [a, b]\nvalidation: [c]\n").unwrap();
        let curves =
            "epoch,step,learning_rate,loss,validation_dice,dice left ventricle\n1,2,1e-3,2.0,,\n2,4,5e-4,1.0,0.5,0.5\n";
        fs::write(run.join("metrics.csv"), curves).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The report with everything in it.
    fn full(&self) -> PathBuf {
        let [bundle, data, metrics, bench, run, output] =
            ["bundle", "data", "metrics.json", "bench.json", "run", "report.html"].map(|name| self.path(name));
        let robustness = self.path("robustness/robustness.json");
        ldseg(&[
            &"report",
            &run,
            &"--bundle",
            &bundle,
            &"--images",
            &data,
            &"--labels",
            &data,
            &"--evaluation",
            &metrics,
            &"--robustness",
            &robustness,
            &"--benchmark",
            &bench,
            &"--output",
            &output,
        ])
        .ok();
        output
    }
}

#[test]
fn everything_is_in_one_file() {
    let place = Place::new();
    let report = place.full();
    let html = fs::read_to_string(&report).unwrap();
    for expected in [
        "Trained on 2 patients, validated on 1 others; 2 epochs",
        "Mean over 4 images of 2 patients",
        "<figcaption>gaussian</figcaption>",
        "<figcaption>blur</figcaption>",
        "<th scope=\"row\">whole loop</th>",
        "<h3>Best: phantom000",
        "<h3>Median: phantom000",
        "<h3>Worst: phantom000",
        "There is no calibration",
        "name: &lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#39;",
    ] {
        assert!(html.contains(expected), "expected '{expected}'");
    }
    assert_eq!(html.matches("src=\"data:image/png;base64,").count(), 9);
    assert_eq!(html.matches("src=").count(), 10, "nine pictures, and the escaped one");
    assert!(!html.contains("http") && !html.contains("<script") && !html.contains("url("), "it loads something");
    place.full();
    assert!(fs::read_to_string(&report).unwrap() == html, "a second report differs");
}

#[test]
fn what_is_missing_is_said_and_what_is_damaged_is_an_error() {
    let place = Place::new();
    let (bundle, output) = (place.path("bundle"), place.path("bare.html"));
    ldseg(&[&"report", &"--bundle", &bundle, &"--output", &output]).ok();
    let html = fs::read_to_string(&output).unwrap();
    assert_eq!(html.matches("class=\"missing\"").count(), 7, "all sections but that of the model");
    let fails = |arguments: &[&dyn AsRef<OsStr>], code: i32, expected: &str| {
        let output = place.path("no.html");
        let all = [&[&"report" as &dyn AsRef<OsStr>, &"--bundle", &bundle, &"--output", &output], arguments].concat();
        let ran = ldseg(&all);
        assert!(ran.code == Some(code) && ran.stderr.contains(expected), "{:?} {}", ran.code, ran.stderr);
        assert!(!output.exists());
    };
    let bench = place.path("bench.json");
    fails(&[&"--evaluation", &bench], 1, "bench.json: is not the JSON that `ldseg evaluate` writes");
    fails(&[&"--images", &place.path("data")], 2, "--labels");
    fails(&[&place.path("data")], 1, "recipe.yaml: cannot be read");
    let elsewhere = place.path("predictions");
    let metrics = place.path("metrics.json");
    fs::remove_file(elsewhere.join("phantom0001_ED.png")).unwrap();
    fs::remove_file(elsewhere.join("phantom0002_ED.png")).unwrap();
    let labels = place.path("data");
    fails(
        &[&"--evaluation", &metrics, &"--images", &elsewhere, &"--labels", &labels],
        1,
        "holds no image of the evaluation's case phantom000",
    );
}

#[test]
fn a_browser_shows_it() {
    let Some(browser) = browser() else {
        let why = "none is in PATH (chromium, google-chrome) or LDSEG_BROWSER";
        return skip(Need::Program, "a browser shows the report", why);
    };
    let place = Place::new();
    let report = place.full();
    let (page, profile) = (format!("file://{}", report.display()), place.path("profile"));
    let run = |arguments: &[String]| {
        // Without its sandbox: root has none, and the page is our own. Nor does it look for anything in the network.
        let common = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"];
        let quiet = ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"];
        let profile = format!("--user-data-dir={}", profile.display());
        let output =
            Command::new(&browser).args(common).args(quiet).arg(profile).args(arguments).arg(&page).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = run(&["--dump-dom".into()]);
    // The browser's own parser found the elements, and no other ones.
    let written = fs::read_to_string(&report).unwrap();
    for element in ["<section", "<table", "<svg", "<img", "<figure", "<circle", "<li"] {
        let escaped = written.matches(element).count();
        assert_eq!(shown.matches(element).count(), escaped, "{element}");
    }
    assert!(!shown.contains("<img src=\"x\"") && shown.contains("name: &lt;img src=x onerror=alert(1)&gt;"));
    let picture = place.path("page.png");
    run(&["--window-size=900,1200".into(), format!("--screenshot={}", picture.display())]);
    let picture = image::open(&picture).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (900, 1200));
    let colours: std::collections::BTreeSet<_> = picture.pixels().map(|pixel| pixel.0).collect();
    assert!(colours.len() > 50, "the page shows {} colours", colours.len());
}

fn browser() -> Option<PathBuf> {
    let named = env::var_os("LDSEG_BROWSER").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut installed = env::split_paths(&path).flat_map(|folder| BROWSERS.map(|name| folder.join(name)));
    named.or_else(|| installed.find(|path: &PathBuf| Path::is_file(path)))
}
