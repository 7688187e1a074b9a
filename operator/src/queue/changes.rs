//! What the events of a watch change in what is kept of its objects.

use std::collections::HashMap;

use kube::Resource;
use kube::runtime::watcher::Event;

use super::entry::Name;

/// What is kept of one object, or of all that the watch looks at.
pub(super) enum Change<V> {
    /// Nothing of an object that counts for nothing, or is gone.
    One(Name, Option<V>),
    /// A new list: what it does not have is gone.
    All(HashMap<Name, V>),
}

/// Reads the events of one watch. A list counts once it is complete, as it does for the
/// watch's store: until then what was known before holds.
pub(super) struct Changes<V> {
    listed: HashMap<Name, V>,
}

impl<V> Default for Changes<V> {
    fn default() -> Self {
        Self { listed: HashMap::new() }
    }
}

impl<V> Changes<V> {
    pub(super) fn take<K>(
        &mut self,
        event: &Event<K>,
        kept: impl Fn(&K) -> Option<V>,
    ) -> Option<Change<V>>
    where
        K: Resource<DynamicType = ()>,
    {
        match event {
            Event::Apply(object) => Some(Change::One(name(object), kept(object))),
            Event::Delete(object) => Some(Change::One(name(object), None)),
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitApply(object) => {
                let name = name(object);
                match kept(object) {
                    Some(value) => self.listed.insert(name, value),
                    None => self.listed.remove(&name),
                };
                None
            }
            Event::InitDone => Some(Change::All(std::mem::take(&mut self.listed))),
        }
    }
}

pub(super) fn name<K: Resource<DynamicType = ()>>(object: &K) -> Name {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    (part(&object.meta().namespace), part(&object.meta().name))
}
