//! Calls beside those of users, such as a shadow's: users do not notice them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Lease, Refusal, ServedModel};
use crate::admission::deadline_in;

impl ServedModel {
    /// Waits, for `time` at most, until the model is in memory; wakes it if it was let go of.
    ///
    /// Unlike with [`ServedModel::enter`], the call takes no place of those that limit the concurrency, since a user would wait for it; it is
    /// not among those that wait; and a model that was set aside is not tried again for it. Such calls run by [`Lease`]'s own `run`, after
    /// which the model is as well as before. The caller bounds how many there are.
    ///
    /// # Errors
    /// [`Refusal`] if the model was set aside, the time is over, or it cannot be loaded.
    pub async fn enter_aside(&self, time: Duration) -> Result<Lease, Refusal> {
        if self.is_forwarded() {
            return Err(Refusal::Forwarded);
        }
        let deadline = deadline_in(time);
        loop {
            let loaded = self.loaded.load();
            if loaded.is_some() {
                return Ok(Lease {
                    loaded,
                    _place: None,
                    _of_service: None,
                    _of_flow: None,
                });
            }
            drop(loaded);
            if let Some(why) = self.health.why_aside(Instant::now()) {
                return Err(Refusal::SetAside(why));
            }
            // Those who wait are told of it first.
            if self.n_waiting() == 0 {
                self.failure.store(None);
            }
            self.woken(deadline).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::tests::{asleep, loaded, served};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_call_aside_takes_no_place_and_is_not_among_those_that_wait() {
        let (model, woken) = asleep();
        model.set_concurrency(Some(1));
        let (entered, ()) = tokio::join!(model.enter_aside(SECOND), async {
            tokio::task::yield_now().await;
            assert_eq!(model.n_waiting(), 0);
            model.load(loaded("a", false));
        });
        let aside = entered.unwrap();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        // The one place is free, and while it is taken there is another call aside.
        let user = model.try_enter().unwrap();
        assert!(model.enter_aside(SECOND).await.is_ok());
        drop((aside, user));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_aside_sets_no_model_aside_and_nothing_set_aside_is_tried_for_it() {
        let model = served("bad", true);
        for _ in 0..20 {
            let lease = model.enter_aside(SECOND).await.unwrap();
            assert!(lease.run(&[], &[]).is_err());
        }
        assert_eq!((model.n_panics(), model.trouble()), (0, None));
        for _ in 0..5 {
            let lease = model.try_enter().unwrap();
            assert!(model.run(&lease, &[], &[], SECOND).is_err());
        }
        for _ in 0..2 {
            let refused = model.enter_aside(SECOND).await.unwrap_err();
            assert!(matches!(refused, Refusal::SetAside(_)), "{refused:?}");
            // The second time, the pause is over.
            tokio::time::advance(Duration::from_secs(3_600)).await;
        }
        // A user's call takes it back.
        assert!(model.enter(SECOND).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_fails_fails_the_call_and_the_next_one_wakes_again() {
        let (model, woken) = asleep();
        for n_woken in 1..3 {
            let (entered, ()) = tokio::join!(model.enter_aside(SECOND), async {
                tokio::task::yield_now().await;
                model.fail("no such file");
            });
            let refused = Refusal::Failed("no such file".to_owned());
            assert_eq!(entered.unwrap_err(), refused);
            assert_eq!(woken.load(Ordering::Relaxed), n_woken);
        }
        assert_eq!(
            model.enter_aside(SECOND).await.unwrap_err(),
            Refusal::Deadline
        );
    }
}
