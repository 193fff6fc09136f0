//! Guide to using, operating and understanding this crate.
//!
//! For applications:
//!
//! - [`quick_start`]: a program for one node, then for several.
//! - [`stores`]: where sessions can live, and how to choose.
//! - [`guarantees`]: the promises, and a table of faults and their effects.
//! - [`limits`]: every limit with its default.
//! - [`recipes`]: code to copy: logins, forms, streams, jobs, a store of your own.
//! - [`faq`]: short answers.
//! - [`migrating`]: from tower-sessions, axum_session and actix-session.
//! - [`tower_sessions`]: for applications that keep tower-sessions or axum-login.
//! - [`migrating_java`]: the settings of Tomcat, WebLogic, JEUS and Spring Session.
//!
//! For operators:
//!
//! - [`clustering`]: names, discovery, secrets, joining and leaving.
//! - [`operations`]: what to set up and to watch, from health checks to logs.
//! - [`redis`]: sessions in Redis or Valkey.
//! - [`snapshots`]: sessions across a restart, in a file.
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
