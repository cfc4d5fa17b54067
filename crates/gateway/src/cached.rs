//! Calls to models that keep their answers: looked up once they are decoded, kept once they have run.

use std::time::Duration;

use coracle_protocol::EncodeContext;
use coracle_serving::{CacheKey, LoadedModel, ResponseCache, ServedModel, Writer};
use coracle_tensor::Tensor;

use crate::codec::{Codec, Encoded};
use crate::infer::{Calls, Decoded, Failure};
use crate::shadow::Answered;

/// Where an answer is to be kept that was not there.
#[derive(Debug)]
pub(crate) struct Missing {
    key: CacheKey,
    /// How long it was looked for.
    looked: Duration,
}

impl Calls {
    /// Returns the answer to a decoded call if it is kept; else notes where it is to be kept.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_up(
        &self,
        model: &ServedModel,
        cache: &ResponseCache,
        loaded: &LoadedModel,
        codec: &Codec,
        decoded: &mut Decoded,
    ) -> Option<Result<Encoded, Failure>> {
        let started = self.clock.monotonic();
        let call = &decoded.call;
        let key = CacheKey::new(loaded.content(), &call.inputs, &call.outputs);
        let found = cache.find(&key, started);
        let looked = self.clock.monotonic().saturating_sub(started);
        let Some(outputs) = found else {
            decoded.missing = Some(Box::new(Missing { key, looked }));
            return None;
        };
        cache.count_hit(looked);
        let ctx = EncodeContext {
            model_name: model.name(),
            model_version: model.version(),
            signature: loaded.model().signature(),
            regions: self.shared_memory.as_ref(),
        };
        let encoded = codec.encode(&ctx, call, &outputs);
        let elapsed = self.clock.monotonic().saturating_sub(started);
        let statistics = model.statistics();
        statistics.compute(Writer::Other, decoded.decode + elapsed);
        let answered = Answered::copied(
            decoded.arrival.copy,
            ctx.signature,
            (call, &outputs),
            decoded.decode + elapsed,
        );
        let answer = encoded.map(|encoded| Encoded {
            from_cache: true,
            answered,
            ..encoded
        });
        Some(answer.map_err(Failure::from))
    }

    /// Keeps the outputs of a call that went well.
    #[cold]
    #[inline(never)]
    pub(crate) fn keep(&self, model: &ServedModel, missing: Missing, outputs: &[Tensor]) {
        let Some(cache) = model.response_cache() else {
            return;
        };
        let started = self.clock.monotonic();
        cache.keep(missing.key, outputs, started);
        let elapsed = self.clock.monotonic().saturating_sub(started);
        cache.count_miss(missing.looked + elapsed);
    }
}
