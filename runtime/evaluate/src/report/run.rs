//! The run folder of a training: recipe, split and curves.

use std::path::Path;

use serde::Deserialize;

use super::found::text;
use super::html::Html;
use super::plot::{Plot, Series};
use ldseg::document::parse_yaml;
use ldseg::{Error, ErrorKind, Result};

/// What a run folder tells.
#[derive(Debug, Clone)]
pub(super) struct Run {
    recipe: String,
    split: Split,
    columns: Vec<(String, Vec<f64>)>,
}

#[derive(Debug, Clone, Deserialize)]
struct Split {
    train: Vec<String>,
    validation: Vec<String>,
}

impl Run {
    /// # Errors
    /// [`ErrorKind::Io`] where a file of the folder cannot be read, [`ErrorKind::Format`] where it is damaged.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let recipe = text(&folder.join("recipe.yaml"))?;
        let path = folder.join("split.yaml");
        let split = parse_yaml(text(&path)?.as_bytes()).map_err(|e| {
            Error::with_source(ErrorKind::Format, "is no list of `train` and `validation`", e).in_file(&path)
        })?;
        let path = folder.join("metrics.csv");
        let columns = columns(&text(&path)?).map_err(|e| e.in_file(&path))?;
        Ok(Self { recipe, split, columns })
    }

    /// The curves.
    pub(super) fn curves(&self, html: &mut Html) {
        let (train, validation) = (self.split.train.len(), self.split.validation.len());
        let epochs = self.column("epoch").and_then(|epochs| epochs.last()).copied().unwrap_or(0.0);
        html.line(
            "p",
            &format!("Trained on {train} patients, validated on {validation} others; {epochs} epochs. Images of one patient are in one of the two."),
        );
        let losses = [
            ("loss", "total"),
            ("cross_entropy", "cross-entropy"),
            ("dice_loss", "1 - Dice"),
            ("diffusion", "diffusion"),
        ];
        let losses: Vec<_> = losses.into_iter().filter_map(|(column, name)| self.series(column, name)).collect();
        let named = |prefix: &str| -> Vec<Series> {
            let names = self.columns.iter().filter_map(|(name, _)| Some((name, name.strip_prefix(prefix)?)));
            names.filter_map(|(column, name)| self.series(column, name)).collect()
        };
        let mut dice = named("dice ");
        dice.extend(self.series("validation_dice", "mean"));
        let plot = |title: &str, description: &str, y, logarithmic, series| Plot {
            title: title.into(),
            description: description.into(),
            x: "epoch",
            y,
            logarithmic,
            series,
            ..Plot::default()
        };
        html.element("div", &[("class", &"plots")], |html| {
            plot("Training loss", &last(&losses), "loss", true, losses).draw(html);
            plot("Validation Dice", &last(&dice), "Dice", false, dice).draw(html);
            let autoencoder = named("autoencoder dice ");
            plot("Dice of the autoencoder alone", &last(&autoencoder), "Dice", false, autoencoder).draw(html);
            let rate: Vec<Series> = self.series("learning_rate", "learning rate").into_iter().collect();
            plot("Learning rate", &last(&rate), "rate", false, rate).draw(html);
        });
    }

    /// The recipe as it was resolved.
    pub(super) fn recipe(&self, html: &mut Html) {
        html.line("pre", &self.recipe);
        html.line("p", &format!("Patients of the validation: {}.", self.split.validation.join(", ")));
    }

    fn column(&self, name: &str) -> Option<&Vec<f64>> {
        self.columns.iter().find(|(title, _)| title == name).map(|(_, values)| values)
    }

    /// A column against the epochs, where it has a value.
    fn series(&self, column: &str, name: &str) -> Option<Series> {
        let (epochs, values) = (self.column("epoch")?, self.column(column)?);
        let points: Vec<[f64; 2]> =
            epochs.iter().zip(values).map(|(x, y)| [*x, *y]).filter(|point| point[1].is_finite()).collect();
        (!points.is_empty()).then(|| Series { name: name.into(), points, band: Vec::new() })
    }
}

/// The last value of every line, for those who do not see them.
fn last(series: &[Series]) -> String {
    let values = series.iter().filter_map(|line| Some(format!("{} {:.4}", line.name, line.points.last()?[1])));
    format!("At the end: {}", values.collect::<Vec<_>>().join(", "))
}

/// The columns of `metrics.csv`; an empty cell is NaN.
fn columns(text: &str) -> Result<Vec<(String, Vec<f64>)>> {
    let wrong =
        |line: usize| Error::new(ErrorKind::Format, format!("line {line} is not as `ldseg-train fit` writes it"));
    let mut lines = text.lines();
    let titles = lines.next().filter(|titles| titles.starts_with("epoch,")).ok_or_else(|| wrong(1))?;
    let mut columns: Vec<(String, Vec<f64>)> = titles.split(',').map(|title| (title.into(), Vec::new())).collect();
    for (index, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() != columns.len() {
            return Err(wrong(index + 2));
        }
        for (column, cell) in columns.iter_mut().zip(cells) {
            column.1.push(if cell.is_empty() { f64::NAN } else { cell.parse().map_err(|_| wrong(index + 2))? });
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_their_values_and_damage_is_told() {
        let read = columns("epoch,loss,dice a\n1,2.5,\n2,1e-1,0.5\n").unwrap();
        assert_eq!(read[1], ("loss".to_owned(), vec![2.5, 0.1]));
        assert!(read[2].1[0].is_nan() && read[2].1[1] == 0.5);
        for (text, line) in [("", 1), ("loss\n1\n", 1), ("epoch,loss\n1\n", 2), ("epoch,loss\n1,2\n1,x\n", 3)] {
            let error = columns(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {line} ")), "{text:?}: {error}");
        }
    }
}
