//! What tells services apart: name and namespace together (semantic conventions, registry, `service.namespace`:
//! names are unique within one).

use super::{Resource, ResourceValue};
use crate::span::{Attribute, Value};
use hashbrown::Equivalent;

/// A service, borrowed from its resource. The namespace is empty where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName<'a> {
    /// `service.name`.
    pub name: &'a str,
    /// `service.namespace`.
    pub namespace: &'a str,
}

/// The same, kept. Hashed and ordered like [`ServiceName`], field by field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptServiceName {
    name: Box<str>,
    namespace: Box<str>,
}

impl Resource {
    /// Which service it is of.
    pub fn service_name(&self) -> ServiceName<'_> {
        // Asked of each request. Lengths lie side by side, texts do not: this looks at one or two of those.
        let namespace = match self.attributes.iter().rfind(|(key, _)| key == "service.namespace") {
            Some((_, ResourceValue::Str(text))) => text,
            _ => "",
        };
        ServiceName { name: &self.service, namespace }
    }
}

impl<'a> ServiceName<'a> {
    /// Under these keys; without a namespace where there is none, which to Prometheus is the same as an empty one.
    pub fn attributes(
        self,
        [name, namespace]: [&'static str; 2],
    ) -> impl Iterator<Item = Attribute<'a>> {
        let own = Some(self.namespace).filter(|text| !text.is_empty());
        let own = own.map(|text| (namespace, Value::Str(text)));
        [(name, Value::Str(self.name))].into_iter().chain(own)
    }
}

impl KeptServiceName {
    /// To look at.
    pub fn borrowed(&self) -> ServiceName<'_> {
        ServiceName { name: &self.name, namespace: &self.namespace }
    }
}

impl<'a> From<&'a str> for ServiceName<'a> {
    fn from(name: &'a str) -> ServiceName<'a> {
        ServiceName { name, namespace: "" }
    }
}

impl From<ServiceName<'_>> for KeptServiceName {
    fn from(service: ServiceName<'_>) -> KeptServiceName {
        KeptServiceName { name: service.name.into(), namespace: service.namespace.into() }
    }
}

impl Equivalent<KeptServiceName> for ServiceName<'_> {
    fn equivalent(&self, kept: &KeptServiceName) -> bool {
        *self == kept.borrowed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn a_service_is_its_name_and_namespace() {
        let text = |text: &str| ResourceValue::Str(text.to_owned());
        let mut resource = Resource {
            id: 1,
            service: "api".to_owned(),
            attributes: vec![
                ("host.name".to_owned(), text("h")),
                ("service.name".to_owned(), text("api")),
                ("service.namespace".to_owned(), text("bank")),
                ("zone".to_owned(), text("z")),
            ],
            part_of: None,
        };
        let bank = KeptServiceName::from(resource.service_name());
        assert_eq!(bank.borrowed(), ServiceName { name: "api", namespace: "bank" });
        let hasher = foldhash::fast::FixedState::default();
        assert_eq!(hasher.hash_one(&bank), hasher.hash_one(bank.borrowed()));
        let labels = |of: ServiceName<'_>| of.attributes(["a", "b"]).count();
        assert_eq!(labels(bank.borrowed()), 2);
        resource.attributes.remove(2);
        assert_eq!(resource.service_name(), ServiceName::from("api"));
        assert_eq!(labels(resource.service_name()), 1);
    }
}
