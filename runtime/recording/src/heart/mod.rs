//! What a segmentation of an echocardiogram tells of the heart.

mod chambers;
mod heartbeat;

pub use chambers::{
    Atrium, AtriumClasses, Chamber, DISCS, HeartClasses, Ventricle, atrium, biplane_ml, ejection_fraction, ventricle,
    ventricle_by_name,
};
pub use heartbeat::{Biplane, FrameVentricle, Heartbeat, biplane, heartbeat};
