//! Writing a file. A separate thread writes it, so that a slow disk blocks neither requests nor the
//! end of the process.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::clock;
use crate::session::SLOTS;
use crate::store::export::Withheld;
use crate::store::snapshot::SnapshotShared;
use crate::store::snapshot::error::{SnapshotError, SnapshotErrorKind};
use crate::store::snapshot::format::encoder::SnapshotEncoder;
use crate::store::snapshot::format::header::SnapshotHeader;
use crate::store::snapshot::report::SaveReport;

/// Writes the store's sessions within the configured time, or reports why that failed.
pub(super) async fn save(shared: &Arc<SnapshotShared>) -> Result<SaveReport, SnapshotError> {
    let within = shared.config.save_timeout;
    let late = || {
        let message = format!(
            "{} could not be written within {within:?}",
            shared.paths.file.display()
        );
        SnapshotError::new(SnapshotErrorKind::TimedOut, message)
    };
    let saved = timeout(within, async {
        // Held by the thread, which may outlive this call.
        let turn = shared.saving.clone().lock_owned().await;
        let (done, result) = oneshot::channel();
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name("snapshot".to_owned());
        let spawned = thread.spawn(move || {
            let written = writer.write();
            // Released before the result is sent: the caller may open the file again at once.
            drop((writer, turn));
            // The caller may be gone.
            let _ = done.send(written);
        });
        spawned.map_err(|error| not_written(shared, error))?;
        match result.await {
            Ok(written) => written.map_err(|error| not_written(shared, error)),
            Err(_) => Err(not_written(shared, io::Error::other("the writer panicked"))),
        }
    });
    let saved = saved.await.unwrap_or_else(|_| Err(late()));
    match &saved {
        Ok(report) if report.unwritten > 0 => tracing::error!(
            file = %shared.paths.file.display(),
            sessions = report.sessions,
            unwritten = report.unwritten,
            elapsed_ms = report.elapsed.as_millis() as u64,
            "the time to write a snapshot was not enough; raise `save_timeout`"
        ),
        Ok(report) => tracing::info!(
            file = %shared.paths.file.display(),
            sessions = report.sessions,
            bytes = report.bytes,
            elapsed_ms = report.elapsed.as_millis() as u64,
            "a snapshot was written"
        ),
        Err(error) => tracing::error!(
            file = %shared.paths.file.display(),
            cause = error as &dyn std::error::Error,
            "a snapshot cannot be written"
        ),
    }
    saved
}

impl SnapshotShared {
    fn write(&self) -> io::Result<SaveReport> {
        let written = self.write_file();
        if written.is_err() {
            // It is removed before the next file is started, at the latest.
            let _ = fs::remove_file(&self.paths.temporary);
        }
        written
    }

    fn write_file(&self) -> io::Result<SaveReport> {
        let began = Instant::now();
        let is_withheld =
            self.withheld.load(Relaxed) && self.source.withheld() != Withheld::Settled;
        if is_withheld && self.source.sessions() == 0 {
            // The unused file is worth more than an empty one.
            return Ok(SaveReport::default());
        }
        let cut = self.journal.begin(self.config.interval.is_some())?;
        let file = self.paths.create(&self.paths.temporary)?;
        let header = self.header()?;
        let out = BufWriter::with_capacity(BUFFER, file);
        let mut encoder = SnapshotEncoder::begin(out, &header, self.config.key.as_ref())?;
        let unwritten = self.write_slots(&mut encoder, began)?;
        let is_needed = !self.withheld.load(Relaxed) && self.paths.file.symlink_metadata().is_ok();
        if unwritten > 0 && is_needed {
            return Err(io::Error::other(format!(
                "{unwritten} sessions are not written when time is up; the file from before stays"
            )));
        }
        let (out, totals, bytes) = encoder.end(unwritten)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        self.journal.finish(cut, || {
            self.paths.publish(&self.paths.temporary, &self.paths.file)
        })?;
        self.withheld.store(false, Relaxed);
        Ok(SaveReport {
            sessions: totals.sessions,
            tombstones: totals.tombstones,
            unwritten,
            bytes,
            elapsed: began.elapsed(),
        })
    }

    /// Writes slot after slot. Returns the number of sessions that were not written in time.
    fn write_slots(
        &self,
        encoder: &mut SnapshotEncoder<BufWriter<File>>,
        began: Instant,
    ) -> io::Result<u64> {
        // The written bytes must still reach the disk within the time.
        let limit = self.config.save_timeout.mul_f32(WRITING_PART);
        let mut logged_at = began;
        for slot in 0..SLOTS {
            let entries = self.source.export(clock::now(), slot);
            if !entries.is_empty() {
                encoder.slot(slot as u16, clock::now(), clock::wall_clock(), &entries)?;
            }
            if slot % SLOTS_BETWEEN_CHECKS == 0 {
                if began.elapsed() >= limit {
                    let all = self.source.sessions() as u64;
                    return Ok(all.saturating_sub(encoder.sessions()).max(1));
                }
                if logged_at.elapsed() >= PROGRESS_EVERY {
                    logged_at = Instant::now();
                    tracing::info!(
                        written = encoder.sessions(),
                        sessions = self.source.sessions(),
                        "writing a snapshot"
                    );
                }
            }
        }
        Ok(0)
    }

    fn header(&self) -> io::Result<SnapshotHeader> {
        let mut random = [0; 24];
        SysRng
            .try_fill_bytes(&mut random)
            .map_err(io::Error::other)?;
        let (nonce, salt) = random.split_at(16);
        let nonce = nonce.try_into().map_err(io::Error::other)?;
        let salt = salt.try_into().map_err(io::Error::other)?;
        Ok(SnapshotHeader {
            application: self.config.application.clone(),
            written_at: clock::wall_clock().as_millis(),
            salt: u64::from_le_bytes(salt),
            nonce: self.config.key.is_some().then_some(nonce),
            journaled: self.config.interval.is_some(),
            survivors: self.source.survivors(),
        })
    }
}

fn not_written(shared: &SnapshotShared, error: io::Error) -> SnapshotError {
    let message = format!("{} was not written", shared.paths.file.display());
    SnapshotError::new(SnapshotErrorKind::NotWritten, message).with_source(error)
}

/// The size of writes to the disk.
const BUFFER: usize = 256 << 10;
/// The fraction of the time after which no more sessions are written; the rest is for the disk.
const WRITING_PART: f32 = 0.75;
/// Slots between two checks of the time.
const SLOTS_BETWEEN_CHECKS: usize = 16;
/// How often progress is logged.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
