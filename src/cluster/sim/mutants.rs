//! Runs with one rule disabled, each of which the simulation must detect.

use std::num::NonZeroU8;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::cluster::copies::Copies;
use crate::cluster::replica::protocol_rules::ProtocolRules;

use crate::cluster::sim::kinds::FaultKind;
use crate::cluster::sim::link::LinkRules;
use crate::cluster::sim::number;
use crate::cluster::sim::plan::Plan;
use crate::cluster::sim::world::World;

/// Runs clusters with a rule disabled until one of them breaks an invariant. Returns `true` if that
/// happens, and the same run with all rules enabled breaks none.
///
/// The first seed tried is the one that broke when this was written. A change of the replica may
/// lead to another one, after up to a minute; then that one takes its place.
fn notices_the_lack(first: u64, take: fn(&mut Plan)) -> bool {
    notices_among(&FaultKind::BASIC, first, take)
}

/// Like [`notices_the_lack`], with these kinds of faults.
fn notices_among(kinds: &[FaultKind], first: u64, take: fn(&mut Plan)) -> bool {
    let tries = number("SIM_MUTANTS").unwrap_or(MUTANTS);
    let breaks = |seed| {
        let mut plan = Plan::draw(seed, kinds);
        take(&mut plan);
        catch_unwind(AssertUnwindSafe(|| World::new(plan).run())).is_err()
    };
    let Some(seed) = (first..tries).chain(0..first).find(|seed| breaks(*seed)) else {
        return false;
    };
    println!("seed {seed} is the first that breaks, from {first} on");
    let mut plan = Plan::draw(seed, kinds);
    take(&mut plan);
    plan.rules = ProtocolRules::ALL;
    plan.link_rules = LinkRules::ALL;
    plan.clock_includes_suspension = true;
    World::new(plan).run();
    true
}

#[test]
fn a_missing_view_barrier_is_noticed() {
    // Needs a node that is informed late that other nodes hold a session now: one that is slow
    // while a drain is canceled, so that slots move.
    assert!(notices_the_lack(190, |plan| {
        plan.rules.view_barrier = false;
        plan.faults = vec![FaultKind::Links, FaultKind::DrainBack];
        plan.copies = TWO;
        plan.nodes = 3;
        plan.quiet_period.1 = 350_000;
        plan.drained.1 = 1_500_000;
    }));
}

#[test]
fn updates_of_another_view_that_are_merged_are_noticed() {
    assert!(notices_among(&[FaultKind::DrainBack], 0, |plan| {
        plan.rules.strict_views = false;
        change_the_view_during_large_updates(plan);
        plan.nodes = 3;
        plan.drained.1 = 300_000;
        plan.large_value_max = 1_000_000;
    }));
}

#[test]
fn views_that_repeat_are_noticed() {
    assert!(notices_among(&[FaultKind::DrainBack], 14, |plan| {
        plan.rules.epochs = false;
        change_the_view_during_large_updates(plan);
        plan.nodes = 2;
        plan.drained.1 = 100_000;
        plan.large_value_max = 300_000;
    }));
}

/// Drains are canceled so often that the view changes while a large update is under way. Small
/// messages overtake it, among them all that a holder needs to be complete in the new view.
fn change_the_view_during_large_updates(plan: &mut Plan) {
    plan.faults = vec![FaultKind::LargeRecords, FaultKind::DrainBack];
    plan.copies = TWO;
    plan.quiet_period.1 = 400_000;
    plan.network.late = 0;
    plan.network.resets = 0;
    plan.network.rates = Some((1_000_000, 1_000_000));
    plan.network.uplink = None;
    plan.large_share = 1.0;
}

#[test]
fn members_that_cannot_reach_each_other_and_stay_are_noticed() {
    assert!(notices_among(&[FaultKind::Bridges], 94, |plan| {
        plan.rules.reachability = false;
    }));
}

#[test]
fn missing_union_reads_are_noticed() {
    assert!(notices_the_lack(12, |plan| plan.rules.union_reads = false));
}

#[test]
fn a_missing_fence_is_noticed() {
    assert!(notices_the_lack(3, |plan| plan.rules.fence = false));
}

#[test]
fn forgetting_unconfirmed_sessions_is_noticed() {
    assert!(notices_the_lack(141, |plan| plan.rules.confirmed_drop = false));
}

#[test]
fn missing_tombstones_are_noticed() {
    assert!(notices_the_lack(1, |plan| plan.rules.tombstones = false));
}

#[test]
fn missing_expectations_are_noticed() {
    assert!(notices_the_lack(0, |plan| plan.rules.expectations = false));
}

#[test]
fn a_missing_window_is_noticed() {
    assert!(notices_the_lack(1, |plan| {
        plan.rules.windows = false;
        plan.faults = vec![FaultKind::LargeRecords];
    }));
}

#[test]
fn epochs_that_are_raised_instead_of_adopted_are_noticed() {
    assert!(notices_among(&[FaultKind::Crashes], 16, |plan| {
        plan.rules.adopted_epochs = false;
    }));
}

/// Not a rule of the replica: its clock has to include the time in which the machine was suspended.
#[test]
fn a_clock_that_stands_still_is_noticed() {
    assert!(notices_the_lack(0, |plan| {
        plan.clock_includes_suspension = false;
        plan.faults = vec![FaultKind::Suspension];
        plan.copies = Copies::All;
    }));
}

#[test]
fn floors_without_equality_are_noticed() {
    assert!(notices_the_lack(105, |plan| plan.rules.equal_floors = false));
}

#[test]
fn floors_without_restamping_are_noticed() {
    // Needs members that hold nothing, and whose changes are late.
    assert!(notices_the_lack(47, |plan| {
        plan.rules.restamping = false;
        plan.copies = TWO;
        plan.nodes = plan.nodes.max(5);
        plan.network.late = 300;
    }));
}

#[test]
fn missing_lanes_are_noticed() {
    assert!(notices_among(&[FaultKind::LargeRecords], 0, |plan| {
        plan.link_rules.lanes = false;
    }));
}

#[test]
fn a_missing_length_reservation_is_noticed() {
    assert!(notices_among(&[FaultKind::LargeRecords], 0, |plan| {
        plan.link_rules.length_reservation = false;
        plan.assembly_budget = 16 << 20;
    }));
}

#[test]
fn messages_that_do_not_age_are_noticed() {
    assert!(notices_among(&[FaultKind::LargeRecords], 26, |plan| {
        plan.link_rules.ages = false;
        plan.faults = vec![FaultKind::LargeRecords, FaultKind::Deadlines];
    }));
}

#[test]
fn a_missing_number_of_copies_is_noticed() {
    assert!(notices_among(&[FaultKind::MinCopies], 7, |plan| {
        plan.rules.min_copies = false;
    }));
}

/// Seeds that may be needed to detect a disabled rule.
const MUTANTS: u64 = 600;

const TWO: Copies = Copies::Count(NonZeroU8::MIN.saturating_add(1));

#[test]
fn a_stale_secret_that_is_accepted_is_noticed() {
    assert!(notices_the_lack(0, |plan| plan.rules.secrets = false));
}

#[test]
fn unordered_rotations_are_noticed() {
    assert!(notices_the_lack(15, |plan| plan.rules.ordered_rotations = false));
}

#[test]
fn an_end_that_is_ignored_when_indexes_merge_is_noticed() {
    assert!(notices_among(&[FaultKind::Partitions], 18, |plan| {
        plan.users = true;
        plan.rules.late_ends = false;
        plan.skew = Duration::ZERO;
    }));
}
