//! Rules about a commit and the attributes of a session.

use std::sync::Arc;

use crate::error::StoreErrorKind;
use crate::session::{Changes, Name, Record, Value};
use crate::store::testing::{
    Lives, Nodes, Suite, Verdict, committed, conflict, find, holds, insert, must, text,
};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule("a commit leaves other attributes alone", merged);
    suite.rule("the later of two acknowledged writes counts", replaced);
    suite.rule(
        "a write of what was loaded counts if another has come between",
        confirmed,
    );
    suite.rule("a removed attribute is gone and may come back", removed);
    suite.rule("a commit without changes changes nothing", unchanged);
    suite.rule("an expectation that holds lets a commit through", expected);
    suite.rule("an expectation that fails refuses all of it", unexpected);
    suite.rule("names and values come back byte for byte", exact);
    suite.rule("a session takes many attributes at once", many);
    suite.rule("a large value comes back whole or is refused whole", large);
}

async fn merged(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let base = Some(&session.record);
    committed(
        nodes
            .one
            .commit(&session.key, base, insert("b", "2"))
            .await?,
    )?;
    let record = committed(
        nodes
            .other
            .commit(&session.key, base, insert("c", "3"))
            .await?,
    )?;
    let all = [("a", "1"), ("b", "2"), ("c", "3")];
    must(
        holds(&record, &all),
        "the answer lacks what others have written since the load",
    )?;
    for store in nodes.both() {
        let found = find(store, &session.key).await?;
        must(
            found.is_some_and(|found| holds(&found, &all)),
            "an attribute that the commit did not name was lost or changed",
        )?;
    }
    Ok(())
}

async fn replaced(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let base = Some(&session.record);
    let mut last = session.record.version("a");
    for (turn, value) in ["2", "3", "4"].into_iter().enumerate() {
        let store = nodes.turn(turn + 1);
        let record = committed(store.commit(&session.key, base, insert("a", value)).await?)?;
        let version = record.version("a");
        must(
            version > last,
            "a later write does not carry a larger version",
        )?;
        last = version;
        let found = find(&nodes.turn(turn), &session.key).await?;
        must(
            found.is_some_and(|found| holds(&found, &[("a", value)])),
            "an older value is found",
        )?;
    }
    Ok(())
}

async fn confirmed(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let base = Some(&session.record);
    let mut again = Changes::default();
    again.confirm("a".into(), Some(text("1")), session.record.version("a"));
    again.confirm("b".into(), None, None);
    let commit = nodes.one.commit(&session.key, base, again.clone());
    let record = committed(commit.await?)?;
    must(holds(&record, &[("a", "1")]), "the answer differs")?;

    let mut between = insert("a", "2");
    between.insert("b".into(), text("2"));
    committed(nodes.other.commit(&session.key, base, between).await?)?;
    let record = committed(nodes.one.commit(&session.key, base, again).await?)?;
    must(
        holds(&record, &[("a", "1")]),
        "the answer has the write that came between",
    )?;
    for store in nodes.both() {
        let found = find(store, &session.key).await?;
        must(
            found.is_some_and(|found| holds(&found, &[("a", "1")])),
            "the write that came between is found",
        )?;
    }
    Ok(())
}

async fn removed(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let mut changes = insert("b", "");
    changes.remove("a".into());
    changes.remove("never there".into());
    let base = Some(&session.record);
    let record = committed(nodes.one.commit(&session.key, base, changes).await?)?;
    must(holds(&record, &[("b", "")]), "the answer still holds it")?;
    let found = nodes.load(&session.key).await?;
    must(
        holds(&found, &[("b", "")]),
        "it is still found, or an empty value counts as removed",
    )?;
    committed(
        nodes
            .other
            .commit(&session.key, Some(&found), insert("a", "2"))
            .await?,
    )?;
    let found = nodes.load(&session.key).await?;
    must(
        holds(&found, &[("a", "2"), ("b", "")]),
        "it does not come back when it is written again",
    )
}

async fn unchanged(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let base = Some(&session.record);
    for changes in [Changes::default(), insert("a", "1")] {
        let record = committed(nodes.one.commit(&session.key, base, changes).await?)?;
        must(holds(&record, &[("a", "1")]), "the answer differs")?;
        let found = nodes.load(&session.key).await?;
        must(holds(&found, &[("a", "1")]), "the session differs")?;
    }
    Ok(())
}

async fn expected(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let current = nodes.load(&session.key).await?;
    let mut changes = insert("a", "2");
    changes.require_version("a".into(), current.version("a"));
    let commit = nodes.other.commit(&session.key, Some(&current), changes);
    committed(commit.await?)?;

    let current = nodes.load(&session.key).await?;
    let mut changes = insert("b", "1");
    changes.require_version("b".into(), None);
    committed(
        nodes
            .one
            .commit(&session.key, Some(&current), changes)
            .await?,
    )?;

    let current = nodes.load(&session.key).await?;
    let mut changes = Changes::default();
    changes.remove("a".into());
    changes.require_version("a".into(), current.version("a"));
    let commit = nodes.other.commit(&session.key, Some(&current), changes);
    committed(commit.await?)?;
    let found = nodes.load(&session.key).await?;
    must(holds(&found, &[("b", "1")]), "the writes are not all there")
}

async fn unexpected(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let base = Some(&session.record);
    committed(
        nodes
            .other
            .commit(&session.key, base, insert("a", "2"))
            .await?,
    )?;
    for stale in [session.record.version("a"), None] {
        let mut changes = insert("a", "3");
        changes.insert("b".into(), text("1"));
        changes.require_version("a".into(), stale);
        let current = conflict(nodes.one.commit(&session.key, base, changes).await?)?;
        must(
            holds(&current, &[("a", "2")]),
            "the conflict does not show the session as it stands",
        )?;
    }
    let mut removal = Changes::default();
    removal.remove("a".into());
    committed(nodes.other.commit(&session.key, base, removal).await?)?;
    let mut changes = insert("a", "4");
    changes.require_version("a".into(), session.record.version("a"));
    conflict(nodes.one.commit(&session.key, base, changes).await?)?;
    let found = nodes.load(&session.key).await?;
    must(
        holds(&found, &[]),
        "a refused commit has changed the session",
    )
}

async fn exact(nodes: Nodes) -> Verdict {
    const NAMES: [&str; 9] = [
        "",
        " ",
        ":",
        "a.b",
        "é",
        "e\u{301}",
        "line\nbreak\0",
        "{tag}*?",
        "session",
    ];
    let bytes: Vec<u8> = (0..=255).collect();
    let mut changes = Changes::default();
    for (turn, name) in NAMES.into_iter().enumerate() {
        changes.insert(name.into(), Value::from_bytes(bytes[turn..].to_vec()));
    }
    let lives = Lives::of(None, super::HOUR);
    let session = nodes.create_with(lives, changes).await?;
    let found = nodes.load(&session.key).await?;
    must(
        found.attributes().count() == NAMES.len(),
        "names that differ in their bytes are taken for one, or one is lost",
    )?;
    let whole = NAMES.iter().enumerate().all(|(turn, name)| {
        let value = found.get(name);
        value.is_some_and(|value| value.as_bytes() == &bytes[turn..])
    });
    must(whole, "a value has changed on its way")
}

async fn many(nodes: Nodes) -> Verdict {
    const COUNT: usize = 1_000;
    let session = nodes.create("a", "1").await?;
    let names: Vec<Name> = (0..COUNT)
        .map(|n| format!("attribute {n}").as_str().into())
        .collect();
    let mut changes = Changes::default();
    for name in &names {
        changes.insert(name.clone(), text(name));
    }
    let base = Some(&session.record);
    committed(nodes.one.commit(&session.key, base, changes).await?)?;
    let found = nodes.load(&session.key).await?;
    let all = |record: &Arc<Record>| {
        names
            .iter()
            .all(|name| record.get(name) == Some(&text(name)))
    };
    must(
        all(&found) && found.attributes().count() == COUNT + 1,
        "some are missing",
    )
}

async fn large(nodes: Nodes) -> Verdict {
    for mebibytes in [1, 8] {
        let session = nodes.create("a", "1").await?;
        // A length that is not a multiple of a power of two reveals data cut, doubled or joined
        // wrongly.
        let pattern: Vec<u8> = (0..251).collect();
        let bytes = pattern.repeat((mebibytes << 20) / pattern.len());
        let value = Value::from_bytes(bytes);
        let mut changes = insert("a", "2");
        changes.insert("large".into(), value.clone());
        let base = Some(&session.record);
        let whole = match nodes.one.commit(&session.key, base, changes).await {
            Ok(outcome) => committed(outcome).map(|_| true)?,
            Err(error) if error.kind() == StoreErrorKind::TooLarge => false,
            Err(error) => return Err(error.into()),
        };
        let found = nodes.load(&session.key).await?;
        if whole {
            must(
                found.get("large") == Some(&value) && found.get("a") == Some(&text("2")),
                "it was accepted and is not what is found",
            )?;
        } else {
            must(
                holds(&found, &[("a", "1")]),
                "it was refused, and something has changed",
            )?;
        }
    }
    Ok(())
}
