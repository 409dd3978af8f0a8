//! The tasks of the daemon: every one is owned here and waited for. What a task does is not known here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::pipeline::PipelineError;

/// What a task comes to.
pub type Outcome = Result<(), PipelineError>;

/// How a task ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to stop, and did.
    Stopped,
    /// It returned although nobody asked, or with an error.
    Failed(String, Option<PipelineError>),
    /// It panicked.
    Panicked,
    /// It was told to stop, did not in time, and was cut off.
    Aborted,
}

/// The tasks, by the part of the process that they are (`source hubs`, `sink siem`).
#[derive(Debug, Default)]
pub struct Crew {
    tasks: JoinSet<Outcome>,
    members: BTreeMap<String, Member>,
    parts: HashMap<Id, String>,
    /// Ends seen while waiting for another one.
    seen: VecDeque<(String, Ended)>,
}

#[derive(Debug)]
struct Member {
    stop: watch::Sender<bool>,
    abort: AbortHandle,
    /// The configuration that it runs with, in canonical form.
    canonical: String,
}

impl Crew {
    /// Starts a task as `part`. It gets its own stop signal.
    pub fn spawn<F>(
        &mut self,
        part: &str,
        canonical: &str,
        task: impl FnOnce(watch::Receiver<bool>) -> F,
    ) where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let task = super::failpoint::guard(part.to_owned(), task(stopped));
        let abort = self.tasks.spawn(task);
        self.parts.insert(abort.id(), part.to_owned());
        let member = Member { stop, abort, canonical: canonical.to_owned() };
        self.members.insert(part.to_owned(), member);
    }

    /// The configuration that each part of a `family` (`source `, `sink `) runs with.
    #[must_use]
    pub fn running(&self, family: &str) -> BTreeMap<String, String> {
        self.members
            .iter()
            .filter(|(part, _)| part.starts_with(family))
            .map(|(part, member)| (part.clone(), member.canonical.clone()))
            .collect()
    }

    /// Waits for the next end of a task. Pending for ever while there are none. Cancel-safe.
    pub async fn next_end(&mut self) -> (String, Ended) {
        if let Some(end) = self.seen.pop_front() {
            return end;
        }
        match self.join().await {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }

    /// Asks one part to stop and waits for it, at most `patience`; then it is cut off.
    pub async fn stop(&mut self, part: &str, patience: Duration) -> Ended {
        let Some(member) = self.members.get(part) else { return Ended::Stopped };
        member.stop.send_replace(true);
        let abort = member.abort.clone();
        let deadline = Instant::now() + patience;
        loop {
            match timeout_at(deadline, self.join()).await {
                Ok(Some((ended, how))) if ended == part => return how,
                Ok(Some(other)) => self.seen.push_back(other),
                Ok(None) => return Ended::Stopped,
                // It stays a member until the loop above sees its end.
                Err(_) => {
                    abort.abort();
                    while let Some((ended, how)) = self.join().await {
                        if ended == part {
                            return how;
                        }
                        self.seen.push_back((ended, how));
                    }
                    return Ended::Aborted;
                }
            }
        }
    }

    /// Asks all to stop and waits until `deadline`; those that are left then are cut off. Returns every end
    /// that was not asked for.
    pub async fn drain(&mut self, deadline: Instant) -> Vec<(String, Ended)> {
        for member in self.members.values() {
            member.stop.send_replace(true);
        }
        let mut ends = Vec::from(std::mem::take(&mut self.seen));
        loop {
            match timeout_at(deadline, self.join()).await {
                Ok(Some(end)) => ends.push(end),
                Ok(None) => break,
                Err(_) => {
                    self.tasks.abort_all();
                    while let Some(end) = self.join().await {
                        ends.push(end);
                    }
                    break;
                }
            }
        }
        ends.retain(|(_, how)| !matches!(how, Ended::Stopped));
        ends
    }

    async fn join(&mut self) -> Option<(String, Ended)> {
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error)),
        };
        let part = self.parts.remove(&id).unwrap_or_default();
        let asked = self.members.remove(&part).is_some_and(|member| *member.stop.borrow());
        Some((part, how(result, asked)))
    }
}

fn how(result: Result<Outcome, JoinError>, asked: bool) -> Ended {
    match result {
        Ok(Ok(())) if asked => Ended::Stopped,
        Ok(Ok(())) => Ended::Failed("it ended although nobody asked it to".to_owned(), None),
        Ok(Err(error)) => Ended::Failed(error.to_string(), Some(error)),
        Err(error) if error.is_panic() => Ended::Panicked,
        Err(_) => Ended::Aborted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::stopped;

    const PATIENCE: Duration = Duration::from_secs(5);

    async fn obedient(mut stop: watch::Receiver<bool>) -> Outcome {
        stopped(&mut stop).await;
        Ok(())
    }

    async fn deaf(_stop: watch::Receiver<bool>) -> Outcome {
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_asked_to_stop_ends_in_good_order() {
        let mut crew = Crew::default();
        crew.spawn("sink a", "1", obedient);
        crew.spawn("sink b", "2", obedient);
        assert!(matches!(crew.stop("sink a", PATIENCE).await, Ended::Stopped));
        assert_eq!(crew.running("sink ").keys().collect::<Vec<_>>(), ["sink b"]);
        assert!(crew.drain(Instant::now() + PATIENCE).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_cut_off_at_the_deadline_and_named() {
        let mut crew = Crew::default();
        crew.spawn("sink deaf", "", deaf);
        crew.spawn("sink good", "", obedient);
        let began = Instant::now();
        let ends = crew.drain(began + PATIENCE).await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(
            matches!(ends.as_slice(), [(part, Ended::Aborted)] if part == "sink deaf"),
            "{ends:?}"
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_end_with_the_name_of_its_part() {
        let mut crew = Crew::default();
        crew.spawn("sink good", "", obedient);
        crew.spawn("source bad", "", |_| async { panic!("planted") });
        let (part, how) = crew.next_end().await;
        assert_eq!(part, "source bad");
        assert!(matches!(how, Ended::Panicked), "{how:?}");
    }

    #[tokio::test]
    async fn an_end_seen_while_waiting_for_another_is_not_lost() {
        let mut crew = Crew::default();
        crew.spawn("source early", "", |_| async { Ok(()) });
        tokio::task::yield_now().await;
        crew.spawn("sink a", "", obedient);
        assert!(matches!(crew.stop("sink a", PATIENCE).await, Ended::Stopped));
        let end = tokio::time::timeout(PATIENCE, crew.next_end()).await;
        let (part, how) = end.expect("the end was lost");
        assert_eq!(part, "source early");
        assert!(matches!(how, Ended::Failed(..)), "{how:?}");
    }
}
