//! How the kernel shares processors between a daemon's threads and everybody else's.
//!
//! The daemons take `SCHED_BATCH` (sched(7)): who wakes up waits for its turn instead of pushing aside who is at work, be it one of ours or a stranger. A message
//! goes through a dozen wake-ups, and with the ordinary policy most of them interrupt the very thread that was about to hand over the next message as
//! well. The share of the processors stays the same, and on a machine that is not busy nothing changes at all. Where others fill all processors,
//! a message takes some milliseconds more. doc/performance.md has the figures.

use rustix::process::getpriority_process;
use std::io;
use thread_priority::{
    Error, NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

const ORDINARY: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
const BATCH: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

/// Takes `SCHED_BATCH` for this thread and those it starts from now on: to be called before there are others. What an administrator has set (`CPUSchedulingPolicy=` of
/// the unit, chrt(1)) stays as it is, and so does the nice value. Where it is forbidden, everything works all the same: the log says so.
pub fn take_batch_policy() {
    if let Err(error) = try_to() {
        crate::info!("SCHED_BATCH cannot be had, which costs some speed under load: {error}");
    }
}

fn try_to() -> Result<(), String> {
    if thread_schedule_policy().map_err(readable)? != ORDINARY {
        return Ok(());
    }
    let nice = getpriority_process(None).map_err(|error| error.to_string())?;
    let priority = priority(nice).ok_or_else(|| format!("unknown nice value {nice}"))?;
    set_thread_priority_and_policy(thread_native_id(), priority, BATCH).map_err(readable)
}

/// The library has the system's errors as bare numbers.
fn readable(error: Error) -> String {
    match error {
        Error::OS(number) => io::Error::from_raw_os_error(number).to_string(),
        other => other.to_string(),
    }
}

/// The library sets a nice value with the policy, and counts them from 0 to 99: the one that means `nice`.
fn priority(nice: i32) -> Option<ThreadPriority> {
    let all = (0..=99_u8).filter_map(|value| ThreadPriorityValue::try_from(value).ok());
    all.map(ThreadPriority::Crossplatform).find(|one| one.to_posix(BATCH).ok() == Some(nice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nice_value_can_be_kept() {
        for nice in -20..20 {
            assert_eq!(priority(nice).map(|one| one.to_posix(BATCH).unwrap()), Some(nice));
        }
        assert!(priority(20).is_none() && priority(-21).is_none());
    }

    #[test]
    fn threads_started_afterwards_inherit_it_and_a_policy_of_somebody_else_stays() {
        let policies = std::thread::spawn(|| {
            let nice = getpriority_process(None).unwrap();
            take_batch_policy();
            let of_child = std::thread::spawn(|| thread_schedule_policy().unwrap()).join().unwrap();
            assert_eq!(getpriority_process(None).unwrap(), nice);
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let lowest = ThreadPriority::Min;
            set_thread_priority_and_policy(thread_native_id(), lowest, idle).unwrap();
            take_batch_policy();
            (of_child, thread_schedule_policy().unwrap() == idle)
        });
        assert_eq!(policies.join().unwrap(), (BATCH, true));
    }
}
