//! Sessions and parts of sessions with any content that a node may send.

use super::*;

pub(super) fn record() -> BoxedStrategy<Record> {
    (
        credential(),
        (time(), time(), clock()),
        (version(), idle()),
        idle(),
        any::<bool>(),
        entries(),
        btree_set(version(), 0..16),
    )
        .prop_map(
            |(
                credential,
                times,
                idle_timeout,
                initial_idle_timeout,
                returned,
                entries,
                updates,
            )| {
                let lifetime = Lifetime {
                    created_at: times.0,
                    accessed_at: times.1,
                    access: times.2,
                    idle_timeout,
                    initial_idle_timeout,
                    returned,
                };
                let updates = updates.into_iter().rev().collect();
                Record::from_parts(credential, lifetime, entries, updates).unwrap()
            },
        )
        .boxed()
}

pub(super) fn delta() -> BoxedStrategy<Delta> {
    (
        entries(),
        option::of((version(), idle())),
        (time(), clock()),
        option::of(credential()),
        vec(version(), 0..5),
    )
        .prop_map(
            |(entries, idle_timeout, (accessed_at, access), credential, updates)| Delta {
                entries,
                idle_timeout,
                accessed_at,
                access,
                credential,
                updates,
            },
        )
        .boxed()
}

pub(super) fn credential() -> BoxedStrategy<Credential> {
    let history = vec(version(), 0..=HISTORY_MAX);
    let details = (version(), option::of(time()), option::of(user()), history);
    (secret(), time(), option::of(details), option::of(time()))
        .prop_map(|(hash, absolute_deadline, details, began_at)| {
            let details = details.map(|(version, rotated_at, user, history)| Details {
                version,
                rotated_at,
                user,
                began_at,
                history,
            });
            Credential::from_parts(hash, absolute_deadline, details.unwrap_or_default())
        })
        .boxed()
}

pub(super) fn rotation() -> impl Strategy<Value = Rotation> {
    let login = option::of((option::of(user()), duration()));
    (secret(), secret(), login).prop_map(|(from, to, login)| {
        let mut changes = Changes::default();
        changes.rotate(from, to);
        if let Some((user, absolute_timeout)) = login {
            changes.log_in(Login {
                user,
                absolute_timeout,
            });
        }
        changes.rotation().unwrap()
    })
}

pub(super) fn secret() -> impl Strategy<Value = SecretHash> {
    any::<[u8; 16]>().prop_map(SecretHash::from_bytes)
}

pub(super) fn user() -> impl Strategy<Value = UserKey> {
    any::<[u8; 16]>().prop_map(UserKey::from_bytes)
}

pub(super) fn clock() -> impl Strategy<Value = u64> {
    0..=Version::MAX_CLOCK
}

pub(super) fn idle() -> impl Strategy<Value = Idle> {
    option::of(duration()).prop_map(Idle::from)
}

pub(super) fn entries() -> BoxedStrategy<Vec<AttributeEntry>> {
    let value = option::of(vec(any::<u8>(), 0..50));
    vec((name(), version(), value), 0..5)
        .prop_map(|entries| {
            let mut entries: Vec<_> = entries
                .into_iter()
                .map(|(name, version, value)| AttributeEntry {
                    version,
                    // A floor has no value.
                    value: value.filter(|_| &*name != FLOOR).map(Value::from_bytes),
                    name,
                })
                .collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            entries.dedup_by(|a, b| a.name == b.name);
            entries
        })
        .boxed()
}

pub(super) fn name() -> impl Strategy<Value = Name> {
    ".{0,60}".prop_map(|name| Name::from(&*name))
}

pub(super) fn version() -> impl Strategy<Value = Version> {
    (0..=Version::MAX_CLOCK, any::<u32>()).prop_map(|(clock, writer)| Version { clock, writer })
}

pub(super) fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        any::<u64>().prop_map(Timestamp::from_millis),
        Just(Timestamp::NEVER)
    ]
}

pub(super) fn duration() -> impl Strategy<Value = Duration> {
    any::<Duration>()
}

pub(super) fn key() -> impl Strategy<Value = Root> {
    any::<[u8; 12]>().prop_map(Root::from_bytes)
}
