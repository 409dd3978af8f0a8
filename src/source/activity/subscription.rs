//! Keeping a content type's subscription on: look first, start what is missing, notice when it was off. It never
//! stops one.

use std::time::Duration;

use super::feed::{Draft, Feed};
use super::trouble::{Problem, Sort};
use super::wire::Api;
use crate::domain::{Failure, Gap, GapCause};
use crate::pipeline::AdapterError;

/// The API refuses a second start of the same subscription within this time.
const START_AGAIN: Duration = Duration::from_secs(15 * 60);

/// How long a subscription that was just started may take to be listed before it is looked for again.
const SHOWS_UP: Duration = Duration::from_secs(60);

impl Feed {
    /// Makes sure that the subscription is on.
    pub(super) async fn subscribe(
        &mut self,
        api: &mut Api,
        draft: &mut Draft,
    ) -> Result<(), Problem> {
        let known = api.subscriptions().await?;
        if known.iter().any(|subscription| subscription.serves(self.content)) {
            self.subscribed = true;
            return Ok(());
        }
        let content = self.content.as_str();
        let again = self.started.map(|at| at.saturating_add(START_AGAIN));
        if let Some(left) = again.and_then(|at| at.checked_sub(api.elapsed())) {
            let message =
                format!("the subscription {content} was started and is not listed as on yet");
            let failure = Failure::Retry(Some(left.min(SHOWS_UP)));
            return Err(Problem::Feed(AdapterError::new(failure, message)));
        }
        match api.start(self.content).await {
            Ok(()) => {
                self.started = Some(api.elapsed());
                tracing::info!(source = &*self.source, content, "subscription started");
                self.was_off(api, draft);
            }
            Err(trouble) if trouble.sort == Sort::AlreadyEnabled => {}
            Err(trouble) => return Err(trouble.into()),
        }
        self.subscribed = true;
        Ok(())
    }

    /// A subscription that had been read before was off: what was made meanwhile is never given.
    fn was_off(&mut self, api: &Api, draft: &mut Draft) {
        let Some(mark) = self.mark else { return };
        self.repairs += 1;
        let (content, repairs) = (self.content.as_str(), self.repairs);
        tracing::warn!(
            source = &*self.source,
            content,
            repairs,
            "the subscription was off and has been started again; if it recurs, find out who stops it"
        );
        draft.gaps.push(Gap {
            source: (&*self.source).into(),
            what: content.into(),
            from: mark.to_string().into(),
            to: api.server_now().to_string().into(),
            count: None,
            cause: GapCause::RemoteGone,
            detail: "the subscription was off for a part of this time; the API does not give content that was made while it was".into(),
        });
    }
}
