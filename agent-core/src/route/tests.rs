use super::*;
use proptest::prelude::*;

fn learning() -> Routes {
    Routes::new(RouteConfig { learn: true, ..RouteConfig::default() })
}

fn rule(service: Option<&str>, template: &str) -> Rule {
    let template = Template::parse(template).expect("a template");
    Rule { service: service.map(str::to_owned), template }
}

/// The text alone.
fn named<'r>(routes: &'r mut Routes, service: &str, path: &str, teaches: bool) -> Option<&'r str> {
    routes.route(service, path, teaches).map(|route| route.text)
}

fn count(routes: &Routes, unit: &str, side: Side) -> u64 {
    let ledger = routes.ledger();
    let entry = ledger.iter().find(|entry| entry.unit == unit && entry.side == side);
    entry.map(|entry| entry.count).expect("an entry")
}

#[test]
fn paths_become_templates() {
    let mut routes = learning();
    for (path, expected) in [
        ("/", "/"),
        ("/users", "/users"),
        ("/users/", "/users"),
        ("/users/42", "/users/{id}"),
        ("/users/43/orders/9f86d081884c7d65", "/users/{id}/orders/{hash}"),
        ("/users/7c9e6679-7425-40de-944b-e07fc1f90ae7", "/users/{uuid}"),
        ("/days/2026-11-30", "/days/{date}"),
        ("/api/v1/things?x=/y", "/api/v1/things"),
        ("/a/b/c/d/e/f/g/h/i/j/k/l/m/n", "/a/b/c/d/e/f/g/h/i/j/k/l/{path}"),
        ("//users//44", "/users/{id}"),
    ] {
        assert_eq!(named(&mut routes, "shop", path, true), Some(expected), "{path}");
    }
    for no_path in ["*", "", "example.org:443"] {
        assert_eq!(named(&mut routes, "shop", no_path, true), None, "{no_path}");
    }
}

#[test]
fn too_many_words_in_one_place_are_slugs() {
    let mut routes = learning();
    for at in 0..MAX_LITERALS {
        let word = format!("/shop/{}", word(at));
        assert_eq!(named(&mut routes, "shop", &word, true), Some(word.as_str()));
    }
    assert_eq!(named(&mut routes, "shop", "/shop/one-more", true), Some("/shop/{slug}"));
    assert_eq!(
        named(&mut routes, "shop", &format!("/shop/{}", word(0)), true),
        Some("/shop/{slug}")
    );
    assert_eq!(named(&mut routes, "shop", "/shop/any/edit", true), Some("/shop/{slug}/edit"));
    assert_eq!(count(&routes, "places", Side::Held), 3, "what was below is given back");
}

#[test]
fn words_that_are_proven_outlive_those_that_anybody_tries() {
    // A single-page application answers everything with 200.
    let mut routes = learning();
    let known = ["/users/42", "/users/43/orders", "/api/orders", "/api/orders/7", "/login"];
    let names = |routes: &mut Routes| {
        known.map(|path| named(routes, "shop", path, true).expect("a name").to_owned())
    };
    let before = names(&mut routes);
    for _ in 0..30 {
        assert_eq!(names(&mut routes), before);
    }
    for at in 0..60 {
        named(&mut routes, "shop", &format!("/{}", word(at)), true);
        named(&mut routes, "shop", &format!("/api/{}", word(at)), true);
    }
    assert_eq!(names(&mut routes), before, "they are what they were");
    assert_eq!(named(&mut routes, "shop", "/any", true), Some("/{slug}"));
    assert_eq!(named(&mut routes, "shop", "/api/any", true), Some("/api/{slug}"));
    // Nor does it help to ask for each as often: what is there first stays, and the place has an end.
    for at in 0..2000 {
        named(&mut routes, "shop", &format!("/{}", word(at / 40)), true);
    }
    assert_eq!(names(&mut routes), before);
    assert!(count(&routes, "places", Side::Held) <= 2 * MAX_LITERALS as u64 + 10);
}

#[test]
fn what_asks_for_the_same_words_many_times_takes_a_bounded_number_of_them() {
    let mut routes = learning();
    let mut names = std::collections::BTreeSet::new();
    for at in 0..30_000 {
        let path = format!("/{}/{}", word(at / 30 % 1000), word(at));
        names.insert(named(&mut routes, "shop", &path, true).expect("a name").to_owned());
    }
    assert!(names.len() <= routes.config.limits.routes + 60, "{}", names.len());
}

#[test]
fn only_answers_that_show_something_teach() {
    for status in [200, 201, 204, 206, 304, 101] {
        assert!(proves(status), "{status}");
    }
    for status in [100, 103, 301, 302, 303, 307, 308, 400, 401, 404, 500, 502, 503, 0, 999] {
        assert!(!proves(status), "{status}");
    }
}

/// A word without digits.
fn word(at: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    format!("word-{}{}{}", letter(at), letter(at / 26), letter(at / 676))
}

#[test]
fn what_an_operator_says_comes_first() {
    let rules = vec![
        rule(Some("shop"), "/shop/{product}"),
        rule(Some("shop"), "/shop/{never}"),
        rule(None, "/static/{file...}"),
    ];
    let mut routes = Routes::new(RouteConfig { rules, ..RouteConfig::default() });
    assert_eq!(named(&mut routes, "shop", "/shop/7", true), Some("/shop/{product}"));
    assert_eq!(named(&mut routes, "other", "/shop/7", true), None, "a rule of another service");
    assert_eq!(named(&mut routes, "other", "/static/a/b", false), Some("/static/{file...}"));
    assert_eq!(named(&mut routes, "shop", "/users/7", true), None, "nothing is made up");
    routes.config.learn = true;
    assert_eq!(named(&mut routes, "shop", "/users/7", true), Some("/users/{id}"));
    assert_eq!(named(&mut routes, "shop", "/shop/7", true), Some("/shop/{product}"));
}

#[test]
fn services_of_one_name_in_two_namespaces_learn_by_themselves() {
    let mut routes = learning();
    let of = |namespace| ServiceName { name: "api", namespace };
    for at in 0..60 {
        routes.route(of("bank"), &format!("/{}", word(at)), true);
    }
    let text = |route: Option<Route<'_>>| route.map(|route| route.text.to_owned());
    assert_eq!(text(routes.route(of("bank"), "/any", true)).as_deref(), Some("/{slug}"));
    assert_eq!(text(routes.route(of("shop"), "/any", true)).as_deref(), Some("/any"));
    assert_eq!(count(&routes, "services", Side::Held), 2);
}

#[test]
fn what_was_refused_teaches_nothing() {
    let mut routes = learning();
    assert_eq!(named(&mut routes, "shop", "/wp-login.php", false), None);
    assert_eq!(named(&mut routes, "shop", "/users/1", true), Some("/users/{id}"));
    assert_eq!(named(&mut routes, "shop", "/users/2", false), Some("/users/{id}"));
    assert_eq!(
        named(&mut routes, "shop", "/users", false),
        None,
        "on the way, but nobody was there"
    );
}

#[test]
fn ten_thousand_services_and_random_paths_stay_under_the_bounds() {
    let mut routes = learning();
    let limits = routes.config.limits;
    for at in 0..50_000_usize {
        let service = format!("service-{}", at % 10_000);
        let path = format!("/{}/{at}/{}/{}", word(at * 7919), word(at * 31), word(at * 17));
        assert!(named(&mut routes, &service, &path, true).is_some());
    }
    assert!(count(&routes, "services", Side::Held) <= limits.services as u64);
    assert!(count(&routes, "places", Side::Held) <= limits.nodes as u64);
    let held: usize = routes.services.values().map(|service| service.tree.len()).sum();
    assert_eq!(count(&routes, "places", Side::Held) as usize, held);
}

#[test]
fn one_service_has_a_bounded_number_of_names() {
    let mut routes = learning();
    let mut names = std::collections::BTreeSet::new();
    for at in 0..100_000_usize {
        let path = format!("/{}/{}/{}", word(at % 40), word(at / 40 % 40), word(at / 1600 % 40));
        names.insert(named(&mut routes, "shop", &path, true).expect("a name").to_owned());
    }
    assert_eq!(names.len(), routes.config.limits.routes + 1, "and the one for the rest");
    assert!(names.contains(OVERFLOW));
    let ledger = routes.ledger();
    let of = |side| ledger.iter().find(|entry| entry.side == side).expect("an entry").count;
    assert_eq!(of(Side::In), of(Side::Out) + of(Side::Lost("overflowed")));
}

proptest! {
    /// Whatever comes after it: the name of a path whose words are proven stays what it is.
    #[test]
    fn a_proven_name_is_not_taken_away(
        path in "(/[a-z]{1,9}){1,4}",
        others in proptest::collection::vec("(/[a-z0-9]{1,9}){1,5}", 0..300),
    ) {
        let mut routes = learning();
        for _ in 0..20 {
            named(&mut routes, "s", &path, true);
        }
        let before = named(&mut routes, "s", &path, true).map(str::to_owned);
        for other in &others {
            named(&mut routes, "s", other, true);
        }
        prop_assert_eq!(named(&mut routes, "s", &path, false).map(str::to_owned), before);
    }

    #[test]
    fn a_learnt_route_is_its_own_and_is_found_again(
        paths in proptest::collection::vec("(/[a-z0-9%é{.-]{0,9}){0,15}", 1..40),
    ) {
        let mut routes = learning();
        for path in &paths {
            let first = named(&mut routes, "s", path, true).map(str::to_owned);
            prop_assert_eq!(first.is_some(), path.starts_with('/'));
            let again = named(&mut routes, "s", path, false).map(str::to_owned);
            prop_assert_eq!(first, again, "{}", path);
        }
    }
}
