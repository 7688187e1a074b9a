//! The objects of a watch by something that they name: a schedule's backups are found without
//! looking through those of all others.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;

/// What an object names, in its own namespace.
type Named<K> = fn(&K) -> Option<&str>;

/// Names of objects by namespace and what they name there.
type Names = HashMap<(String, String), BTreeSet<Box<str>>>;

/// The objects of a store by what they name. Copies see the same.
#[derive(Clone)]
pub struct Index<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store: Store<K>,
    named: Named<K>,
    names: Arc<RwLock<Names>>,
}

impl<K> Index<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// An index of a store that nothing was written to yet.
    #[must_use]
    pub fn new(store: Store<K>, named: Named<K>) -> Self {
        Self { store, named, names: Arc::default() }
    }

    /// Follows the store: called before it takes an event, and `settle` afterwards.
    pub(crate) fn take(&self, event: &Event<K>) {
        let (Event::Apply(object) | Event::Delete(object)) = event else { return };
        let before = self.store.get(&ObjectRef::from_obj(object));
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before {
            remove(&mut names, &*before, self.named);
        }
        if matches!(event, Event::Apply(_)) {
            insert(&mut names, object, self.named);
        }
    }

    /// Looks through the store anew, as after a list that may have left out what is gone.
    pub(crate) fn settle(&self) {
        let mut names = Names::new();
        for object in self.store.state() {
            insert(&mut names, &*object, self.named);
        }
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// The objects of a namespace that name this, by their own names.
    #[must_use]
    pub fn get(&self, namespace: &str, named: &str) -> Vec<Arc<K>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let found = names.get(&(namespace.to_owned(), named.to_owned()));
        let refs = found.into_iter().flatten().map(|name| ObjectRef::new(name).within(namespace));
        refs.filter_map(|reference| self.store.get(&reference)).collect()
    }
}

/// Where an object stands, and its own name there.
fn place<K>(object: &K, named: Named<K>) -> Option<((String, String), Box<str>)>
where
    K: Resource<DynamicType = ()>,
{
    let meta = object.meta();
    let place = (meta.namespace.clone()?, named(object)?.to_owned());
    Some((place, meta.name.as_deref()?.into()))
}

fn insert<K: Resource<DynamicType = ()>>(names: &mut Names, object: &K, named: Named<K>) {
    if let Some((place, name)) = place(object, named) {
        names.entry(place).or_default().insert(name);
    }
}

fn remove<K: Resource<DynamicType = ()>>(names: &mut Names, object: &K, named: Named<K>) {
    let Some((place, name)) = place(object, named) else { return };
    if let Some(known) = names.get_mut(&place) {
        known.remove(&name);
        if known.is_empty() {
            names.remove(&place);
        }
    }
}
