//! Loading and unloading the models of `coracle serve` on request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_base::{Clock, Code};
use coracle_formats::{LoadOptions, load};
use coracle_gateway::{ControlError, IndexEntry, Log, ModelControl};
use coracle_serving::{ModelTable, Route, ServedModel, ServiceId, SharedTable};

use crate::serve::{ModelSources, ready_to_serve};

/// The models under the paths that were given at the start, looked up anew at every request.
pub(crate) struct ModelRepository {
    pub(crate) table: Arc<SharedTable>,
    pub(crate) sources: ModelSources,
    pub(crate) options: LoadOptions,
    pub(crate) n_workers: usize,
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    /// Held while the table is changed, so that no change is lost.
    pub(crate) changing: Mutex<()>,
}

impl std::fmt::Debug for ModelRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelRepository")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl ModelControl for ModelRepository {
    fn index(&self) -> Vec<IndexEntry> {
        let entry = |name: &str, is_ready: bool| IndexEntry {
            name: name.to_owned(),
            version: ServedModel::VERSION.to_owned(),
            is_ready,
            reason: if is_ready { "" } else { "unloaded" }.to_owned(),
        };
        let files = self.sources.files().unwrap_or_default();
        let mut entries: BTreeMap<String, IndexEntry> = files
            .into_iter()
            .map(|file| (file.name.clone(), entry(&file.name, false)))
            .collect();
        for name in self.table.load().names() {
            entries.insert(name.to_owned(), entry(name, true));
        }
        entries.into_values().collect()
    }

    fn load(&self, name: &str) -> Result<(), ControlError> {
        let failed = |code: Code, message: String| ControlError { code, message };
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self
            .sources
            .files()
            .map_err(|error| failed(Code::FailedPrecondition, format!("{error:#}")))?;
        let file = files.iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| failed(Code::NotFound, unknown(name)))?;
        let loaded = load(&file.path, &self.options, self.clock.as_ref()).map_err(|error| {
            let code = error.code();
            failed(code, format!("{:#}", anyhow::Error::new(error)))
        })?;
        let loaded = ready_to_serve(file, loaded, &self.log);
        let table = self.table.load();
        if let Ok(route) = table.by_name(name) {
            // What was counted stays; requests in flight end on the model that they have.
            route.choose().load(loaded);
            return Ok(());
        }
        let mut routes = routes(&table);
        let served = ServedModel::new(loaded, self.n_workers);
        routes.insert(service(name), Arc::new(Route::single(Arc::new(served))));
        self.table.store(ModelTable::from_routes(routes));
        Ok(())
    }

    fn unload(&self, name: &str) -> Result<(), ControlError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.table.load();
        let mut routes = routes(&table);
        if routes.remove(&service(name)).is_none() {
            return Err(ControlError {
                code: Code::NotFound,
                message: unknown(name),
            });
        }
        self.table.store(ModelTable::from_routes(routes));
        self.log.info(&format!("unloaded {name}"));
        Ok(())
    }
}

fn routes(table: &ModelTable) -> BTreeMap<ServiceId, Arc<Route>> {
    let routes = table.routes();
    routes
        .map(|(id, route)| (id.clone(), Arc::clone(route)))
        .collect()
}

fn service(name: &str) -> ServiceId {
    ServiceId {
        namespace: String::new(),
        name: name.to_owned(),
    }
}

fn unknown(name: &str) -> String {
    let shown: String = name.chars().take(128).collect();
    format!("Model with name {shown} does not exist.")
}
