//! The hand-offs between appenders, writer and readers under every schedule and memory order that the language
//! allows: the very file that the journal is built from, with loom's primitives in place of the standard ones. And
//! the same file once more with its orderings weakened, to prove that this test would see it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fall over")]
#![allow(clippy::duplicate_mod, reason = "once as it is, once weakened")]
#![allow(missing_docs, dead_code, reason = "the file is included for its behaviour only")]

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

/// `watermark.rs` as it is.
#[path = "."]
mod sound {
    mod sync {
        pub(super) use crate::condvar::Condvar;
        pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
        pub(super) use loom::sync::{Mutex, MutexGuard};
    }
    #[path = "../src/journal/watermark.rs"]
    pub mod watermark;
}

/// `watermark.rs` with every ordering made `Relaxed`: the planted defect.
#[path = "."]
mod relaxed {
    mod sync {
        pub(super) use crate::condvar::Condvar;
        pub(super) use loom::sync::atomic::AtomicU64;
        pub(super) use loom::sync::{Mutex, MutexGuard};

        pub(super) struct Ordering;

        #[allow(non_upper_case_globals, reason = "stands in for the standard names")]
        impl Ordering {
            pub(super) const Acquire: loom::sync::atomic::Ordering =
                loom::sync::atomic::Ordering::Relaxed;
            pub(super) const Release: loom::sync::atomic::Ordering =
                loom::sync::atomic::Ordering::Relaxed;
        }
    }
    #[path = "../src/journal/watermark.rs"]
    pub mod watermark;
}

/// loom's condition variable with the one method that it lacks; time does not pass in a model.
mod condvar {
    use std::sync::LockResult;
    use std::time::Duration;

    use loom::sync::MutexGuard;

    #[derive(Debug)]
    pub struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            self.0.wait(guard)
        }

        pub fn wait_timeout_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            _time: Duration,
            condition: impl Fn(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, ())> {
            while condition(&mut guard) {
                guard = self.0.wait(guard).unwrap();
            }
            Ok((guard, ()))
        }
    }
}

/// A writer makes something findable and then moves the watermark; whoever sees the watermark must find it.
macro_rules! publish_and_read {
    ($watermark:ty) => {
        loom::model(|| {
            let found = Arc::new(AtomicU64::new(0));
            let watermark = Arc::new(<$watermark>::new(0));
            let writer = {
                let (found, watermark) = (found.clone(), watermark.clone());
                thread::spawn(move || {
                    found.store(1, Relaxed);
                    watermark.advance(1);
                    found.store(2, Relaxed);
                    watermark.advance(2);
                })
            };
            let seen = watermark.get();
            assert!(found.load(Relaxed) >= seen, "the watermark shows what cannot be found yet");
            assert!(watermark.get() >= seen, "the watermark went back");
            writer.join().unwrap();
        })
    };
}

#[test]
fn what_is_below_the_watermark_can_be_found() {
    publish_and_read!(sound::watermark::Watermark);
}

#[test]
#[should_panic(expected = "cannot be found yet")]
fn a_relaxed_watermark_is_caught() {
    publish_and_read!(relaxed::watermark::Watermark);
}

#[test]
fn the_writer_gets_everything_in_order_and_no_wake_up_is_lost() {
    use sound::watermark::{Group, Taken};
    loom::model(|| {
        let group = Arc::new(Group::default());
        let appenders: Vec<_> = [10, 20]
            .into_iter()
            .map(|first| {
                let group = group.clone();
                thread::spawn(move || {
                    group.push(first, 1).unwrap();
                    if first == 10 {
                        group.push(first + 1, 1).unwrap();
                    }
                })
            })
            .collect();
        let mut taken = Vec::new();
        while taken.len() < 3 {
            match group.wait(2, Duration::MAX) {
                Taken::Items(items) => taken.extend(items),
                Taken::Closed => panic!("nobody closed it"),
            }
        }
        assert!(taken.iter().position(|n| *n == 10) < taken.iter().position(|n| *n == 11));
        assert_eq!(group.bytes(), 0);
        for appender in appenders {
            appender.join().unwrap();
        }
        group.close();
        assert_eq!(group.push(1, 1), Err(1));
        assert_eq!(group.wait(2, Duration::MAX), Taken::Closed);
    });
}
