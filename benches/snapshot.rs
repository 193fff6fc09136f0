//! Duration of writing and loading a file of 100,000 sessions of 1 KB, compared with writing and
//! reading the same number of bytes without decoding them, in the same run.
//!
//! Run with: cargo bench --features snapshot --bench snapshot [-- SESSIONS]
//!
//! Every number is the median of [`ROUNDS`] (of one, with more sessions); *more memory* is the
//! largest growth of the process while it saved. The files are in the target directory: the result
//! includes the speed of this machine's disk.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use distributable::session::{Changes, SecretHash, Value};
use distributable::{MemoryStore, SessionId, SessionStore, SnapshotStore};

const ATTRIBUTES: usize = 4;
const ATTRIBUTE_BYTES: usize = 256;
const ROUNDS: usize = 5;
const SESSIONS: usize = 100_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    runtime.block_on(run());
}

async fn run() {
    let sessions = std::env::args().find_map(|arg| arg.parse().ok());
    let sessions = sessions.unwrap_or(SESSIONS);
    let directory = Directory::new();
    for (name, key) in [("plain", None), ("encrypted", Some([7; 32]))] {
        let path = directory.0.join(name);
        let (mut saves, mut loads, mut writes, mut reads) = (vec![], vec![], vec![], vec![]);
        let (mut bytes, mut growth) = (0, 0);
        let rounds = if sessions > SESSIONS { 1 } else { ROUNDS };
        for round in 0..rounds {
            let store = open(&path, key).await;
            match round {
                0 => fill(store.store(), sessions).await,
                _ => assert_eq!(store.load_report().sessions, sessions),
            }
            let before = Memory::now();
            let (took, report) = timed_async(store.save()).await;
            growth = growth.max(before.peak_growth());
            let report = report.expect("the disk is large enough");
            assert_eq!(report.sessions as usize, sessions);
            saves.push(took);
            bytes = report.bytes;
            drop(store);

            let content = fs::read(&path).expect("it has been written");
            let copy = directory.0.join("copy");
            writes.push(timed(|| write_and_sync(&copy, &content)));
            drop(content);
            reads.push(timed(|| {
                black_box(fs::read(&copy).expect("it is there")).len()
            }));

            let (took, store) = timed_async(open(&path, key)).await;
            assert_eq!(store.load_report().sessions, sessions);
            loads.push(took);
            store.save().await.expect("the disk is large enough");
        }
        let [save, load, write, read] = [saves, loads, writes, reads].map(median);
        println!("{name}: {sessions} sessions, {bytes} bytes, {growth} KiB more memory");
        println!(
            "  save {save:>10.1?}   write + fsync {write:>10.1?}   {:.2}x",
            ratio(save, write)
        );
        println!(
            "  load {load:>10.1?}   read          {read:>10.1?}   {:.2}x",
            ratio(load, read)
        );
        println!("  load to write + fsync {:.2}x", ratio(load, write));
    }
}

async fn open(path: &Path, key: Option<[u8; 32]>) -> SnapshotStore<MemoryStore> {
    let builder = SnapshotStore::builder(path).application("bench");
    let builder = match key {
        Some(key) => builder.encryption_key(key),
        None => builder,
    };
    let roomy = MemoryStore::builder().max_bytes(usize::MAX).build();
    let opened = builder.open(roomy).await;
    opened.expect("no other process uses it")
}

async fn fill(store: &MemoryStore, sessions: usize) {
    for number in 0..sessions {
        let mut changes = Changes::create(
            SecretHash::from_bytes([1; 16]),
            None,
            Duration::from_secs(86_400),
        );
        for attribute in 0..ATTRIBUTES {
            let text = format!("{number:>width$}", width = ATTRIBUTE_BYTES);
            let name = format!("attribute{attribute}");
            changes.insert(name.as_str().into(), Value::from_bytes(text.as_bytes()));
        }
        let key = SessionId::generate().key();
        let committed = store.commit(&key, None, changes).await;
        committed.expect("there is room");
    }
}

/// The memory of the process, in KiB, on Linux; zero elsewhere.
struct Memory(u64);

impl Memory {
    fn now() -> Self {
        // Resets the peak.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self(status("VmRSS:"))
    }

    fn peak_growth(self) -> u64 {
        status("VmHWM:").saturating_sub(self.0)
    }
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(field));
    let line = lines.next().unwrap_or_default();
    line.trim_end_matches("kB").trim().parse().unwrap_or(0)
}

fn write_and_sync(path: &Path, content: &[u8]) {
    let mut file = File::create(path).expect("it can be created");
    file.write_all(content).expect("the disk is large enough");
    file.sync_all().expect("the disk works");
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

async fn timed_async<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let began = Instant::now();
    let result = work.await;
    (began.elapsed(), result)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("snapshot-bench-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
