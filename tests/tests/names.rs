//! Who really started programs are: the resource of each, from its own metrics, against a table.

use kernspan_tests::agent::Agent;
use kernspan_tests::otlp::Attributes;
use kernspan_tests::process::{output, until};
use kernspan_tests::scenario::{Scenario, find_program, say, skip, tool};
use kernspan_tests::start::{Start, Started, start};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Rows that have to be there whatever is not installed.
const LEAST: usize = 25;

/// How long programs may take to be who they are: the agent looks again half a second and five seconds
/// after a start, and a virtual machine or celery comes up slowly beside thirty others.
const LIMIT: Duration = Duration::from_secs(40);

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

const WAIT: &str = "import time\ntime.sleep(600)\n";
const WSGI: &str = "def application(environ, start):\n    start('200 OK', [])\n    return [b'']\n";
const ASGI: &str = "async def app(scope, receive, send):\n    pass\n";
const LISTEN: &str = "require('http').createServer().listen(0);\n";
const LATE: &str =
    "process.on('SIGUSR2', () => process.title = 'mailer');\nconsole.log('ready');\n";
const MAIN: &str = "public class Main { public static void main(String[] a) throws Exception \
                    { Thread.sleep(600000); } }";

/// It ends at once where it has an argument.
const GO: &str = "package main\n\nimport (\n\t\"os\"\n\t\"time\"\n)\n\n\
                  func main() {\n\tif len(os.Args) == 1 {\n\t\ttime.Sleep(10 * time.Minute)\n\t}\n}\n";
/// What `artisan serve` of Laravel has PHP run.
const SERVE: &str = "vendor/laravel/framework/src/Illuminate/Foundation/resources/server.php";

/// Files that the programs run, by path below the scenario's directory.
fn files() -> Vec<(&'static str, String)> {
    let supervisor = "[supervisord]\nnodaemon=true\nuser=root\npidfile=supervisord.pid\n\
        logfile=/dev/null\nlogfile_maxbytes=0\n";
    let program = |name: &str| {
        format!("[program:{name}]\ncommand=/usr/bin/python3 main.py\nautorestart=false\n")
    };
    let wsgi = |path| (path, WSGI.to_owned());
    let wait = |path| (path, WAIT.to_owned());
    vec![
        wait("orders/orders.py"),
        wait("cart/app.py"),
        wait("mod/shopd/__main__.py"),
        wait("mod/shopd/__init__.py"),
        wait("tasks/billing.py"),
        wait("tasks/invoice.py"),
        wait("tasks/stock.py"),
        wait("app/src/web/main.py"),
        wait("tools/bin/shop-admin"),
        wsgi("wsgi/shop/wsgi.py"),
        ("wsgi/shop/__init__.py", String::new()),
        wsgi("booking/main.py"),
        ("plain/setproctitle.py", "raise ImportError('hidden from gunicorn')\n".to_owned()),
        wsgi("stock/stockroom.py"),
        ("asgi/main.py", ASGI.to_owned()),
        ("delivery/main.py", ASGI.to_owned()),
        ("asgi/payments/__init__.py", String::new()),
        ("asgi/payments/main.py", ASGI.to_owned()),
        (
            "celery/billing/__init__.py",
            "from celery import Celery\n\
            app = Celery('billing', broker='memory://', backend=None)\n"
                .to_owned(),
        ),
        ("report/report.sh", "#!/bin/sh\nwhile :; do /bin/sleep 1; done\n".to_owned()),
        ("mail/server.js", format!("process.title = 'mailer';\n{LISTEN}")),
        ("late/server.js", format!("{LATE}{LISTEN}")),
        ("basket/index.js", LISTEN.to_owned()),
        ("app/src/dist/server.js", LISTEN.to_owned()),
        (
            "app/src/dist/package.json",
            r#"{"name":"@acme/shop-front","scripts":{"start":"node server.js"}}"#.to_owned(),
        ),
        ("java/Main.java", MAIN.to_owned()),
        ("java/com/acme/Main.java", format!("package com.acme;\n{MAIN}")),
        (
            "storefront/conf/server.xml",
            "<Server port=\"-1\"><Service name=\"Catalina\">\
            <Engine name=\"Catalina\" defaultHost=\"localhost\"/></Service></Server>"
                .to_owned(),
        ),
        ("forum/bin/rails", "sleep 600\n".to_owned()),
        ("wiki/config.ru", "run ->(env) { [200, {}, []] }\n".to_owned()),
        ("ledger/report.pl", "sleep 600;\n".to_owned()),
        ("crm/index.php", "<?php\n".to_owned()),
        (
            "blog/vendor/laravel/framework/src/Illuminate/Foundation/resources/server.php",
            String::new(),
        ),
        ("tally/main.go", GO.to_owned()),
        ("abacus/main.go", GO.to_owned()),
        ("supervised/main.py", WAIT.to_owned()),
        ("supervised/supervisord.conf", format!("{supervisor}{}", program("shipping"))),
        ("grouped/main.py", WAIT.to_owned()),
        (
            "grouped/supervisord.conf",
            format!("{supervisor}{}[group:acme]\nprograms=returns\n", program("returns")),
        ),
        (
            "fpm/fpm.conf",
            "[global]\nerror_log=/dev/null\ndaemonize=no\n[shop]\nuser=www-data\n\
            listen=/dev/shm/kernspan-names-1.sock\npm=static\npm.max_children=1\n"
                .to_owned(),
        ),
        (
            "www/fpm.conf",
            "[global]\nerror_log=/dev/null\ndaemonize=no\n[www]\nuser=www-data\n\
            listen=/dev/shm/kernspan-names-2.sock\npm=static\npm.max_children=1\n"
                .to_owned(),
        ),
        (
            "nginx/nginx.conf",
            "daemon off; user www-data; worker_processes 1; pid nginx.pid;\n\
            error_log /dev/null; events {}\n"
                .to_owned(),
        ),
        (
            "apache/apache.conf",
            "ServerRoot /usr/lib/apache2\nPidFile ${APACHE_PID}\nListen 127.0.0.1:${APACHE_PORT}\n\
            ServerName localhost\nErrorLog /dev/null\nUser www-data\nStartServers 1\n\
            LoadModule mpm_prefork_module modules/mod_mpm_prefork.so\n\
            LoadModule authz_core_module modules/mod_authz_core.so\n"
                .to_owned(),
        ),
        (
            "lighttpd/lighttpd.conf",
            "server.document-root=\"/usr/share\"\nserver.port=env.PORT\n".to_owned(),
        ),
        (
            "haproxy/haproxy.cfg",
            "defaults\n mode http\n timeout client 5s\n timeout connect 5s\n\
            timeout server 5s\nlisten l\n bind 127.0.0.1:${PORT}\n"
                .to_owned(),
        ),
    ]
}

/// The table: how it is started, and who it has to be.
fn table() -> Vec<Start> {
    const JDK: &str = "OpenJDK Runtime Environment";
    let java = |row: Start| row.by("java", JDK, "17");
    let node = |row: Start| row.by("nodejs", "nodejs", "");
    let python = |directory: &str, command: &str, name: &str| {
        start(directory, command).is(name, "python3.11").python()
    };
    let php = |row: Start| row.last().by("php", "fpm-fcgi", "8.2").has("process.owner", "www-data");
    let native = |row: Start| row.has("telemetry.sdk.language", "").has("process.runtime.name", "");
    let tomcat = "/usr/bin/java -Xshare:auto -XX:TieredStopAtLevel=1 -Dcatalina.home=/usr/share/tomcat10 \
        -Dcatalina.base={dir} -cp /usr/share/tomcat10/bin/bootstrap.jar:/usr/share/java/tomcat10-juli.jar \
        org.apache.catalina.startup.Bootstrap start";
    let loader = "ld-linux-x86-64.so.2";
    let mut rows = vec![
        // Servers that are programs of their own.
        native(start("nginx", "/usr/sbin/nginx -p {dir} -c {dir}/nginx.conf").last())
            .is("nginx", "nginx")
            .has("process.owner", "www-data"),
        native(
            start("apache", "/usr/sbin/apache2 -f {dir}/apache.conf -D FOREGROUND -k start").last(),
        )
        .with("APACHE_PID", "{dir}/apache.pid")
        .with("APACHE_PORT", "{port}")
        .is("apache2", "apache2"),
        native(start("lighttpd", "/usr/sbin/lighttpd -D -f {dir}/lighttpd.conf"))
            .with("PORT", "{port}")
            .is("lighttpd", "lighttpd"),
        native(start("haproxy", "/usr/sbin/haproxy -W -f {dir}/haproxy.cfg").last())
            .with("PORT", "{port}")
            .is("haproxy", "haproxy"),
        start("caddy", "/usr/bin/caddy file-server --listen 127.0.0.1:{port}")
            .with("HOME", "{dir}")
            .is("caddy", "caddy")
            .by("go", "go", "go1.19.8"),
        native(start("redis", "/usr/bin/redis-server --port {port} --save"))
            .has("service.name", "redis-server"),
        // Python.
        python("orders", "/usr/bin/python3 orders.py", "orders"),
        python("cart", "/usr/bin/python3 -u app.py", "cart"),
        python("mod", "/usr/bin/python3 -m shopd", "shopd"),
        python("mod", "/usr/bin/python3 -m http.server {port}", "http.server"),
        python("tools", "/usr/bin/python3 {dir}/bin/shop-admin", "shop-admin"),
        python("wsgi", "/usr/bin/gunicorn -b 127.0.0.1:{port} shop.wsgi", "shop").last(),
        python("wsgi", "/usr/bin/gunicorn -n front -b 127.0.0.1:{port} shop.wsgi", "front").last(),
        python("booking", "/usr/bin/gunicorn -b 127.0.0.1:{port} main:application", "booking")
            .last(),
        python("wsgi", "/usr/bin/gunicorn -w 2 -b 127.0.0.1:{port} shop.wsgi:application", "shop")
            .last()
            .with("PYTHONPATH", "{dir}/../plain"),
        python("stock", "/usr/bin/gunicorn -w 1 -b 127.0.0.1:{port} stockroom", "stockroom")
            .last()
            .with("PYTHONPATH", "{dir}/../plain"),
        python("asgi", "/usr/bin/uvicorn --port {port} main:app", "asgi"),
        python("asgi", "/usr/bin/uvicorn --port {port} --app-dir ../delivery main:app", "delivery"),
        python("asgi", "/usr/bin/python3 -m uvicorn --port {port} payments.main:app", "payments"),
        python("celery", "/usr/bin/celery -A billing worker -c 1", "billing"),
        // Of its pool, whose title does not say it.
        python("celery", "/usr/bin/celery -A billing worker -c 1 -n two@h", "billing").last(),
        // Shells, and what they start.
        python("tasks", "/bin/sh -c exec\tpython3\tbilling.py", "billing"),
        python("tasks", "/bin/sh -c python3\tinvoice.py;true", "invoice").last(),
        native(start("report", "{dir}/report.sh")).is("report", "dash"),
        // Node.js.
        node(start("mail", "/usr/bin/node server.js")).is("mailer", "node"),
        node(start("basket", "/usr/bin/node .")).is("basket", "node"),
        node(start("app/src/dist", "/usr/bin/node server.js")).is("server", "node"),
        // The virtual machine of Java.
        java(start("java", "/usr/bin/java -XX:TieredStopAtLevel=1 -jar {dir}/shop-1.2.jar"))
            .is("shop", "java"),
        java(start("java", "/usr/bin/java -XX:TieredStopAtLevel=1 -cp {dir} com.acme.Main"))
            .is("acme", "java"),
        java(start("java", "/usr/bin/java -Dspring.application.name=ledger -cp {dir} Main"))
            .is("ledger", "java"),
        java(start("java", "/usr/bin/java -cp {dir} Main"))
            .with("SPRING_APPLICATION_NAME", "accounts")
            .is("accounts", "java"),
        java(start("storefront", tomcat)).is("storefront", "java"),
        // Others.
        start("forum", "/usr/bin/ruby bin/rails s")
            .is("forum", "ruby3.1")
            .by("ruby", "ruby", "3.1"),
        start("wiki", "/usr/bin/puma -b tcp://127.0.0.1:{port}")
            .is("wiki", "ruby3.1")
            .by("ruby", "ruby", "3.1"),
        php(start("fpm", "/usr/sbin/php-fpm8.2 -y {dir}/fpm.conf")).is("shop", "php-fpm8.2"),
        php(start("www", "/usr/sbin/php-fpm8.2 -y {dir}/fpm.conf")).is("php-fpm", "php-fpm8.2"),
        start("crm", "/usr/bin/php -S 127.0.0.1:{port}")
            .is("crm", "php8.2")
            .by("php", "cli", "8.2"),
        start("blog", &format!("/usr/bin/php -S 127.0.0.1:{{port}} {{dir}}/{SERVE}"))
            .is("blog", "php8.2")
            .by("php", "cli", "8.2"),
        start("ledger", "/usr/bin/perl report.pl").is("report", "perl").by("perl", "perl", ""),
        native(start("busy", "/usr/bin/busybox httpd -f -p 127.0.0.1:{port}"))
            .is("httpd", "busybox"),
        // What has been removed since, and what is called like any other.
        native(start("gone", "{dir}/checkout serve {port}"))
            .is("checkout", "checkout")
            .removed("checkout"),
        native(start("depot/bin", "{dir}/server serve {port}")).is("depot", "server"),
        // By the dynamic loader.
        native(start(
            "till",
            &format!("{LOADER} --library-path {{dir}} {{dir}}/till serve {{port}}"),
        ))
        .is("till", loader),
        native(start("kiosk", &format!("{LOADER} --inhibit-cache bin/server serve {{port}}")))
            .is("kiosk", loader),
        // Names that whoever started them has given.
        python("supervised", "/usr/bin/supervisord -c supervisord.conf", "shipping").last(),
        python("grouped", "/usr/bin/supervisord -c supervisord.conf", "returns")
            .last()
            .has("service.namespace", "acme"),
        python("app/src/web", "/usr/bin/python3 main.py", "refunds")
            .under("system.slice/refunds@2.service"),
        python("app/src/web", "/usr/bin/python3 main.py", "main")
            .under(&format!(
                "system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"
            ))
            .has("container.id", ID),
        python("cart", "/usr/bin/python3 app.py", "named")
            .with("OTEL_SERVICE_NAME", "named")
            .with("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=space,service.instance.id=one")
            .has("service.namespace", "space")
            .has("service.instance.id", "one"),
        // See `RULES`.
        python("tasks", "/usr/bin/python3 stock.py --of=warehouse", "warehouse")
            .with("OTEL_SERVICE_NAME", "another")
            .has("service.namespace", "ruled"),
    ];
    if let Some(node) = tool("nodejs-bin", "nodejs/bin/node") {
        let home = node.parent().expect("its directory");
        let script = home.join("../lib/node_modules/npm/bin/npm-cli.js");
        let command = format!("{} {} start", node.display(), script.display());
        let path = format!("{}:/usr/bin:/bin", home.display());
        rows.push(
            start("app/src/dist", &command)
                .with("PATH", &path)
                .last()
                .is("shop-front", "node")
                .by("nodejs", "nodejs", ""),
        );
    } else {
        skip("names_npm", "no npm without pip");
    }
    if let Some(go) = find_program("go") {
        // `tally` has run before: newer toolchains then run it from their cache.
        for directory in ["tally", "abacus"] {
            let row = start(directory, &format!("{} run main.go", go.display())).last();
            let row = row.with("GOTMPDIR", "{dir}").is(directory, "main");
            rows.push(row.has("telemetry.sdk.language", "go").has("process.runtime.name", "go"));
        }
    } else {
        skip("names_go", "no go run without Go");
    }
    rows
}

/// The first that fits counts.
const RULES: [&str; 3] = [
    "exe=/usr/bin/java,args=*warehouse*,name=wrong",
    "exe=python3*,args=*warehouse*,name=warehouse,namespace=ruled",
    "args=*warehouse*,name=late",
];

/// Writes what the programs run.
fn prepare_files(scenario: &Scenario) {
    for (path, content) in files() {
        let file = scenario.path(path);
        std::fs::create_dir_all(file.parent().expect("its directory")).expect("a directory");
        std::fs::write(&file, content).expect("a file");
    }
}

/// The same, and what has to be compiled or copied.
fn prepare(scenario: &Scenario) {
    prepare_files(scenario);
    output(Command::new("chmod").arg("755").arg(scenario.path("report/report.sh")));
    let java = scenario.path("java");
    output(Command::new("javac").current_dir(&java).args(["Main.java", "com/acme/Main.java"]));
    let jar = ["cfe", "shop-1.2.jar", "Main", "Main.class"];
    output(Command::new("jar").current_dir(&java).args(jar));
    if let Some(go) = find_program("go") {
        output(
            Command::new(go).current_dir(scenario.path("tally")).args(["run", "main.go", "once"]),
        );
    }
    for place in ["gone/checkout", "depot/bin/server", "till/till", "kiosk/bin/server"] {
        let place = scenario.path(place);
        std::fs::create_dir_all(place.parent().expect("its directory")).expect("a directory");
        std::fs::copy(env!("CARGO_BIN_EXE_hyper_http"), place).expect("a copy");
    }
}

/// The newest resource of each process that has metrics.
fn resources(agent: &Agent) -> BTreeMap<i64, Attributes> {
    let telemetry = agent.telemetry();
    let mut found = BTreeMap::new();
    for request in &telemetry.metrics {
        for group in request["resourceMetrics"].as_array().into_iter().flatten() {
            let attributes = kernspan_tests::otlp::attributes(&group["resource"]["attributes"]);
            if let Some(pid) = attributes.get("process.pid").and_then(Value::as_i64) {
                found.insert(pid, attributes);
            }
        }
    }
    found
}

fn text<'a>(resource: Option<&'a Attributes>, key: &str) -> &'a str {
    resource.and_then(|resource| resource.get(key)?.as_str()).unwrap_or_default()
}

/// Attributes that are not as the table has them.
fn differences(row: &Start, resource: Option<&Attributes>) -> Vec<String> {
    let of = |(key, value): &(&str, String)| {
        let told = text(resource, key);
        (told != value).then(|| format!("{key} is `{told}`, not `{value}`"))
    };
    let mut wrong: Vec<String> = row.expected.iter().filter_map(of).collect();
    let id = text(resource, "service.instance.id");
    let given = row.expected.iter().any(|(key, _)| *key == "service.instance.id");
    if !given && !is_uuid_5(id) {
        wrong.push(format!("service.instance.id is `{id}`, no UUID of version 5"));
    }
    wrong
}

fn is_uuid_5(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digit = |c: char| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c);
    lengths == [8, 4, 4, 4, 12] && text.chars().all(digit) && text.as_bytes().get(14) == Some(&b'5')
}

#[test]
fn started_programs_are_who_the_table_says() {
    let needed = ["javac", "jar", "sh"];
    let Some(scenario) = Scenario::begin("names", &needed) else { return };
    let rules = RULES.map(|rule| format!("--name-rule={rule}"));
    let arguments =
        [&["--process-metrics", "1s"], &rules.each_ref().map(String::as_str)[..]].concat();
    prepare(&scenario);
    let (rows, missing): (Vec<Start>, Vec<Start>) =
        table().into_iter().partition(|row| row.missing().is_none());
    for row in &missing {
        skip("names", &format!("not installed: {}", row.missing().unwrap_or_default()));
    }
    let agent = Agent::run(&scenario, &arguments);
    let mut all: Vec<Started> =
        rows.iter().enumerate().map(|(at, row)| Started::new(&scenario, row, at)).collect();
    let begin = Instant::now();
    let mut wrong = Vec::new();
    while begin.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_secs(1));
        for started in &all {
            if let Some(file) = &started.start.removed {
                let _ = std::fs::remove_file(scenario.path(&started.start.directory).join(file));
            }
        }
        let known = resources(&agent);
        wrong.clear();
        for started in &mut all {
            let resource = known.get(&i64::from(started.pid()));
            let differences = differences(&started.start, resource);
            if !differences.is_empty() {
                let (runs, tail) = started.state();
                let Start { command, directory, .. } = &started.start;
                let ended = if runs { String::new() } else { format!("\n  it has ended: {tail}") };
                wrong.push(format!("{directory}$ {command}: {}{ended}", differences.join(", ")));
            }
        }
        if wrong.is_empty() {
            break;
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let known = resources(&agent);
    let ids: BTreeSet<&str> = all
        .iter()
        .map(|started| text(known.get(&i64::from(started.pid())), "service.instance.id"))
        .collect();
    assert_eq!(ids.len(), all.len(), "one id each");
    assert!(rows.len() >= LEAST, "{} rows", rows.len());
    drop(all);
    let _ = agent.stop();
    assert!(
        !Path::new("/dev/shm/kernspan-names-1.sock").exists()
            || std::fs::remove_file("/dev/shm/kernspan-names-1.sock").is_ok()
    );
    let _ = std::fs::remove_file("/dev/shm/kernspan-names-2.sock");
    say(&format!("names: {} start commands, after {:?}", rows.len(), begin.elapsed()));
}

/// It is there when the agent looks at all processes, and says who it is only then.
#[test]
fn a_program_that_is_older_than_the_agent_has_the_title_that_it_takes_later() {
    let Some(scenario) = Scenario::begin("names_late", &["node"]) else { return };
    prepare_files(&scenario);
    let row = start("late", "/usr/bin/node server.js").is("mailer", "node");
    let mut started = Started::new(&scenario, &row, 0);
    let pid = started.pid();
    until("it runs", LIMIT, || started.state().1.contains("ready").then_some(()));
    let agent = Agent::run(&scenario, &["--process-metrics", "1s"]);
    let of_process = || resources(&agent).remove(&i64::from(pid));
    until("it is known by what it runs", LIMIT, || {
        (text(of_process().as_ref(), "service.name") == "late").then_some(())
    });
    let id = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a number");
    rustix::process::kill_process(id, rustix::process::Signal::USR2).expect("it lives");
    until("the agent knows its title", LIMIT, || {
        differences(&row, of_process().as_ref()).is_empty().then_some(())
    });
    let _ = agent.stop();
}
