//! Is there such a recipient? Where that is for the system to say, its name service may ask over the network, and hang.
//!
//! So it is asked a few times at once, on threads that are meant for it: however long it takes, those that write messages are not used up. Who gets
//! no answer in time does not know.

use common::address::Address;
use common::routing::{Existence, Router};
use common::users::Users;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Threads that may be asking at the same time.
pub const TURNS: usize = 16;
/// For one answer, with the wait for a turn.
const LIMIT: Duration = Duration::from_secs(30);

/// Who may ask.
#[derive(Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }
}

impl Turns {
    /// Asks about a recipient in a domain of this machine.
    pub async fn exists(&self, router: Arc<Router>, address: &Address) -> Existence {
        if !matches!(router.users, Users::System) {
            return router.recipient_exists(address);
        }
        let ask = async {
            let turn = self.0.clone().acquire_owned().await.map_err(|error| error.to_string())?;
            let address = address.clone();
            let asked = spawn_blocking(move || {
                // Given back when the thread is free again, even if nobody waits for it any more.
                let _turn = turn;
                router.recipient_exists(&address)
            });
            asked.await.map_err(|error| error.to_string())
        };
        match timeout(LIMIT, ask).await {
            Ok(Ok(existence)) => existence,
            Ok(Err(reason)) => Existence::Unknown(reason),
            Err(_) => Existence::Unknown("the system's users cannot be looked up in time".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_service_that_hangs_takes_its_own_threads_and_no_others() {
        let router = |text: &str| {
            let text = format!("hostname = \"a.example\"\nlocal_domains = [\"a.example\"]\n{text}");
            let folder = std::path::Path::new("/");
            let config = common::config::Config::parse(&text, &folder.join("x.toml"), folder).unwrap();
            common::tables::Tables::load(&config).unwrap().router()
        };
        let root = "root@a.example".parse().unwrap();
        let system = router("[local]\naliases = \"/dev/null\"\n");
        let turns = Turns::default();
        assert_eq!(turns.exists(system.clone(), &root).await, Existence::Yes);
        let hanging = turns.0.clone().acquire_many_owned(TURNS as u32).await.unwrap();
        let answer = turns.exists(system.clone(), &root).await;
        assert!(matches!(answer, Existence::Unknown(_)), "{answer:?}");
        drop(hanging);
        assert_eq!(turns.exists(system, &root).await, Existence::Yes);
    }
}
