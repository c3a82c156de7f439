//! Does anybody still wait for a statement?

use tokio::sync::watch;

/// Told when whoever sent a statement has gone: its queries stop, and what it has not begun to write is not written.
/// By default nobody looks, and the statement runs to its end.
#[derive(Debug, Clone, Default)]
pub struct CallerGone(Option<watch::Receiver<bool>>);

/// The other end: whoever sees the caller go.
#[derive(Debug)]
pub struct CallerWatch(watch::Sender<bool>);

impl CallerGone {
    pub fn watched() -> (CallerWatch, CallerGone) {
        let (sender, receiver) = watch::channel(false);
        (CallerWatch(sender), CallerGone(Some(receiver)))
    }

    /// Returns when the caller has gone; where nobody looks any more, never.
    pub(super) async fn gone(&mut self) {
        if let Some(told) = &mut self.0
            && told.wait_for(|gone| *gone).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

impl CallerWatch {
    /// The caller has gone.
    pub fn tell(&self) {
        self.0.send_replace(true);
    }
}
