//! Which layer of the published networks is which of ours.
//!
//! Keras numbers layers by kind in the order in which they are made, over all networks of a process: the first
//! convolution of the image encoder is `conv2d_16` if the label encoder was made before it. So a file fixes a layer by
//! its kind and its rank among that kind, and each list here names our modules in the order in which the release makes
//! its layers.

use crate::model::NetworkConfig;

/// A kind of layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Convolution.
    Conv,
    /// Transposed convolution.
    ConvTranspose,
    /// Dense layer.
    Dense,
    /// Batch normalisation.
    BatchNorm,
    /// Group normalisation.
    GroupNorm,
    /// Layer normalisation with one scale and shift per element.
    LayerNorm,
}

impl Kind {
    /// What Keras calls it, in networks of `axes` spatial axes.
    pub(crate) fn keras_name(self, axes: usize) -> String {
        match self {
            Self::Conv => format!("conv{axes}d"),
            Self::ConvTranspose => format!("conv{axes}d_transpose"),
            Self::Dense => "dense".into(),
            Self::BatchNorm => "batch_normalization".into(),
            Self::GroupNorm => "group_normalization".into(),
            Self::LayerNorm => "layer_normalization".into(),
        }
    }

    /// Its weights: Keras' name and ours.
    pub(crate) fn weights(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Conv | Self::ConvTranspose | Self::Dense => &[("kernel", "weight"), ("bias", "bias")],
            Self::GroupNorm | Self::LayerNorm => &[("gamma", "gamma"), ("beta", "beta")],
            Self::BatchNorm => &[
                ("gamma", "gamma"),
                ("beta", "beta"),
                ("moving_mean", "running_mean"),
                ("moving_variance", "running_var"),
            ],
        }
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its kind.
    pub kind: Kind,
    /// Where it is in our network, e.g. `blocks.0.conv1`; the names of enum variants are left out.
    pub module: String,
    /// The name that the release gives to it; it numbers all others.
    pub name: Option<&'static str>,
}

/// Collects layers in the order in which the release makes them.
#[derive(Default)]
struct Layers(Vec<Layer>);

impl Layers {
    fn add(&mut self, kind: Kind, module: impl Into<String>) {
        self.0.push(Layer { kind, module: module.into(), name: None });
    }

    fn named(&mut self, name: &'static str, kind: Kind, module: &str) {
        self.0.push(Layer { kind, module: module.into(), name: Some(name) });
    }

    /// [`crate::model::layers::PublishedBlock`].
    fn published_block(&mut self, block: &str) {
        self.add(Kind::Conv, format!("{block}.conv1"));
        self.add(Kind::BatchNorm, format!("{block}.norm1"));
        self.add(Kind::Conv, format!("{block}.conv2"));
        self.add(Kind::BatchNorm, format!("{block}.norm2"));
        self.add(Kind::Conv, format!("{block}.shortcut"));
        self.add(Kind::BatchNorm, format!("{block}.shortcut_norm"));
    }

    /// [`crate::model::layers::Attention`].
    fn attention(&mut self, block: &str) {
        self.add(Kind::GroupNorm, format!("{block}.norm"));
        for part in ["query", "key", "value", "output"] {
            self.add(Kind::Dense, format!("{block}.{part}"));
        }
    }

    /// [`crate::model::layers::ResidualBlock`] with a timestep embedding.
    fn time_block(&mut self, block: &str, resized: bool) {
        if resized {
            self.add(Kind::Conv, format!("{block}.shortcut"));
        }
        self.add(Kind::Dense, format!("{block}.time"));
        self.add(Kind::GroupNorm, format!("{block}.norm1"));
        self.add(Kind::Conv, format!("{block}.conv1"));
        self.add(Kind::GroupNorm, format!("{block}.norm2"));
        self.add(Kind::Conv, format!("{block}.conv2"));
    }
}

/// The label encoder's layers.
pub(crate) fn label_encoder(config: &NetworkConfig) -> Vec<Layer> {
    let mut layers = Layers::default();
    for level in 0..config.label_widths.len() {
        layers.published_block(&format!("blocks.{level}"));
        if config.spatial_axes() == 3 && level + 1 < config.label_widths.len() {
            layers.add(Kind::Conv, format!("downs.{level}"));
        }
    }
    layers.add(Kind::Conv, "head");
    layers.named("encoder_output", Kind::LayerNorm, "");
    layers.0
}

/// The image encoder's layers.
pub(crate) fn image_encoder(config: &NetworkConfig) -> Vec<Layer> {
    let plane = config.spatial_axes() == 2;
    let levels = config.widths.len();
    let mut layers = Layers::default();
    layers.add(Kind::Conv, "stem");
    for level in 0..levels {
        for part in ["shortcut", "conv1", "conv2"] {
            layers.add(Kind::Conv, format!("blocks.{level}.{part}"));
        }
        if plane {
            layers.add(Kind::Conv, format!("blocks.{level}.down"));
        }
        layers.add(Kind::GroupNorm, format!("blocks.{level}.norm"));
        // The last two levels have attention.
        if let Some(index) = (level + 2).checked_sub(levels).filter(|_| plane) {
            layers.attention(&format!("attention.{index}"));
        }
    }
    layers.add(Kind::Conv, "head");
    if plane {
        layers.attention("head_attention");
    }
    layers.named("embedding_output", Kind::BatchNorm, "norm");
    layers.0
}

/// The denoiser's layers.
pub(crate) fn denoiser(config: &NetworkConfig) -> Vec<Layer> {
    let widths = &config.denoiser_widths;
    let all_skips = config.spatial_axes() == 2;
    let mut layers = Layers::default();
    layers.add(Kind::Dense, "time1");
    layers.add(Kind::Dense, "time2");
    layers.add(Kind::Conv, "stem");
    let mut channels = widths[0];
    for (level, width) in widths.iter().enumerate() {
        for block in 0..config.denoiser_blocks {
            layers.time_block(&format!("down.{level}.blocks.{block}"), channels != *width);
            channels = *width;
            if config.denoiser_attention[level] {
                layers.attention(&format!("down.{level}.attention.{block}"));
            }
        }
        if level + 1 < widths.len() {
            layers.add(Kind::Conv, format!("down.{level}.resize"));
        }
    }
    layers.time_block("middle1", false);
    if config.denoiser_attention.last() == Some(&true) {
        layers.attention("middle_attention");
    }
    layers.time_block("middle2", false);
    for level in (0..widths.len()).rev() {
        let up = widths.len() - 1 - level;
        for block in 0..config.denoiser_blocks + usize::from(all_skips) {
            // Every block takes a skip connection as well, so its input is never as wide as its output.
            layers.time_block(&format!("up.{up}.blocks.{block}"), true);
            if config.denoiser_attention[level] {
                layers.attention(&format!("up.{up}.attention.{block}"));
            }
        }
        if level > 0 {
            layers.add(Kind::Conv, format!("up.{up}.resize"));
        }
    }
    layers.add(Kind::GroupNorm, "norm");
    layers.named("denoiser_output", Kind::Conv, "head");
    layers.0
}

/// The label decoder's layers.
pub(crate) fn label_decoder(config: &NetworkConfig) -> Vec<Layer> {
    let up = if config.spatial_axes() == 2 { Kind::ConvTranspose } else { Kind::Conv };
    let mut layers = Layers::default();
    for level in 0..config.widths.len() {
        layers.add(up, format!("ups.{level}"));
        layers.published_block(&format!("blocks.{level}"));
    }
    layers.add(Kind::Conv, "head");
    layers.add(Kind::BatchNorm, "norm");
    layers.0
}
