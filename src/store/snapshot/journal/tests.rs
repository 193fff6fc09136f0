use std::path::Path;

use super::super::sample::key;
use super::format::parse;
use super::*;

fn journal(batches: &[&[SessionKey]]) -> Vec<u8> {
    let mut bytes = start(batches[0]);
    let mut begin = batches[0].len();
    for keys in &batches[1..] {
        bytes.append(&mut entries(keys, begin as u32));
        begin += keys.len();
    }
    bytes
}

fn keys(numbers: std::ops::Range<u8>) -> Vec<SessionKey> {
    numbers.map(|number| key(1, number)).collect()
}

#[test]
fn what_was_noted_is_found() {
    let bytes = journal(&[&keys(0..2), &keys(2..3), &keys(3..7)]);
    assert_eq!(parse(&bytes), Some(keys(0..7)));
    assert_eq!(parse(&start(&[])), Some(Vec::new()));
}

#[test]
fn the_last_batch_may_be_torn() {
    let whole = journal(&[&keys(0..2), &keys(2..3), &keys(3..7)]);
    let sound = journal(&[&keys(0..2), &keys(2..3)]).len();
    for length in sound..whole.len() {
        let found = parse(&whole[..length]).expect("it was torn, not damaged");
        assert!(found.starts_with(&keys(0..3)), "{length} bytes");
    }
    // Pages reach the disk in any order.
    let mut bytes = whole;
    bytes[sound..sound + 40].fill(0);
    assert_eq!(parse(&bytes), Some([keys(0..3), keys(5..7)].concat()));
}

/// F-08, K-09.
///
/// Whoever was told that his session has ended must find it so, or nothing is read at all.
#[test]
fn damage_before_the_last_batch_is_found() {
    let bytes = journal(&[&keys(0..2), &keys(2..3), &keys(3..5), &keys(5..6)]);
    let last = journal(&[&keys(0..2), &keys(2..3), &keys(3..5)]).len();
    for at in 0..last {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(parse(&bytes), None, "byte {at}");
    }
}

struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("journal-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("it can be written");
        Self(path)
    }

    fn place(&self) -> Place {
        Place::new(&self.0.join("sessions")).expect("it names a file")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn found(place: &Place) -> Vec<SessionKey> {
    match read(place) {
        Found::Keys(keys) => keys,
        other => panic!("expected a journal, found {other:?}"),
    }
}

#[tokio::test]
async fn without_a_file_nothing_is_noted() {
    let directory = Directory::new("unarmed");
    let journal = Journal::new(directory.place());
    journal
        .note(key(1, 1))
        .await
        .expect("there is nothing to do");
    assert!(matches!(read(&directory.place()), Found::Nothing));
}

#[tokio::test]
async fn an_end_is_on_the_disk_before_it_is_acknowledged() {
    let directory = Directory::new("noted");
    let journal = Journal::new(directory.place());
    journal.begin(false).expect("it can be written");
    let notes = keys(0..50).into_iter().map(|key| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.note(key).await })
    });
    for note in notes.collect::<Vec<_>>() {
        note.await.expect("no panic").expect("it can be written");
    }
    let mut found = found(&directory.place());
    found.sort();
    assert_eq!(found, keys(0..50));
}

/// What ends while a file is written may be in that file.
#[tokio::test]
async fn a_new_file_forgets_only_what_had_ended_before_it_was_begun() {
    let directory = Directory::new("cut");
    let journal = Journal::new(directory.place());
    journal.go_on(keys(0..2)).expect("it can be written");
    journal.note(key(1, 2)).await.expect("it can be written");
    let cut = journal.begin(true).expect("it can be written");
    journal.note(key(1, 3)).await.expect("it can be written");
    journal.finish(cut, || Ok(())).expect("it can be written");
    assert_eq!(found(&directory.place()), keys(3..4));
}

#[tokio::test]
async fn a_file_without_a_journal_is_removed_and_one_under_way_does_not_appear() {
    let directory = Directory::new("spoilt");
    let place = directory.place();
    std::fs::write(&place.file, "sessions").expect("it can be written");
    // Nobody can write there.
    let mut blocked = place.clone();
    blocked.journal_temporary = Path::new("/proc/no/such").to_owned();
    let journal = Journal::new(blocked);
    let cut = journal.begin(false).expect("nothing is written yet");
    let noted = journal.note(key(1, 1)).await;
    noted.expect("nothing can bring the session back any more");
    assert!(!place.file.exists());
    let appeared = journal.finish(cut, || panic!("it must not appear"));
    assert!(appeared.is_err());
}
