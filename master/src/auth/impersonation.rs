//! Who may act as whom: constrained impersonation (of users, nodes and accounts, for the very request that is made), and
//! the former one, which is for all requests at once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::{ApiError, Caller};

use super::tokens::account_of;
use super::{Attributes, ClusterAuthorizer, Decision, Impersonation, MASTERS};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};

/// The node that an account's token is bound to.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// The group that impersonation of users, and all that belongs to it, is in.
const GROUP: &str = "authentication.k8s.io";
/// From so many groups or values on, the right to all of them is asked for first.
const MANY: usize = 4;
/// So many impersonators' ways are remembered.
const REMEMBERED_MAX: usize = 4096;

/// A way to act as somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// As the node that the account runs on.
    AssociatedNode,
    /// As any node.
    ArbitraryNode,
    /// As an account.
    ServiceAccount,
    /// As anybody else.
    UserInfo,
    /// As anybody, whatever is done then.
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "",
        }
    }

    /// Whether somebody can be acted as in this way at all.
    fn is_for(self, wanted: &Impersonation, actor: &Caller) -> bool {
        let by_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_of(&wanted.user);
        match self {
            Mode::AssociatedNode => {
                let bound = actor.extra.get(NODE_NAME).map(Vec::as_slice);
                let own = matches!((bound, node), (Some([bound]), Some(node)) if bound == node);
                by_name && own && account_of(&actor.user).is_some()
            }
            Mode::ArbitraryNode => by_name && node.is_some(),
            Mode::ServiceAccount => by_name && account_of(&wanted.user).is_some(),
            Mode::UserInfo => node.is_none() && account_of(&wanted.user).is_none(),
            Mode::Legacy => true,
        }
    }
}

/// The node that a user is.
fn node_of(user: &str) -> Option<&str> {
    let node = user.strip_prefix("system:node:")?;
    name_errors(NameRule::Subdomain, node, false).is_empty().then_some(node)
}

/// Decides who may act as whom. Which way worked last is remembered, and tried first.
pub struct Impersonator {
    authorizer: Arc<ClusterAuthorizer>,
    last: Mutex<HashMap<String, Mode>>,
}

impl Impersonator {
    /// Over an authorizer.
    pub fn new(authorizer: Arc<ClusterAuthorizer>) -> Self {
        Impersonator { authorizer, last: Mutex::default() }
    }

    /// On whose behalf a request of an actor is made who wants to act as somebody.
    pub fn admit(&self, wanted: Impersonation, request: &Attributes) -> Result<Caller, ApiError> {
        let actor = &request.caller;
        let last = self.last.lock().get(&actor.user).copied();
        let others = MODES.into_iter().filter(|mode| Some(*mode) != last);
        let mut first = None;
        for mode in last.into_iter().chain(others).filter(|mode| mode.is_for(&wanted, actor)) {
            match self.check(mode, &wanted, request) {
                Ok(()) => {
                    if last != Some(mode) {
                        let mut last = self.last.lock();
                        // Whoever is forgotten is asked about in the common order.
                        if last.len() >= REMEMBERED_MAX {
                            last.clear();
                        }
                        last.insert(actor.user.clone(), mode);
                    }
                    let node = mode != Mode::Legacy && node_of(&wanted.user).is_some();
                    let groups = if node { vec!["system:nodes".to_owned()] } else { wanted.groups.clone() };
                    return Ok(Impersonation { groups, ..wanted }.caller());
                }
                Err(why) => first = first.or(Some(why)),
            }
        }
        Err(first.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
    }

    fn require(&self, attributes: &Attributes) -> Result<(), ApiError> {
        match self.authorizer.decide(attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
        }
    }

    fn check(&self, mode: Mode, wanted: &Impersonation, request: &Attributes) -> Result<(), ApiError> {
        let actor = &request.caller;
        if mode == Mode::Legacy {
            return wanted.permissions(actor).iter().try_for_each(|permission| self.require(permission));
        }
        let verb = format!("impersonate-on:{}:{}", mode.name(), request.verb);
        self.require(&Attributes { verb, ..request.clone() })?;
        let ask = |resource: &str, name: &str| Attributes {
            caller: actor.clone(),
            verb: format!("impersonate:{}", mode.name()),
            group: GROUP.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        self.require(&match (node_of(&wanted.user), account_of(&wanted.user)) {
            // The right is to whichever node the account happens to run on.
            (Some(_), _) if mode == Mode::AssociatedNode => ask("nodes", "*"),
            (Some(node), _) => ask("nodes", node),
            (None, Some((namespace, name))) => {
                Attributes { namespace: namespace.to_owned(), ..ask("serviceaccounts", name) }
            }
            (None, None) => ask("users", &wanted.user),
        })?;
        if !wanted.uid.is_empty() {
            self.require(&ask("uids", &wanted.uid))?;
        }
        self.groups(&wanted.groups, &|name| ask("groups", name))?;
        self.extra(wanted, &|name| ask("userextras", name))
    }

    fn groups(&self, groups: &[String], ask: &dyn Fn(&str) -> Attributes) -> Result<(), ApiError> {
        if groups.iter().any(String::is_empty) {
            return Err(ask("").forbidden("impersonating the empty string group is not allowed"));
        }
        if groups.iter().any(|group| group == MASTERS) {
            return Err(ask(MASTERS).forbidden("impersonating the system:masters group is not allowed"));
        }
        if groups.len() >= MANY && self.require(&ask("*")).is_ok() {
            return Ok(());
        }
        groups.iter().try_for_each(|group| self.require(&ask(group)))
    }

    fn extra(&self, wanted: &Impersonation, ask: &dyn Fn(&str) -> Attributes) -> Result<(), ApiError> {
        for (key, values) in &wanted.extra {
            if let Some(why) = wrong_extra(key, values) {
                return Err(ask("").forbidden(&why));
            }
        }
        let of = |key: &str, value: &str| Attributes { subresource: key.to_owned(), ..ask(value) };
        let many = wanted.extra.len() >= MANY || wanted.extra.values().map(Vec::len).sum::<usize>() >= MANY;
        if many && self.require(&of("*", "*")).is_ok() {
            return Ok(());
        }
        let mut all = wanted.extra.iter().flat_map(|(key, values)| values.iter().map(move |v| (key, v)));
        all.try_for_each(|(key, value)| self.require(&of(key, value)))
    }
}

/// What is wrong with further attributes.
fn wrong_extra(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let mut errors = Errors::default();
    let at = Path::new("extra").child("key");
    match key.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            for why in name_errors(NameRule::Subdomain, host, false) {
                errors.invalid(&at, host, why);
            }
        }
        _ => errors.invalid(&at, key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if let Some(why) = errors.messages().first() {
        return Some(format!("impersonating an invalid key in extra is not allowed: {why}"));
    }
    if key.to_lowercase() != *key {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(user: &str, groups: &[&str]) -> Impersonation {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        Impersonation { user: user.to_owned(), groups, ..Impersonation::default() }
    }

    #[test]
    fn each_way_is_for_its_own() {
        let mut actor = Caller::component("system:serviceaccount:a:b", &[]);
        actor.extra.insert(NODE_NAME.to_owned(), vec!["n".to_owned()]);
        let ways = |wanted: &Impersonation| -> Vec<&str> {
            MODES.into_iter().filter(|mode| mode.is_for(wanted, &actor)).map(Mode::name).collect()
        };
        assert_eq!(ways(&wanted("system:node:n", &[])), ["associated-node", "arbitrary-node", ""]);
        assert_eq!(ways(&wanted("system:node:m", &[])), ["arbitrary-node", ""]);
        assert_eq!(ways(&wanted("system:node:m", &["g"])), [""]);
        assert_eq!(ways(&wanted("system:node:M", &["g"])), ["user-info", ""]);
        assert_eq!(ways(&wanted("system:serviceaccount:a:c", &[])), ["serviceaccount", ""]);
        assert_eq!(ways(&wanted("anna", &["g"])), ["user-info", ""]);
    }

    #[test]
    fn further_attributes_have_keys_with_a_domain() {
        let said = |key: &str| wrong_extra(key, &["x".to_owned()]);
        assert_eq!(said("example.com/scopes"), None);
        assert_eq!(
            said("scopes").as_deref(),
            Some(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: \"scopes\": must be \
                 a domain-prefixed path (such as \"acme.io/foo\")"
            )
        );
        assert!(said("example.com/Scopes").is_some());
        assert!(wrong_extra("example.com/a", &[String::new()]).is_some());
    }
}
