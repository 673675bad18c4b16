//! Names of what a Java virtual machine runs.

use super::found::Found;
use super::language::{in_directory, option, positional};
use super::text::{base, is_generic, of_directory, of_jar, of_module, of_script};
use crate::process::ProcessFacts;

/// Properties and arguments by which a service says its name, the most specific first.
const DECLARED: [&str; 6] = [
    "-Dotel.service.name",
    "--spring.application.name",
    "-Dspring.application.name",
    "-Ddd.service",
    "-Delastic.apm.service_name",
    "-Dapp.name",
];

/// Options whose value is the next argument.
const WITH_VALUE: &[&str] = &[
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--add-modules",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--limit-modules",
    "--upgrade-module-path",
    "--patch-module",
    "--source",
    "-jar",
    "-m",
    "--module",
];

/// Main classes that are known by themselves.
const KNOWN: &[(&str, &str)] = &[
    ("kafka.Kafka", "kafka"),
    ("org.apache.zookeeper.server.quorum.QuorumPeerMain", "zookeeper"),
    ("org.apache.cassandra.service.CassandraDaemon", "cassandra"),
    ("org.elasticsearch.bootstrap.Elasticsearch", "elasticsearch"),
    ("org.elasticsearch.server.cli.ServerCli", "elasticsearch"),
    ("org.opensearch.bootstrap.OpenSearch", "opensearch"),
    ("org.gradle.launcher.daemon.bootstrap.GradleDaemon", "gradle"),
    ("org.codehaus.plexus.classworlds.launcher.Launcher", "maven"),
    ("org.jboss.modules.Main", "wildfly"),
];

/// Servers that run what lies in a directory: main class or jar, property with the directory, name.
const SERVERS: &[(&str, &str, &str)] = &[
    ("org.apache.catalina.startup.Bootstrap", "-Dcatalina.base", "tomcat"),
    ("org.eclipse.jetty.start.Main", "-Djetty.base", "jetty"),
    ("start", "-Djetty.base", "jetty"),
    ("jboss-modules", "-Djboss.server.base.dir", "wildfly"),
];

/// Main classes and jars that only start what lies in the directory they are started in.
const STARTERS: &[&str] = &[
    "JarLauncher",
    "WarLauncher",
    "PropertiesLauncher",
    "ProdServerStart",
    "quarkus-run",
    "bootstrap",
    "runner",
];

/// `java … -jar shop-1.2.jar`, `java … -m module/class`, `java … com.acme.shop.Main`.
///
/// A class is named by its last part that says something: `com.acme.shop.Main` is `shop`,
/// `com.acme.ShopServer` is `ShopServer`.
pub(super) fn java(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    if let Some(found) =
        DECLARED.iter().find_map(|name| option(args, &[name]).and_then(Found::declared))
    {
        return Some(found);
    }
    // `@file` holds arguments.
    let mut rest = args;
    let main = loop {
        let Some((word, behind)) = positional(rest, WITH_VALUE) else { break None };
        if !word.starts_with('@') {
            break Some((word, behind));
        }
        rest = behind;
    };
    let behind = main.map_or(0, |(_, behind)| behind.len() + 1);
    let options = args.get(..args.len() - behind).unwrap_or_default();
    if let Some(jar) = option(options, &["-jar"]) {
        return Some(of_archive(jar, options, facts));
    }
    if let Some(module) = option(options, &["-m", "--module"]) {
        let (module, class) = module.split_once('/').unwrap_or((module, ""));
        let known = KNOWN.iter().find(|(known, _)| *known == class);
        return Some(known.map_or_else(|| of_class(module, facts), |(_, name)| Found::runs(name)));
    }
    let (class, _) = main?;
    if class.ends_with(".java") {
        return Some(of_script(class, facts));
    }
    if let Some(found) = of_server(class, options) {
        return Some(found);
    }
    let known = KNOWN.iter().find(|(known, _)| *known == class);
    Some(known.map_or_else(|| of_class(class, facts), |(_, name)| Found::runs(name)))
}

fn of_archive(path: &str, options: &[String], facts: &ProcessFacts) -> Found {
    let name = of_jar(path);
    if let Some(found) = of_server(name, options) {
        return found;
    }
    if !STARTERS.contains(&name) && !is_generic(name) {
        return Found::runs(name);
    }
    // `/srv/shop/quarkus-app/quarkus-run.jar`, `/srv/shop/app.jar`.
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    match of_directory(directory) {
        Some(directory) => Found::runs(directory),
        None if path.starts_with('/') => Found::vague(name),
        None => in_directory(name, facts),
    }
}

fn of_class(class: &str, facts: &ProcessFacts) -> Found {
    let last = base(class).rsplit('.').next().unwrap_or(class);
    if STARTERS.contains(&last) {
        return in_directory("java", facts);
    }
    let name = of_module(class);
    if is_generic(name) { in_directory(name, facts) } else { Found::runs(name) }
}

/// `-Dcatalina.base=/srv/shop` is `shop`; one that is called after the server is no service's.
fn of_server(name: &str, options: &[String]) -> Option<Found> {
    let (_, property, server) = SERVERS.iter().find(|(known, ..)| *known == name)?;
    let directory = option(options, &[property]).and_then(of_directory);
    let own = directory.filter(|name| !name.to_ascii_lowercase().contains(server));
    Some(Found::runs(own.filter(|name| *name != "standalone").unwrap_or(server)))
}
