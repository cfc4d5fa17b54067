//! The large weights of graphs, once: for all sessions of a graph, and for all graphs that have the same.
//!
//! Revisions of a model often differ in little or nothing. Weights are found again by what they hold, and go with the last graph that has them.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coracle_model::{HeldMemory, LoadError, RunError, SharedMemory};
use coracle_onnx::large_weights;
use coracle_tensor::{Tensor, Values};
use ort::session::builder::PrepackedWeights;
use ort::value::DynValue;
use zerocopy::IntoBytes as _;

use crate::session::unsupported;
use crate::tensors::{kept, taken};

/// Weights of at least this many bytes are shared.
const SHARED_WEIGHT_BYTES: usize = 64 << 10;

/// The large weights of a graph.
pub(crate) struct SharedWeights {
    pub(crate) by_name: Vec<(String, Arc<DynValue>)>,
    pub(crate) n_bytes: usize,
    /// What is there of them once, packed ones included: some may be equal, and other graphs may have some.
    memory: Vec<SharedMemory>,
    /// As the kernels want them; the runtime shares only those of weights that were given to it, between sessions that have the same.
    pub(crate) packed: PrepackedWeights,
}

/// The weights of all graphs.
#[derive(Default)]
struct Known {
    /// By what they hold.
    tensors: HashMap<u64, Vec<(Weak<DynValue>, SharedMemory)>>,
    graphs: Vec<Weak<SharedWeights>>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

impl SharedWeights {
    /// Returns the large weights of a file, those that are in memory already among them.
    ///
    /// # Errors
    /// Kinds of unsound files; `Unsupported` for what the runtime does not hold.
    pub(crate) fn of(bytes: &[u8]) -> Result<Arc<Self>, LoadError> {
        let (mut n_bytes, mut n_bytes_once) = (0_usize, 0_usize);
        let mut memory: Vec<SharedMemory> = Vec::new();
        let mut seen = HashSet::new();
        let by_name = large_weights(bytes, SHARED_WEIGHT_BYTES)?.into_iter();
        let by_name = by_name.map(|(name, tensor)| {
            let size = size_bytes(&tensor);
            n_bytes = n_bytes.saturating_add(size);
            let once = once(&tensor, &name);
            let (value, held) = once.map_err(|error| unsupported(error.to_string()))?;
            if seen.insert(Arc::as_ptr(&value)) {
                n_bytes_once = n_bytes_once.saturating_add(size);
                memory.push(held);
            }
            Ok((name, value))
        });
        let by_name = by_name.collect::<Result<Vec<_>, LoadError>>()?;
        drop(seen);
        // Packed for the kernels they take as much again.
        memory.push(SharedMemory::new(n_bytes_once));
        Ok(with_known(|known| {
            known.graphs.retain(|graph| graph.strong_count() > 0);
            let graphs = known.graphs.iter().filter_map(Weak::upgrade);
            let mut alike = graphs.filter(|graph| have_same(&graph.by_name, &by_name));
            alike.next().unwrap_or_else(|| {
                let graph = Arc::new(Self {
                    by_name,
                    n_bytes,
                    memory,
                    packed: PrepackedWeights::new(),
                });
                known.graphs.push(Arc::downgrade(&graph));
                graph
            })
        }))
    }
}

impl SharedWeights {
    /// Notes that one graph more holds these.
    pub(crate) fn hold(&self) -> Vec<HeldMemory> {
        self.memory.iter().map(SharedMemory::hold).collect()
    }
}

fn size_bytes(tensor: &Tensor) -> usize {
    let size = tensor.dtype().size_bytes().unwrap_or(0);
    tensor.values().len().saturating_mul(size)
}

fn with_known<T>(look: impl FnOnce(&mut Known) -> T) -> T {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    look(known.get_or_insert_default())
}

fn have_same(left: &[(String, Arc<DynValue>)], right: &[(String, Arc<DynValue>)]) -> bool {
    let is_same = |(left, right): (&(String, Arc<DynValue>), &(String, Arc<DynValue>))| {
        left.0 == right.0 && Arc::ptr_eq(&left.1, &right.1)
    };
    left.len() == right.len() && left.iter().zip(right).all(is_same)
}

/// Returns a tensor that the runtime holds: one that is there already, if it has the same bits.
fn once(tensor: &Tensor, name: &str) -> Result<(Arc<DynValue>, SharedMemory), RunError> {
    let key = content_hash(tensor);
    let known = with_known(|known| {
        let values = known.tensors.get(&key).into_iter().flatten();
        let there = values.filter_map(|(value, memory)| Some((value.upgrade()?, memory.clone())));
        there.collect::<Vec<_>>()
    });
    for (value, memory) in known {
        let is_same = taken(&value, name).is_ok_and(|known| {
            known.shape() == tensor.shape()
                && known.dtype() == tensor.dtype()
                && bits(known.values()).is_some_and(|known| Some(known) == bits(tensor.values()))
        });
        if is_same {
            return Ok((value, memory));
        }
    }
    let value = Arc::new(kept(tensor, name)?);
    let memory = SharedMemory::new(size_bytes(tensor));
    with_known(|known| {
        known.tensors.retain(|_, values| {
            values.retain(|(value, _)| value.strong_count() > 0);
            !values.is_empty()
        });
        known
            .tensors
            .entry(key)
            .or_default()
            .push((Arc::downgrade(&value), memory.clone()));
    });
    Ok((value, memory))
}

fn content_hash(tensor: &Tensor) -> u64 {
    let mut hasher = DefaultHasher::new();
    tensor.dtype().name().hash(&mut hasher);
    tensor.shape().hash(&mut hasher);
    hasher.write(bits(tensor.values()).unwrap_or_default());
    hasher.finish()
}

/// Returns the bytes of numbers; those of texts are not shared.
fn bits(values: &Values) -> Option<&[u8]> {
    Some(match values {
        Values::Bool(items) => items.as_bytes(),
        Values::U8(items) => items.as_slice().as_bytes(),
        Values::U16(items) => items.as_slice().as_bytes(),
        Values::U32(items) => items.as_slice().as_bytes(),
        Values::U64(items) => items.as_slice().as_bytes(),
        Values::I8(items) => items.as_slice().as_bytes(),
        Values::I16(items) => items.as_slice().as_bytes(),
        Values::I32(items) => items.as_slice().as_bytes(),
        Values::I64(items) => items.as_slice().as_bytes(),
        Values::F16(items) => items.as_slice().as_bytes(),
        Values::BF16(items) => items.as_slice().as_bytes(),
        Values::F32(items) => items.as_slice().as_bytes(),
        Values::F64(items) => items.as_slice().as_bytes(),
        Values::Bytes(_) => return None,
    })
}
