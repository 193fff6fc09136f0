//! Guide to using, operating and understanding this crate.
//!
//! For applications:
//!
//! - [`quick_start`]: a program for one node, then for several.
//! - [`stores`]: where sessions live, and what each place costs.
//! - [`guarantees`]: the promises, and a table of faults and their effects.
//! - [`limits`]: every limit with its default.
//! - [`recipes`]: code to copy: logins, forms, streams, jobs, a store of your own.
//! - [`faq`]: short answers.
//! - [`migrating`]: from tower-sessions, axum_session and actix-session.
//! - [`tower_sessions`]: tower-sessions and axum-login on the stores of this crate.
//! - [`migrating_java`]: from Tomcat, WebLogic, JEUS and Spring Session, setting by setting.
//!
//! For operators:
//!
//! - [`clustering`]: how nodes find and trust each other, and when a node serves.
//! - [`operations`]: health checks, sticky routing, shutdown, rolling restarts, status,
//!   administration, events and logs.
//! - [`redis`]: sessions in Redis or Valkey.
//! - [`snapshots`]: a file that keeps sessions across a restart.
//!
//! For contributors:
//!
//! - [`architecture`]: how the crate works inside.

pub mod recipes;

macro_rules! pages {
    ($($page:ident: $file:literal,)*) => {
        $(
            pub mod $page {
                // The examples need these features: with fewer, they are not tested.
                #![cfg_attr(
                    any(
                        not(doctest),
                        all(
                            feature = "axum",
                            feature = "memory",
                            feature = "redis",
                            feature = "replicated",
                            feature = "snapshot",
                            unix
                        )
                    ),
                    doc = include_str!($file)
                )]
            }
        )*
    };
}

pages! {
    quick_start: "quick_start.md",
    stores: "stores.md",
    guarantees: "guarantees.md",
    limits: "limits.md",
    faq: "faq.md",
    clustering: "clustering.md",
    operations: "operations.md",
    redis: "redis.md",
    snapshots: "snapshots.md",
    migrating: "migrating.md",
    tower_sessions: "tower_sessions.md",
    migrating_java: "migrating_java.md",
    architecture: "architecture.md",
}
