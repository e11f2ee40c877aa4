//! The table: what each call of a user takes, and what the audit tells of it.
//!
//! A call is known by its first message. Each message is of exactly one call, and each has its lines here; nothing secret
//! is in what they tell: no environment, no arguments of a command, no token.

use model::{Name, ServiceKey};
use proto::v1::{self, exec_input::Input, load_image_request::Part, status_request::Services};
use serde_json::{Value as Json, json};
use tonic::Status;
use trust::rights::Right;

use crate::control::refuse::invalid;

/// A line of the audit tells of so many services, or as many images.
const AT_MOST: usize = 1_000;

/// One thing that whoever asks must be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) right: Right,
    /// None for everywhere.
    pub(crate) place: Option<Name>,
}

/// What a message asks for. There is always something.
pub(crate) trait Needs {
    fn needs(&self) -> Result<Vec<Need>, Status>;
}

/// Of what changes nothing, so that the audit does not tell of it.
pub(crate) trait Reads {}

/// Of what the audit tells.
pub(crate) trait Writes {
    const VERB: &'static str;

    /// What it is about, by name.
    fn about(&self) -> Vec<String>;

    fn is_write(&self) -> bool {
        true
    }
}

/// What a write came to, for the audit.
pub(crate) trait Became {
    fn became(&self) -> Json {
        Json::Null
    }
}

fn everywhere(right: Right) -> Result<Vec<Need>, Status> {
    Ok(vec![Need { right, place: None }])
}

/// Whoever names nothing asks for everything.
fn in_each<'a>(right: Right, namespaces: impl IntoIterator<Item = &'a str>) -> Result<Vec<Need>, Status> {
    let place = |namespace: &str| {
        // As those who answer understand it.
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        let place = Some(Name::new(namespace).map_err(invalid)?);
        Ok(Need { right, place })
    };
    let needs: Vec<Need> = namespaces.into_iter().map(place).collect::<Result<_, Status>>()?;
    if needs.is_empty() { everywhere(right) } else { Ok(needs) }
}

fn namespace(key: &Option<v1::ServiceKey>) -> &str {
    key.as_ref().map_or("", |key| &key.namespace)
}

/// Only what has the form of names: the message was not looked at yet.
fn named(key: &Option<v1::ServiceKey>) -> Option<String> {
    let key = ServiceKey::try_from(key.clone()?).ok()?;
    Some(format!("{}/{}", key.namespace, key.name))
}

fn names(namespace: &str, name: &str) -> Vec<String> {
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    let key = v1::ServiceKey { namespace: namespace.to_owned(), name: name.to_owned() };
    named(&Some(key)).into_iter().collect()
}

/// What somebody typed, cut to what a line has room for.
fn typed(text: &str) -> Vec<String> {
    vec![text.chars().take(200).collect()]
}

impl Needs for v1::ApplyRequest {
    fn needs(&self) -> Result<Vec<Need>, Status> {
        // A dry run tells what there is, and what would be said: so a review can show what a merge would change.
        let right = if self.dry_run { Right::Read } else { Right::WriteServices };
        in_each(right, self.services.iter().map(|declared| namespace(&declared.service)))
    }
}

impl Writes for v1::ApplyRequest {
    const VERB: &'static str = "apply";

    fn about(&self) -> Vec<String> {
        self.services.iter().filter_map(|declared| named(&declared.service)).take(AT_MOST).collect()
    }

    fn is_write(&self) -> bool {
        !self.dry_run
    }
}

impl Needs for v1::DeleteRequest {
    fn needs(&self) -> Result<Vec<Need>, Status> {
        in_each(Right::WriteServices, self.services.iter().map(|key| key.namespace.as_str()))
    }
}

impl Writes for v1::DeleteRequest {
    const VERB: &'static str = "delete";

    fn about(&self) -> Vec<String> {
        self.services.iter().filter_map(|key| named(&Some(key.clone()))).take(AT_MOST).collect()
    }
}

macro_rules! of_one_service {
    ($($message:ident = $verb:literal;)*) => {$(
        impl Needs for v1::$message {
            fn needs(&self) -> Result<Vec<Need>, Status> {
                in_each(Right::WriteServices, [namespace(&self.service)])
            }
        }
        impl Writes for v1::$message {
            const VERB: &'static str = $verb;

            fn about(&self) -> Vec<String> {
                named(&self.service).into_iter().collect()
            }
        }
    )*};
}
of_one_service! {
    ScaleRequest = "scale";
    UndoRequest = "undo";
    RestartRequest = "restart";
}

impl Needs for v1::StatusRequest {
    fn needs(&self) -> Result<Vec<Need>, Status> {
        let mut needs = everywhere(Right::ReadCluster)?;
        match &self.services {
            // Those of all namespaces are narrowed to the ones that may be read, and the answer says so.
            None | Some(Services::All(_)) => {}
            Some(Services::Namespace(namespace)) => {
                needs.extend(in_each(Right::Read, [namespace.as_str()])?);
            }
            Some(Services::Named(named)) => {
                for key in &named.keys {
                    needs.extend(in_each(Right::Read, [key.namespace.as_str()])?);
                }
            }
        }
        Ok(needs)
    }
}

impl Needs for v1::LogsRequest {
    fn needs(&self) -> Result<Vec<Need>, Status> {
        in_each(Right::Read, [self.namespace.as_str()])
    }
}

impl Needs for v1::ExecInput {
    fn needs(&self) -> Result<Vec<Need>, Status> {
        match &self.input {
            Some(Input::Start(start)) => in_each(Right::Exec, [start.namespace.as_str()]),
            _ => Err(invalid("a command begins with start")),
        }
    }
}

impl Writes for v1::ExecInput {
    const VERB: &'static str = "exec";

    /// Of the command only the program: its arguments may be secrets.
    fn about(&self) -> Vec<String> {
        let Some(Input::Start(start)) = &self.input else { return Vec::new() };
        let mut about = names(&start.namespace, &start.service);
        about.extend(start.command.first().map(|program| typed(program)).into_iter().flatten());
        about
    }
}

impl Needs for v1::LoadImageRequest {
    fn needs(&self) -> Result<Vec<Need>, Status> {
        match &self.part {
            Some(Part::Start(_)) => everywhere(Right::ManageImages),
            _ => Err(invalid("an image begins with start")),
        }
    }
}

impl Writes for v1::LoadImageRequest {
    const VERB: &'static str = "load image";

    fn about(&self) -> Vec<String> {
        let Some(Part::Start(start)) = &self.part else { return Vec::new() };
        start.name.as_deref().map(typed).unwrap_or_default()
    }
}

fn changed_node(asked: &v1::ChangeNodeRequest) -> Vec<String> {
    use v1::change_node_request::Change;
    let change = asked.change.as_ref().map(|change| match change {
        Change::Cordon(_) => "cordon",
        Change::Uncordon(_) => "uncordon",
        Change::Label(_) => "label",
        Change::Remove(_) => "remove",
        Change::Drain(_) => "drain",
    });
    let mut about = typed(&asked.node);
    about.extend(change.map(str::to_owned));
    about
}

/// Its name, and what it allows where.
fn new_token(asked: &v1::CreateAccessTokenRequest) -> Vec<String> {
    let mut about = typed(&asked.name);
    let role = asked.role().as_str_name().trim_start_matches("ACCESS_ROLE_");
    about.push(role.to_ascii_lowercase());
    let places = asked.namespaces.iter().flat_map(|places| &places.names);
    about.extend(places.filter_map(|name| Name::new(name).ok()).map(|name| format!("in {name}")));
    about
}

/// Of the cluster itself: a right, and for writes what the audit calls them and what they are about.
macro_rules! of_the_cluster {
    ($($message:ident: $right:ident $(, $verb:literal, $about:expr)?;)*) => {$(
        impl Needs for v1::$message {
            fn needs(&self) -> Result<Vec<Need>, Status> {
                everywhere(Right::$right)
            }
        }
        of_the_cluster!(@ $message $($verb, $about)?);
    )*};
    (@ $message:ident) => {
        impl Reads for v1::$message {}
    };
    (@ $message:ident $verb:literal, $about:expr) => {
        impl Writes for v1::$message {
            const VERB: &'static str = $verb;

            fn about(&self) -> Vec<String> {
                let about: fn(&v1::$message) -> Vec<String> = $about;
                about(self)
            }
        }
    };
}
of_the_cluster! {
    ChangeNodeRequest: ManageNodes, "change node", changed_node;
    ListImagesRequest: ReadCluster;
    RemoveImageRequest: ManageImages, "remove image", |asked| typed(&asked.reference);
    GetVersionRequest: ReadCluster;
    GetClusterRequest: ReadCluster;
    AddMemberRequest: ManageCluster, "add server", |asked| typed(&asked.name);
    SetMemberPartRequest: ManageCluster, "change server", |asked| {
        vec![model::MemberId(asked.id).to_string(), asked.part().as_str_name().to_ascii_lowercase()]
    };
    TransferLeaderRequest: ManageCluster, "transfer leader",
        |asked| asked.to.iter().map(|id| model::MemberId(*id).to_string()).collect();
    RotateDataKeyRequest: ManageCluster, "rotate data key", |_| Vec::new();
    GetSettingsRequest: ReadCluster;
    ChangeSettingsRequest: ManageCluster, "change settings", |asked| {
        asked.node_lost_after_ms.iter().map(|after| format!("nodes are lost after {}", model::Millis(*after))).collect()
    };
    GetAuthorityRequest: ReadCluster;
    RotateAuthorityRequest: ManageCluster, "rotate authority", |_| Vec::new();
    AbandonRotationRequest: ManageCluster, "abandon rotation", |_| Vec::new();
    CreateJoinTokenRequest: ManageTokens, "create join token",
        |asked| vec![asked.role().as_str_name().to_ascii_lowercase()];
    ListJoinTokensRequest: ManageTokens;
    RevokeJoinTokenRequest: ManageTokens, "revoke join token",
        |asked| vec![model::TokenId(asked.id).to_string()];
    CreateAccessTokenRequest: ManageTokens, "create access token", new_token;
    ListAccessTokensRequest: ManageTokens;
    // Somebody may have typed the token itself.
    RevokeAccessTokenRequest: ManageTokens, "revoke access token", |_| Vec::new();
    // It changes nothing, and has everything that is secret in it.
    BackupRequest: ManageCluster, "backup", |_| Vec::new();
}

impl Reads for v1::StatusRequest {}
impl Reads for v1::LogsRequest {}

impl Became for v1::ApplyResponse {
    fn became(&self) -> Json {
        let one = |result: &v1::ApplyResult| {
            json!({
                "service": named(&result.service),
                "generation": result.generation,
                "revision": result.revision,
                "change": result.outcome().as_str_name().trim_start_matches("OUTCOME_").to_ascii_lowercase(),
            })
        };
        self.results.iter().take(AT_MOST).map(one).collect()
    }
}

macro_rules! became {
    ($($message:ident { $($field:ident),* };)*) => {$(
        impl Became for v1::$message {
            fn became(&self) -> Json {
                json!({ $(stringify!($field): self.$field),* })
            }
        }
    )*};
}
became! {
    ScaleResponse { generation, revision };
    UndoResponse { generation, revision };
    RestartResponse { generation, revision };
    RotateDataKeyResponse { key };
    RevokeAccessTokenResponse { name };
}

impl Became for v1::DeleteResponse {}
impl Became for v1::AddMemberResponse {}
impl Became for v1::SetMemberPartResponse {}
impl Became for v1::TransferLeaderResponse {}
impl Became for v1::RevokeJoinTokenResponse {}
impl Became for v1::ChangeSettingsResponse {}
impl Became for v1::RotateAuthorityResponse {}
impl Became for v1::AbandonRotationResponse {}

impl Became for v1::ChangeNodeResponse {
    fn became(&self) -> Json {
        json!({ "node": model::NodeId(self.node).to_string(), "name": self.name })
    }
}

/// Without the token.
impl Became for v1::CreateJoinTokenResponse {
    fn became(&self) -> Json {
        json!({ "id": model::TokenId(self.id).to_string() })
    }
}

/// Without the token.
impl Became for v1::CreateAccessTokenResponse {
    fn became(&self) -> Json {
        json!({ "id": model::TokenId(self.id).to_string() })
    }
}

fn images(images: &[v1::Image]) -> Json {
    images
        .iter()
        .take(AT_MOST)
        .map(|image| json!({ "image": image.reference, "digest": image.digest }))
        .collect()
}

impl Became for v1::LoadImageResponse {
    fn became(&self) -> Json {
        images(&self.images)
    }
}

impl Became for v1::RemoveImageResponse {
    fn became(&self) -> Json {
        images(&self.images)
    }
}
