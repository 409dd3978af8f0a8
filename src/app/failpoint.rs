//! Where tests make a task panic (feature `failpoints`). Without the feature, as in every release, this is
//! the task itself and nothing else.

use std::future::Future;

/// The variable that plants a panic: `<part>@<file>`, for example `sink out@/tmp/now`. The part panics as
/// soon as the file exists.
#[cfg(feature = "failpoints")]
pub const VARIABLE: &str = "POSTERN_FAILPOINT";

/// The task of `part`, with its failpoint.
#[cfg(not(feature = "failpoints"))]
pub fn guard<F: Future>(_part: String, task: F) -> F {
    task
}

/// The task of `part`, with its failpoint.
#[cfg(feature = "failpoints")]
pub async fn guard<F: Future>(part: String, task: F) -> F::Output {
    tokio::select! {
        output = task => output,
        () = planted(&part) => {
            #[expect(clippy::panic, reason = "this is the panic that the tests ask for")]
            { panic!("planted in {part}") }
        }
    }
}

#[cfg(feature = "failpoints")]
async fn planted(part: &str) {
    let plan = std::env::var(VARIABLE).unwrap_or_default();
    let Some((_, file)) = plan.split_once('@').filter(|(planted, _)| *planted == part) else {
        return std::future::pending().await;
    };
    while tokio::fs::metadata(file).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
