//! Promise 1 and 2 of doc/architecture.md under a power cut, for every state that a disk may show after it.
//!
//! A scenario runs the real code (spool's writer, queued's file work) on a [`recorder::Recorder`], which does everything and notes it. [`states`] then cuts the
//! power after each operation and builds every disk that may be found: names that were not synced may be there or not, data that was not synced may be
//! there, missing, torn or zeros. [`recovery`] starts on each of them as queued does, delivers everything, and [`promise`] holds what came out against what had
//! been promised before the cut: every acknowledged message is there, whole; nothing half; nothing stuck.
//!
//! The bound: [`states::MOST`] states for one cut; a scenario that exceeds it fails, so within the scenarios nothing is left out. How many states were
//! looked at is printed. That the test can fail is a test: without any one of the syncs, it does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod promise;
mod recorder;
mod recovery;
mod scenarios;
mod states;

use recorder::{Recorder, Without};
use scenarios::{SCENARIOS, Scenario, Twice};
use states::{Op, State};
use std::sync::Arc;

/// Looks at every state of every cut of a recording; gives how many there were, or what was broken.
fn check(scenario: &Scenario, base: &State, ops: &[Op]) -> Result<Vec<State>, String> {
    let mut seen = std::collections::HashSet::new();
    let mut all = Vec::new();
    for cut in states::first_cut(ops)..=ops.len() {
        let happened = promise::Happened::before(&ops[..cut]);
        for state in states::after_cut(base, &ops[..cut]) {
            // The same disk with the same promises behind it has been looked at.
            if seen.insert((state.clone(), happened.clone())) {
                let came_out = recovery::recover(&state, None)
                    .map_err(|why| format!("{}: cut after operation {cut}: {why}\n{state}", scenario.name))?;
                happened
                    .hold_against(&came_out)
                    .map_err(|why| format!("{}: cut after operation {cut}: {why}\n{state}", scenario.name))?;
                all.push(state);
            }
        }
    }
    Ok(all)
}

fn record(scenario: &Scenario, without: Without) -> Vec<Op> {
    let recorder = Arc::new(Recorder::new(without));
    let folder = recovery::folder();
    recovery::lay_out(folder.path());
    (scenario.run)(folder.path(), &recorder);
    recorder.take()
}

#[test]
fn every_state_after_a_power_cut_keeps_the_promises() {
    recovery::quiet();
    let mut total = 0;
    for scenario in SCENARIOS {
        let ops = record(scenario, Without::Nothing);
        let states = check(scenario, &State::default(), &ops).unwrap_or_else(|broken| panic!("{broken}"));
        println!("{}: {} operations, {} states", scenario.name, ops.len(), states.len());
        total += states.len();
    }
    println!("power cut: {total} states, all recovered from");
}

#[test]
fn a_cut_during_recovery_keeps_them_too() {
    recovery::quiet();
    let mut total = 0;
    let all = std::env::var_os("IRONPOST_POWER_CUT").is_some_and(|value| value == "all");
    let wanted = |scenario: &&Scenario| match scenario.cut_twice {
        Twice::No => false,
        Twice::Yes => true,
        Twice::Soak => all,
    };
    for scenario in SCENARIOS.iter().filter(wanted) {
        let ops = record(scenario, Without::Nothing);
        let mut seen = std::collections::HashSet::new();
        for cut in states::first_cut(&ops)..=ops.len() {
            let first = promise::Happened::before(&ops[..cut]);
            for state in states::after_cut(&State::default(), &ops[..cut]) {
                if !seen.insert((state.clone(), first.clone())) {
                    continue;
                }
                // What recovery does on this disk, cut short in turn. (The disk that it found is wholly on stable storage.)
                let recorder = Arc::new(Recorder::new(Without::Nothing));
                recovery::recover(&state, Some(&recorder)).unwrap();
                let again = recorder.take();
                for second_cut in 0..=again.len() {
                    let mut happened = first.clone();
                    happened.add(&again[..second_cut]);
                    for state in states::after_cut(&state, &again[..second_cut]) {
                        total += 1;
                        let folder = recovery::found(&state, None);
                        recovery::recover_in(folder.path(), None, "the boot after that")
                            .and_then(|came_out| happened.hold_against(&came_out))
                            .unwrap_or_else(|why| {
                                panic!("{}: cuts after {cut} and {second_cut}: {why}\n{state}", scenario.name)
                            });
                    }
                }
            }
        }
    }
    println!("power cut during recovery: {total} states, all recovered from");
}

/// A sync that fails during recovery may leave files that can be read and are not on the disk. Who starts again in the same boot must not take them
/// for durable, and empty the log.
#[test]
fn what_a_failed_sync_left_behind_is_not_believed() {
    recovery::quiet();
    let mut total = 0;
    let names = ["one message logged", "logged, partly delivered, deferred"];
    for scenario in SCENARIOS.iter().filter(|scenario| names.contains(&scenario.name)) {
        let ops = record(scenario, Without::Nothing);
        let happened = promise::Happened::before(&ops);
        let mut seen = std::collections::HashSet::new();
        for state in states::after_cut(&State::default(), &ops) {
            for good in 0..2 {
                let recorder = Arc::new(Recorder::new(Without::Nothing));
                let folder = recovery::found(&state, Some(&recorder));
                recorder.fail_after(good);
                recovery::begin(folder.path(), &recorder, "the next boot");
                let first = recorder.take();
                assert!(first.iter().any(|op| matches!(op, Op::SyncAllFailed)));
                recovery::begin(folder.path(), &recorder, "the next boot");
                let second = recorder.take();
                for cut in 0..=second.len() {
                    let done = [&first[..], &second[..cut]].concat();
                    for after in states::after_cut(&state, &done) {
                        if !seen.insert(after.clone()) {
                            continue;
                        }
                        total += 1;
                        let folder = recovery::found(&after, None);
                        recovery::recover_in(folder.path(), None, "the boot after that")
                            .and_then(|came_out| happened.hold_against(&came_out))
                            .unwrap_or_else(|why| {
                                panic!(
                                    "{}: sync {good} fails, cut after {cut}: {why}\n{after}",
                                    scenario.name
                                )
                            });
                    }
                }
            }
        }
    }
    println!("power cut after a sync that failed: {total} states, all recovered from");
}

/// What has no room comes back later; what has a file is worked on meanwhile. Another cut in the middle of that loses nothing.
#[test]
fn a_full_disk_during_recovery_loses_nothing() {
    recovery::quiet();
    let mut total = 0;
    let names = ["one message logged", "logged, partly delivered, deferred"];
    for scenario in SCENARIOS.iter().filter(|scenario| names.contains(&scenario.name)) {
        let ops = record(scenario, Without::Nothing);
        let mut seen = std::collections::HashSet::new();
        for state in states::after_cut(&State::default(), &ops) {
            let recorder = Arc::new(Recorder::new(Without::Nothing));
            let folder = recovery::found(&state, Some(&recorder));
            recorder.fill();
            recovery::recover_in(folder.path(), Some(&recorder), "the next boot").unwrap();
            let again = recorder.take();
            for cut in 0..=again.len() {
                let mut happened = promise::Happened::before(&ops);
                happened.add(&again[..cut]);
                for after in states::after_cut(&state, &again[..cut]) {
                    if !seen.insert((after.clone(), happened.clone())) {
                        continue;
                    }
                    total += 1;
                    let folder = recovery::found(&after, None);
                    recovery::recover_in(folder.path(), None, "the boot after that")
                        .and_then(|came_out| happened.hold_against(&came_out))
                        .unwrap_or_else(|why| panic!("{}: cut after {cut}: {why}\n{after}", scenario.name));
                }
            }
        }
    }
    println!("power cut on a full disk: {total} states, all recovered from");
}

/// The test's own test: a variant of the code that leaves one kind of sync out must be caught.
#[test]
fn a_sync_that_is_left_out_is_noticed() {
    recovery::quiet();
    // The log leans on other syncs than files do.
    let logged = |scenario: &&Scenario| scenario.name.contains("logged") || scenario.name.contains("segment");
    for (without, of) in [
        (Without::FileSync, None),
        (Without::FolderSync, None),
        (Without::FileSync, Some(logged)),
        (Without::SyncAll, Some(logged)),
    ] {
        let caught = SCENARIOS.iter().filter(|scenario| of.is_none_or(|of| of(scenario))).any(|scenario| {
            check(scenario, &State::default(), &record(scenario, without)).is_err_and(|broken| {
                println!("{without:?} is noticed: {}", broken.lines().next().unwrap_or_default());
                true
            })
        });
        assert!(caught, "{without:?} goes unnoticed");
    }
}
