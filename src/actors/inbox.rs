//! Sends to actors: the one place that may use `do_send`.

use actix::dev::{MessageResponse, ToEnvelope};
use actix::{Actor, Addr, Handler, Message};

/// Puts a message into an actor's inbox without waiting.
///
/// The inbox itself has no bound. Callers are bounded: each message stands for a write that holds a credit of the
/// router, for the answer to one, for a subscription that its session counted, for a statement about a job, or for a
/// step of one of the few jobs that run.
pub(super) fn send<A, M>(to: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: MessageResponse<A, M> + Send,
{
    #[expect(clippy::disallowed_methods, reason = "this is its one home")]
    to.do_send(message);
}
