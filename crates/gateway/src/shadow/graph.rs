//! Graphs as shadows, and the shadows of graphs: a copy is led through the shadow's steps, one after another, on the shadow's thread.

use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::flow::{Dialect, Wanted, as_request, average, fixed, outputs, take_wanted};
use coracle_protocol::{EncodeContext, NoRegions};
use coracle_serving::ServedModel;
use coracle_serving::flow::{Flow, FlowAsk, FlowStep, FlowTarget, Join};

use super::runner::Runner;
use super::{Answered, Begun, ELEMENTS_MAX};
use crate::codec::Codec;
use crate::infer::Failure;

/// Of the revisions of a graph so many are named.
const REVISIONS_NAMED: usize = 8;

/// Returns what tells apart the graphs that answered under one name: their revisions.
pub(super) fn identity(flow: &Flow) -> String {
    let mut names: Vec<&str> = flow.revisions().map(|id| id.name.as_str()).collect();
    let n_more = names.len().saturating_sub(REVISIONS_NAMED);
    names.truncate(REVISIONS_NAMED);
    match (names.is_empty(), n_more) {
        (true, _) => flow.name().to_owned(),
        (false, 0) => names.join(" + "),
        (false, n_more) => format!("{} + {n_more} more", names.join(" + ")),
    }
}

/// Returns a graph's answer as what is compared.
pub(super) fn answered(dialect: Dialect, body: &[u8], elapsed: Duration) -> Box<Answered> {
    Box::new(Answered {
        outputs: outputs(dialect, body, ELEMENTS_MAX),
        elapsed,
        is_whole: true,
    })
}

/// Leads a copy through a shadow's graph; how long it takes is what its models take together.
pub(super) fn lead(
    runner: &Runner,
    flow: &Flow,
    (begun, dialect): (&Begun, Dialect),
) -> Result<Box<Answered>, Failure> {
    let taken = match dialect {
        Dialect::Grpc => take_wanted(&begun.body)?,
        _ => None,
    };
    let (first, wanted) = match taken {
        Some((first, wanted)) => (first, Some(wanted)),
        None => (begun.body.clone(), None),
    };
    let led = Led {
        runner,
        codec: &begun.codec,
        dialect,
        request: &begun.body,
        wanted,
    };
    let (body, elapsed) = led.step((flow.root(), true), &Message::Request(first))?;
    Ok(answered(dialect, &body, elapsed))
}

/// What steps hand on.
#[derive(Clone)]
enum Message {
    Request(Bytes),
    Answer(Bytes),
}

/// A copy on its way.
struct Led<'l> {
    runner: &'l Runner,
    codec: &'l Codec,
    dialect: Dialect,
    /// As it came, with the outputs that it asks for.
    request: &'l Bytes,
    /// These outputs, which are those of the last models.
    wanted: Option<Wanted>,
}

type Stepped = Result<(Bytes, Duration), Failure>;

impl Led<'_> {
    /// Does a step, whose answer is the graph's if it is the last; the depth of steps is bounded by whoever plans them.
    fn step(&self, (step, is_last): (&FlowStep, bool), message: &Message) -> Stepped {
        match step {
            FlowStep::Ask(ask) => self.ask((ask, is_last), message),
            FlowStep::Fixed { .. } => Ok((fixed(self.dialect)?.into(), Duration::ZERO)),
            FlowStep::Chain(steps) => {
                let (mut message, mut elapsed) = (message.clone(), Duration::ZERO);
                for (index, step) in steps.iter().enumerate() {
                    let is_last = is_last && index + 1 == steps.len();
                    let (answer, took) = self.step((step, is_last), &message)?;
                    message = Message::Answer(answer);
                    elapsed += took;
                }
                let (Message::Request(body) | Message::Answer(body)) = message;
                Ok((body, elapsed))
            }
            FlowStep::One { router, branches } => {
                let branch = branches.get(router.choose()).ok_or_else(no_branch)?;
                self.step((branch, is_last), message)
            }
            FlowStep::All {
                join: Join::First,
                branches,
                ..
            } => {
                let branch = branches.first().ok_or_else(no_branch)?;
                self.step((branch, is_last), message)
            }
            FlowStep::All { node, branches, .. } => {
                let answers = branches
                    .iter()
                    .map(|branch| self.step((branch, is_last), message));
                let answers: Vec<(Bytes, Duration)> = answers.collect::<Result<_, _>>()?;
                let (bodies, times): (Vec<Bytes>, Vec<Duration>) = answers.into_iter().unzip();
                let mean = average(self.dialect, node, &bodies, self.runner.elements_max())?;
                Ok((mean.into(), times.iter().sum()))
            }
        }
    }

    fn ask(&self, (ask, is_last): (&FlowAsk, bool), message: &Message) -> Stepped {
        let wanted = self.wanted.as_ref().filter(|_| is_last);
        let body = match message {
            Message::Request(_) if wanted.is_some() => self.request.clone(),
            Message::Request(body) => body.clone(),
            Message::Answer(answer) => as_request(self.dialect, answer, wanted)?.into(),
        };
        let answered = match &ask.target {
            FlowTarget::Revision(model) => self.answer(model, &body),
            FlowTarget::Service(id) => match self.runner.model_of(id) {
                Some(model) => self.answer(&model, &body),
                None => {
                    let message = format!("there is no service {id}");
                    Err(Failure::new(Code::Unavailable, message))
                }
            },
        };
        answered.map_err(|failure| {
            let message = format!("node {}: {}", ask.node, failure.message);
            Failure::new(failure.code, message)
        })
    }

    fn answer(&self, model: &ServedModel, body: &Bytes) -> Stepped {
        self.runner.run_aside(model, (self.codec, body), |ran| {
            let ctx = EncodeContext {
                model_name: model.name(),
                model_version: model.version(),
                signature: ran.lease.model().signature(),
                regions: &NoRegions,
            };
            let encoded = self.codec.encode(&ctx, ran.call, ran.outputs)?;
            Ok((encoded.body.into(), ran.elapsed))
        })
    }
}

fn no_branch() -> Failure {
    Failure::new(Code::Internal, "there is no such branch")
}
