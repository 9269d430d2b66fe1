//! What a segmentation of an echocardiogram tells of the left heart.

mod chambers;
mod heartbeat;

use ldseg::Result;
use ldseg::bundle::{Manifest, Measure};
use ldseg::image::Labels;
use serde::Serialize;

use crate::trust::Intervals;

pub use chambers::{
    Atrium, AtriumClasses, Chamber, DISCS, HeartClasses, Ventricle, atrium, biplane_ml, ejection_fraction, ventricle,
};
pub use heartbeat::{Biplane, FrameVentricle, Heartbeat, biplane, heartbeat};

/// The classes of the left heart, as a bundle declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftHeart {
    ventricle: HeartClasses,
    atrium: Option<AtriumClasses>,
}

/// What was measured in one frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Measured {
    /// The left ventricle; `None` where it cannot be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ventricle: Option<Ventricle>,
    /// The left atrium; `None` where it cannot be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_atrium: Option<Atrium>,
    /// Where the true values lie, at the level of the bundle's calibration.
    #[serde(skip_serializing_if = "Intervals::is_empty")]
    pub intervals: Intervals,
}

impl LeftHeart {
    /// What a bundle's manifest declares; `None` where it declares no measure of the left heart.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        Self::declared(&manifest.measures, manifest.classes.iter().map(|class| class.name.as_str()))
    }

    /// What `measures` declare of classes with these names, in the order of their indices.
    pub fn declared<'a>(measures: &[Measure], names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let names: Vec<&str> = names.into_iter().collect();
        let index = |wanted: &str| u8::try_from(names.iter().position(|name| *name == wanted)?).ok();
        measures.iter().find_map(|measure| match measure {
            Measure::LeftHeart { ventricle, myocardium, atrium } => {
                let ventricle = HeartClasses { ventricle: index(ventricle)?, myocardium: index(myocardium)? };
                let atrium = atrium.as_deref().and_then(index);
                let atrium = atrium.map(|atrium| AtriumClasses { atrium, ventricle: ventricle.ventricle });
                Some(Self { ventricle, atrium })
            }
            _ => None,
        })
    }

    /// Measures ventricle and atrium; nothing in a volume, or where the spacing along (y, x) is not known.
    ///
    /// # Shapes
    /// labels `[H, W]`; `spacing` in mm.
    ///
    /// # Errors
    /// Those of [`ventricle`].
    pub fn measure(&self, labels: &Labels, spacing: Option<[f64; 2]>) -> Result<Measured> {
        let Some(spacing) = spacing.filter(|_| labels.ndim() == 2) else { return Ok(Measured::default()) };
        let (left_ventricle, left_atrium) = (self.ventricle(labels, spacing)?, self.atrium(labels, spacing)?);
        Ok(Measured { left_ventricle, left_atrium, intervals: Intervals::new() })
    }

    /// Measures the atrium alone; `None` too where the bundle does not segment it.
    ///
    /// # Errors
    /// Those of [`atrium`].
    pub fn atrium(&self, labels: &Labels, spacing: [f64; 2]) -> Result<Option<Atrium>> {
        self.atrium.map_or(Ok(None), |classes| atrium(labels, classes, spacing))
    }

    /// Measures the ventricle alone.
    ///
    /// # Errors
    /// Those of [`ventricle`].
    pub fn ventricle(&self, labels: &Labels, spacing: [f64; 2]) -> Result<Option<Ventricle>> {
        ventricle(labels, self.ventricle, spacing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_that_are_declared() {
        let names = ["background", "cavity", "wall", "left atrium"];
        let heart = |ventricle: &str, atrium: Option<&str>| Measure::LeftHeart {
            ventricle: ventricle.into(),
            myocardium: "wall".into(),
            atrium: atrium.map(Into::into),
        };
        let found = LeftHeart::declared(&[heart("cavity", Some("left atrium"))], names).unwrap();
        assert_eq!(found.ventricle, HeartClasses { ventricle: 1, myocardium: 2 });
        assert_eq!(found.atrium, Some(AtriumClasses { atrium: 3, ventricle: 1 }));
        assert_eq!(LeftHeart::declared(&[heart("cavity", None)], names).unwrap().atrium, None);
        assert_eq!(LeftHeart::declared(&[heart("left ventricle", None)], names), None);
        assert_eq!(
            LeftHeart::declared(&[], ["background", "left ventricle", "myocardium"]),
            None,
            "names are no measures"
        );
    }
}
