//! What Seldon's paths tell of a deployment besides its answers: whether it is well, what its models take and give, and what may be asked.

use coracle_base::Code;
use coracle_protocol::facts::{ModelFacts, ModelSettings};
use coracle_protocol::{seldon, v2};
use coracle_serving::flow::Flow;
use coracle_serving::{ModelTable, ServedModel, ServiceId};
use hyper::StatusCode;

use super::in_other_words;
use super::several::members;
use crate::connection::{Asked, Handler};
use crate::flow::{described, trouble, trouble_of};
use crate::infer::Failure;
use crate::respond::Reply;
use crate::route::SeldonRoute;
use crate::scope::Scope;

/// What may be asked of a deployment, as OpenAPI has it.
const OPEN_API: &str = include_str!("openapi.json");
/// The same for people.
const PAGE: &str = include_str!("page.html");

type Of<'a> = (&'a ModelTable, &'a ServiceId);

impl Handler {
    /// Answers what is asked about a deployment.
    pub(crate) async fn seldon_told(&self, asked: &Asked<'_>, route: &SeldonRoute<'_>) -> Reply {
        let told = match route {
            SeldonRoute::Ping => return Reply::page("pong".to_owned()),
            SeldonRoute::Documentation => return Reply::page(PAGE.to_owned()),
            SeldonRoute::OpenApi(server) => {
                return Reply::json(OPEN_API.replace("SERVER", server).into_bytes());
            }
            SeldonRoute::Status(_) | SeldonRoute::Metadata(_) => {
                let Scope::Service { id, .. } = asked.scope else {
                    return super::failure(
                        StatusCode::NOT_FOUND,
                        "no such service; ask one at /seldon/NAMESPACE/NAME/api/v1.0/metadata",
                    );
                };
                let of = (asked.table, id);
                match route {
                    SeldonRoute::Status(node) => deployed_status(of, node.as_deref()),
                    SeldonRoute::Metadata(Some(node)) => self.deployed_model(of, node).await,
                    _ => self.deployed_graph(of).await,
                }
            }
        };
        match told {
            Ok(body) => Reply::json(body),
            Err(failure) => in_other_words(Reply::failure(failure.code, &failure.message)),
        }
    }

    /// Returns what the model of a node takes and gives.
    ///
    /// # Errors
    /// If there is no such node, or its model cannot be loaded.
    pub(crate) async fn deployed_model(
        &self,
        (table, id): Of<'_>,
        node: &str,
    ) -> Result<Vec<u8>, Failure> {
        match table.flow(id) {
            Some(flow) => {
                let ask = described::node(flow.root(), node);
                let ask = ask.ok_or_else(|| no_model(node))?;
                self.node_described((table, ask), rendered).await
            }
            None => {
                let (_, model) = *named((table, id), Some(node))?
                    .first()
                    .ok_or_else(|| no_model(node))?;
                self.described_alone(model).await
            }
        }
    }

    /// Returns what a deployment's graph and its models take and give.
    ///
    /// # Errors
    /// If there is no such deployment, or a model cannot be loaded.
    pub(crate) async fn deployed_graph(&self, (table, id): Of<'_>) -> Result<Vec<u8>, Failure> {
        let Some(flow) = table.flow(id) else {
            return self.deployed_models(id, &named((table, id), None)?).await;
        };
        let mut models = Vec::new();
        for (key, ask) in described::nodes(flow.root()) {
            let body = self.node_described((table, ask), rendered).await?;
            models.push((key, body));
        }
        let (first, last) = self.ends((table, flow)).await?;
        Ok(seldon::graph_metadata(&id.name, &models, (&first, &last))?)
    }

    /// Returns what the models of a deployment without a graph take and give, and what they do in common; where they differ in that, the first one's.
    async fn deployed_models(
        &self,
        id: &ServiceId,
        members: &[(&str, &ServedModel)],
    ) -> Result<Vec<u8>, Failure> {
        let mut models = Vec::new();
        for (key, model) in members {
            models.push(((*key).to_owned(), self.described_alone(model).await?));
        }
        let common = match self.common_of(members).await {
            Ok(signature) => members.first().map(|(_, first)| {
                rendered(ModelFacts {
                    name: first.name(),
                    version: first.version(),
                    versions: &[],
                    platform: "",
                    signature: &signature,
                    elements_max: self.calls.elements_max,
                    settings: ModelSettings::default(),
                })
            }),
            Err(failure) if failure.code == Code::Unimplemented => {
                models.first().map(|(_, first)| first.clone())
            }
            Err(failure) => return Err(failure),
        };
        let common = common.unwrap_or_else(|| b"{}".to_vec());
        Ok(seldon::graph_metadata(
            &id.name,
            &models,
            (&common, &common),
        )?)
    }

    /// Returns what a graph takes and gives, as metadata each; where branches differ in that, the first one's, as Seldon's executor has it.
    async fn ends(
        &self,
        (table, flow): (&ModelTable, &Flow),
    ) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        match self.flow_signature((table, flow)).await {
            Ok(signature) => {
                let body = rendered(self.flow_facts(flow, &signature));
                return Ok((body.clone(), body));
            }
            Err(failure) if failure.code == Code::Unimplemented => {}
            Err(failure) => return Err(failure),
        }
        let firsts = described::firsts(flow.root());
        let (lasts, _) = described::lasts(flow.root());
        let (Some(first), Some(last)) = (firsts.first(), lasts.first()) else {
            return Ok((b"{}".to_vec(), b"{}".to_vec()));
        };
        let first = self.node_described((table, *first), rendered).await?;
        let last = self.node_described((table, *last), rendered).await?;
        Ok((first, last))
    }

    /// Returns what the one model of a service takes and gives.
    async fn described_alone(&self, model: &ServedModel) -> Result<Vec<u8>, Failure> {
        let lease = model.enter(self.calls.request_timeout).await?;
        Ok(rendered(self.facts(model, &lease, &[model.version()])))
    }
}

fn rendered(facts: ModelFacts<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    v2::model_metadata(facts, &mut body);
    body
}

/// Returns the failure of asking for a node that is not there, in Seldon's words.
fn no_model(node: &str) -> Failure {
    let shown: String = node.chars().take(128).collect();
    Failure::new(Code::NotFound, format!("Failed to find model {shown}"))
}

/// Returns the models of a service without a graph that have the name which is asked for; with none, all.
fn named<'t>(
    (table, id): Of<'t>,
    node: Option<&str>,
) -> Result<Vec<(&'t str, &'t ServedModel)>, Failure> {
    let members = table.service(id).map(|route| members(route));
    let Some(mut members) = members.filter(|members| !members.is_empty()) else {
        let message = format!("there is no deployment {id}");
        return Err(Failure::new(Code::NotFound, message));
    };
    if let Some(node) = node {
        members.retain(|(key, model)| [key, model.name(), &id.name].contains(&node));
        if members.is_empty() {
            return Err(no_model(node));
        }
    }
    Ok(members)
}

/// Returns what is said of a deployment, or of the model of a node, that takes requests.
fn deployed_status((table, id): Of<'_>, node: Option<&str>) -> Result<Vec<u8>, Failure> {
    let trouble = match (table.flow(id), node) {
        (None, node) => {
            let mut members = named((table, id), node)?.into_iter();
            members.find_map(|(_, model)| model.trouble())
        }
        (Some(flow), None) => trouble(table, flow.root()),
        (Some(flow), Some(node)) => {
            let ask = described::node(flow.root(), node);
            trouble_of(table, ask.ok_or_else(|| no_model(node))?)
        }
    };
    match trouble {
        Some(why) => Err(Failure::new(Code::Unavailable, why)),
        None => {
            let mut body = Vec::new();
            seldon::encode_status(&mut body);
            Ok(body)
        }
    }
}
