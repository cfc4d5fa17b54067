//! What a request asks for: method and path to a route.

use std::borrow::Cow;

use coracle_protocol::tfs::Question;
use coracle_serving::experiment::ROLLOUT_BOOK;
use hyper::Method;
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `GET /`
    Alive,
    /// `GET /healthz`
    Healthz,
    /// `GET /readyz`
    Readyz,
    /// `GET /metrics`
    Metrics,
    /// `GET /v1/models`
    V1Models,
    /// `GET /v1/models/M[/versions/V|/labels/L]`
    V1Model(Named<'a>),
    /// `POST /v1/models/M[/versions/V|/labels/L]:predict`
    V1Predict(Named<'a>),
    /// `POST /v1/models/M[/versions/V|/labels/L]:classify` or `:regress`
    V1Examples(Question, Named<'a>),
    /// `GET /v1/models/M[/versions/V|/labels/L]/metadata`
    V1Metadata(Named<'a>),
    /// `POST /v1/models/M:explain`
    V1Explain(Cow<'a, str>),
    /// `GET /v2`
    V2Server,
    /// `GET /v2/health/live`
    V2Live,
    /// `GET /v2/health/ready`
    V2Ready,
    /// `GET /v2/models`
    V2Models,
    /// `GET /v2/models/M[/versions/V]`
    V2Model(Named<'a>),
    /// `GET /v2/models/M[/versions/V]/ready`
    V2ModelReady(Named<'a>),
    /// `POST /v2/models/M[/versions/V]/infer`
    V2Infer(Named<'a>),
    /// `POST /api/v1.0/predictions`, of the service that the path before it names
    SeldonPredict,
    /// `POST /api/v1.0/feedback`
    SeldonFeedback,
    /// What else Seldon's paths tell.
    Seldon(SeldonRoute<'a>),
    /// `GET /shadow`, or `/shadow/page` for people
    Shadow(ShadowForm),
    /// `GET /chaos`
    Chaos,
    /// `POST /chaos/set`
    SetChaos,
    /// `POST /chaos/clear`
    ClearChaos,
    /// What is asked of experiments.
    Experiment(ExperimentRoute<'a>),
    /// One of Triton's extensions of V2.
    Extension(Extension<'a>),
}

/// What Seldon's paths tell besides answers; those of one model name its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SeldonRoute<'a> {
    /// `GET /health/ping`
    Ping,
    /// `GET /api/v1.0/status[/M]`
    Status(Option<Cow<'a, str>>),
    /// `GET /api/v1.0/metadata[/M]`
    Metadata(Option<Cow<'a, str>>),
    /// `GET /api/v1.0/doc`
    Documentation,
    /// `GET /api/v1.0/doc/seldon.json`, `/seldon.json`: where the deployment is from there.
    OpenApi(&'static str),
}

/// What is asked of experiments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExperimentRoute<'a> {
    /// `GET /experiments`
    All,
    /// `GET /experiments/E`
    Report(Cow<'a, str>),
    /// `GET /experiments/E/page`
    Page(Cow<'a, str>),
    /// `POST /experiments/E/outcomes`
    Outcomes(Cow<'a, str>),
}

/// How the comparison with a shadow is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShadowForm {
    Json,
    Page,
}

/// What one of Triton's extensions of V2 is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extension<'a> {
    /// `GET /v2/models/M[/versions/V]/config`
    Config(Named<'a>),
    /// `GET /v2/models/M[/versions/V]/stats`
    Statistics(Named<'a>),
    /// `GET /v2/models/stats`
    AllStatistics,
    /// `POST /v2/repository[/R]/index`
    Index,
    /// `POST /v2/repository[/R]/models/M/load`
    Load(Cow<'a, str>),
    /// `POST /v2/repository[/R]/models/M/unload`
    Unload(Cow<'a, str>),
    /// `GET /v2/systemsharedmemory[/region/R]/status`
    RegionStatus(Option<Cow<'a, str>>),
    /// `POST /v2/systemsharedmemory/region/R/register`
    RegisterRegion(Cow<'a, str>),
    /// `POST /v2/systemsharedmemory[/region/R]/unregister`
    UnregisterRegion(Option<Cow<'a, str>>),
    /// `GET /v2/cudasharedmemory/status`: there never is any.
    NoRegions,
    /// `POST /v2/cudasharedmemory/unregister`: there is nothing to do.
    NoUnregister,
}

impl Route<'_> {
    /// Returns the name of the model that it asks for, if it asks for one.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::V1Explain(name) => Some(name),
            Self::V1Model(named)
            | Self::V1Predict(named)
            | Self::V1Examples(_, named)
            | Self::V1Metadata(named)
            | Self::V2Model(named)
            | Self::V2ModelReady(named)
            | Self::V2Infer(named) => Some(&named.model),
            _ => None,
        }
    }

    /// Returns the name of the model that has to be there for an answer, empty where the path before names its service alone; `None` if none has to:
    /// how a model stands is told at once, whatever it is.
    pub(crate) fn needs(&self) -> Option<&str> {
        match self {
            Self::V1Model(_) | Self::V2ModelReady(_) => None,
            Self::Extension(Extension::Config(named) | Extension::Statistics(named)) => {
                Some(&named.model)
            }
            // The book of what comes of answers is there with the service.
            Self::SeldonPredict
            | Self::SeldonFeedback
            | Self::Seldon(SeldonRoute::Metadata(_))
            | Self::Experiment(ExperimentRoute::Outcomes(_)) => Some(""),
            _ => self.model(),
        }
    }
}

/// A model with the version asked for, if one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub(crate) model: Cow<'a, str>,
    pub(crate) version: Option<AskedVersion<'a>>,
}

/// The version that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskedVersion<'a> {
    /// `/versions/V`
    Number(Cow<'a, str>),
    /// `/labels/L`
    Label(Cow<'a, str>),
}

impl<'a> AskedVersion<'a> {
    /// Reads the two segments that ask for a version.
    fn read(kind: &str, name: &'a str) -> Option<Self> {
        match kind {
            "versions" => decode(name).map(Self::Number),
            "labels" => decode(name).map(Self::Label),
            _ => None,
        }
    }
}

/// A request that no route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// Nothing is at this path.
    Path,
    /// The path is there, for these methods.
    Method {
        /// For the `Allow` header.
        allow: &'static str,
    },
}

/// No route has more.
const SEGMENTS_MAX: usize = 8;

const READ: &str = "GET, HEAD";
const WRITE: &str = "POST";

/// Returns what `method` on `path` asks for.
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, NoRoute> {
    let (route, allow) = parse(path).ok_or(NoRoute::Path)?;
    let allowed = match allow {
        WRITE => method == Method::POST,
        _ => method == Method::GET || method == Method::HEAD,
    };
    if allowed {
        return Ok(route);
    }
    // Seldon's path of V2 without a model's name, which is a model's own path for other methods.
    match method == Method::POST && path.trim_end_matches('/') == "/v2/models/infer" {
        true => Ok(Route::V2Infer(UNNAMED)),
        false => Err(NoRoute::Method { allow }),
    }
}

/// Tells whether `path` is MLflow's, whose servers have one model; it may be below a service's.
pub(crate) fn is_invocations(path: &str) -> bool {
    path.trim_end_matches('/').ends_with("/invocations")
}

/// The one model of the service that a path begins with, as Seldon's paths may have it.
const UNNAMED: Named<'static> = Named {
    model: Cow::Borrowed(""),
    version: None,
};

/// Returns the route at `path` and the methods it takes.
fn parse(path: &str) -> Option<(Route<'_>, &'static str)> {
    let trimmed = path.strip_prefix('/')?;
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let (mut segments, mut n_segments) = ([""; SEGMENTS_MAX], 0);
    for segment in trimmed.split('/') {
        *segments.get_mut(n_segments)? = segment;
        n_segments += 1;
    }
    let (first, rest) = segments[..n_segments].split_first()?;
    let route = match (*first, rest) {
        ("", []) => Route::Alive,
        ("healthz" | "live", []) => Route::Healthz,
        // MLflow's name of it.
        ("readyz" | "ready" | "ping" | "health", []) | ("health", ["status"]) => Route::Readyz,
        ("health", ["ping"]) => Route::Seldon(SeldonRoute::Ping),
        ("seldon.json", []) => Route::Seldon(SeldonRoute::OpenApi(".")),
        ("metrics", []) => Route::Metrics,
        ("chaos", []) => Route::Chaos,
        ("chaos", ["set"]) => return Some((Route::SetChaos, WRITE)),
        ("chaos", ["clear"]) => return Some((Route::ClearChaos, WRITE)),
        ("shadow", []) => Route::Shadow(ShadowForm::Json),
        ("shadow", ["page"]) => Route::Shadow(ShadowForm::Page),
        ("api", [version, rest @ ..]) => return seldon(version, rest),
        ("experiments", rest) => return experiment(rest),
        ("rollouts", rest) => return rollout(rest),
        ("v1", ["models"]) => Route::V1Models,
        ("v1", ["models:predict"] | ["models", ":predict"]) | ("invocations", []) => {
            return Some((Route::V1Predict(UNNAMED), WRITE));
        }
        ("v1", ["models", model, ":predict"]) => {
            return Some((Route::V1Predict(named(model, None)?), WRITE));
        }
        ("v1", ["models", model]) => return v1_model(model, None),
        ("v1", ["models", model, "metadata"]) => Route::V1Metadata(named(model, None)?),
        ("v1", ["models", model, kind @ ("versions" | "labels"), version]) => {
            return v1_model(model, Some((kind, version)));
        }
        (
            "v1",
            [
                "models",
                model,
                kind @ ("versions" | "labels"),
                version,
                "metadata",
            ],
        ) => Route::V1Metadata(named(model, Some((kind, version)))?),
        ("v2", []) => Route::V2Server,
        ("v2", ["health", "live"]) => Route::V2Live,
        ("v2", ["health", "ready"]) => Route::V2Ready,
        ("v2", ["models"]) => Route::V2Models,
        ("v2", ["models", "stats"]) => Route::Extension(Extension::AllStatistics),
        ("v2", ["models", model, rest @ ..]) => return v2_model(model, rest),
        ("v2", ["repository", rest @ ..]) => return repository(rest),
        ("v2", ["systemsharedmemory", rest @ ..]) => return shared_memory(rest),
        ("v2", ["cudasharedmemory", "status"]) => Route::Extension(Extension::NoRegions),
        ("v2", ["cudasharedmemory", "unregister"]) => {
            return Some((Route::Extension(Extension::NoUnregister), WRITE));
        }
        _ => return None,
    };
    Some((route, READ))
}

/// Seldon's paths, of both its versions, which are the same.
fn seldon<'a>(version: &str, rest: &[&'a str]) -> Option<(Route<'a>, &'static str)> {
    if !matches!(version, "v1.0" | "v0.1") {
        return None;
    }
    let told = match rest {
        ["predictions"] => return Some((Route::SeldonPredict, WRITE)),
        ["feedback"] => return Some((Route::SeldonFeedback, WRITE)),
        ["health", "status"] => return Some((Route::Readyz, READ)),
        ["status"] => SeldonRoute::Status(None),
        ["status", model] => SeldonRoute::Status(Some(decode(model)?)),
        ["metadata"] => SeldonRoute::Metadata(None),
        ["metadata", model] => SeldonRoute::Metadata(Some(decode(model)?)),
        ["doc"] => SeldonRoute::Documentation,
        // The page without a slash at its end links there.
        ["seldon.json"] => SeldonRoute::OpenApi("../.."),
        ["doc", "seldon.json"] => SeldonRoute::OpenApi("../../.."),
        _ => return None,
    };
    Some((Route::Seldon(told), READ))
}

/// What is told of a rollout, and to it: as of an experiment of its own.
fn rollout<'a>(rest: &[&'a str]) -> Option<(Route<'a>, &'static str)> {
    let name = |name: &str| Some(Cow::Owned(format!("{ROLLOUT_BOOK}{}", decode(name)?)));
    let (route, allow) = match rest {
        [rollout] => (ExperimentRoute::Report(name(rollout)?), READ),
        [rollout, "outcomes"] => (ExperimentRoute::Outcomes(name(rollout)?), WRITE),
        _ => return None,
    };
    Some((Route::Experiment(route), allow))
}

fn experiment<'a>(rest: &[&'a str]) -> Option<(Route<'a>, &'static str)> {
    let (route, allow) = match rest {
        [] => (ExperimentRoute::All, READ),
        [name] => (ExperimentRoute::Report(decode(name)?), READ),
        [name, "page"] => (ExperimentRoute::Page(decode(name)?), READ),
        [name, "outcomes"] => (ExperimentRoute::Outcomes(decode(name)?), WRITE),
        _ => return None,
    };
    Some((Route::Experiment(route), allow))
}

/// A model, or a version of it, with a verb after the last of the two.
fn v1_model<'a>(
    model: &'a str,
    version: Option<(&'a str, &'a str)>,
) -> Option<(Route<'a>, &'static str)> {
    let last = version.map_or(model, |(_, version)| version);
    // The verb follows the last colon, so that names may hold colons themselves.
    let (rest, verb) = last.rsplit_once(':').unwrap_or((last, ""));
    let whole = || named(model, version);
    let asked = || match version {
        Some((kind, _)) => named(model, Some((kind, rest))),
        None => named(rest, None),
    };
    Some(match verb {
        "predict" => (Route::V1Predict(asked()?), WRITE),
        "classify" => (Route::V1Examples(Question::Classify, asked()?), WRITE),
        "regress" => (Route::V1Examples(Question::Regress, asked()?), WRITE),
        "explain" if version.is_none() => (Route::V1Explain(decode(rest)?), WRITE),
        _ => (Route::V1Model(whole()?), READ),
    })
}

fn named<'a>(model: &'a str, version: Option<(&'a str, &'a str)>) -> Option<Named<'a>> {
    let version = match version {
        Some((kind, version)) => Some(AskedVersion::read(kind, version)?),
        None => None,
    };
    Some(Named {
        model: decode(model)?,
        version,
    })
}

fn v2_model<'a>(model: &'a str, rest: &[&'a str]) -> Option<(Route<'a>, &'static str)> {
    let (version, rest) = match rest {
        ["versions", version, rest @ ..] => (Some(AskedVersion::Number(decode(version)?)), rest),
        rest => (None, rest),
    };
    let named = Named {
        model: decode(model)?,
        version,
    };
    match rest {
        [] => Some((Route::V2Model(named), READ)),
        ["ready"] => Some((Route::V2ModelReady(named), READ)),
        ["infer"] => Some((Route::V2Infer(named), WRITE)),
        ["config"] => Some((Route::Extension(Extension::Config(named)), READ)),
        ["stats"] => Some((Route::Extension(Extension::Statistics(named)), READ)),
        _ => None,
    }
}

fn repository<'a>(rest: &[&'a str]) -> Option<(Route<'a>, &'static str)> {
    let extension = match rest {
        ["index"] | [_, "index"] => Extension::Index,
        ["models", model, verb] | [_, "models", model, verb] => match *verb {
            "load" => Extension::Load(decode(model)?),
            "unload" => Extension::Unload(decode(model)?),
            _ => return None,
        },
        _ => return None,
    };
    Some((Route::Extension(extension), WRITE))
}

fn shared_memory<'a>(rest: &[&'a str]) -> Option<(Route<'a>, &'static str)> {
    let (extension, allow) = match rest {
        ["status"] => (Extension::RegionStatus(None), READ),
        ["unregister"] => (Extension::UnregisterRegion(None), WRITE),
        ["region", name, "status"] => (Extension::RegionStatus(Some(decode(name)?)), READ),
        ["region", name, "register"] => (Extension::RegisterRegion(decode(name)?), WRITE),
        ["region", name, "unregister"] => (Extension::UnregisterRegion(Some(decode(name)?)), WRITE),
        _ => return None,
    };
    Some((Route::Extension(extension), allow))
}

/// Decodes percent signs; `None` for empty names and for what is not UTF-8.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if segment.is_empty() {
        return None;
    }
    percent_decode_str(segment).decode_utf8().ok()
}

/// Returns the value of a parameter of the query, as it stands.
pub(crate) fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(model: &str, version: Option<&str>) -> Named<'static> {
        Named {
            model: Cow::Owned(model.to_owned()),
            version: version.map(|version| AskedVersion::Number(Cow::Owned(version.to_owned()))),
        }
    }

    fn labelled(model: &str, label: &str) -> Named<'static> {
        Named {
            model: Cow::Owned(model.to_owned()),
            version: Some(AskedVersion::Label(Cow::Owned(label.to_owned()))),
        }
    }

    #[test]
    fn what_seldons_paths_tell_has_routes() {
        let no_path = Err(NoRoute::Path);
        let reads = Err(NoRoute::Method { allow: READ });
        let told = |route| Ok(Route::Seldon(route));
        let of_node = SeldonRoute::Metadata(Some("a b".into()));
        for (method, path, expected) in [
            (Method::GET, "/api/v1.0/metadata/a%20b", told(of_node)),
            (
                Method::GET,
                "/api/v0.1/status/",
                told(SeldonRoute::Status(None)),
            ),
            (
                Method::GET,
                "/api/v1.0/doc/",
                told(SeldonRoute::Documentation),
            ),
            (Method::GET, "/seldon.json", told(SeldonRoute::OpenApi("."))),
            (Method::GET, "/health/ping", told(SeldonRoute::Ping)),
            (Method::POST, "/api/v1.0/doc/seldon.json", reads),
            (Method::GET, "/api/v2/metadata", no_path.clone()),
            (Method::GET, "/api/v1.0/metadata/a/b", no_path),
        ] {
            assert_eq!(find(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn paths_and_methods_name_routes() {
        let no_path = Err(NoRoute::Path);
        let reads = Err(NoRoute::Method { allow: READ });
        let writes = Err(NoRoute::Method { allow: WRITE });
        let cases = [
            (Method::GET, "/", Ok(Route::Alive)),
            (Method::HEAD, "/healthz", Ok(Route::Healthz)),
            (Method::GET, "/v1/models/", Ok(Route::V1Models)),
            (
                Method::GET,
                "/v1/models/a",
                Ok(Route::V1Model(named("a", None))),
            ),
            (
                Method::POST,
                "/v1/models/a:predict",
                Ok(Route::V1Predict(named("a", None))),
            ),
            (
                Method::POST,
                "/v1/models/a%2Fb%20c:predict",
                Ok(Route::V1Predict(named("a/b c", None))),
            ),
            (
                Method::POST,
                "/v1/models/a:b:predict",
                Ok(Route::V1Predict(named("a:b", None))),
            ),
            (
                Method::POST,
                "/v1/models/a:explain",
                Ok(Route::V1Explain("a".into())),
            ),
            (Method::GET, "/v2", Ok(Route::V2Server)),
            (
                Method::GET,
                "/v2/models/a",
                Ok(Route::V2Model(named("a", None))),
            ),
            (
                Method::GET,
                "/v2/models/a/versions/3/ready",
                Ok(Route::V2ModelReady(named("a", Some("3")))),
            ),
            (
                Method::POST,
                "/v2/models/a/versions/1/infer",
                Ok(Route::V2Infer(named("a", Some("1")))),
            ),
            (
                Method::POST,
                "/v2/models/a/infer",
                Ok(Route::V2Infer(named("a", None))),
            ),
            (Method::GET, "/v2/repository/index", writes.clone()),
            (Method::POST, "/v2/systemsharedmemory/status", reads.clone()),
            (Method::POST, "/", reads.clone()),
            (Method::DELETE, "/v1/models/a", reads),
            (Method::GET, "/v1/models/a:predict", writes.clone()),
            (Method::GET, "/v2/models/a/infer", writes),
            (Method::GET, "/nope", no_path.clone()),
            (Method::GET, "/v1/models/a/b", no_path.clone()),
            (Method::POST, "/v1/models/:classify", no_path.clone()),
            (Method::POST, "/v2/models/a/infer/b", no_path.clone()),
            (Method::GET, "/v1/models/%ff", no_path.clone()),
            (Method::GET, "*", no_path),
        ];
        for (method, path, expected) in cases {
            assert_eq!(find(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn experiments_have_routes() {
        let outcomes = "/experiments/e/outcomes";
        let route = Route::Experiment(ExperimentRoute::Outcomes("e".into()));
        assert_eq!(find(&Method::POST, outcomes), Ok(route));
        let writes = NoRoute::Method { allow: WRITE };
        assert_eq!(find(&Method::GET, outcomes), Err(writes));
        let of_rollout = find(&Method::POST, "/rollouts/r/outcomes");
        let route = Route::Experiment(ExperimentRoute::Outcomes("rollout:r".into()));
        assert_eq!(of_rollout, Ok(route));
        let other = find(&Method::GET, "/experiments/e/f");
        assert_eq!(other, Err(NoRoute::Path));
    }

    #[test]
    fn tensorflow_serving_has_routes() {
        let versioned = || named("a", Some("2"));
        let classify = Route::V1Examples(Question::Classify, labelled("a", "b"));
        let regress = Route::V1Examples(Question::Regress, named("a", None));
        let cases = [
            (
                Method::POST,
                "/v1/models/a/versions/2:predict",
                Route::V1Predict(versioned()),
            ),
            (Method::POST, "/v1/models/a/labels/b:classify", classify),
            (Method::POST, "/v1/models/a:regress", regress),
            (
                Method::GET,
                "/v1/models/a/metadata",
                Route::V1Metadata(named("a", None)),
            ),
            (
                Method::GET,
                "/v1/models/a/versions/2/metadata",
                Route::V1Metadata(versioned()),
            ),
            (
                Method::GET,
                "/v1/models/a/versions/2",
                Route::V1Model(versioned()),
            ),
        ];
        for (method, path, expected) in cases {
            assert_eq!(find(&method, path), Ok(expected), "{method} {path}");
        }
    }

    #[test]
    fn seldon_has_routes() {
        for (method, path, expected) in [
            (
                Method::POST,
                "/api/v1.0/predictions",
                Some(Route::SeldonPredict),
            ),
            (
                Method::POST,
                "/api/v0.1/predictions",
                Some(Route::SeldonPredict),
            ),
            (
                Method::POST,
                "/api/v1.0/feedback",
                Some(Route::SeldonFeedback),
            ),
            (Method::GET, "/api/v1.0/health/status", Some(Route::Readyz)),
            (Method::GET, "/api/v1.0/predictions", None),
        ] {
            assert_eq!(find(&method, path).ok(), expected, "{method} {path}");
        }
        // Kubernetes' own is elsewhere.
        assert_eq!(find(&Method::GET, "/api/v1/pods"), Err(NoRoute::Path));
        assert_eq!(find(&Method::GET, "/ready"), Ok(Route::Readyz));
        assert_eq!(find(&Method::GET, "/live"), Ok(Route::Healthz));
    }

    #[test]
    fn extensions_have_routes() {
        let cases = [
            (
                Method::GET,
                "/v2/models/a/versions/1/config",
                Route::Extension(Extension::Config(named("a", Some("1")))),
            ),
            (
                Method::GET,
                "/v2/models/stats",
                Route::Extension(Extension::AllStatistics),
            ),
            (
                Method::POST,
                "/v2/repository/r/models/a/load",
                Route::Extension(Extension::Load("a".into())),
            ),
            (
                Method::POST,
                "/v2/repository/index",
                Route::Extension(Extension::Index),
            ),
            (
                Method::POST,
                "/v2/systemsharedmemory/region/a%20b/register",
                Route::Extension(Extension::RegisterRegion("a b".into())),
            ),
        ];
        for (method, path, expected) in cases {
            assert_eq!(find(&method, path), Ok(expected), "{method} {path}");
        }
    }

    #[test]
    fn seldons_and_mlflows_paths_need_no_model() {
        let without = ["/v1/models:predict", "/v1/models/:predict", "/invocations"];
        for path in without {
            assert_eq!(find(&Method::POST, path), Ok(Route::V1Predict(UNNAMED)));
        }
        let found = find(&Method::POST, "/v1/models/a/:predict");
        assert_eq!(found, Ok(Route::V1Predict(named("a", None))));
        let found = find(&Method::POST, "/v2/models/infer");
        assert_eq!(found, Ok(Route::V2Infer(UNNAMED)));
        // A model may have this name.
        let found = find(&Method::GET, "/v2/models/infer");
        assert_eq!(found, Ok(Route::V2Model(named("infer", None))));
        let found = find(&Method::PUT, "/v2/models/infer");
        assert!(matches!(found, Err(NoRoute::Method { .. })));
    }

    #[test]
    fn query_parameters_are_found() {
        assert_eq!(
            query_value(Some("a=1&method=predict_proba"), "method"),
            Some("predict_proba")
        );
        assert_eq!(query_value(Some("method"), "method"), None);
        assert_eq!(query_value(None, "method"), None);
    }
}
