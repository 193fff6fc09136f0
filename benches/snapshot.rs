//! How long a file of 100,000 sessions of 1 KB takes to be written and to be loaded, beside the same
//! number of bytes written and read without looking at them, in the same run.
//!
//! Run with: cargo bench --features snapshot --bench snapshot
//!
//! Every number is the median of [`ROUNDS`]. The files go to the target directory: what is measured
//! is this machine's disk as well.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use distributable::session::{Changes, Value};
use distributable::store::SnapshotStore;
use distributable::{MemoryStore, SessionId, SessionStore};

const SESSIONS: usize = 100_000;
const ATTRIBUTES: usize = 4;
const ATTRIBUTE_BYTES: usize = 256;
const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    runtime.block_on(run());
}

async fn run() {
    let directory = Directory::new();
    for (name, key) in [("plain", None), ("encrypted", Some([7; 32]))] {
        let path = directory.0.join(name);
        let (mut saves, mut loads, mut writes, mut reads) = (vec![], vec![], vec![], vec![]);
        let mut bytes = 0;
        for round in 0..ROUNDS {
            let store = open(&path, key).await;
            match round {
                0 => fill(store.store()).await,
                _ => assert_eq!(store.loaded().sessions, SESSIONS),
            }
            let (took, report) = timed_async(store.save()).await;
            let report = report.expect("the disk is large enough");
            assert_eq!(report.sessions as usize, SESSIONS);
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
            assert_eq!(store.loaded().sessions, SESSIONS);
            loads.push(took);
            store.save().await.expect("the disk is large enough");
        }
        let [save, load, write, read] = [saves, loads, writes, reads].map(median);
        println!("{name}: {SESSIONS} sessions, {bytes} bytes");
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
    let opened = builder.open(MemoryStore::new()).await;
    opened.expect("nobody else uses it")
}

async fn fill(store: &MemoryStore) {
    for number in 0..SESSIONS {
        let mut changes = Changes::create(None, Duration::from_secs(86_400));
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
