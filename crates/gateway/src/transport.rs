//! How one connection is served: over HTTP/1.1 or HTTP/2, until it ends, is idle for too long, or the server drains.
//!
//! What waits for the last two is looked at only when it is woken (`Aside`): a request costs no timer, and touches nothing
//! that other connections touch.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::body::Busy;
use crate::busy_poll::BusyPoll;
use crate::connection::Handler;
use crate::patience::Patience;
use crate::preface;
use crate::server::Stage;
use crate::whole;

/// How long a client may take to answer a ping of HTTP/2.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// What a client may send of one request, and of all on a connection, before it waits for us.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// An idle connection is found this many times as often as it may be idle long: it is closed at most a quarter late.
const LOOKS_PER_TIMEOUT: u32 = 4;
/// The number of headers that hyper takes by itself, for which it needs no allocation.
const HYPER_HEADERS_MAX: usize = 100;

/// Serves one connection until it ends or, once the server drains, until its requests in flight are answered.
pub(crate) async fn serve_connection(
    stream: std::net::TcpStream,
    handler: Rc<Handler>,
    mut stage: watch::Receiver<Stage>,
) {
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    let idle_timeout = handler.shared.limits.idle_timeout;
    let begun = tokio::select! {
        begun = tokio::time::timeout(idle_timeout, preface::read(stream)) => begun,
        _draining = stage.wait_for(|stage| *stage != Stage::Serving) => return,
    };
    // A connection that ends or waits before its first request is nobody's concern but the client's.
    let Ok(Ok((version, stream))) = begun else {
        return;
    };
    match version {
        preface::Version::Http1 => serve_http1(stream, handler, stage).await,
        preface::Version::Http2 => {
            let _counted = handler.calls.occupancy.many_calls();
            Box::pin(serve_http2(stream, handler, stage)).await;
        }
    }
}

/// What a connection does, for finding out whether it is idle.
#[derive(Debug, Default)]
struct Activity {
    /// Requests in progress.
    n_busy: Rc<Cell<u64>>,
    /// Requests begun so far.
    n_begun: Cell<u64>,
    /// Writes so far: an answer may take its reader longer than a connection may be idle.
    n_writes: Rc<Cell<u64>>,
    /// What is to know of requests, too.
    busy_poll: Option<Rc<BusyPoll>>,
}

impl Activity {
    fn of(handler: &Handler) -> Self {
        Self {
            busy_poll: handler.busy_poll.clone(),
            ..Self::default()
        }
    }

    /// Counts a request, which is in progress until what is returned is dropped.
    fn begin(&self) -> Busy {
        self.n_begun.set(self.n_begun.get().wrapping_add(1));
        Busy::new(&self.n_busy, self.busy_poll.as_ref())
    }

    /// Waits until nothing was done for `timeout`. The beginning of a request's head counts for nothing.
    async fn idle(&self, timeout: Duration) {
        let mut n_quiet = 0;
        while n_quiet < LOOKS_PER_TIMEOUT {
            let before = (self.n_begun.get(), self.n_writes.get());
            tokio::time::sleep(timeout / LOOKS_PER_TIMEOUT).await;
            let is_quiet =
                self.n_busy.get() == 0 && (self.n_begun.get(), self.n_writes.get()) == before;
            n_quiet = if is_quiet { n_quiet + 1 } else { 0 };
        }
    }
}

/// Why a connection is not to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Idle,
    Draining,
}

async fn end(activity: &Activity, timeout: Duration, mut stage: watch::Receiver<Stage>) -> End {
    tokio::select! {
        _draining = stage.wait_for(|stage| *stage != Stage::Serving) => End::Draining,
        () = activity.idle(timeout) => End::Idle,
    }
}

async fn serve_http1(
    stream: preface::Rewound,
    handler: Rc<Handler>,
    stage: watch::Receiver<Stage>,
) {
    let limits = handler.shared.limits;
    let activity = Activity::of(&handler);
    let stream = stream.counting(Rc::clone(&activity.n_writes));
    let patience = Patience::of_connection();
    let service = service_fn(|request| {
        let busy = activity.begin();
        let answer = Rc::clone(&handler).handle(request, patience.clone());
        async move {
            let mut response = answer.await?;
            response.body_mut().hold(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    // How long a head may take is told by `Activity`, without a timer for each.
    builder
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes_max);
    if limits.headers_max != HYPER_HEADERS_MAX {
        builder.max_headers(limits.headers_max);
    }
    let mut end = pin!(end(&activity, limits.idle_timeout, stage));
    let Some((stream, is_last)) = answer_whole(stream, &handler, &activity, end.as_mut()).await
    else {
        return;
    };
    builder.keep_alive(!is_last);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if is_last {
        let never = pin!(std::future::pending::<()>());
        until_woken(connection.as_mut(), never, &patience).await;
        return;
    }
    // Errors here are the client's: a connection cut, a request that is no HTTP (hyper has answered it).
    if let Until::Aside(End::Draining) = until_woken(connection.as_mut(), end, &patience).await {
        connection.as_mut().graceful_shutdown();
        let never = pin!(std::future::pending::<()>());
        until_woken(connection.as_mut(), never, &patience).await;
    }
}

/// Answers the requests that come as a whole; returns the stream where one comes that is hyper's to answer, and whether it is
/// the last (`end` is over then); `None` when the connection is over.
async fn answer_whole(
    stream: preface::Rewound,
    handler: &Handler,
    activity: &Activity,
    end: Pin<&mut impl Future<Output = End>>,
) -> Option<(preface::Rewound, bool)> {
    // Their records need what hyper's requests have.
    if handler.tracer.is_some() || handler.calls.payloads.is_some() {
        return Some((stream, false));
    }
    let talk = whole::Talk::default();
    let mut whole = pin!(whole::serve(stream, handler, &talk, || activity.begin()));
    match until_woken(whole.as_mut(), end, &Patience::default()).await {
        Until::Main(stream) => stream.map(|stream| (stream, false)),
        Until::Aside(End::Draining) if !talk.is_waiting.get() => {
            talk.is_last.set(true);
            whole.await.map(|stream| (stream, true))
        }
        Until::Aside(_) => None,
    }
}

async fn serve_http2(
    stream: preface::Rewound,
    handler: Rc<Handler>,
    stage: watch::Receiver<Stage>,
) {
    let limits = handler.shared.limits;
    let activity = Rc::new(Activity::of(&handler));
    let counted = Rc::clone(&activity);
    let service = service_fn(move |request| {
        let busy = counted.begin();
        let answer = Rc::clone(&handler).handle(request, Patience::default());
        async move {
            let mut response = answer.await?;
            response.body_mut().hold(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(
        http2::Builder::new(LocalTasks)
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.idle_timeout)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let end = pin!(end(&activity, limits.idle_timeout, stage));
    let patience = Patience::default();
    let ended = until_woken(connection.as_mut(), end, &patience).await;
    if let Until::Main(_) = ended {
        return;
    }
    // No new requests; those in flight are answered.
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

/// Which of two ended first.
enum Until<M, E> {
    Main(M),
    Aside(E),
}

/// Waits for `main`, and for `end`, which is polled only when it is woken itself.
async fn until_woken<M: Future, E: Future>(
    mut main: Pin<&mut M>,
    mut end: Pin<&mut E>,
    patience: &Patience,
) -> Until<M::Output, E::Output> {
    let mut aside: Option<(Arc<Aside>, Waker)> = None;
    std::future::poll_fn(|ctx| {
        if let Poll::Ready(output) = main.as_mut().poll(ctx) {
            return Poll::Ready(Until::Main(output));
        }
        if patience.is_over()
            && let Poll::Ready(output) = main.as_mut().poll(ctx)
        {
            return Poll::Ready(Until::Main(output));
        }
        let (aside, waker) = match &mut aside {
            Some(known) if known.0.task.will_wake(ctx.waker()) => known,
            unknown => unknown.insert(Aside::of(ctx.waker())),
        };
        if !aside.is_woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let ended = end.as_mut().poll(&mut Context::from_waker(waker));
        ended.map(Until::Aside)
    })
    .await
}

/// Wakes a task, and remembers that it did.
#[derive(Debug)]
struct Aside {
    is_woken: AtomicBool,
    task: Waker,
}

impl Aside {
    /// Returns one that is woken: nothing has been polled with it yet.
    fn of(task: &Waker) -> (Arc<Self>, Waker) {
        let aside = Arc::new(Self {
            is_woken: AtomicBool::new(true),
            task: task.clone(),
        });
        (Arc::clone(&aside), Waker::from(aside))
    }
}

impl Wake for Aside {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// Runs the tasks of HTTP/2 connections on the event loop that they belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalTasks;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_aside_is_polled_when_it_is_woken_only() {
        let n_polls = Cell::new(0);
        let (send, receive) = oneshot::channel::<()>();
        let mut receive = pin!(receive);
        let end = pin!(std::future::poll_fn(|ctx| {
            n_polls.set(n_polls.get() + 1);
            receive.as_mut().poll(ctx)
        }));
        let main = pin!(async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(n_polls.get(), 1);
            assert!(send.send(()).is_ok());
            std::future::pending::<()>().await;
        });
        let until = until_woken(main, end, &Patience::default()).await;
        assert!(matches!(until, Until::Aside(Ok(()))));
        assert_eq!(n_polls.get(), 2);
        let main = pin!(async { tokio::task::yield_now().await });
        let end = pin!(std::future::pending::<()>());
        let until = until_woken(main, end, &Patience::default()).await;
        assert!(matches!(until, Until::Main(())));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_writes_keep_a_connection() {
        let activity = Activity::default();
        let (timeout, started) = (Duration::from_secs(4), tokio::time::Instant::now());
        let busy = activity.begin();
        let works = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            drop(busy);
            activity.n_writes.set(1);
            // Just before the fourth look.
            tokio::time::sleep(Duration::from_millis(3_900)).await;
            activity.n_writes.set(2);
        };
        tokio::join!(works, activity.idle(timeout));
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(17_900), "{elapsed:?}");
        assert!(elapsed <= Duration::from_millis(18_900), "{elapsed:?}");
    }
}
