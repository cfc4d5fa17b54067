//! Bounded waits that cost no timer where there is nothing to wait for.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Tells the task of a connection that one of its futures is pending and has no timer yet.
///
/// HTTP/1.1 hands a body over only once it was asked for, within the same turn of the connection's task. The first time that
/// a body is pending therefore says nothing, and no timer is set; the task polls again before it goes to sleep, and then
/// the timer is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    is_untimed: Option<Rc<Cell<bool>>>,
}

impl Patience {
    /// Returns the patience of a connection whose task looks at [`Patience::is_over`] before it sleeps.
    pub(crate) fn of_connection() -> Self {
        Self {
            is_untimed: Some(Rc::default()),
        }
    }

    /// Tells, once, whether what is pending wants to be polled again to set its timer.
    pub(crate) fn is_over(&self) -> bool {
        let is_untimed = self.is_untimed.as_ref();
        is_untimed.is_some_and(|is_untimed| is_untimed.replace(false))
    }

    fn begin(&self) -> bool {
        if let Some(is_untimed) = &self.is_untimed {
            is_untimed.set(true);
        }
        self.is_untimed.is_some()
    }

    /// Waits for `future`, for `limit` at most, and tells whether a timer was needed; `None` if the time was over.
    pub(crate) async fn wait<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Option<(F::Output, bool)> {
        let mut future = pin!(future);
        let mut may_go_on = true;
        let at_once = std::future::poll_fn(|ctx| match future.as_mut().poll(ctx) {
            Poll::Ready(output) => {
                self.is_over();
                Poll::Ready(Some(output))
            }
            Poll::Pending if std::mem::take(&mut may_go_on) && self.begin() => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(output) = at_once.await {
            return Some((output, false));
        }
        let output = tokio::time::timeout(limit, future).await;
        output.ok().map(|output| (output, true))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_there_needs_no_timer() {
        for patience in [Patience::default(), Patience::of_connection()] {
            assert_eq!(patience.wait(LIMIT, ready(7)).await, Some((7, false)));
            assert!(!patience.is_over());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_pending_is_bounded() {
        assert_eq!(Patience::default().wait(LIMIT, pending::<()>()).await, None);
        let patience = Patience::of_connection();
        let mut wait = pin!(patience.wait(LIMIT, pending::<()>()));
        let waited = std::future::poll_fn(|ctx| {
            // As the task of a connection does it.
            let mut polled = wait.as_mut().poll(ctx);
            if polled.is_pending() && patience.is_over() {
                polled = wait.as_mut().poll(ctx);
            }
            polled
        });
        assert_eq!(waited.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_at_the_second_look_needs_no_timer() {
        let patience = Patience::of_connection();
        let mut n_polls = 0;
        let second = std::future::poll_fn(|_ctx| {
            n_polls += 1;
            if n_polls == 2 {
                Poll::Ready(5)
            } else {
                Poll::Pending
            }
        });
        let mut wait = pin!(patience.wait(LIMIT, second));
        let waited = std::future::poll_fn(|ctx| {
            let first = wait.as_mut().poll(ctx);
            if first.is_ready() {
                first
            } else {
                wait.as_mut().poll(ctx)
            }
        });
        assert_eq!(waited.await, Some((5, false)));
        assert!(!patience.is_over());
    }
}
