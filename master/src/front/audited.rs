//! What the audit log is told of a request while it is served.

use actix_web::HttpRequest;
use bytes::Bytes;
use protocol::{ApiError, Target};

use super::handle::header;
use super::{Admitted, Shared};
use crate::audit::annotations::Annotations;
use crate::audit::{Auditor, Draft, Facts};
use crate::auth::Attributes;

/// A request's record, where there is an audit log and its policy wants one.
pub(super) struct Audited {
    open: Option<(Auditor, Draft)>,
}

impl Audited {
    /// Begins the record of a request that came in.
    pub(super) async fn begin(
        http: &HttpRequest,
        shared: &Shared,
        admitted: &Admitted,
        attributes: &Attributes,
        target: Option<&Target>,
    ) -> Self {
        let Some(auditor) = &shared.config.audit else { return Audited { open: None } };
        let facts = Facts {
            caller: admitted.caller.clone(),
            actor: admitted.actor.clone(),
            verb: attributes.verb.clone(),
            target: target.cloned(),
            uri: http.uri().to_string(),
            source: http.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default(),
            user_agent: header(http.headers(), "user-agent").to_owned(),
        };
        let draft = auditor.begin(facts).await;
        let open = draft.map(|mut draft| {
            let decision = shared.config.gate.decision(attributes);
            draft.decision = Some((decision.is_allowed(), decision.reason().to_owned()));
            (auditor.clone(), draft)
        });
        Audited { open }
    }

    /// The record's id, which the answer carries.
    pub(super) fn id(&self) -> Option<String> {
        self.open.as_ref().map(|(_, draft)| draft.id().to_owned())
    }

    /// The request's object.
    pub(super) fn request(&mut self, body: &Bytes) {
        if let Some((_, draft)) = &mut self.open {
            draft.request(body);
        }
    }

    /// What admission says of the request.
    pub(super) fn annotate(&mut self, annotations: Annotations) {
        if let Some((_, draft)) = &mut self.open {
            draft.annotations.extend(annotations);
        }
    }

    /// The answer's object.
    pub(super) fn response(&mut self, code: u16, body: &Bytes) {
        if let Some((_, draft)) = &mut self.open {
            draft.response(code, body);
        }
    }

    /// A failure of the door itself.
    pub(super) fn failure(&mut self, error: &ApiError) {
        self.response(error.code(), &error.to_body());
    }

    /// Whether the record holds what is answered.
    pub(super) fn keeps_responses(&self) -> bool {
        self.open.as_ref().is_some_and(|(_, draft)| draft.keeps_responses())
    }

    /// The request was answered.
    pub(super) async fn finish(&mut self, code: u16) {
        if let Some((auditor, draft)) = self.open.take() {
            auditor.complete(&draft, code).await;
        }
    }

    /// The answer is a stream that has begun. The record is finished when what is returned is dropped.
    pub(super) async fn last(&mut self, code: u16) -> Option<Lasting> {
        let (auditor, draft) = self.open.take()?;
        auditor.started(&draft, code).await;
        Some(Lasting { open: Some((auditor, draft)), code })
    }
}

/// The record of a stream that runs.
pub(super) struct Lasting {
    open: Option<(Auditor, Draft)>,
    code: u16,
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if let Some((auditor, draft)) = self.open.take() {
            let code = self.code;
            actors::spawn(async move { auditor.complete(&draft, code).await });
        }
    }
}
