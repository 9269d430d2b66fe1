//! Completions and manual pages. The tests of `ldseg` hold what makes them to shells and groff.

use std::fs;

use crate::Place;

#[test]
fn the_command_describes_itself() {
    let place = Place::new(0);
    let script = place.run(&["completions", "zsh"]).ok().stdout;
    assert!(script.starts_with("#compdef ldseg-train\n") && script.contains("--fold"), "{script}");
    place.run(&["completions", "cmd"]).fails(2, "possible values: bash");

    let page = place.run(&["man"]).ok().stdout;
    assert_eq!(place.run(&["man", "--output", "man1"]).ok().stdout, "");
    assert_eq!(fs::read_to_string(place.path("man1/ldseg-train.1")).unwrap(), page);
    let pages: Vec<String> = ["fit", "export", "calibrate", "import-keras", "inspect", "phantom"]
        .map(|name| format!("ldseg-train-{name}.1"))
        .into();
    for name in &pages {
        assert!(page.contains(&name.replace(".1", "(1)").replace('-', "\\-")), "{page}");
        assert!(place.path("man1").join(name).is_file(), "{name}");
    }
    let fit = fs::read_to_string(place.path("man1/ldseg-train-fit.1")).unwrap();
    assert!(fit.contains("\\-\\-trace\\-steps"), "{fit}");
}
