//! From records to a bundle's calibration, and what it is worth.

use std::collections::BTreeMap;

use ldseg::bundle::Manifest;
use ldseg::calibration::{DiceMap, IntervalRule, Quantity, conformal};

use super::collect::{Pair, Record, by_patient};

/// What is fitted to records.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    /// For each class but the background that some image shows.
    pub maps: Vec<DiceMap>,
    /// For each class: the expected Dice, mapped, that the asked part of structures is below.
    pub unsure_below: Vec<Option<f64>>,
    /// Of what was measured in enough patients.
    pub rules: Vec<IntervalRule>,
}

impl Fitted {
    /// Fits maps, thresholds at a rate of unsure structures, and intervals at a level.
    pub(super) fn to(manifest: &Manifest, records: &[&Record], rate: f64, level: f64) -> Self {
        let (mut maps, mut unsure_below) = (Vec::new(), vec![None; manifest.classes.len()]);
        for (index, class) in manifest.classes.iter().enumerate().skip(1) {
            let pairs = dice_pairs(records.iter().copied(), index);
            if pairs.is_empty() {
                continue;
            }
            let map = DiceMap::fit(&class.name, &pairs);
            let mut expected: Vec<f64> = pairs.iter().map(|(expected, _)| map.apply(*expected)).collect();
            expected.sort_by(f64::total_cmp);
            let first_sure = ((rate * expected.len() as f64).round() as usize).min(expected.len() - 1);
            unsure_below[index] = Some(expected[first_sure]).filter(|least| *least > 0.0 && *least <= 1.0);
            maps.push(map);
        }
        let owned: Vec<Record> = records.iter().map(|record| (*record).clone()).collect();
        let measured = by_patient(&owned);
        let rule = |quantity: Quantity| {
            let scores = scores(measured.values(), quantity);
            let within = conformal::quantile(&scores, level)?;
            Some(IntervalRule { quantity, scale: quantity.scale(), within })
        };
        Self { maps, unsure_below, rules: Quantity::ALL.into_iter().filter_map(rule).collect() }
    }
}

/// Expected and true Dice of a class in all images that were found to show it.
pub(super) fn dice_pairs<'a>(records: impl Iterator<Item = &'a Record>, class: usize) -> Vec<(f64, f64)> {
    records
        .filter_map(|record| Some((record.expected_dice.get(class).copied()??, *record.dice.get(class)?)))
        .filter(|(_, dice)| dice.is_finite())
        .collect()
}

/// Each patient's scores of one quantity.
pub(super) fn scores<'a>(patients: impl Iterator<Item = &'a Vec<Pair>>, quantity: Quantity) -> Vec<Vec<f64>> {
    let own = |pairs: &Vec<Pair>| {
        let of = pairs.iter().filter(|pair| pair.quantity == quantity);
        of.map(|pair| quantity.scale().score(pair.found, pair.truth)).collect()
    };
    patients.map(own).collect()
}

/// Groups of patients, each to be judged by what is fitted to the others: which group a record belongs to.
pub(super) fn groups(records: &[Record], most: usize) -> Vec<usize> {
    let mut patients: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        let next = patients.len();
        patients.entry(&record.patient).or_insert(next);
    }
    let most = most.min(patients.len()).max(1);
    records.iter().map(|record| patients[record.patient.as_str()] % most).collect()
}

/// How unsure structures differ from the others, and expected from true Dice, over some images.
#[derive(Debug, Clone, Default)]
pub(super) struct DiceTable {
    /// (expected as it was, expected as mapped, true, whether flagged).
    rows: Vec<(f64, f64, f64, bool)>,
}

impl DiceTable {
    /// Adds the class's structures in `records`, by what was fitted to others.
    pub(super) fn add(&mut self, records: &[&Record], class: usize, name: &str, fitted: &Fitted) {
        let Some(map) = fitted.maps.iter().find(|map| map.class == name) else { return };
        for (expected, dice) in dice_pairs(records.iter().copied(), class) {
            let mapped = map.apply(expected);
            let flagged = fitted.unsure_below[class].is_some_and(|least| mapped < least);
            self.rows.push((expected, mapped, dice, flagged));
        }
    }

    /// A row of a table: structures, mean true Dice, mean of expected less true before and after, rank correlation, part
    /// that is flagged, true Dice of what is and of what isn't.
    pub(super) fn line(&self, name: &str) -> String {
        #[expect(clippy::type_complexity, reason = "a row has four numbers, and only this function takes them apart")]
        let mean = |take: &dyn Fn(&(f64, f64, f64, bool)) -> Option<f64>| {
            let values: Vec<f64> = self.rows.iter().filter_map(take).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let mapped: Vec<f64> = self.rows.iter().map(|row| row.1).collect();
        let dice: Vec<f64> = self.rows.iter().map(|row| row.2).collect();
        format!(
            "| {name} | {} | {:.3} | {:+.3} | {:+.3} | {:.2} | {:.0} % | {:.3} | {:.3} |",
            self.rows.len(),
            mean(&|row| Some(row.2)),
            mean(&|row| Some(row.0 - row.2)),
            mean(&|row| Some(row.1 - row.2)),
            rank_correlation(&mapped, &dice),
            100.0 * mean(&|row| Some(f64::from(u8::from(row.3)))),
            mean(&|row| row.3.then_some(row.2)),
            mean(&|row| (!row.3).then_some(row.2)),
        )
    }

    /// The table's head.
    pub(super) const HEAD: &str = "| class | structures | Dice | expected less true, as it was | calibrated | rank correlation | unsure | \
                            their Dice | others' |\n|---|---|---|---|---|---|---|---|---|";
}

/// How intervals fared, over some patients.
#[derive(Debug, Clone, Default)]
pub(super) struct IntervalTable {
    scores: Vec<Vec<f64>>,
    inside: Vec<Vec<f64>>,
    widths: Vec<f64>,
    naive_inside: Vec<Vec<f64>>,
    naive_widths: Vec<f64>,
}

impl IntervalTable {
    /// Adds patients, judged by what was fitted to others.
    pub(super) fn add<'a>(
        &mut self,
        patients: impl Iterator<Item = &'a Vec<Pair>>,
        quantity: Quantity,
        rule: Option<&IntervalRule>,
        level: f64,
    ) {
        for pairs in patients {
            let own: Vec<&Pair> = pairs.iter().filter(|pair| pair.quantity == quantity).collect();
            self.scores.push(own.iter().map(|pair| quantity.scale().score(pair.found, pair.truth)).collect());
            let within = rule.map_or(f64::INFINITY, |rule| rule.within);
            let missed = |inside: bool| f64::from(u8::from(!inside));
            self.inside.push(
                own.iter().map(|pair| missed(quantity.scale().score(pair.found, pair.truth) <= within)).collect(),
            );
            // In the unit of `scale`: a part of what was found, or the fraction itself.
            self.widths.extend(own.iter().filter(|pair| pair.found.is_some()).map(|_| 2.0 * within));
            let naive = own.iter().filter_map(|pair| Some((pair, middle(&pair.samples, level)?)));
            let mut naive_inside = Vec::new();
            for (pair, [low, high]) in naive {
                naive_inside.push(missed((low..=high).contains(&pair.truth)));
                let unit = if quantity == Quantity::EjectionFraction { 1.0 } else { pair.found.unwrap_or(f64::NAN) };
                self.naive_widths.push((high - low) / unit);
            }
            self.naive_inside.push(naive_inside);
        }
    }

    /// A row: patients, measurements, mean error, part of the patients inside and mean width; the same for the middle part
    /// of the samples.
    pub(super) fn line(&self, quantity: Quantity) -> Option<String> {
        let patients = self.scores.iter().filter(|own| !own.is_empty()).count();
        let all: Vec<f64> = self.scores.iter().flatten().copied().filter(|score| score.is_finite()).collect();
        if patients == 0 {
            return None;
        }
        let mean = |values: &[f64]| {
            let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            100.0 * finite.iter().sum::<f64>() / finite.len() as f64
        };
        let naive = match self.naive_widths.is_empty() {
            true => "| | |".to_owned(),
            false => {
                format!(
                    "| {:.1} % | {:.1} |",
                    100.0 * conformal::coverage(&self.naive_inside, 0.5),
                    mean(&self.naive_widths)
                )
            }
        };
        Some(format!(
            "| {} | {patients} | {} | {:.1} | {:.1} % | {:.1} {naive}",
            quantity.name(),
            self.scores.iter().map(Vec::len).sum::<usize>(),
            mean(&all),
            100.0 * conformal::coverage(&self.inside, 0.5),
            mean(&self.widths),
        ))
    }

    /// The table's head.
    pub(super) const HEAD: &str = "| measure | patients | measurements | mean error, % | inside | width, % | inside, samples' middle | its \
                            width, % |\n|---|---|---|---|---|---|---|---|";
}

/// The middle part of at least two values, between them by linear interpolation.
fn middle(values: &[f64], part: f64) -> Option<[f64; 2]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: f64| {
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        Some(sorted.get(low)? + (sorted.get(high)? - sorted.get(low)?) * place.fract())
    };
    let last = sorted.len().checked_sub(1).filter(|last| *last > 0)? as f64;
    Some([at((1.0 - part) / 2.0 * last)?, at((1.0 + part) / 2.0 * last)?])
}

/// Spearman's, equal values sharing their mean rank; NaN where either is constant.
pub(super) fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    sum(&a, &b) / (sum(&a, &a) * sum(&b, &b)).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let first = order.iter().position(|index| *index == equal[0]).unwrap_or(0) as f64;
        equal.iter().for_each(|index| ranks[*index] = first + (equal.len() - 1) as f64 / 2.0);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(found: f64, truth: f64) -> Pair {
        Pair { quantity: Quantity::EjectionFraction, found: Some(found), truth, samples: vec![found, found + 0.1] }
    }

    #[test]
    fn ranks_are_compared_not_values() {
        assert!((rank_correlation(&[1.0, 2.0, 3.0], &[1.0, 8.0, 27.0]) - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, -9.0]) + 1.0).abs() < 1e-12);
        // scipy.stats.spearmanr([1, 2, 2, 4], [1, 3, 2, 4]).
        assert!(
            (rank_correlation(&[1.0, 2.0, 2.0, 4.0], &[1.0, 3.0, 2.0, 4.0]) - 0.948_683_298_050_513_8).abs() < 1e-12
        );
        assert!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn intervals_are_counted_by_patient() {
        let rule = IntervalRule {
            quantity: Quantity::EjectionFraction,
            scale: Quantity::EjectionFraction.scale(),
            within: 0.1,
        };
        let mut table = IntervalTable::default();
        // Of the first patient one of two is inside, the other's only one is, the third was not measured.
        let patients = [vec![pair(0.5, 0.55), pair(0.5, 0.7)], vec![pair(0.5, 0.58)], Vec::new()];
        table.add(patients.iter(), Quantity::EjectionFraction, Some(&rule), 0.9);
        let line = table.line(Quantity::EjectionFraction).unwrap();
        assert_eq!(line, "| ejection fraction | 2 | 3 | 11.0 | 75.0 % | 20.0 | 75.0 % | 9.0 |");
        assert_eq!(IntervalTable::default().line(Quantity::EjectionFraction), None);
    }

    #[test]
    fn the_middle_leaves_the_ends_out() {
        let values: Vec<f64> = (0..=20).map(f64::from).collect();
        let found = middle(&values, 0.9).unwrap();
        assert!(found.iter().zip([1.0, 19.0]).all(|(found, expected)| (found - expected).abs() < 1e-9), "{found:?}");
        assert_eq!(middle(&[1.0], 0.9), None);
    }
}
