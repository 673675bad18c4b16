//! A name, and how much it says.

/// How much a name says. Where the better of two is taken, the later one here is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// Called like any other (`server.js` in `/app`, `python3`): true, and of little use.
    Vague,
    /// What runs says so by its name or its place.
    Runs,
    /// Somebody has written it down as the service's name.
    Declared,
}

/// A name with its evidence; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub name: String,
    /// `service.namespace`, where the same evidence has one.
    pub namespace: Option<String>,
    pub evidence: Evidence,
}

impl Found {
    /// `None` for an empty text: what is declared as nothing is not declared.
    pub fn declared(name: &str) -> Option<Found> {
        let name = name.trim();
        (!name.is_empty()).then(|| Found::with(name, Evidence::Declared))
    }

    pub fn runs(name: &str) -> Found {
        Found::with(name, Evidence::Runs)
    }

    pub fn vague(name: &str) -> Found {
        Found::with(name, Evidence::Vague)
    }

    fn with(name: &str, evidence: Evidence) -> Found {
        Found { name: name.to_owned(), namespace: None, evidence }
    }
}
