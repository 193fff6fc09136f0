//! Tests of the replica: given inputs, expected outputs. Faults found by the simulator are here
//! with the fewest inputs that show them.

mod backfills;
mod certainty;
mod comparisons;
mod copies;
mod declared_down;
mod departures;
mod events;
mod exclusion;
mod expiry;
mod expiry_events;
mod fixtures;
mod flapping;
mod floors;
mod floors_under_faults;
mod joining;
mod lab;
mod late_messages;
mod listing;
mod losses;
mod pauses;
mod reachability;
mod rejections;
mod repeats;
mod requests;
mod rotation;
mod slowness;
mod table;
mod updates;
mod users;
mod windows;
#[cfg(all(feature = "snapshot", unix))]
mod withheld;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::ack::Ack;
use crate::cluster::copies::Copies;
use crate::error::StoreErrorKind;
use crate::session::{
    AttributeEntry, Changes, Credential, Lifetime, Loaded, Name, Outcome, Record, Root, SecretHash,
    Timestamp, Value, Version,
};

use self::fixtures::*;
use self::lab::ReplicaLab;
use super::delta::Delta;
use super::entry::Entry;
use super::event::{EventReport, Input, Notification, Output, Progress, Reply};
use super::message::{
    self, GetReply, KeyedEntry, Lane, Message, OpId, UpdateResponse, UpdateStatus, ViewId, Vote,
};
use super::*;
