//! Outages and their log lines: one at the start, one per minute, one at the end.

use std::time::Duration;

use tokio::time::Instant;

/// The state of a resource that may fail for a long time.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    reported: Option<Instant>,
}

/// A failure that is to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutageReport {
    Begins,
    /// The outage has lasted this long.
    Lasts(Duration),
}

impl Outage {
    /// Records a failure.
    pub(super) fn fails(&mut self, now: Instant) -> Option<OutageReport> {
        let since = *self.since.get_or_insert(now);
        let report = match self.reported {
            None => OutageReport::Begins,
            Some(reported) if now - reported >= REPORT_EVERY => OutageReport::Lasts(now - since),
            Some(_) => return None,
        };
        self.reported = Some(now);
        Some(report)
    }

    /// Ends the outage. Returns its duration, if there was one.
    pub(super) fn ends(&mut self, now: Instant) -> Option<Duration> {
        let since = std::mem::take(self).since?;
        Some(now - since)
    }
}

/// The interval between log lines during an outage.
const REPORT_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn an_outage_is_reported_when_it_begins_once_a_minute_and_when_it_ends() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(outage.ends(start), None);
        let reports: Vec<_> = (0..=400)
            .filter_map(|turn| outage.fails(at(turn * 500)))
            .collect();
        let lasts = |secs| OutageReport::Lasts(Duration::from_secs(secs));
        assert_eq!(
            reports,
            [OutageReport::Begins, lasts(60), lasts(120), lasts(180)]
        );
        assert_eq!(
            outage.ends(at(200_500)),
            Some(Duration::from_millis(200_500))
        );
        assert_eq!(outage.ends(at(200_500)), None);
        assert_eq!(outage.fails(at(201_000)), Some(OutageReport::Begins));
    }
}
