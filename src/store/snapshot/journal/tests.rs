use std::path::Path;
use std::time::Duration;

use super::format::parse;
use super::*;
use crate::session::{Credential, Lifetime, Root, Timestamp, UserKey, Version};
use crate::store::snapshot::format::fixtures::{NOW, credential, key, version};
use crate::store::snapshot::test_directory::TestDirectory;

fn journal(batches: &[&[Note]]) -> Vec<u8> {
    let mut bytes = start(batches[0]).expect("they fit");
    let mut begin = batches[0].len();
    for notes in &batches[1..] {
        bytes.append(&mut entries(notes, begin as u32).expect("they fit"));
        begin += notes.len();
    }
    bytes
}

fn keys(numbers: std::ops::Range<u8>) -> Vec<Root> {
    numbers.map(|number| key(1, number)).collect()
}

fn ends(numbers: std::ops::Range<u8>) -> Vec<Note> {
    numbers.map(ended).collect()
}

fn ended(number: u8) -> Note {
    Note::ended(key(1, number))
}

/// Rotations and ends in alternation.
fn notes(numbers: std::ops::Range<u8>) -> Vec<Note> {
    let note = |number: u8| match number % 2 {
        0 => ended(number),
        _ => rotated(number),
    };
    numbers.map(note).collect()
}

/// Equal on every call with the same number.
fn rotated(number: u8) -> Note {
    Note::rotated_at(key(1, number), &credential(number), NOW, NOW)
}

#[test]
fn what_was_noted_is_found() {
    let bytes = journal(&[&notes(0..2), &notes(2..3), &notes(3..7)]);
    assert_eq!(parse(&bytes), Some(notes(0..7)));
    assert_eq!(parse(&journal(&[&[]])), Some(Vec::new()));
}

#[test]
fn the_last_batch_may_be_torn() {
    let whole = journal(&[&notes(0..2), &notes(2..3), &notes(3..7)]);
    let sound = journal(&[&notes(0..2), &notes(2..3)]).len();
    for length in sound..whole.len() {
        let found = parse(&whole[..length]).expect("it was torn, not damaged");
        assert!(found.starts_with(&notes(0..3)), "{length} bytes");
    }
    // Pages reach the disk in any order.
    let entry = (whole.len() - sound) / 4;
    let mut bytes = whole;
    bytes[sound..sound + entry + 8].fill(0);
    assert_eq!(parse(&bytes), Some([notes(0..3), notes(5..7)].concat()));
}

/// F-08, K-09.
///
/// Acknowledged ends are found, or nothing is read at all.
#[test]
fn damage_before_the_last_batch_is_found() {
    let bytes = journal(&[&notes(0..2), &notes(2..3), &notes(3..5), &notes(5..6)]);
    let last = journal(&[&notes(0..2), &notes(2..3), &notes(3..5)]).len();
    for at in 0..last {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(parse(&bytes), None, "byte {at}");
    }
}

/// F-10: a rotation is restored unchanged, older by the time in between.
#[test]
fn a_rotation_is_found_with_its_times() {
    let [note] = &parse(&journal(&[&[rotated(1)]])).expect("it is sound")[..] else {
        panic!("it is one note");
    };
    let (down, now) = (Duration::from_secs(20), NOW.plus(Duration::from_secs(500)));
    let NotedState::Rotated(found) = note.state(now, NOW.plus(down)) else {
        panic!("it is a rotation");
    };
    let written = credential(1);
    let at = written.rotated_at().expect("it was rotated");
    assert_eq!(found.rotated_at(), Some(now.minus(NOW.since(at) + down)));
    assert_eq!(
        found.absolute_deadline,
        now.plus(written.absolute_deadline.since(NOW) - down)
    );
    assert_eq!((found.hash, found.user()), (written.hash, written.user()));
    assert_eq!(found.version(), written.version());
    assert_eq!(found.details().history, written.details().history);
    assert_eq!(ended(1).state(now, NOW), NotedState::Ended);
}

/// F-10: an idle timeout is restored with the access before it, older by the time in between.
#[test]
fn an_idle_timeout_is_found_with_its_times() {
    let seconds = Duration::from_secs;
    let lifetime = |accessed_at: Timestamp, access: u64, idle: (Version, Duration)| Lifetime {
        created_at: NOW,
        accessed_at,
        access,
        idle_timeout: (idle.0, Some(idle.1).into()),
        initial_idle_timeout: None.into(),
        returned: access > 1,
    };
    let set = lifetime(NOW.minus(seconds(7)), 5, (version(3), seconds(60)));
    let note = Note::idle_timeout_at(key(1, 1), &set, NOW, NOW);
    let [note] = &parse(&journal(&[&[note]])).expect("it is sound")[..] else {
        panic!("it is one note");
    };
    let (down, now) = (seconds(20), NOW.plus(seconds(500)));
    let NotedState::IdleTimeout(found) = note.state(now, NOW.plus(down)) else {
        panic!("it is an idle timeout");
    };
    let mut earlier = lifetime(now.minus(seconds(400)), 1, (version(1), seconds(1_800)));
    found.merge_into(&mut earlier);
    assert_eq!(earlier.idle_timeout, set.idle_timeout);
    assert_eq!(earlier.accessed_at, now.minus(seconds(7) + down));
    assert!(earlier.returned);
    let mut later = lifetime(now.minus(seconds(2)), 9, (version(4), seconds(90)));
    let unchanged = later.clone();
    found.merge_into(&mut later);
    assert_eq!(later, unchanged);
}

/// A history that no store writes counts as damage, even if its checksum is correct.
#[test]
fn a_note_with_too_long_a_history_is_damage() {
    let mut details = credential(1).details();
    details.history = vec![version(1); 5];
    let written = credential(1);
    let hostile = Credential::from_parts(written.hash, written.absolute_deadline, details);
    let hostile = Note::rotated_at(key(1, 1), &hostile, NOW, NOW);
    let bytes = journal(&[&[hostile], &[ended(2)]]);
    assert_eq!(parse(&bytes), None);
}

/// The longest note fits.
#[test]
fn a_note_has_the_room_that_a_credential_needs() {
    let largest = |history: usize| {
        let mut details = credential(1).details();
        let largest = Version {
            clock: Version::MAX_CLOCK,
            writer: u32::MAX,
        };
        details.version = largest;
        details.user = Some(UserKey::from_bytes([255; 16]));
        details.history = vec![largest; history];
        let credential = Credential::from_parts(credential(1).hash, Timestamp::NEVER, details);
        Note::rotated_at(key(1, 1), &credential, NOW, NOW)
    };
    let bytes = start(&[largest(4)]).expect("it fits");
    assert_eq!(parse(&bytes), Some(vec![largest(4)]));
    start(&[largest(20)]).expect_err("it does not fit");
}

/// A journal of format 1 contains keys that no record has any more.
#[test]
fn a_journal_of_format_1_is_refused() {
    let directory = TestDirectory::new("older");
    let paths = directory.paths();
    std::fs::write(&paths.journal, b"DSENDED1").expect("it can be written");
    match read(&paths) {
        JournalContents::Unreadable(why) => assert_eq!(why, "its format is version 1, not 2"),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn found(paths: &SnapshotPaths) -> Vec<Root> {
    match read(paths) {
        JournalContents::Notes(notes) => notes.into_iter().map(|note| note.key).collect(),
        other => panic!("expected a journal, found {other:?}"),
    }
}

#[tokio::test]
async fn without_a_file_nothing_is_noted() {
    let directory = TestDirectory::new("unarmed");
    let journal = Journal::new(directory.paths());
    journal
        .note(None, || vec![ended(1)])
        .await
        .expect("there is nothing to do");
    assert!(matches!(read(&directory.paths()), JournalContents::Nothing));
}

#[tokio::test]
async fn an_end_is_on_the_disk_before_it_is_acknowledged() {
    let directory = TestDirectory::new("noted");
    let journal = Journal::new(directory.paths());
    journal.begin(false).expect("it can be written");
    let notes = (0..50).map(|number| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.note(None, || vec![ended(number)]).await })
    });
    for note in notes.collect::<Vec<_>>() {
        note.await.expect("no panic").expect("it can be written");
    }
    let mut found = found(&directory.paths());
    found.sort();
    assert_eq!(found, keys(0..50));
}

/// A session that ends while a file is written may be in that file.
#[tokio::test]
async fn a_new_file_forgets_only_what_had_ended_before_it_was_begun() {
    let directory = TestDirectory::new("cut");
    let journal = Journal::new(directory.paths());
    journal.resume(ends(0..2)).expect("it can be written");
    journal
        .note(None, || vec![ended(2)])
        .await
        .expect("it can be written");
    let cut = journal.begin(true).expect("it can be written");
    journal
        .note(None, || vec![ended(3)])
        .await
        .expect("it can be written");
    journal.finish(cut, || Ok(())).expect("it can be written");
    assert_eq!(found(&directory.paths()), keys(3..4));
}

#[tokio::test]
async fn a_file_without_a_journal_is_removed_and_one_under_way_does_not_appear() {
    let directory = TestDirectory::new("spoilt");
    let paths = directory.paths();
    std::fs::write(&paths.file, "sessions").expect("it can be written");
    // This path cannot be written.
    let mut blocked = paths.clone();
    blocked.journal_temporary = Path::new("/proc/no/such").to_owned();
    let journal = Journal::new(blocked);
    let cut = journal.begin(false).expect("nothing is written yet");
    let noted = journal.note(None, || vec![ended(1)]).await;
    noted.expect("nothing can bring the session back any more");
    assert!(!paths.file.exists());
    let appeared = journal.finish(cut, || panic!("it must not appear"));
    assert!(appeared.is_err());
}

/// The new journal has replaced the old one, but its directory cannot be synced: no file descriptor
/// is left, for example. Notes that were written to the old one would be lost with it.
#[tokio::test]
async fn what_is_acknowledged_after_a_failed_replacement_of_the_journal_is_found() {
    let directory = TestDirectory::new("replaced");
    let paths = directory.paths();
    let mut blocked = paths.clone();
    // The path that is synced.
    blocked.directory = paths.file.with_file_name("synced");
    std::fs::create_dir(&blocked.directory).expect("it can be created");
    let journal = Journal::new(blocked.clone());
    journal.resume(ends(0..2)).expect("it can be written");
    let cut = journal.begin(true).expect("it can be written");
    let finished = journal.finish(cut, || {
        std::fs::write(&paths.file, "sessions")?;
        std::fs::remove_dir(&blocked.directory)
    });
    finished.expect_err("it cannot be synced");
    assert!(!paths.file.exists());
    for number in 2..4 {
        let noted = journal.note(None, || vec![ended(number)]).await;
        noted.expect_err("the removal of the file cannot be synced either");
    }

    std::fs::create_dir(&blocked.directory).expect("it can be created");
    let cut = journal.begin(true).expect("it can be written");
    let finished = journal.finish(cut, || std::fs::write(&paths.file, "sessions"));
    finished.expect("it can be written");
    journal
        .note(None, || vec![ended(4)])
        .await
        .expect("it can be written");
    assert_eq!(found(&paths), keys(4..5));
}

/// A note fails at the moment at which a file is begun. What ends while that file is written, and
/// after it has appeared, is noted.
#[tokio::test]
async fn what_ends_is_noted_for_a_file_that_is_begun_when_the_journal_fails() {
    let directory = TestDirectory::new("begun");
    let paths = directory.paths();
    let journal = Journal::new(paths.clone());
    journal.resume(Vec::new()).expect("it can be written");
    let next = {
        let mut written = journal.written();
        let next = journal.clone();
        let next = std::thread::spawn(move || next.begin(true));
        // It waits for the lock then.
        std::thread::sleep(Duration::from_millis(200));
        journal.deactivate(&mut written, &io::Error::other("the disk is full"));
        next
    };
    let cut = next.join().expect("no panic").expect("it can be written");
    journal
        .note(None, || vec![ended(1)])
        .await
        .expect("it can be written");
    let finished = journal.finish(cut, || std::fs::write(&paths.file, "sessions"));
    finished.expect("it can be written");
    journal
        .note(None, || vec![ended(2)])
        .await
        .expect("it can be written");
    assert_eq!(found(&paths), keys(1..3));
}
