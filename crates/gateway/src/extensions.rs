//! Triton's extensions of V2 over REST: configuration, statistics, repository, shared memory.

use bytes::Bytes;
use coracle_protocol::facts::RegionEntry;
use coracle_protocol::v2;
use coracle_serving::ServedModel;

use crate::arriving::Arriving;
use crate::connection::{Asked, Handler};
use crate::infer::Failure;
use crate::respond::Reply;
use crate::route::{Extension, Named};

impl Handler {
    /// Answers a request of one of the extensions.
    pub(crate) async fn extension(
        &self,
        asked: &Asked<'_>,
        extension: &Extension<'_>,
        body: Arriving,
    ) -> Reply {
        let named = |named: &Named<'_>| asked.model(&named.model, named.version.as_ref());
        match extension {
            Extension::Config(model) => match named(model) {
                Ok(model) => self.described(asked, model, v2::model_config).await,
                Err(reply) => reply,
            },
            Extension::Statistics(model) => match named(model) {
                Ok(one) => {
                    let any = model.version.is_none();
                    let models = asked.scope.counted(asked.table, one, any);
                    self.statistics(models.into_iter())
                }
                Err(reply) => reply,
            },
            Extension::AllStatistics => self.statistics(asked.table.iter()),
            Extension::RegionStatus(name) => {
                match self.calls.shared_memory.status(name.as_deref()) {
                    Ok(regions) => Reply::rendered(|out| v2::region_status(&regions, out)),
                    Err(error) => Reply::failure(error.code(), &error.to_string()),
                }
            }
            Extension::NoRegions => Reply::json(b"[]".to_vec()),
            Extension::NoUnregister => Reply::json(Vec::new()),
            Extension::Index
            | Extension::Load(_)
            | Extension::Unload(_)
            | Extension::RegisterRegion(_)
            | Extension::UnregisterRegion(_) => {
                let body = match self.read_whole(asked.headers, body).await {
                    Ok((body, _arrived)) => body,
                    Err(reply) => return reply,
                };
                let changed = self.change(asked, extension, body).await;
                changed.unwrap_or_else(|failure| Reply::failure(failure.code, &failure.message))
            }
        }
    }

    fn statistics<'m>(&self, models: impl Iterator<Item = &'m ServedModel>) -> Reply {
        let counters = models.map(|model| self.counters(model));
        Reply::rendered(|out| v2::model_statistics(counters, out))
    }

    /// Answers what has a body, most of which changes something.
    async fn change(
        &self,
        asked: &Asked<'_>,
        extension: &Extension<'_>,
        body: Bytes,
    ) -> Result<Reply, Failure> {
        if matches!(extension, Extension::Index) {
            let entries = self.index(v2::decode_index(&body)?);
            return Ok(Reply::rendered(|out| v2::repository_index(&entries, out)));
        }
        self.shared.cors.check_change(asked.headers)?;
        match extension {
            Extension::Load(name) => {
                v2::check_load(&body)?;
                self.load_model(name.clone().into_owned()).await?;
            }
            Extension::Unload(name) => self.unload_model(name.clone().into_owned()).await?,
            Extension::RegisterRegion(name) => {
                let region = v2::RegisterRegion::decode(&body)?;
                self.calls.shared_memory.register(RegionEntry {
                    name: name.clone().into_owned(),
                    key: region.key,
                    offset: region.offset,
                    byte_size: region.byte_size,
                })?;
            }
            Extension::UnregisterRegion(name) => {
                self.calls.shared_memory.unregister(name.as_deref());
            }
            _ => {}
        }
        Ok(Reply::json(Vec::new()))
    }
}
