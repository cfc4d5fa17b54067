//! A request on its way through the steps of a flow.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::RequestError;
use coracle_protocol::flow::{
    Dialect, Wanted, as_request, average, fixed, form_refusal, take_wanted,
};
use coracle_protocol::seldon::n_rows;
use coracle_serving::flow::{FlowAsk, FlowLease, FlowStep, FlowTarget, Join, NOBODY, Router};
use coracle_serving::{ModelTable, ServedModel};

use crate::codec::{Codec, StoodIn};
use crate::encoding::off_loop;
use crate::infer::{Calls, Failure, Request, too_late};
use crate::payload::Caller;
use crate::scope;
use crate::terms::Terms;
use crate::trace::Trace;

/// What steps hand on.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// What the caller sent.
    Request(Bytes),
    /// What a node answered.
    Answer(NodeAnswer),
}

/// What a node answered.
#[derive(Clone, Debug)]
pub(super) struct NodeAnswer {
    body: Bytes,
    /// The node's name.
    node: String,
    /// Whether something stood in for a model that it comes from.
    is_stood_in: bool,
    /// The caller's own request, if it was asked by that and the form of it may be why the answer cannot be handed on.
    request: Option<Bytes>,
}

impl Message {
    pub(super) fn into_body(self) -> Bytes {
        match self {
            Self::Request(body) | Self::Answer(NodeAnswer { body, .. }) => body,
        }
    }

    fn body(&self) -> &Bytes {
        match self {
            Self::Request(body) | Self::Answer(NodeAnswer { body, .. }) => body,
        }
    }

    /// Returns the caller's request whose form may be why it cannot be handed on.
    fn request(&self) -> Option<&Bytes> {
        match self {
            Self::Request(_) => None,
            Self::Answer(answer) => answer.request.as_ref(),
        }
    }

    fn is_stood_in(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.is_stood_in)
    }

    /// Returns it as the answer of models for which something stood in, or of others.
    fn stood_in(self, is_stood_in: bool) -> Self {
        match self {
            Self::Request(body) => Self::Request(body),
            Self::Answer(answer) => Self::Answer(NodeAnswer {
                is_stood_in,
                ..answer
            }),
        }
    }
}

/// A branch that is asked; if it gives no answer it has earned nothing, be it that the caller has gone.
struct Owing<'w, 'c, 'a> {
    walk: &'w Walk<'c, 'a>,
    router: &'a Router,
    branch: usize,
    message: Message,
    is_answered: bool,
}

impl Drop for Owing<'_, '_, '_> {
    fn drop(&mut self) {
        // Which of several branches has failed is known; what became of the others is not.
        if self.is_answered || self.walk.is_over.get() {
            return;
        }
        let n_rows = match self.walk.dialect {
            Dialect::Seldon => n_rows(self.message.body()).max(1),
            Dialect::V1 | Dialect::V2 | Dialect::Grpc => 1,
        };
        self.router.reward(self.branch, 0.0, n_rows);
    }
}

/// Where a step is in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Another one takes what it gives.
    Within,
    /// What it gives is the graph's answer, or a part of it.
    Last,
}

/// The outputs that the caller asks for: those of the models whose answers are the graph's.
#[derive(Debug)]
struct AskedOutputs {
    outputs: Wanted,
    /// The request with them, which may be such a model's already.
    request: Bytes,
}

/// A request on its way; what is noted of it is in the order of its steps.
pub(super) struct Walk<'c, 'a> {
    calls: &'c Calls,
    table: &'a ModelTable,
    caller: Caller<'c>,
    codec: Codec,
    dialect: Dialect,
    arrived: Duration,
    terms: Terms,
    trace: Option<Trace>,
    asked: Option<AskedOutputs>,
    routing: RefCell<Vec<(&'a str, i64)>>,
    path: RefCell<Vec<&'a str>>,
    last_model: Cell<Option<&'a ServedModel>>,
    fallback: Cell<Option<StoodIn>>,
    /// Whether one of several branches has failed, and the others are left.
    is_over: Cell<bool>,
    /// The flow's place for it, which whatever it asks holds.
    place: RefCell<Option<Arc<FlowLease>>>,
}

type Stepping<'w> = Pin<Box<dyn Future<Output = Result<Message, Failure>> + 'w>>;

impl<'c, 'a> Walk<'c, 'a> {
    pub(super) fn new(
        calls: &'c Calls,
        table: &'a ModelTable,
        caller: Caller<'c>,
        (codec, dialect): (Codec, Dialect),
    ) -> Self {
        Self {
            calls,
            table,
            caller,
            codec,
            dialect,
            arrived: Duration::ZERO,
            terms: Terms::default(),
            trace: None,
            asked: None,
            routing: RefCell::default(),
            path: RefCell::default(),
            last_model: Cell::new(None),
            fallback: Cell::new(None),
            is_over: Cell::new(false),
            place: RefCell::default(),
        }
    }

    /// Returns it as that of a request that was there at `arrived`.
    pub(super) fn at(self, arrived: Duration, terms: Terms) -> Self {
        Self {
            arrived,
            terms,
            ..self
        }
    }

    pub(super) fn traced(self, trace: Option<Trace>) -> Self {
        Self { trace, ..self }
    }

    /// Returns it with the message that the flow's first step gets.
    pub(super) fn begun(self, body: Bytes) -> Result<(Self, Message), Failure> {
        let taken = match self.dialect {
            Dialect::Grpc => take_wanted(&body)?,
            _ => None,
        };
        let Some((first, outputs)) = taken else {
            return Ok((self, Message::Request(body)));
        };
        let asked = Some(AskedOutputs {
            outputs,
            request: body,
        });
        Ok((Self { asked, ..self }, Message::Request(first)))
    }

    /// Returns what it is that the answer of `node` is not handed on: the caller's fault where it is for the form of his request.
    async fn not_handed_on(
        &self,
        node: &str,
        request: Option<Bytes>,
        error: RequestError,
    ) -> Failure {
        let dialect = self.dialect;
        let refusal = match request {
            None => None,
            Some(request) => {
                let read = off_loop(request.len(), move || form_refusal(dialect, &request));
                read.await.flatten()
            }
        };
        of_node(node, refusal.unwrap_or(error).into())
    }

    /// Has what is asked from now on hold this place, until it ends.
    pub(super) fn hold(&self, place: Option<Arc<FlowLease>>) {
        self.place.replace(place);
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the branches that were chosen, and the nodes that were asked.
    pub(super) fn way(&self) -> (Vec<(&'a str, i64)>, Vec<&'a str>) {
        (self.routing.borrow().clone(), self.path.borrow().clone())
    }

    /// Returns the model that was asked last.
    pub(super) fn last_model(&self) -> Option<&'a ServedModel> {
        self.last_model.get()
    }

    /// Returns what stood in for a model on the way.
    pub(super) fn fallback(&self) -> Option<StoodIn> {
        self.fallback.get()
    }

    /// Does a step; the depth of steps is bounded by whoever plans them.
    pub(super) fn step<'w>(
        &'w self,
        (step, place): (&'a FlowStep, Place),
        message: Message,
    ) -> Stepping<'w> {
        Box::pin(async move {
            match step {
                FlowStep::Ask(ask) => self.ask((ask, place), message).await,
                FlowStep::Fixed { node } => {
                    self.path.borrow_mut().push(node);
                    let body = fixed(self.dialect)?;
                    Ok(Message::Answer(NodeAnswer {
                        body: body.into(),
                        node: node.clone(),
                        is_stood_in: message.is_stood_in(),
                        request: None,
                    }))
                }
                FlowStep::Chain(steps) => {
                    let mut message = message;
                    for (index, step) in steps.iter().enumerate() {
                        let place = match index + 1 == steps.len() {
                            true => place,
                            false => Place::Within,
                        };
                        message = self.step((step, place), message).await?;
                    }
                    Ok(message)
                }
                FlowStep::One { router, branches } => {
                    self.one((router, branches), place, message).await
                }
                FlowStep::All {
                    node,
                    join,
                    branches,
                } => {
                    let steps = branches.iter().enumerate().map(|(index, branch)| {
                        let place = match join {
                            Join::First if index > 0 => Place::Within,
                            _ => place,
                        };
                        self.step((branch, place), message.clone())
                    });
                    let answers = all(steps.collect(), &self.is_over).await?;
                    self.join(node, *join, answers).await
                }
            }
        })
    }

    /// Asks one branch; one that learns is told at once where there is no answer of its own, of which nobody would tell it.
    async fn one(
        &self,
        (router, branches): (&'a Router, &'a [FlowStep]),
        place: Place,
        message: Message,
    ) -> Result<Message, Failure> {
        let index = router.choose();
        let noted = {
            let mut routing = self.routing.borrow_mut();
            routing.push((router.node(), i64::try_from(index).unwrap_or(NOBODY)));
            routing.len() - 1
        };
        let branch = branches.get(index);
        let branch = branch.ok_or_else(|| no_branch(router.node()))?;
        if !router.learns() {
            return self.step((branch, place), message).await;
        }
        let was_stood_in = message.is_stood_in();
        let mut owing = Owing {
            walk: self,
            router,
            branch: index,
            message: message.clone(),
            is_answered: false,
        };
        let answer = self.step((branch, place), message.stood_in(false)).await;
        // The branch that fails owes, and those that are left do not.
        let answer = answer.inspect_err(|_| self.is_over.set(false))?;
        owing.is_answered = !answer.is_stood_in();
        if answer.is_stood_in() {
            // What comes of the answer is not the branch's.
            if let Some(noted) = self.routing.borrow_mut().get_mut(noted) {
                noted.1 = NOBODY;
            }
        }
        let is_stood_in = was_stood_in || answer.is_stood_in();
        Ok(answer.stood_in(is_stood_in))
    }

    async fn join(
        &self,
        node: &str,
        join: Join,
        answers: Vec<Message>,
    ) -> Result<Message, Failure> {
        match join {
            Join::First => answers.into_iter().next().ok_or_else(|| no_branch(node)),
            Join::Average => {
                let is_stood_in = answers.iter().any(Message::is_stood_in);
                let request = answers.iter().find_map(Message::request).cloned();
                let bodies: Vec<Bytes> = answers.into_iter().map(Message::into_body).collect();
                let mean = average(self.dialect, node, &bodies, self.calls.elements_max);
                let mean = match mean {
                    Ok(mean) => mean,
                    Err(error) => return Err(self.not_handed_on(node, request, error).await),
                };
                Ok(Message::Answer(NodeAnswer {
                    body: mean.into(),
                    node: node.to_owned(),
                    is_stood_in,
                    request: None,
                }))
            }
        }
    }

    async fn ask(
        &self,
        (ask, place): (&'a FlowAsk, Place),
        message: Message,
    ) -> Result<Message, Failure> {
        let model = match &ask.target {
            FlowTarget::Revision(model) => model,
            FlowTarget::Service(id) => {
                let route = self.table.service(id);
                let route = route.ok_or_else(|| {
                    let message = format!("node {}: there is no service {id}", ask.node);
                    Failure::new(Code::Unavailable, message)
                })?;
                scope::choose(route, self.caller.headers)
            }
        };
        self.path.borrow_mut().push(&ask.node);
        self.last_model.set(Some(model));
        let was_stood_in = message.is_stood_in();
        let asked = self.asked.as_ref().filter(|_| place == Place::Last);
        // What is handed on later says nothing of the caller's form.
        let callers = match (&message, self.dialect) {
            (Message::Request(body), Dialect::V1) => Some(body.clone()),
            _ => None,
        };
        let (body, giver) = match message {
            Message::Request(body) => (asked.map_or(body, |asked| asked.request.clone()), None),
            Message::Answer(answer) => {
                let outputs = asked.map(|asked| &asked.outputs);
                let NodeAnswer { node, request, .. } = answer;
                match as_request(self.dialect, &answer.body, outputs) {
                    Ok(made) => (Bytes::from(made), Some(node)),
                    Err(error) => return Err(self.not_handed_on(&node, request, error).await),
                }
            }
        };
        let (arrived, timeout) = match giver {
            None => (self.arrived, self.terms.timeout),
            Some(_) => self.rest(model)?,
        };
        let request = Request {
            timeout,
            priority: self.terms.priority,
            trace: self.trace,
            recording: self.calls.recording(model, self.caller),
            key: self.calls.last_good_key(model, self.caller.headers),
            of_flow: self.place.borrow().clone(),
            stands_in: false,
            ..Request::plain(self.codec.clone(), body, arrived)
        };
        let answered = self.calls.answer(model, request).await;
        let encoded = answered.map_err(|failure| match giver {
            // The caller may have asked for outputs that there are not.
            Some(giver) if asked.is_none() => not_taken((&ask.node, &giver), failure),
            _ => of_node(&ask.node, failure),
        })?;
        if encoded.fallback.is_some() {
            self.fallback.set(encoded.fallback);
        }
        Ok(Message::Answer(NodeAnswer {
            is_stood_in: was_stood_in || encoded.fallback.is_some(),
            body: encoded.body.into(),
            node: ask.node.clone(),
            request: callers,
        }))
    }

    /// Returns when a later step begins, and how much of the request's time is left to it.
    fn rest(&self, model: &ServedModel) -> Result<(Duration, Option<Duration>), Failure> {
        let now = self.calls.clock.monotonic();
        let own = model.timeout().unwrap_or(self.calls.request_timeout);
        let allowed = self.terms.timeout_or(own);
        let left = allowed.saturating_sub(now.saturating_sub(self.arrived));
        match left.is_zero() {
            true => Err(too_late(allowed)),
            false => Ok((now, Some(left))),
        }
    }
}

fn no_branch(node: &str) -> Failure {
    Failure::new(Code::Internal, format!("node {node} has no such branch"))
}

/// Returns a failure with the node that it happened at.
fn of_node(node: &str, failure: Failure) -> Failure {
    Failure {
        message: format!("node {node}: {}", failure.message),
        ..failure
    }
}

/// Returns the failure of a node with what another one gave: it is not the caller's.
fn not_taken((node, giver): (&str, &str), failure: Failure) -> Failure {
    match failure.code {
        Code::InvalidArgument | Code::Unimplemented => {
            let message = format!(
                "node {node} does not take what node {giver} gives: {}",
                failure.message
            );
            Failure::new(Code::Internal, message)
        }
        _ => of_node(node, failure),
    }
}

/// Does all steps at once; the first failure ends the others, which `is_over` tells them.
async fn all(steps: Vec<Stepping<'_>>, is_over: &Cell<bool>) -> Result<Vec<Message>, Failure> {
    let mut steps: Vec<(Stepping<'_>, Option<Message>)> =
        steps.into_iter().map(|step| (step, None)).collect();
    std::future::poll_fn(move |ctx| {
        let mut is_pending = false;
        for (step, done) in &mut steps {
            if done.is_some() {
                continue;
            }
            match step.as_mut().poll(ctx) {
                Poll::Ready(Ok(message)) => *done = Some(message),
                Poll::Ready(Err(failure)) => {
                    is_over.set(true);
                    return Poll::Ready(Err(failure));
                }
                Poll::Pending => is_pending = true,
            }
        }
        match is_pending {
            true => Poll::Pending,
            false => Poll::Ready(Ok(steps
                .iter_mut()
                .filter_map(|(_, done)| done.take())
                .collect())),
        }
    })
    .await
}
