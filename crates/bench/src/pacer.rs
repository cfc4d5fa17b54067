//! Waiting until a moment, more exactly than the runtime's timers, which tick in milliseconds.

use std::io;

use tokio::time::Instant;

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    use super::io;

    /// A timer of the kernel, in nanoseconds.
    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "unsound for types that give up their descriptor; an OwnedFd keeps it"
            )]
            let timer = AsyncFd::new(timer)?;
            Ok(Self(timer))
        }

        pub(super) async fn sleep(&self, time: Duration) -> io::Result<()> {
            let value = Timespec {
                tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: time.subsec_nanos().into(),
            };
            let once = Itimerspec {
                it_interval: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value: value,
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.0.readable().await?;
                let mut n_expired = [0; 8];
                let read = ready.try_io(|timer| {
                    rustix::io::read(timer.get_ref(), &mut n_expired).map_err(io::Error::from)
                });
                match read {
                    Ok(result) => return result.map(drop),
                    Err(_not_yet) => {}
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Duration;

    use super::io;

    /// The runtime's own timers.
    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn sleep(&self, time: Duration) -> io::Result<()> {
            tokio::time::sleep(time).await;
            Ok(())
        }
    }
}

/// Waits for one moment after the other.
#[derive(Debug)]
pub(crate) struct Pacer(system::Timer);

impl Pacer {
    /// Returns one for the runtime that it is called on.
    pub(crate) fn new() -> io::Result<Self> {
        system::Timer::new().map(Self)
    }

    /// Waits until `moment`; one that is past is over at once.
    pub(crate) async fn wait_until(&self, moment: Instant) -> io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        self.0.sleep(left).await
    }
}
