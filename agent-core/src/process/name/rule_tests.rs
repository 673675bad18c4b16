//! Tests of [`super`].

use super::*;
use proptest::prelude::*;

fn facts() -> ProcessFacts {
    ProcessFacts {
        executable: "/usr/lib/jvm/java-17/bin/java".into(),
        args: ["java", "-jar", "/srv/shop, new.jar", "--port=80"].map(Into::into).to_vec(),
        working_directory: "/srv/shop".into(),
        user_name: "shop".into(),
        cgroup: format!("0::/system.slice/shop@1.service/docker-{}.scope\n", "ab".repeat(32)),
        ..ProcessFacts::default()
    }
}

#[test]
fn a_rule_fits_when_all_of_its_conditions_do() {
    let mut in_unit = facts();
    in_unit.cgroup = "0::/system.slice/shop@1.service".into();
    for (conditions, expected) in [
        ("exe=java", true),
        ("exe=jav", false),
        ("exe=/usr/bin/*", false),
        ("exe=/usr/lib/jvm/*/bin/java", true),
        ("exe=/usr/**/java", true),
        ("exe=/usr/*/java", false),
        ("args=*shop*", true),
        ("args=*shop\\, new.jar*", true),
        ("args=shop", false),
        ("args=*--port=80", true),
        ("dir=/srv/*", true),
        ("dir=/srv", false),
        ("user=shop", true),
        ("user=sho?", true),
        ("user=root", false),
        ("container=abababab", true),
        ("container=abababac", false),
        ("container=*ab", true),
        ("exe=java,user=shop", true),
        ("exe=java,user=root", false),
        (" exe = java , ", true),
    ] {
        let rule = NameRule::parse(&format!("{conditions},name=n")).expect(conditions);
        let rules = NameRules::new(vec![rule]);
        assert_eq!(rules.naming(&facts()).is_some(), expected, "{conditions}");
    }
    for (condition, expected) in
        [("shop@1.service", true), ("shop@*", true), ("shop@1", true), ("shop", false)]
    {
        let rule = NameRule::parse(&format!("unit={condition},name=n")).expect(condition);
        assert_eq!(rule.fits(&in_unit, ""), expected, "{condition}");
        assert!(!rule.fits(&facts(), ""), "{condition}: of what is around a container");
    }
}

#[test]
fn the_first_rule_that_fits_names() {
    let rules = ["user=root,name=a", "exe=java,name=b,namespace=s", "exe=java,name=c"]
        .map(|text| NameRule::parse(text).expect(text));
    let rules = NameRules::new(rules.to_vec());
    let naming = Naming { name: "b".into(), namespace: Some("s".into()) };
    assert_eq!(rules.naming(&facts()), Some(&naming));
    assert_eq!(rules.naming(&ProcessFacts::default()), None);
    assert_eq!(NameRules::default().naming(&facts()), None);
}

#[test]
fn every_mistake_of_a_rule_is_named() {
    for (text, expected) in [
        ("", vec!["it gives no name", "it has no condition, and would name every process"]),
        ("name=n", vec!["it has no condition, and would name every process"]),
        ("exe=java", vec!["it gives no name"]),
        ("exe=java,name=", vec!["name is empty"]),
        ("exe=java,name=a,name=b", vec!["name is given twice"]),
        (
            "exe=java,name=a\u{1b}[2Jb,namespace=\u{9b}x\ny",
            vec![
                "name holds the control character '\\u{1b}'",
                "namespace holds the control character '\\u{9b}'",
            ],
        ),
        ("java,name=a,exe=x", vec!["\"java\" has no ="]),
        (
            "exee=java,exe=[,nam=a",
            vec![
                "unknown key \"exee\"",
                "exe=[ is no valid glob (unclosed character class; missing ']')",
                "unknown key \"nam\"",
                "it gives no name",
            ],
        ),
    ] {
        let mistakes = NameRule::parse(text).expect_err(text);
        let told: Vec<_> = mistakes.iter().map(|mistake| mistake.what.as_str()).collect();
        assert_eq!(told, expected, "{text}");
        assert!(mistakes.iter().all(|mistake| !mistake.hint.is_empty()));
    }
    let long = format!("exe=java,name={}", "n".repeat(MAX_NAME + 1));
    assert!(NameRule::parse(&long).is_err());
    assert!(NameRule::parse(&format!("exe={},name=n", "x".repeat(MAX_RULE))).is_err());
}

proptest! {
    #[test]
    fn no_rule_panics(text in "(exe|args|unit|container|name|namespace|=|,|\\\\|\\*|\\[|\\]|\\{|\\}|é|/| |.){0,12}") {
        if let Ok(rule) = NameRule::parse(&text) {
            let _ = NameRules::new(vec![rule]).naming(&facts());
        }
    }
}
