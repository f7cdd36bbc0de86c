//! The actor: follows Ingresses, their classes, Services, slices and Secrets, and is the only writer of the table.
//!
//! A rebuilt actor makes a new table beside the old one, which serves until all has been listed again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use actors::{Actor, Context, Handler, message};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use protocol::events::{Recorder, reference};
use protocol::ingress::Class;
use protocol::labels::ZONE;
use protocol::{Client, Object};

use super::Shared;
use super::certificates::{self, SecretFault};
use super::claims::{self, Claims, Key};
use super::table::Table;
use super::watched::{SecretTold, Watched};
use crate::follow::{Followed, follow};

/// Something about an object of a kind.
pub struct Told<K>(Followed<K>);

fn key_of<K: Object>(object: &K) -> Key {
    let meta = object.metadata();
    claims::key(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

message!(Told<Ingress> => (), |m| Some(m.0.key()));
message!(Told<IngressClass> => (), |m| Some(m.0.key()));
message!(Told<Service> => (), |m| Some(m.0.key()));
message!(Told<EndpointSlice> => (), |m| Some(m.0.key()));
message!(Told<Node> => (), |m| Some(m.0.key()));

/// What is remembered of an Ingress.
struct Seen {
    class: Class,
    claims: Arc<Claims>,
    /// For events about it.
    uid: Option<Box<str>>,
    resource_version: Option<Box<str>>,
}

impl Seen {
    fn of(ingress: &Ingress) -> Seen {
        let meta = &ingress.metadata;
        Seen {
            class: Class::of(ingress),
            claims: Arc::new(Claims::of(ingress)),
            uid: meta.uid.as_deref().map(Into::into),
            resource_version: meta.resource_version.as_deref().map(Into::into),
        }
    }

    fn reference(&self, key: &Key) -> ObjectReference {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let mut ingress = Ingress::default();
        ingress.metadata.namespace = Some(namespace.to_owned());
        ingress.metadata.name = Some(name.to_owned());
        ingress.metadata.uid = self.uid.as_deref().map(str::to_owned);
        ingress.metadata.resource_version = self.resource_version.as_deref().map(str::to_owned);
        reference(&ingress)
    }
}

/// Which kinds have been listed.
#[derive(Default)]
struct Listed {
    ingresses: bool,
    classes: bool,
    services: bool,
    slices: bool,
    node: bool,
}

/// Follows what Ingresses are made of.
pub struct IngressActor {
    /// The node that it runs on.
    node: String,
    shared: Arc<Shared>,
    client: Client,
    recorder: Recorder,
    listed: Listed,
    /// The new table, until it is complete.
    pending: Option<Table>,
    /// All Ingresses: a class may make ours what is not.
    ingresses: BTreeMap<Key, Seen>,
    classes: BTreeMap<Key, IngressClass>,
    watched: Watched,
    /// What the owners of Ingresses have been told is wrong with them.
    told: HashMap<Key, BTreeSet<(&'static str, String)>>,
}

impl IngressActor {
    pub(super) fn new(node: &str, shared: Arc<Shared>, client: Client, recorder: Recorder) -> Self {
        IngressActor {
            node: node.to_owned(),
            shared,
            client,
            recorder,
            listed: Listed::default(),
            pending: Some(Table::new(node)),
            ingresses: BTreeMap::new(),
            classes: BTreeMap::new(),
            watched: Watched::default(),
            told: HashMap::new(),
        }
    }

    fn follow<K: Object>(&self, fields: Option<String>, ctx: &mut Context<Self>)
    where
        Told<K>: actors::Message<Result = ()>,
        Self: Handler<Told<K>>,
    {
        let me = ctx.me();
        let following = follow::<K, _>(self.client.clone(), fields, move |told| {
            let me = me.clone();
            async move { me.tell(Told(told)).await.is_ok() }
        });
        ctx.run(following, |_, (), _| {});
    }

    /// Reads or changes the table that is being made, or else the one that serves.
    fn table<R>(&mut self, with: impl FnOnce(&mut Table) -> R) -> R {
        match &mut self.pending {
            Some(table) => with(table),
            None => with(&mut self.shared.table.write()),
        }
    }

    /// Shows the new table once it is complete.
    fn complete(&mut self) {
        let Listed { ingresses, classes, services, slices, node } = self.listed;
        let all = ingresses && classes && services && slices && node;
        if !all {
            return;
        }
        if let Some(mut table) = self.pending.take() {
            table.complete = true;
            let former = {
                let mut shown = self.shared.table.write();
                table.certificates.take_over(&mut shown.certificates);
                std::mem::replace(&mut *shown, table)
            };
            drop(former);
            let ours: Vec<Key> = self.table(|table| table.ingresses().cloned().collect());
            ours.iter().for_each(|ingress| self.tell_faults(ingress));
        }
    }

    /// Takes an Ingress into the table, or out of it, as it is now.
    fn place(&mut self, key: &Key, ctx: &mut Context<Self>) {
        let ours = self.ingresses.get(key).filter(|seen| seen.class.is_ours(self.classes.values()));
        let claims = ours.map(|seen| seen.claims.clone());
        let served = claims.is_some();
        let secrets = self.table(|table| table.set_ingress(key, claims));
        for secret in secrets {
            let named = self.table(|table| !table.certificates.users(&secret).is_empty());
            if named {
                self.watch(&secret, ctx);
            } else if self.watched.end(&secret, ctx) {
                let named: Vec<Key> = self.table(|table| table.certificates.secrets().cloned().collect());
                let next = named.iter().find(|secret| !self.watched.has(secret));
                next.into_iter().for_each(|next| self.watch(next, ctx));
            }
        }
        if !served {
            self.told.remove(key);
        }
        self.tell_faults(key);
    }

    fn watch(&mut self, secret: &Key, ctx: &mut Context<Self>) {
        if !self.watched.begin(secret, &self.client, ctx) {
            let fault = SecretFault::TooMany(secret.clone());
            self.table(|table| table.certificates.set(secret, Err(fault)));
        }
    }

    fn place_all(&mut self, ctx: &mut Context<Self>) {
        let known: BTreeSet<Key> = self.table(|table| table.ingresses().cloned().collect());
        let all: BTreeSet<Key> = self.ingresses.keys().cloned().chain(known).collect();
        all.iter().for_each(|key| self.place(key, ctx));
    }

    /// Tells an Ingress's owner what is newly wrong with it.
    fn tell_faults(&mut self, key: &Key) {
        if self.pending.is_some() {
            return;
        }
        let faults = self.table(|table| table.faults(key));
        let before = self.told.remove(key).unwrap_or_default();
        if let Some(seen) = self.ingresses.get(key) {
            let about = seen.reference(key);
            for (reason, text) in faults.difference(&before) {
                self.recorder.tell(about.clone(), "Warning", reason, text.clone());
            }
        }
        if !faults.is_empty() {
            self.told.insert(key.clone(), faults);
        }
    }

    fn take_ingress(&mut self, ingress: &Ingress) -> Key {
        let key = key_of(ingress);
        self.ingresses.insert(key.clone(), Seen::of(ingress));
        key
    }
}

impl Actor for IngressActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.follow::<IngressClass>(None, ctx);
        self.follow::<Ingress>(None, ctx);
        self.follow::<Service>(None, ctx);
        self.follow::<EndpointSlice>(None, ctx);
        self.follow::<Node>(Some(format!("metadata.name={}", self.node)), ctx);
    }
}

impl Handler<Told<Ingress>> for IngressActor {
    type Result = ();

    fn handle(&mut self, Told(told): Told<Ingress>, ctx: &mut Context<Self>) {
        match told {
            Followed::Listed(all) => {
                self.ingresses.clear();
                for ingress in all {
                    self.take_ingress(&ingress);
                }
                self.place_all(ctx);
                self.listed.ingresses = true;
                self.complete();
            }
            Followed::Changed(ingress) => {
                let key = self.take_ingress(&ingress);
                self.place(&key, ctx);
            }
            Followed::Gone(ingress) => {
                let key = key_of(&*ingress);
                self.ingresses.remove(&key);
                self.place(&key, ctx);
            }
        }
    }
}

impl Handler<Told<IngressClass>> for IngressActor {
    type Result = ();

    fn handle(&mut self, Told(told): Told<IngressClass>, ctx: &mut Context<Self>) {
        match told {
            Followed::Listed(all) => {
                self.classes = all.into_iter().map(|class| (key_of(&class), class)).collect();
                self.listed.classes = true;
            }
            Followed::Changed(class) => {
                self.classes.insert(key_of(&*class), *class);
            }
            Followed::Gone(class) => {
                self.classes.remove(&key_of(&*class));
            }
        }
        self.place_all(ctx);
        self.complete();
    }
}

/// A Service without what only people and the master read.
fn lean(mut service: Service) -> (Key, Arc<Service>) {
    let key = key_of(&service);
    service.metadata = Default::default();
    service.status = None;
    (key, Arc::new(service))
}

impl Handler<Told<Service>> for IngressActor {
    type Result = ();

    fn handle(&mut self, Told(told): Told<Service>, _: &mut Context<Self>) {
        let (key, service) = match told {
            Followed::Listed(all) => {
                self.table(|table| table.replace_services(all.into_iter().map(lean)));
                self.listed.services = true;
                self.complete();
                let ours: Vec<Key> = self.table(|table| table.ingresses().cloned().collect());
                ours.iter().for_each(|ingress| self.tell_faults(ingress));
                return;
            }
            Followed::Changed(service) => {
                let (key, service) = lean(*service);
                (key, Some(service))
            }
            Followed::Gone(service) => (key_of(&*service), None),
        };
        let users = self.table(|table| {
            table.set_service(&key, service);
            table.users(&key)
        });
        users.iter().for_each(|ingress| self.tell_faults(ingress));
    }
}

impl Handler<Told<EndpointSlice>> for IngressActor {
    type Result = ();

    fn handle(&mut self, Told(told): Told<EndpointSlice>, _: &mut Context<Self>) {
        match told {
            Followed::Listed(all) => {
                self.table(|table| table.replace_slices(all));
                self.listed.slices = true;
                self.complete();
            }
            Followed::Changed(slice) => self.table(|table| table.set_slice(*slice, false)),
            Followed::Gone(slice) => self.table(|table| table.set_slice(*slice, true)),
        }
    }
}

impl Handler<Told<Node>> for IngressActor {
    type Result = ();

    fn handle(&mut self, Told(told): Told<Node>, _: &mut Context<Self>) {
        let ours = |node: &Node| node.metadata.name.as_ref() == Some(&self.node);
        let node = match told {
            Followed::Listed(nodes) => {
                let node = nodes.into_iter().find(ours);
                self.listed.node = true;
                node
            }
            Followed::Changed(node) if ours(&node) => Some(*node),
            // A Node that is deleted while its kubelet runs comes back, with the same zone.
            Followed::Changed(_) | Followed::Gone(_) => return,
        };
        let zone = node.and_then(|node| node.metadata.labels?.remove(ZONE));
        self.table(|table| table.set_zone(zone));
        self.complete();
    }
}

impl Handler<SecretTold> for IngressActor {
    type Result = ();

    fn handle(&mut self, SecretTold { secret, told }: SecretTold, _: &mut Context<Self>) {
        let missing = || SecretFault::Missing(secret.clone());
        let found: Option<Secret> = match told {
            Followed::Listed(all) => all.into_iter().next(),
            Followed::Changed(object) => Some(*object),
            Followed::Gone(_) => None,
        };
        let read = found.ok_or_else(missing).and_then(|found| certificates::read(&secret, &found));
        let users = self.table(|table| {
            table.certificates.set(&secret, read);
            table.certificates.users(&secret)
        });
        users.iter().for_each(|ingress| self.tell_faults(ingress));
    }
}
