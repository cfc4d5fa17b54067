//! The leave to run a model, or to send a request to one of its processes: who gets it at once, and who waits for what.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::Guard;
use tokio::time::Instant;

use super::ServedModel;
use crate::Priority;
use crate::admission::{Place, Refusal, deadline_in};
use crate::backends::{BackendCall, Backends};
use crate::flow::FlowLease;
use crate::loaded_model::LoadedModel;
use crate::process::Endpoints;

/// The leave to run a model now. While it is held, the model stays in memory and its place is taken.
#[derive(Debug)]
pub struct Lease {
    pub(super) loaded: Guard<Option<Arc<LoadedModel>>>,
    pub(super) _place: Place,
    /// Its place among the requests of its service.
    pub(super) _of_service: Place,
    /// The place of the flow that it runs for.
    pub(super) _of_flow: Option<Arc<FlowLease>>,
}

impl Lease {
    /// Returns it as one that holds the place of the flow that it runs for, too.
    #[must_use]
    pub fn within(self, flow: Arc<FlowLease>) -> Self {
        Self {
            _of_flow: Some(flow),
            ..self
        }
    }

    /// Returns the model, for threads that help with its run while the lease is held.
    pub(crate) fn shared(&self) -> Option<Arc<LoadedModel>> {
        Option::clone(&self.loaded)
    }
}

impl Deref for Lease {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        self.loaded
            .as_ref()
            .expect("a lease is made of a model that is there")
    }
}

/// The leave to send a request to a process. While it is held, the request counts as one of the process's and its
/// place is taken.
#[derive(Debug)]
pub struct ProcessLease {
    call: BackendCall,
    place: Place,
    of_service: Place,
}

impl ProcessLease {
    /// Returns where the process takes requests.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        self.call.endpoints()
    }

    /// Gives its places back before the answer has been read: another one of the same service may need them to answer in its place.
    pub fn make_room(&mut self) {
        drop((self.place.take(), self.of_service.take()));
    }
}

impl ServedModel {
    /// Returns how many calls wait for the model or for a place.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.admission.n_waiting()
    }

    /// Returns the leave to run now, if there is nothing to wait for. Touches nothing that other threads write to, unless
    /// the concurrency is limited.
    #[must_use]
    pub fn try_enter(&self) -> Option<Lease> {
        let loaded = self.loaded.load();
        loaded.as_ref()?;
        let of_service = self.try_place_of_service()?;
        let place = self.admission.try_place()?;
        Some(Lease {
            loaded,
            _place: place,
            _of_service: of_service,
            _of_flow: None,
        })
    }

    /// Takes a place among the requests of the model's service if one is free, or if there may be any number of them.
    fn try_place_of_service(&self) -> Option<Place> {
        if !self.has_fallback() {
            return Some(None);
        }
        let fallback = self.fallback.load();
        let bulkhead = fallback.as_ref().and_then(|own| own.bulkhead());
        bulkhead.map_or(Some(None), |bulkhead| bulkhead.try_place())
    }

    /// Waits for a place among the requests of the model's service, if there may only be so many.
    async fn place_of_service(
        &self,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Place, Refusal> {
        if let Some(place) = self.try_place_of_service() {
            return Ok(place);
        }
        let fallback = self.fallback();
        match fallback.as_ref().and_then(|own| own.bulkhead()) {
            Some(bulkhead) => bulkhead.place(priority, deadline).await,
            None => Ok(None),
        }
    }

    /// Waits, for `time` at most, until the model is in memory and there is a place to run; wakes it if it was let go of.
    ///
    /// # Errors
    /// [`Refusal`] if too many wait, the time is over, or the model cannot be loaded.
    ///
    /// # Cancel safety
    /// A wait that is dropped leaves its place in the queue.
    pub async fn enter(&self, time: Duration) -> Result<Lease, Refusal> {
        self.enter_as(Priority::DEFAULT, time).await
    }

    /// As [`ServedModel::enter`], with a priority among those that wait for a place.
    ///
    /// # Errors
    /// [`Refusal`] if too many wait, the time is over, or the model cannot be loaded.
    pub async fn enter_as(&self, priority: Priority, time: Duration) -> Result<Lease, Refusal> {
        if self.is_forwarded() {
            return Err(Refusal::Forwarded);
        }
        let deadline = deadline_in(time);
        loop {
            let of_service = self.place_of_service(priority, deadline).await?;
            let place = match self.admission.try_place() {
                Some(place) => place,
                None => self.admission.place(priority, deadline).await?,
            };
            let loaded = self.loaded.load();
            if loaded.is_some() {
                return Ok(Lease {
                    loaded,
                    _place: place,
                    _of_service: of_service,
                    _of_flow: None,
                });
            }
            // Those who wait for the model hold no place.
            drop((loaded, place, of_service));
            match self.health.take_back(Instant::now()) {
                Ok(Some(model)) => self.loaded.store(Some(model)),
                Ok(None) => self.wait_for_model(deadline).await?,
                Err(why) => return Err(Refusal::SetAside(why)),
            }
        }
    }

    /// Returns a process that takes a request at once and is not in `except`; `None` if there is none, or all places are taken.
    pub fn try_enter_process(&self, except: &[SocketAddr]) -> Option<ProcessLease> {
        let backends = self.backends.as_ref()?;
        let of_service = self.try_place_of_service()?;
        let place = self.admission.try_place()?;
        Some(ProcessLease {
            call: backends.choose(except)?,
            place,
            of_service,
        })
    }

    /// Waits, for `time` at most, until a process may take a request; starts one if there is none. One in `except` is
    /// taken only if there is no other. Who `gives_up` does not wait for one that ended, or does not answer its probes, to be there again.
    ///
    /// # Errors
    /// [`Refusal`] if too many wait, the time is over, or no process can be started.
    ///
    /// # Cancel safety
    /// A wait that is dropped leaves its place in the queue.
    pub async fn enter_process(
        &self,
        priority: Priority,
        time: Duration,
        (except, gives_up): (&[SocketAddr], impl Fn() -> bool),
    ) -> Result<ProcessLease, Refusal> {
        let Some(backends) = &self.backends else {
            return Err(Refusal::Failed("no processes serve it".to_owned()));
        };
        let deadline = deadline_in(time);
        loop {
            let of_service = self.place_of_service(priority, deadline).await?;
            let place = match self.admission.try_place() {
                Some(place) => place,
                None => self.admission.place(priority, deadline).await?,
            };
            let call = backends.choose(except).or_else(|| backends.choose(&[]));
            if let Some(call) = call {
                return Ok(ProcessLease {
                    call,
                    place,
                    of_service,
                });
            }
            // Those who wait for a process hold no place.
            drop((place, of_service));
            if !gives_up() {
                self.wait_for_model(deadline).await?;
                continue;
            }
            tokio::select! {
                biased;
                () = lost(backends) => {
                    let why = "its process ended or does not answer, and another one is not there yet";
                    return Err(Refusal::Failed(why.to_owned()));
                }
                waited = self.wait_for_model(deadline) => waited?,
            }
        }
    }

    async fn wait_for_model(&self, deadline: tokio::time::Instant) -> Result<(), Refusal> {
        let _waiting = self.admission.queue_for_model()?;
        self.failure.store(None);
        self.woken(deadline).await
    }

    /// Wakes the model, and waits for it.
    pub(super) async fn woken(&self, deadline: tokio::time::Instant) -> Result<(), Refusal> {
        let Some(wake) = &self.wake else {
            let why = self.absent.as_deref().unwrap_or("nothing loads it");
            return Err(Refusal::Absent(why.to_owned()));
        };
        loop {
            let mut changed = std::pin::pin!(self.admission.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.is_loaded() {
                return Ok(());
            }
            if self.is_retired.load(Ordering::Acquire) {
                return Err(Refusal::Failed("it is no longer served".to_owned()));
            }
            if let Some(why) = self.failure.load_full() {
                return Err(Refusal::Failed(why.as_ref().clone()));
            }
            // Anew after every change: it may have been there, and gone again to make room, before its turn to look came.
            wake();
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(deadline) => return Err(Refusal::Deadline),
            }
        }
    }
}

/// Waits until the processes that there were are lost.
async fn lost(backends: &Backends) {
    loop {
        let mut changed = std::pin::pin!(backends.changed.notified());
        // From here on no change is missed.
        changed.as_mut().enable();
        if backends.are_lost() {
            return;
        }
        changed.await;
    }
}
