//! Whole clusters on one seed, one thread and virtual time.
//!
//! A simulated [`world`] runs the real replicas, foca included, over a [`network`] that delays,
//! loses, repeats and reorders; clients work on a few sessions through all nodes, as the middleware
//! does; nodes crash, restart, leave, are cut off or stopped, and their clocks are days apart. The
//! [`oracle`] knows only what clients were told, and judges every answer by the rules in
//! [`invariants`], one file each. At the end the faults stop, and everything must be well again.
//!
//! Everything follows from the seed. A failure prints it, with the command that replays it.

mod client;
mod faults;
mod invariants;
mod network;
mod oracle;
mod plan;
mod requests;
mod verdict;
mod world;

use std::env;
use std::num::NonZeroU8;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cluster::Copies;
use crate::cluster::replica::rules::Rules;

use self::plan::{FaultKind, Plan};
use self::world::World;

/// Runs one seed to its end. Gives a number that stands for everything that happened.
fn run(seed: u64) -> u64 {
    World::new(Plan::draw(seed)).run()
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// `SIM_SEEDS=2000 cargo test --release --all-features --lib sim` runs more; `SIM_SEED=7` one.
#[test]
fn no_seed_breaks_an_invariant() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let share = |thread: u64| {
            let mine = seeds.clone().filter(move |seed| seed % threads == thread);
            let breaks = |seed: &u64| {
                let breaks = catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err();
                if breaks {
                    println!(
                        "replay: SIM_SEED={seed} cargo test --release --all-features --lib \
                         no_seed_breaks_an_invariant -- --nocapture"
                    );
                }
                if *seed > 0 && seed.is_multiple_of(PROGRESS) {
                    println!("seed {seed}");
                }
                breaks
            };
            scope.spawn(move || mine.filter(breaks).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..threads).map(share).collect();
        let failed = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        failed.collect()
    });
    assert!(
        failed.is_empty(),
        "{} of {} seeds: {failed:?}",
        failed.len(),
        seeds.count()
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    // Some of these keep all copies, some two, some three.
    for seed in 0..3 * PLAN_KINDS {
        let [one, two] = [0; 2].map(|_| World::new(Plan::draw(seed)).traced().run());
        assert!(one != 0 && one == two, "seed {seed}");
    }
}

/// Runs clusters without a rule until one of them breaks an invariant, which none of them does with
/// the rule.
fn notices_the_lack(take: fn(&mut Plan)) -> bool {
    let tries = number("SIM_MUTANTS").unwrap_or(MUTANTS);
    let breaks = |seed| {
        let mut plan = Plan::draw(seed);
        take(&mut plan);
        catch_unwind(AssertUnwindSafe(|| World::new(plan).run())).is_err()
    };
    let Some(seed) = (0..tries).find(|seed| breaks(*seed)) else {
        return false;
    };
    let mut plan = Plan::draw(seed);
    take(&mut plan);
    plan.rules = Rules::ALL;
    World::new(plan).run();
    true
}

#[test]
fn a_missing_view_barrier_is_noticed() {
    // It takes somebody who hears late that a session is kept by others now.
    assert!(notices_the_lack(|plan| {
        plan.rules.view_barrier = false;
        plan.faults = FaultKind::Links;
        plan.copies = Copies::Count(NonZeroU8::MIN.saturating_add(1));
        plan.quiet_period.1 /= 3;
    }));
}

#[test]
fn missing_union_reads_are_noticed() {
    assert!(notices_the_lack(|plan| plan.rules.union_reads = false));
}

#[test]
fn a_missing_fence_is_noticed() {
    assert!(notices_the_lack(|plan| plan.rules.fence = false));
}

#[test]
fn forgetting_what_nobody_has_confirmed_is_noticed() {
    assert!(notices_the_lack(|plan| plan.rules.confirmed_drop = false));
}

#[test]
fn missing_tombstones_are_noticed() {
    assert!(notices_the_lack(|plan| plan.rules.tombstones = false));
}

#[test]
fn missing_expectations_are_noticed() {
    assert!(notices_the_lack(|plan| plan.rules.expectations = false));
}

#[test]
fn what_somebody_says_who_is_no_member_is_noticed() {
    // It takes somebody who goes on after it was declared down.
    assert!(notices_the_lack(|plan| {
        plan.rules.members_only = false;
        plan.faults = FaultKind::Pauses;
        plan.quiet_period.1 /= 2;
    }));
}

/// Seeds that a missing rule may take to be noticed.
const MUTANTS: u64 = 600;

/// Seeds in an ordinary test run.
const SEEDS: u64 = 60;

/// Consecutive seeds that between them have every kind of fault.
const PLAN_KINDS: u64 = 5;

/// A long run says how far it is after as many seeds.
const PROGRESS: u64 = 1_000;
