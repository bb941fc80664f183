//! The calls that have one answer, by name. Ids and names are encoded here and nowhere else.

use super::answers::{Info, Inspected, Listed, Used};
use super::api::{Call, Engine};
use super::error::{CREATE, EngineError, EngineErrorKind, Missing};
use super::patience::Patience;
use crate::http::reply::encode;
use serde::Deserialize;

const INSPECT: &str = "inspect a container";

impl Engine {
    pub fn info(&self, patience: &Patience) -> Result<Info, EngineError> {
        let doing = "ask about the engine";
        let info: Info = self.ask(&Call::get(doing, Missing::Neither, "/info"), patience)?.json(doing)?;
        Ok(info.honest())
    }

    /// All containers, stopped ones too, that have all of these labels; an empty value means any value.
    pub fn list(&self, labels: &[(&str, &str)], patience: &Patience) -> Result<Vec<Listed>, EngineError> {
        let doing = "list containers";
        let filters = serde_json::json!({ "label": label_filters(labels) }).to_string();
        let target = format!("/containers/json?all=1&filters={}", encode(&filters));
        self.ask(&Call::get(doing, Missing::Neither, target), patience)?.json(doing)
    }

    pub fn inspect(&self, id_or_name: &str, patience: &Patience) -> Result<Inspected, EngineError> {
        let target = format!("/containers/{}/json", encode(id_or_name));
        self.ask(&Call::get(INSPECT, Missing::Container, target), patience)?.json(INSPECT)
    }

    /// What a running container uses now. Engines count once a second, and some answer only then.
    pub fn used(&self, id: &str, patience: &Patience) -> Result<Used, EngineError> {
        let doing = "ask what a container uses";
        let target = format!("/containers/{}/stats?stream=false&one-shot=true", encode(id));
        self.ask(&Call::get(doing, Missing::Container, target), patience)?.json(doing)
    }

    pub fn image_exists(&self, image: &str, patience: &Patience) -> Result<bool, EngineError> {
        // The slashes of a name are part of the path for every engine.
        let path: Vec<String> = image.split('/').map(encode).collect();
        let target = format!("/images/{}/json", path.join("/"));
        match self.ask(&Call::get("look for an image", Missing::Image, target), patience) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == EngineErrorKind::NoSuchImage => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `body` is the JSON of `POST /containers/create`. Returns the full id. A name that is taken is a `Conflict`.
    pub fn create(
        &self,
        name: Option<&str>,
        body: &str,
        platform: Option<&str>,
        patience: &Patience,
    ) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: String,
        }
        let query: Vec<String> = [("name", name), ("platform", platform)]
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", encode(value?))))
            .collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("/containers/create{mark}{}", query.join("&"));
        let call = Call { body: Some(body), ..Call::post(CREATE, Missing::Image, target) };
        let created: Created = self.ask(&call, patience)?.json(CREATE)?;
        if created.id.is_empty() {
            return Err(EngineError::new(EngineErrorKind::Garbled, CREATE, "its answer has no id"));
        }
        Ok(created.id)
    }

    /// A container that runs already is as good as started.
    pub fn start(&self, id: &str, patience: &Patience) -> Result<(), EngineError> {
        self.act("start a container", id, "start", patience)
    }

    /// `signal` is a name or a number: `SIGTERM`, `TERM`, `15`. One that does not run is a `Conflict`.
    pub fn kill(&self, id: &str, signal: &str, patience: &Patience) -> Result<(), EngineError> {
        self.act("signal a container", id, &format!("kill?signal={}", encode(signal)), patience)
    }

    pub fn unpause(&self, id: &str, patience: &Patience) -> Result<(), EngineError> {
        self.act("unpause a container", id, "unpause", patience)
    }

    pub fn pause(&self, id: &str, patience: &Patience) -> Result<(), EngineError> {
        self.act("pause a container", id, "pause", patience)
    }

    /// With its anonymous volumes, running or not. One that is gone is as good as removed; so is one whose removal is
    /// under way, which with force is the only conflict there is. Who must know that it is gone asks for it.
    pub fn remove(&self, id: &str, patience: &Patience) -> Result<(), EngineError> {
        let target = format!("/containers/{}?force=1&v=1", encode(id));
        let call = Call { method: "DELETE", ..Call::get("remove a container", Missing::Container, target) };
        match self.ask(&call, patience) {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.kind, EngineErrorKind::NoSuchContainer | EngineErrorKind::Conflict) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn act(&self, doing: &'static str, id: &str, what: &str, patience: &Patience) -> Result<(), EngineError> {
        let target = format!("/containers/{}/{what}", encode(id));
        self.ask(&Call::post(doing, Missing::Container, target), patience).map(drop)
    }
}

/// `name=value`, or `name` alone for any value.
pub(super) fn label_filters(labels: &[(&str, &str)]) -> Vec<String> {
    let filter = |(name, value): &(&str, &str)| match *value {
        "" => (*name).to_owned(),
        value => format!("{name}={value}"),
    };
    labels.iter().map(filter).collect()
}
