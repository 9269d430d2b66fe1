//! The weights of one Keras HDF5 file, by layer and name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hdf5_pure::{DType, Dataset, File, Group};
use ldseg::{Error, ErrorKind, Result, Tensor};

/// Group of a whole saved model that holds the weights; a file of weights alone has them at its root.
const MODEL_GROUP: &str = "model_weights";
/// Keras nests no deeper than model, layer, block, layer, name; a file whose links go in circles ends here.
const MAX_DEPTH: usize = 8;
/// Far above any of the published networks.
const MAX_FILE_SIZE: u64 = 1 << 30;

/// All weights of a file, named `layer/weight`, e.g. `conv2d_16/kernel`. Each is in Keras' own axis order.
#[derive(Debug)]
pub(crate) struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read; [`ErrorKind::Format`], naming the file and the weight, if it is not HDF5
    /// or holds anything but finite f32 arrays, each with a name of its own.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let io = |e| Error::with_source(ErrorKind::Io, "cannot be read", e).in_file(path);
        let size = fs::metadata(path).map_err(io)?.len();
        if size > MAX_FILE_SIZE {
            let message = format!("holds {size} bytes, expected at most {MAX_FILE_SIZE}");
            return Err(Error::new(ErrorKind::Format, message).in_file(path));
        }
        let bytes = fs::read(path).map_err(io)?;
        let not_hdf5 = |e| Error::with_source(ErrorKind::Format, "is not a readable HDF5 file", e).in_file(path);
        let root = File::from_bytes(bytes).map_err(not_hdf5)?.root();
        let root = match root.groups().map_err(not_hdf5)?.iter().any(|name| name == MODEL_GROUP) {
            true => root.group(MODEL_GROUP).map_err(not_hdf5)?,
            false => root,
        };
        let mut tensors = BTreeMap::new();
        collect(&root, &mut Vec::new(), &mut tensors).map_err(|e| e.in_file(path))?;
        Ok(Self { path: path.to_path_buf(), tensors })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The weight of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Names and numbers of the layers that Keras numbered as `kind`, `kind_1`, `kind_2` and so on, in that order.
    pub(crate) fn numbered(&self, kind: &str) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.names().filter_map(|name| number(name.split('/').next()?, kind)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// The number in a layer's name, 0 where it has none; `None` for a layer of another kind.
fn number(layer: &str, kind: &str) -> Option<usize> {
    match layer.strip_prefix(kind)? {
        "" => Some(0),
        rest => rest.strip_prefix('_')?.parse().ok(),
    }
}

/// Adds all datasets below `group`, whose place in the file is `place`.
fn collect(group: &Group, place: &mut Vec<String>, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let damaged =
        |place: &[String], e| Error::with_source(ErrorKind::Format, format!("`{}` cannot be read", place.join("/")), e);
    if place.len() >= MAX_DEPTH {
        return Err(Error::new(ErrorKind::Format, format!("`{}` lies too deep", place.join("/"))));
    }
    for (name, dataset) in group.iter_datasets().map_err(|e| damaged(place, e))? {
        place.push(name);
        let tensor = tensor(&dataset, place)?;
        // `kernel:0`: the number of the output that a variable is in TensorFlow's graphs, always 0.
        let weight = place[place.len() - 1].trim_end_matches(":0").to_string();
        let layer = place.len().checked_sub(2).map_or("", |index| place[index].as_str());
        if tensors.insert(format!("{layer}/{weight}"), tensor).is_some() {
            return Err(Error::new(ErrorKind::Format, format!("holds `{layer}/{weight}` twice")));
        }
        place.pop();
    }
    for (name, child) in group.iter_groups().map_err(|e| damaged(place, e))? {
        place.push(name);
        collect(&child, place, tensors)?;
        place.pop();
    }
    Ok(())
}

fn tensor(dataset: &Dataset, place: &[String]) -> Result<Tensor> {
    let name = place.join("/");
    let damaged = |e| Error::with_source(ErrorKind::Format, format!("`{name}` cannot be read"), e);
    let kind = dataset.dtype().map_err(damaged)?;
    if kind != DType::F32 {
        return Err(Error::new(ErrorKind::Format, format!("`{name}` holds {kind}, expected f32")));
    }
    let shape: Vec<usize> = dataset.shape().map_err(damaged)?.into_iter().map(|size| size as usize).collect();
    let values = dataset.read_f32().map_err(damaged)?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(Error::new(ErrorKind::Format, format!("`{name}` holds values that are not finite")));
    }
    Tensor::from_shape_vec(shape, values)
        .map_err(|e| Error::with_source(ErrorKind::Format, format!("`{name}` does not fill its shape"), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_apart_by_kind_and_number() {
        assert_eq!(number("conv2d", "conv2d"), Some(0));
        assert_eq!(number("conv2d_16", "conv2d"), Some(16));
        assert_eq!(number("conv2d_transpose", "conv2d"), None);
        assert_eq!(number("conv2d_transpose_2", "conv2d"), None);
        assert_eq!(number("conv2d_transpose_2", "conv2d_transpose"), Some(2));
        assert_eq!(number("conv3d_16", "conv2d"), None);
    }
}
