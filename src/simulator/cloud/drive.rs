//! Lets a model tenant live in front of a cloud alone, without hubs: time passes, mail comes in, the cloud
//! shows what comes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::World;
use crate::simulator::tenant::{Settings, Tenant};

/// How often time passes.
const STEP: Duration = Duration::from_millis(50);

/// Seconds of the past that are lived through at once.
const SLICE: i64 = 1;

/// Runs until `stop` turns true, then lets everything become visible. The tenant's life begins `past` seconds
/// ago, so that there is something to see at once. Returns how many mails came in.
pub async fn drive(
    world: Arc<World>,
    settings: Settings,
    past: u64,
    mut stop: watch::Receiver<bool>,
) -> u64 {
    let past = i64::try_from(past).unwrap_or(0);
    let start = world.now().plus_seconds(-past);
    let mut tenant = Tenant::new(Settings { start, ..settings });
    let mut time = start;
    loop {
        let now = world.now();
        // In slices, so that whoever asks meanwhile need not wait for the whole past.
        while time < now {
            time = time.plus_seconds(SLICE).min(now);
            {
                let mut store = world.store();
                tenant.advance(time, &mut |record| store.take(&record));
            }
            tokio::task::yield_now().await;
        }
        if *stop.borrow() {
            break;
        }
        drop(tokio::time::timeout(STEP, stop.changed()).await);
    }
    let mut store = world.store();
    tenant.finish(&mut |record| store.take(&record));
    store.finish(world.now());
    tenant.mails()
}
