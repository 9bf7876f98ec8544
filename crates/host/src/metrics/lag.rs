//! How late the runtime gets to what is due: the first thing that shows when a call blocks, or the CPU is too small.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Metrics;

/// Between two measurements. Each costs a timer and a wake-up.
const PERIOD: Duration = Duration::from_secs(1);

/// Ends when nobody counts any more.
pub(crate) async fn measure_lag(metrics: Weak<Metrics>) {
    loop {
        let due = Instant::now() + PERIOD;
        sleep(PERIOD).await;
        let Some(metrics) = metrics.upgrade() else {
            return;
        };
        metrics.lag.observe(due.elapsed());
    }
}
