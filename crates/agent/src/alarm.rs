//! Wakes the loop at a time of the agent's clock. Timers of the async runtime stand still while the host sleeps; this one
//! is due at once when it wakes up.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::read,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{clock::BootTime, readiness};

#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set: Option<BootTime>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Alarm> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Alarm { timer: readiness::owned(timer, Interest::READABLE)?, set: None })
    }

    /// Waits until then. May be dropped and asked again at any time.
    pub(crate) async fn at(&mut self, time: BootTime) -> io::Result<()> {
        if self.set != Some(time) {
            timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once(time))?;
            self.set = Some(time);
        }
        loop {
            let mut ready = self.timer.readable().await?;
            // What is ready may be an expiry of before it was set anew: then there is nothing to read.
            if let Ok(expired) = ready.try_io(|timer| Ok(read(timer.get_ref(), &mut [0; 8])?)) {
                self.set = None;
                return expired.map(drop);
            }
        }
    }
}

fn once(BootTime(at): BootTime) -> Itimerspec {
    // All zero would turn it off.
    let nanos = (at.0 % 1_000 * 1_000_000).max(1);
    Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: (at.0 / 1_000) as _, tv_nsec: nanos as _ },
    }
}
