//! How long a session waits for its client: less when there are too many clients, unless it is known.

use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The idle time-out when it is crowded.
const HURRY: Duration = Duration::from_secs(10);

/// For how long a client may do nothing. When there are nearly as many clients as there can be, those who do nothing make room for others.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// When it is not crowded.
    pub usual: Duration,
    /// Is it no stranger?
    pub known: bool,
}

impl Patience {
    /// How long that is.
    pub fn when(self, crowded: bool) -> Duration {
        if crowded && !self.known { self.usual.min(HURRY) } else { self.usual }
    }

    /// Does what waits for the client; `None`: it took too long. Getting crowded counts at once.
    pub async fn last<T>(
        self,
        crowded: &mut watch::Receiver<bool>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let begun = Instant::now();
        let mut looked = false;
        let done = loop {
            let now_crowded = *crowded.borrow();
            tokio::select! {
                biased;
                done = &mut work => break Some(done),
                () = sleep(self.when(now_crowded).saturating_sub(begun.elapsed())) => break None,
                Ok(()) = crowded.changed() => looked = true,
            }
        };
        if looked {
            // The session has not seen it.
            crowded.mark_changed();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that takes no reply, or does not go on with its handshake, held its place for minutes when others wanted it.
    #[tokio::test(start_paused = true)]
    async fn getting_crowded_shortens_what_is_waited_for_already() {
        let usual = Duration::from_secs(300);
        for (known, first, later, seconds, news) in [
            (false, false, false, 300, false),
            (false, true, true, 10, false),
            (false, false, true, 100, true),
            // Over before that.
            (false, true, false, 10, false),
            (true, false, true, 300, true),
        ] {
            let (tell, mut crowded) = watch::channel(first);
            let begun = Instant::now();
            let waits = tokio::spawn(async move {
                let never = std::future::pending::<()>();
                let done = Patience { usual, known }.last(&mut crowded, never).await;
                (done, begun.elapsed().as_secs(), crowded.has_changed().unwrap())
            });
            sleep(Duration::from_secs(100)).await;
            tell.send_if_modified(|crowded| std::mem::replace(crowded, later) != later);
            // The session is to see it, too.
            assert_eq!(waits.await.unwrap(), (None, seconds, news), "{known} {first} {later}");
        }
    }
}
