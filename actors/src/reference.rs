//! References to actors: the only handles that other code has.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::{Actor, Handler};
use futures::future::BoxFuture;

use crate::context::Context;
use crate::mailbox::{Closed, Lane, Mailbox, Refused};
use crate::message::{Envelope, Message, sender};
use crate::stage::CellStats;
use crate::supervision::{Control, ControlHandle};
use crate::time::Instant;

/// A message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The actor has stopped for good.
    #[error("the actor has stopped")]
    Closed,
}

/// A message was not taken at once; here it is back.
#[derive(thiserror::Error)]
pub enum Rejected<M> {
    /// No room in the mailbox.
    #[error("the actor's mailbox is full")]
    Full(M),
    /// The actor has stopped for good.
    #[error("the actor has stopped")]
    Closed(M),
}

// Whatever the message: it need not be printable.
impl<M> std::fmt::Debug for Rejected<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rejected::Full(_) => "Full",
            Rejected::Closed(_) => "Closed",
        })
    }
}

/// An ask got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum AskError {
    /// No room in the mailbox within the deadline: the message was not sent.
    #[error("the actor's mailbox stayed full until the deadline")]
    Full,
    /// The actor has stopped for good: the message was not handled.
    #[error("the actor has stopped")]
    Closed,
    /// The actor panicked, or was rebuilt, while it had the message.
    #[error("the actor panicked while handling the message")]
    Panicked,
    /// No answer within the deadline: whether the message was, or will be, handled is unknown.
    #[error("no answer within the deadline")]
    Timeout,
    /// The peer that the actor lives on is not connected: whether the message was handled is unknown.
    #[error("the actor's peer is unreachable")]
    Unreachable,
}

/// A handle to an actor. Cheap to clone; survives the actor's restarts; does not keep it alive.
pub struct ActorRef<A: Actor> {
    pub(crate) mailbox: Arc<Mailbox<A>>,
    pub(crate) stats: Arc<CellStats>,
    pub(crate) control: ControlHandle,
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        ActorRef { mailbox: self.mailbox.clone(), stats: self.stats.clone(), control: self.control.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> ActorRef<A> {
    /// Where the actor stands in the tree: `node/kubelet/pod[default/web]`.
    pub fn path(&self) -> &Arc<str> {
        &self.stats.path
    }

    /// Whether the actor has stopped for good.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Sends a message, waiting for room. Cancelling the wait sends nothing.
    pub async fn tell<M: Message>(&self, message: M) -> Result<(), TellError>
    where
        A: Handler<M>,
    {
        self.send(Lane::Normal, message).await
    }

    /// Sends a control message, which overtakes ordinary ones, waiting for room in the high lane.
    pub async fn tell_high<M: Message>(&self, message: M) -> Result<(), TellError>
    where
        A: Handler<M>,
    {
        self.send(Lane::High, message).await
    }

    async fn send<M: Message>(&self, lane: Lane, message: M) -> Result<(), TellError>
    where
        A: Handler<M>,
    {
        let envelope = Box::new(Envelope::new(message, None, Instant::now()));
        self.mailbox.send(lane, envelope).await.map_err(|_closed| {
            self.stats.dead_letter();
            TellError::Closed
        })
    }

    /// Sends a message if there is room now; gives it back otherwise.
    pub fn try_tell<M: Message>(&self, message: M) -> Result<(), Rejected<M>>
    where
        A: Handler<M>,
    {
        let envelope = Box::new(Envelope::new(message, None, Instant::now()));
        self.mailbox.try_send(Lane::Normal, envelope).map_err(|(refused, envelope)| match refused {
            Refused::Full => {
                self.stats.rejected();
                Rejected::Full(envelope.into_message())
            }
            Refused::Closed => {
                self.stats.dead_letter();
                Rejected::Closed(envelope.into_message())
            }
        })
    }

    /// Sends a message and waits for its answer, for at most `deadline`, room included.
    pub async fn ask<M: Message>(&self, message: M, deadline: Duration) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
    {
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        let now = Instant::now();
        let until = now + deadline;
        let envelope = Box::new(Envelope::new(message, Some(reply), now));
        // With room, as nearly always, there is nothing to wait for, and no timer to set.
        let sent = match self.mailbox.try_send(Lane::Normal, envelope) {
            Ok(()) => Ok(()),
            Err((Refused::Closed, _)) => Err(Closed),
            Err((Refused::Full, envelope)) => {
                let sending = self.mailbox.send(Lane::Normal, envelope);
                match tokio::time::timeout_at(until, sending).await {
                    Ok(sent) => sent,
                    Err(_) => {
                        self.stats.rejected();
                        return Err(AskError::Full);
                    }
                }
            }
        };
        if sent.is_err() {
            self.stats.dead_letter();
            return Err(AskError::Closed);
        }
        let answer = match within_a_turn(&mut answer).await {
            Some(answer) => answer,
            None => {
                let _awaited = self.stats.awaited_by(sender());
                match tokio::time::timeout_at(until, answer).await {
                    Ok(answer) => answer,
                    Err(_) => return Err(AskError::Timeout),
                }
            }
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(_) if self.is_closed() => Err(AskError::Closed),
            Err(_) => Err(AskError::Panicked),
        }
    }

    /// Stops the actor for good, its waiting messages dropped.
    pub fn stop(&self) {
        self.control.order(Control::Stop);
    }

    /// A handle that knows only one message type.
    pub fn recipient<M: Message>(&self) -> Recipient<M>
    where
        A: Handler<M>,
    {
        Recipient { target: Arc::new(self.clone()) }
    }
}

/// What a future gives now, or after the others on this thread have had a turn. An actor on the same arbiter
/// has mostly answered by then, which saves setting a timer; that is dearer than a turn.
async fn within_a_turn<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut waited = false;
    poll_fn(|task| match Pin::new(&mut *future).poll(task) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if waited => Poll::Ready(None),
        Poll::Pending => {
            waited = true;
            task.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Anything that takes messages of one type: a local actor, a remote one, a test's probe.
pub trait Takes<M: Message>: Send + Sync {
    /// Waits for room and sends.
    fn take(&self, message: M) -> BoxFuture<'_, Result<(), TellError>>;
    /// Sends if there is room now.
    fn try_take(&self, message: M) -> Result<(), Rejected<M>>;
    /// Sends and waits for the answer.
    fn answer(&self, message: M, deadline: Duration) -> BoxFuture<'_, Result<M::Result, AskError>>;
}

impl<A, M> Takes<M> for ActorRef<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    fn take(&self, message: M) -> BoxFuture<'_, Result<(), TellError>> {
        Box::pin(self.tell(message))
    }
    fn try_take(&self, message: M) -> Result<(), Rejected<M>> {
        self.try_tell(message)
    }
    fn answer(&self, message: M, deadline: Duration) -> BoxFuture<'_, Result<M::Result, AskError>> {
        Box::pin(self.ask(message, deadline))
    }
}

/// The type-erased form of [`ActorRef`].
pub struct Recipient<M: Message> {
    target: Arc<dyn Takes<M>>,
}

impl<M: Message> Clone for Recipient<M> {
    fn clone(&self) -> Self {
        Recipient { target: self.target.clone() }
    }
}

impl<M: Message> Recipient<M> {
    /// Over anything that takes the message.
    pub fn new(target: impl Takes<M> + 'static) -> Self {
        Recipient { target: Arc::new(target) }
    }

    /// Sends a message, waiting for room.
    pub async fn tell(&self, message: M) -> Result<(), TellError> {
        self.target.take(message).await
    }

    /// Sends a message if there is room now; gives it back otherwise.
    pub fn try_tell(&self, message: M) -> Result<(), Rejected<M>> {
        self.target.try_take(message)
    }

    /// Sends a message and waits for its answer.
    pub async fn ask(&self, message: M, deadline: Duration) -> Result<M::Result, AskError> {
        self.target.answer(message, deadline).await
    }
}
