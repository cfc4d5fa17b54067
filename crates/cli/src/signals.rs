//! SIGTERM, SIGINT and Ctrl-C.

use anyhow::Context as _;
use coracle_gateway::Log;
use tokio::sync::oneshot;

/// Returns a future that is done at the first SIGTERM, SIGINT or Ctrl-C; a second one ends the process at once.
pub(crate) fn shutdown_signal(log: &Log) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let (told, wait) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let log = log.clone();
    // Detached: it lives as long as the process, on a runtime of its own so that no worker can hold it up.
    std::thread::Builder::new()
        .name("coracle-signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?;
            runtime.block_on(async {
                let mut signals = Signals::listen()?;
                if ready.send(()).is_err() {
                    return Ok(());
                }
                signals.next().await;
                log.info("stopping: finishing what is in flight; signal again to stop at once");
                drop(log);
                // If nobody waits any more, the server is stopping already.
                let is_stopping = told.send(()).is_err();
                debug_assert!(!is_stopping, "the first signal is the first to tell");
                signals.next().await;
                std::process::exit(130);
                #[expect(unreachable_code, reason = "gives the block its type")]
                std::io::Result::Ok(())
            })
        })
        .context("cannot start the signal thread")?;
    is_ready.recv().context("cannot listen for signals")?;
    Ok(async move {
        // A signal thread that is gone cannot be told to stop by; then only SIGKILL stops the process.
        if wait.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// The signals that tell a program to stop.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _received = self.terminate.recv() => {}
            _received = self.interrupt.recv() => {}
        }
    }
}

/// The signal that tells a program to stop.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}
