//! Answers kept for requests that come again, for one model that is told to.
//!
//! The key is the decoded request, whole: which model was loaded, which outputs are asked for, every input's datatype, shape and
//! elements, bit by bit. What decides nothing is not in it: the protocol, the spelling of numbers, blanks, the caller's id, how the
//! answer is to be given. What is kept is the outputs, which are encoded for each caller anew. So callers of all protocols share
//! answers, and nobody gets what was another one's. Keys are compared whole; their hash, with a seed of its own, only finds them.
//!
//! Guarantees: bounded memory; an answer is given for no longer than its time; failures are never kept. A model that is not loaded
//! anew from other files keeps its answers, whether or not it was let go of in between.

mod key;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_tensor::Tensor;
use serde::{Deserialize, Serialize};

pub use self::key::CacheKey;

/// The most parts that a cache has, each behind a lock of its own.
const SHARDS_MAX: u64 = 16;
/// A part has at least so many bytes, so that large answers find room.
const SHARD_BYTES_MIN: u64 = 1 << 20;
/// What an entry takes besides its key and outputs: places in two tables.
const ENTRY_BYTES: usize = 256;

/// Stands for no bound on an answer's time.
const NO_TTL: u64 = u64::MAX;

/// How a model's answers are kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct CacheSettings {
    /// The most memory that they may take, in bytes.
    pub size_bytes: u64,
    /// How long an answer is given; `None` for as long as it is kept.
    pub ttl: Option<Duration>,
}

/// The answers of one model.
#[derive(Debug)]
pub struct ResponseCache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// The settings, which may change; nothing is kept without.
    shard_bytes_max: AtomicUsize,
    /// [`NO_TTL`] for none.
    ttl_ns: AtomicU64,
    counters: CacheCounters,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<CacheKey, Entry>,
    /// The keys by their last use, the one longest ago first.
    order: BTreeMap<u64, CacheKey>,
    next_turn: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    outputs: Arc<[Tensor]>,
    turn: u64,
    bytes: usize,
    kept_at: Duration,
}

#[derive(Debug, Default)]
struct CacheCounters {
    hits: AtomicU64,
    hit_ns: AtomicU64,
    misses: AtomicU64,
    miss_ns: AtomicU64,
    evictions: AtomicU64,
}

/// What is counted of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheTotals {
    /// Answers that were there.
    pub hits: u64,
    /// The time of looking them up.
    pub hit_time: Duration,
    /// Answers that were not.
    pub misses: u64,
    /// The time of looking for them, and of keeping them.
    pub miss_time: Duration,
    /// Answers that went for want of room.
    pub evictions: u64,
    /// Answers that are there.
    pub n_entries: u64,
    /// The memory that they take.
    pub bytes: u64,
}

impl ResponseCache {
    /// Returns an empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        let n_shards = (settings.size_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let mut shards = Vec::new();
        let n = usize::try_from(n_shards).unwrap_or(1);
        shards.resize_with(n, Mutex::default);
        let cache = Self {
            shards,
            hasher: RandomState::new(),
            shard_bytes_max: AtomicUsize::new(0),
            ttl_ns: AtomicU64::new(NO_TTL),
            counters: CacheCounters::default(),
        };
        cache.set(Some(settings));
        cache
    }

    /// Keeps answers in this way from now on; with `None`, none.
    pub fn set(&self, settings: Option<CacheSettings>) {
        let bytes = settings.map_or(0, |settings| settings.size_bytes);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX) / self.shards.len();
        let ttl = settings.and_then(|settings| settings.ttl);
        let to_ns = |ttl: Duration| u64::try_from(ttl.as_nanos()).unwrap_or(NO_TTL);
        self.ttl_ns
            .store(ttl.map_or(NO_TTL, to_ns), Ordering::Relaxed);
        if self.shard_bytes_max.swap(bytes, Ordering::Relaxed) > bytes {
            for shard in &self.shards {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                self.make_room(&mut shard, 0, bytes);
            }
        }
    }

    /// Tells whether answers are kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shard_bytes_max.load(Ordering::Relaxed) > 0
    }

    /// Returns the answer to a request, if it is there at `now`.
    #[must_use]
    pub fn find(&self, key: &CacheKey, now: Duration) -> Option<Arc<[Tensor]>> {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        let next_turn = shard.next_turn;
        let entry = shard.entries.get_mut(key)?;
        let age = now.saturating_sub(entry.kept_at);
        let ttl_ns = self.ttl_ns.load(Ordering::Relaxed);
        if ttl_ns != NO_TTL && age >= Duration::from_nanos(ttl_ns) {
            shard.remove(key);
            return None;
        }
        let before = std::mem::replace(&mut entry.turn, next_turn);
        let outputs = Arc::clone(&entry.outputs);
        if let Some(key) = shard.order.remove(&before) {
            shard.order.insert(next_turn, key);
        }
        shard.next_turn += 1;
        Some(outputs)
    }

    /// Keeps the answer to a request that was given at `now`; one that is larger than there is room for is not kept.
    pub fn keep(&self, key: CacheKey, outputs: &[Tensor], now: Duration) {
        let outputs_bytes: usize = outputs.iter().map(key::tensor_bytes).sum();
        let bytes = key.len() + outputs_bytes + ENTRY_BYTES;
        let bytes_max = self.shard_bytes_max.load(Ordering::Relaxed);
        if bytes > bytes_max {
            return;
        }
        let outputs: Arc<[Tensor]> = outputs.into();
        let mut shard = self.shard(&key);
        shard.remove(&key);
        self.make_room(&mut shard, bytes, bytes_max);
        let turn = shard.next_turn;
        shard.next_turn += 1;
        shard.bytes += bytes;
        shard.order.insert(turn, key.clone());
        let entry = Entry {
            outputs,
            turn,
            bytes,
            kept_at: now,
        };
        shard.entries.insert(key, entry);
    }

    /// Counts an answer that was there, found in `elapsed`.
    pub fn count_hit(&self, elapsed: Duration) {
        add(&self.counters.hits, &self.counters.hit_ns, elapsed);
    }

    /// Counts an answer that was not there; looking for it and keeping it took `elapsed`.
    pub fn count_miss(&self, elapsed: Duration) {
        add(&self.counters.misses, &self.counters.miss_ns, elapsed);
    }

    /// Returns what is counted.
    #[must_use]
    pub fn totals(&self) -> CacheTotals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let CacheCounters {
            hits,
            hit_ns,
            misses,
            miss_ns,
            evictions,
        } = &self.counters;
        let mut totals = CacheTotals {
            hits: load(hits),
            hit_time: Duration::from_nanos(load(hit_ns)),
            misses: load(misses),
            miss_time: Duration::from_nanos(load(miss_ns)),
            evictions: load(evictions),
            ..CacheTotals::default()
        };
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            totals.n_entries += u64::try_from(shard.entries.len()).unwrap_or(0);
            totals.bytes += u64::try_from(shard.bytes).unwrap_or(0);
        }
        totals
    }

    /// Lets go of what was used longest ago until `bytes` more are within `bytes_max`.
    fn make_room(&self, shard: &mut Shard, bytes: usize, bytes_max: usize) {
        while shard.bytes + bytes > bytes_max {
            let Some((_, oldest)) = shard.order.pop_first() else {
                break;
            };
            shard.remove(&oldest);
            self.counters.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shard(&self, key: &CacheKey) -> std::sync::MutexGuard<'_, Shard> {
        let n = u64::try_from(self.shards.len()).unwrap_or(1);
        let index = usize::try_from(self.hasher.hash_one(key) % n).unwrap_or(0);
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.turn);
            self.bytes -= entry.bytes;
        }
    }
}

fn add(counter: &AtomicU64, sum: &AtomicU64, elapsed: Duration) {
    counter.fetch_add(1, Ordering::Relaxed);
    let ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
    sum.fetch_add(ns, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

    use super::*;

    fn cache(size: u64, ttl: Option<Duration>) -> ResponseCache {
        ResponseCache::new(CacheSettings {
            size_bytes: size,
            ttl,
        })
    }

    fn answer(number: f64) -> [Tensor; 1] {
        [Tensor::from_values(Values::F64(vec![number].into()))]
    }

    fn key(number: f64) -> CacheKey {
        CacheKey::new(1, &answer(number), &[0])
    }

    #[test]
    fn answers_are_given_until_their_time_is_over() {
        let cache = cache(1 << 20, Some(Duration::from_secs(60)));
        let at = Duration::from_secs;
        assert!(cache.find(&key(1.0), at(1)).is_none());
        cache.keep(key(1.0), &answer(10.0), at(1));
        assert_eq!(*cache.find(&key(1.0), at(60)).unwrap(), answer(10.0));
        assert!(cache.find(&key(2.0), at(60)).is_none());
        assert!(cache.find(&key(1.0), at(61)).is_none());
        assert_eq!(cache.totals(), CacheTotals::default());
        // Using an answer does not make it younger; giving it anew does.
        cache.keep(key(1.0), &answer(10.0), at(61));
        cache.keep(key(1.0), &answer(11.0), at(62));
        assert_eq!(*cache.find(&key(1.0), at(121)).unwrap(), answer(11.0));
        assert_eq!(cache.totals().n_entries, 1);
    }

    #[test]
    fn memory_is_bounded_and_what_was_used_longest_ago_goes() {
        let one = {
            let cache = cache(1 << 20, None);
            cache.keep(key(0.0), &answer(0.0), Duration::ZERO);
            cache.totals().bytes
        };
        let cache = cache(3 * one, None);
        for number in [0.0, 1.0, 2.0] {
            cache.keep(key(number), &answer(number), Duration::ZERO);
        }
        assert!(cache.find(&key(0.0), Duration::MAX).is_some());
        cache.keep(key(3.0), &answer(3.0), Duration::ZERO);
        let are_there =
            [0.0, 1.0, 2.0, 3.0].map(|number| cache.find(&key(number), Duration::ZERO).is_some());
        assert_eq!(are_there, [true, false, true, true]);
        let totals = cache.totals();
        assert_eq!(
            (totals.bytes, totals.n_entries, totals.evictions),
            (3 * one, 3, 1)
        );
        // What is larger than all of it takes nobody's place.
        let large = [Tensor::from_values(Values::F64(vec![0.0; 4_096].into()))];
        cache.keep(key(4.0), &large, Duration::ZERO);
        assert!(cache.find(&key(4.0), Duration::ZERO).is_none());
        assert_eq!(cache.totals().n_entries, 3);
    }

    #[test]
    fn settings_change_while_answers_are_kept() {
        let cache = cache(1 << 20, None);
        let settings = |size_bytes, seconds| {
            let ttl = Some(Duration::from_secs(seconds));
            Some(CacheSettings { size_bytes, ttl })
        };
        for number in [0.0, 1.0, 2.0] {
            cache.keep(key(number), &answer(number), Duration::ZERO);
        }
        let one = cache.totals().bytes / 3;
        cache.set(settings(one, 60));
        assert_eq!(cache.totals().n_entries, 1);
        assert!(cache.find(&key(2.0), Duration::from_secs(59)).is_some());
        assert!(cache.find(&key(2.0), Duration::from_secs(60)).is_none());
        cache.set(None);
        cache.keep(key(2.0), &answer(2.0), Duration::ZERO);
        assert!(!cache.is_on() && cache.totals().n_entries == 0);
    }

    #[test]
    fn threads_share_a_cache() {
        let cache = cache(64 << 10, None);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for number in (0..2_000).map(|n| f64::from(n * (thread % 2 + 1))) {
                        match cache.find(&key(number), Duration::ZERO) {
                            Some(outputs) => assert_eq!(*outputs, answer(-number)),
                            None => cache.keep(key(number), &answer(-number), Duration::ZERO),
                        }
                    }
                });
            }
        });
        let totals = cache.totals();
        assert!(totals.bytes <= 64 << 10 && totals.n_entries > 0 && totals.evictions > 0);
    }
}
