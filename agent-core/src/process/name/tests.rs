//! Tests of [`super`].

use super::*;
use proptest::prelude::*;

fn facts(executable: &str, args: &str, directory: &str) -> ProcessFacts {
    ProcessFacts {
        executable: executable.into(),
        args: args.split('|').map(str::to_owned).collect(),
        working_directory: directory.into(),
        comm: "comm".into(),
        ..ProcessFacts::default()
    }
}

#[test]
fn a_process_is_named_after_what_it_runs() {
    const PY: &str = "/usr/bin/python3.11";
    const NODE: &str = "/usr/local/bin/node";
    const JAVA: &str = "/usr/lib/jvm/java-17/bin/java";
    const SERVE: &str = "vendor/laravel/framework/src/Illuminate/Foundation/resources/server.php";
    const LD: &str = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
    const KEPT: &str = "5b0f4ed81fe988147634de4b4aa78fe620d344979b68f8534727c0a64584cab3";
    // Executable, arguments, directory, name.
    let cases = [
        ("/usr/sbin/nginx", "nginx: worker process", "/", "nginx"),
        ("/usr/sbin/apache2", "/usr/sbin/apache2|-k|start", "/", "apache2"),
        ("/usr/bin/curl", "curl|-s|http://h/", "/root", "curl"),
        ("/opt/shop/bin/checkout (deleted)", "checkout", "/", "checkout"),
        ("/usr/lib/postgresql/15/bin/postgres", "postgres: walwriter ", "/", "postgres"),
        ("/usr/bin/gcc-12", "gcc-12|x.c", "/", "gcc-12"),
        (PY, "python3|/srv/orders/orders.py|8080", "/", "orders"),
        (PY, "/usr/bin/python3|-u|-W|ignore|-Xdev|stock.py", "/", "stock"),
        (PY, "python3|/srv/shop/app.py", "/", "shop"),
        (PY, "python3|app.py", "/srv/cart", "cart"),
        (PY, "python3|/app/main.py", "/", "main"),
        (PY, "python3|./src/main.py", "/srv/cart", "cart"),
        (PY, "python3|-m|http.server|8000", "/", "http.server"),
        (PY, "python3|-um|shop.worker", "/", "shop.worker"),
        (PY, "python3|-m|uvicorn|orders.main:app|--port|80", "/", "orders"),
        (PY, "python3|-m|uvicorn|main:app", "/srv/cart", "cart"),
        (PY, "python3|-m|uvicorn|main:app", "/app", "main"),
        (PY, "python3|/usr/bin/uvicorn|--app-dir|/srv/cart|main:app", "/srv/x", "cart"),
        (PY, "python3|/usr/bin/uvicorn|main:app|--app-dir=src", "/srv/cart", "cart"),
        (PY, "python3|/usr/bin/uvicorn|--app-dir|../stock/src|main:app", "/srv/cart", "stock"),
        (PY, "python3|/usr/bin/uvicorn|--app-dir|..|main:app", "/srv/cart", "main"),
        (PY, "python3|/usr/bin/uvicorn|--app-dir|/srv/x|orders.main:app", "/", "orders"),
        (PY, "python3|/usr/bin/uvicorn|--app-dir|/app|main:app", "/srv/cart", "main"),
        (PY, "python3|-m|shop.main", "/", "shop"),
        (PY, "python3|-m|main", "/srv/cart", "cart"),
        (PY, "python3|-c|import x", "/", "python3.11"),
        (PY, "python3|-c|import x", "/srv/shop", "python3.11"),
        (
            PY,
            "python3|-c|from multiprocessing.spawn import spawn_main; spawn_main(5)|--multiprocessing-fork",
            "/srv/shop",
            "shop",
        ),
        (PY, "python3|-c|from multiprocessing.spawn import spawn_main", "/app", "python3.11"),
        (PY, "python3", "/", "python3.11"),
        (PY, "python3|manage.py|runserver", "/srv/blog", "blog"),
        (
            PY,
            "/usr/bin/python3|/usr/bin/gunicorn|-w|4|-b|0.0.0.0:80|shop.wsgi:application",
            "/",
            "shop",
        ),
        (PY, "/usr/bin/python3|/usr/bin/gunicorn|shop.wsgi", "/", "shop"),
        (PY, "/usr/bin/python3|/usr/bin/gunicorn|--name|cart|m:app", "/", "cart"),
        (PY, "/usr/bin/python3|/usr/bin/gunicorn|shop", "/", "shop"),
        (PY, "python3|/usr/bin/gunicorn|-w|4|-b|:80|shop", "/", "shop"),
        (PY, "python3|/usr/bin/gunicorn|-w4|--reload|--bind=:80|shop|-k|gthread", "/", "shop"),
        (PY, "python3|/usr/bin/gunicorn|app", "/srv/cart", "cart"),
        (PY, "python3|/usr/bin/gunicorn|-c|conf.py|shop", "/", "shop"),
        (PY, "python3|/usr/bin/gunicorn|-c|conf.py", "/srv/cart", "cart"),
        (PY, "python3|/usr/bin/gunicorn|--newer-option|shop", "/", "gunicorn"),
        (PY, "python3|/usr/bin/gunicorn|-k|gthread", "/", "gunicorn"),
        (PY, "python3|/usr/bin/gunicorn|-c|gunicorn.conf.py", "/srv/shop", "shop"),
        (PY, "python3|/usr/bin/gunicorn|-c|gunicorn.conf.py", "/", "gunicorn"),
        (PY, "python3|/usr/bin/gunicorn|-n|cart|shop.wsgi", "/", "cart"),
        (PY, "python3|/usr/bin/celery|-A|billing|worker|-n|one@%h", "/", "billing"),
        (PY, "gunicorn: worker [shop]", "/", "shop"),
        (PY, "gunicorn: master [stock:app]", "/", "stock"),
        (PY, "gunicorn: worker [shop.wsgi:application]", "/", "shop"),
        (PY, "gunicorn: worker [main:app]", "/srv/cart", "cart"),
        (PY, "/srv/shop/venv/bin/python|/srv/shop/venv/bin/shop-server", "/", "shop-server"),
        (PY, "python3|/usr/bin/ddtrace-run|gunicorn|shop.wsgi", "/", "shop"),
        (PY, "python3|/usr/bin/fastapi|run|/srv/shop/main.py", "/", "shop"),
        (PY, "python3|/usr/bin/flask|run", "/srv/blog", "blog"),
        (PY, "[celeryd: celery@h:MainProcess] -active- (-A billing worker)", "/", "billing"),
        (PY, "/usr/bin/python3|/usr/local/bin/celery|-A|billing|worker", "/", "billing"),
        (PY, "python3|/usr/bin/opentelemetry-instrument|python|pay.py", "/", "pay"),
        ("/usr/bin/uwsgi", "uwsgi|--http|:80|--module|shop.wsgi:app", "/", "shop"),
        ("/usr/bin/uwsgi", "uwsgi|--ini|/etc/uwsgi/apps-enabled/shop.ini", "/", "shop"),
        (NODE, "node|/srv/shop/server.js", "/", "shop"),
        (NODE, "node|server.js", "/app", "server"),
        (NODE, "node|-r|dotenv/config|--max-old-space-size=64|cart.mjs", "/app", "cart"),
        (NODE, "node|-e|code", "/srv/x", "node"),
        (NODE, "node|dist/index.js", "/srv/mail", "mail"),
        (NODE, "node|.", "/srv/mail", "mail"),
        (NODE, "node|/srv/mail/node_modules/.bin/next|start", "/srv/mail", "mail"),
        (NODE, "shop", "/", "shop"),
        (NODE, "node", "/", "node"),
        (NODE, "next-server (v14.1.0)", "/srv/shop", "shop"),
        (NODE, "node /srv/shop/server.js", "/", "shop"),
        ("/home/app/.deno/bin/deno", "deno|run|-A|/srv/shop/main.ts", "/", "shop"),
        ("/home/app/.deno/bin/deno", "deno|task|start", "/srv/cart", "cart"),
        ("/usr/local/bin/bun", "bun|run|stock.ts", "/", "stock"),
        ("/usr/local/bin/bun", "bun|--hot|/srv/shop/index.ts", "/", "shop"),
        ("/srv/node_modules/bun/bin/bun.exe", "bun|shop.js", "/srv", "shop"),
        (JAVA, "java|-Xmx1g|-jar|/srv/shop-1.2.3-SNAPSHOT.jar|--port=1", "/", "shop"),
        (JAVA, "java|-cp|a.jar:b.jar|com.acme.shop.Main|x", "/", "shop"),
        (JAVA, "java|-cp|a.jar|com.acme.ShopServer", "/", "ShopServer"),
        (JAVA, "java|-Dotel.service.name=pay|-jar|x.jar", "/", "pay"),
        (JAVA, "java|-p|mods|-m|com.acme.cart/com.acme.cart.Main", "/", "cart"),
        (JAVA, "java|-cp|x|org.apache.catalina.startup.Bootstrap|start", "/", "tomcat"),
        (JAVA, "java|-version", "/", "java"),
        (JAVA, "java|-Dapp.name=pay|-cp|x|com.acme.Main", "/", "pay"),
        (JAVA, "java|-Dspring.application.name=pay|-jar|x.jar", "/", "pay"),
        (JAVA, "java|-jar|x.jar|--spring.application.name=pay", "/", "pay"),
        (JAVA, "java|-cp|x|com.acme.Main", "/", "acme"),
        (JAVA, "java|-cp|x|com.acme.shop.ApplicationKt", "/", "shop"),
        (JAVA, "java|@/srv/args|com.acme.Cart", "/", "Cart"),
        (JAVA, "java|Main", "/srv/shop", "shop"),
        (JAVA, "java|/srv/shop/Server.java", "/", "shop"),
        (JAVA, "java|-jar|/srv/shop/app.jar", "/", "shop"),
        (JAVA, "java|-jar|app.jar", "/app", "app"),
        (JAVA, "java|-jar|/opt/cart-1.0-runner.jar", "/", "cart"),
        (JAVA, "java|-jar|/srv/shop/quarkus-app/quarkus-run.jar", "/", "shop"),
        (JAVA, "java|org.springframework.boot.loader.launch.JarLauncher", "/srv/pay", "pay"),
        (
            JAVA,
            "java|-cp|x|-Dcatalina.base=/srv/shop|org.apache.catalina.startup.Bootstrap|start",
            "/",
            "shop",
        ),
        (
            JAVA,
            "java|-cp|x|-Dcatalina.base=/var/lib/tomcat10|org.apache.catalina.startup.Bootstrap",
            "/",
            "tomcat",
        ),
        (JAVA, "java|-Djetty.base=/srv/cart|-jar|/usr/share/jetty9/start.jar", "/", "cart"),
        (JAVA, "java|-jar|/opt/wildfly/jboss-modules.jar|org.jboss.as.standalone", "/", "wildfly"),
        ("/usr/bin/ruby3.1", "ruby|bin/rails|server", "/srv/forum", "forum"),
        ("/usr/bin/ruby3.1", "ruby|/srv/wiki/bin/rails|server", "/", "wiki"),
        ("/usr/bin/ruby3.1", "puma 5.6.5 (tcp://0.0.0.0:3000) [forum]", "/", "forum"),
        ("/usr/bin/ruby3.1", "/usr/bin/ruby|/usr/bin/bundle|exec|puma", "/srv/forum", "forum"),
        ("/usr/bin/ruby3.1", "sidekiq 6.5.1 jobs [0 of 10 busy]", "/", "jobs"),
        ("/usr/bin/ruby3.1", "puma: cluster worker 0: 4711 [forum]", "/", "forum"),
        ("/usr/bin/ruby3.1", "unicorn worker[0] -D -c config/unicorn.rb", "/srv/forum", "forum"),
        ("/usr/bin/ruby3.1", "Passenger RubyApp: /srv/forum (production)", "/", "forum"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "/", "php-fpm"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: master process (/etc/php/fpm.conf)", "/", "php-fpm"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool shop", "/", "shop"),
        ("/usr/bin/php8.2", "php|artisan|serve", "/srv/crm", "crm"),
        ("/usr/bin/php8.2", "php|-S|0.0.0.0:80|-t|public", "/srv/crm", "crm"),
        ("/usr/bin/php8.2", &format!("php|-S|h:80|/srv/crm/{SERVE}"), "/srv/crm/public", "crm"),
        ("/usr/bin/php8.2", &format!("php|-S|h:80|{SERVE}"), "/srv/crm", "crm"),
        ("/usr/bin/php8.2", &format!("php|-S|h:80|/app/{SERVE}"), "/app/public", "server"),
        ("/usr/bin/php8.2", "php|/srv/vendor/server.php", "/", "vendor"),
        ("/usr/bin/php8.2", "php|/srv/crm/vendor/bin/phpunit", "/srv/crm", "phpunit"),
        ("/usr/bin/perl", "/usr/bin/perl|-w|/srv/report.pl", "/", "report"),
        ("/usr/bin/perl", "perl|-Ilib|-MMojo::Server|-I|inc|/srv/report.pl|-E", "/", "report"),
        ("/usr/bin/perl", "perl|-E|say fetch(q(key))", "/", "perl"),
        ("/usr/bin/perl", "perl|-MIO::Socket|-wE|say fetch(q(key))", "/", "perl"),
        ("/usr/bin/perl", "perl|-i.orig|-pe|s/key/x/|file", "/", "perl"),
        ("/usr/bin/ruby3.1", "ruby|-W|-rsocket|app.rb", "/srv/forum", "forum"),
        ("/usr/bin/ruby3.1", "ruby|-rjson|-ne|puts fetch(%(key))", "/srv/forum", "ruby3.1"),
        ("/usr/bin/php8.2", "php|-r|fetch(1);|7", "/srv/crm", "php8.2"),
        (NODE, "node|--eval=fetch(1)|7", "/srv/x", "node"),
        (
            PY,
            "python3|/srv/shop/venv/bin/gunicorn|--bind|unix:shop.sock|wsgi:app",
            "/srv/shop",
            "shop",
        ),
        (JAVA, "java|-Dapp.name|-jar|/srv/cart.jar", "/", "cart"),
        ("/usr/bin/bash", "bash|/srv/backup.sh|now", "/", "backup"),
        ("/usr/bin/bash", "bash|-ec|curl h", "/", "bash"),
        ("/usr/bin/dash", "sh|-c|curl h", "/", "dash"),
        ("/srv/deploy.sh", "/bin/sh|/srv/deploy.sh", "/", "deploy"),
        ("/srv/shop/app.py", "/usr/bin/python3|/srv/shop/app.py", "/", "shop"),
        ("/usr/bin/dotnet", "dotnet|Shop.Web.dll", "/", "Shop.Web"),
        ("/usr/bin/dotnet", "dotnet|/srv/shop/App.dll", "/", "shop"),
        ("/srv/shop/bin/server", "server", "/", "shop"),
        ("/app/server", "/app/server", "/", "server"),
        ("/srv/shop/target/debug/server", "target/debug/server", "/srv/shop", "shop"),
        // `go run`: of its build, and of its cache.
        ("/tmp/go-build12/b001/exe/main", "/tmp/go-build12/b001/exe/main", "/srv/shop", "shop"),
        ("/tmp/go-build12/b001/exe/main (deleted)", "main", "/srv/shop/cmd", "cmd"),
        ("/tmp/go-build12/b001/exe/cart", "/tmp/go-build12/b001/exe/cart", "/srv/shop", "cart"),
        ("/tmp/go-build12/b001/exe/main", "main", "/app", "main"),
        (&format!("/home/app/.cache/go-build/5b/{KEPT}-d/main"), "main", "/srv/shop", "shop"),
        (&format!("/home/app/.cache/go-build/5b/{KEPT}-d/cart"), "cart", "/srv/shop", "cart"),
        ("/srv/exe/main", "main", "/srv/shop", "exe"),
        ("/usr/bin/redis-server", "/usr/bin/redis-server 127.0.0.1:6379", "/", "redis-server"),
        ("/usr/lib/erlang/erts-13/bin/beam.smp", "beam.smp|-K|-sname|chat@host", "/", "chat"),
        ("/usr/bin/busybox", "httpd|-f", "/", "httpd"),
        ("/usr/bin/busybox", "busybox|nc|-l", "/", "nc"),
        ("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2|/opt/cart", "/", "cart"),
        (LD, "ld.so|--library-path|/opt/lib|/opt/shop/bin/cart|--list", "/", "cart"),
        (LD, "ld.so|--inhibit-cache|--argv0|x|--preload|a.so|/opt/shop/bin/server", "/", "shop"),
        (LD, "ld.so|./bin/server", "/srv/depot", "depot"),
        (LD, "ld.so|--library-path|/l|/usr/bin/python3.11|/srv/orders/orders.py", "/", "orders"),
        (LD, "ld.so|--new-option|/opt/cart", "/", "ld-linux-x86-64.so.2"),
        (LD, "ld.so|--library-path", "/", "ld-linux-x86-64.so.2"),
        ("/lib/ld-musl-x86_64.so.1", "ld|--library-path=/l|--|/opt/cart", "/", "cart"),
        ("/lib/x86_64-linux-gnu/ld-2.31.so", "ld|/opt/cart", "/", "cart"),
        ("", "/opt/cart|x", "/", "cart"),
        ("", "", "/", "comm"),
    ];
    for (executable, args, directory, expected) in cases {
        let identity = identify(&facts(executable, args, directory));
        assert_eq!(identity.service.as_deref(), Some(expected), "{executable} {args}");
    }
}

#[test]
fn the_language_is_that_of_the_interpreter() {
    let language = |path: &str| identify(&facts(path, path, "/")).language;
    assert_eq!(language("/usr/bin/python3.11"), Some("python"));
    assert_eq!(language("/usr/bin/nodejs"), Some("nodejs"));
    assert_eq!(language("/usr/sbin/php-fpm8.2"), Some("php"));
    assert_eq!(language("/usr/sbin/nginx"), None);
}

#[test]
fn the_runtime_is_what_the_path_tells() {
    let cases = [
        ("/usr/bin/python3.11", "cpython 3.11"),
        ("/usr/local/bin/python3", "cpython -"),
        ("/usr/bin/pypy3.9", "pypy 3.9"),
        ("/usr/bin/node", "nodejs -"),
        ("/home/app/.nvm/versions/node/v18.19.0/bin/node", "nodejs 18.19.0"),
        ("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "OpenJDK Runtime Environment 17"),
        ("/opt/graal/bin/java", "none"),
        ("/usr/bin/ruby3.1", "ruby 3.1"),
        ("/usr/sbin/php-fpm8.2", "fpm-fcgi 8.2"),
        ("/home/app/.deno/bin/deno", "deno -"),
        ("/usr/bin/dash", "none"),
        ("/usr/sbin/nginx", "none"),
    ];
    for (path, expected) in cases {
        let runtime = identify(&facts(path, path, "/")).runtime;
        let told = runtime.map_or("none".into(), |runtime| {
            format!("{} {}", runtime.name, runtime.version.as_deref().unwrap_or("-"))
        });
        assert_eq!(told, expected, "{path}");
    }
}

#[test]
fn a_program_in_go_is_known_by_its_toolchain() {
    let mut facts = facts("/usr/bin/caddy", "caddy|run", "/");
    facts.go = "go1.19.8".into();
    let identity = identify(&facts);
    assert_eq!((identity.service.as_deref(), identity.language), (Some("caddy"), Some("go")));
    let runtime = Runtime { name: "go", version: Some("go1.19.8".into()) };
    assert_eq!(identity.runtime, Some(runtime));
}

/// What npm, supervisord and systemd know: environment, cgroup, and the name and namespace from it.
#[test]
fn a_manager_names_what_says_little_itself() {
    const UNIT: &str = "0::/system.slice/billing.service";
    let id = "a".repeat(64);
    let inside = format!("0::/docker/{id}/system.slice/billing.service");
    let around =
        format!("0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}");
    // Executable and arguments, environment, cgroup, name and namespace.
    let cases: &[(&str, &str, &str, &str)] = &[
        ("/usr/bin/node|node|/app/server.js", "npm_package_name=@acme/shop", "", "shop"),
        ("/usr/bin/node|node|/srv/cart/server.js", "npm_package_name=shop", "", "shop"),
        ("/usr/bin/node|node|--title|t|x.js", "npm_package_name=shop", "", "t"),
        ("/usr/bin/python3.11|python3|x.py", "npm_package_name=shop", "", "x"),
        ("/usr/bin/curl|curl|h", "npm_package_name=shop", "", "curl"),
        ("/usr/bin/java|java|-jar|x.jar", "SPRING_APPLICATION_NAME=pay", "", "pay"),
        ("/usr/bin/python3.11|python3|x.py", "SPRING_APPLICATION_NAME=pay", "", "x"),
        ("/usr/bin/python3.11|python3|x.py", "SUPERVISOR_PROCESS_NAME=pay", "", "pay"),
        (
            "/usr/bin/python3.11|python3|x.py",
            "SUPERVISOR_PROCESS_NAME=pay-2 SUPERVISOR_GROUP_NAME=pay-2",
            "",
            "pay-2",
        ),
        (
            "/usr/bin/python3.11|python3|x.py",
            "SUPERVISOR_PROCESS_NAME=pay_01 SUPERVISOR_GROUP_NAME=pay",
            "",
            "pay",
        ),
        (
            "/usr/bin/python3.11|python3|x.py",
            "SUPERVISOR_PROCESS_NAME=01 SUPERVISOR_GROUP_NAME=pay",
            "",
            "pay",
        ),
        (
            "/usr/bin/python3.11|python3|x.py",
            "SUPERVISOR_PROCESS_NAME=pay SUPERVISOR_GROUP_NAME=acme",
            "",
            "acme/pay",
        ),
        ("/usr/sbin/nginx|nginx", "SUPERVISOR_PROCESS_NAME=pay", "", "nginx"),
        ("/usr/bin/python3.11|python3|/app/main.py", "", UNIT, "billing"),
        ("/usr/bin/python3.11|python3|-c|x", "", UNIT, "billing"),
        ("/usr/bin/python3.11|python3|stock.py", "", UNIT, "stock"),
        ("/usr/bin/curl|curl|h", "", UNIT, "curl"),
        ("/app/server|/app/server", "", UNIT, "billing"),
        ("/app/server|/app/server", "", "0::/system.slice/my\x2dshop@3.service", "my-shop"),
        ("/app/server|/app/server", "", "0::/system.slice/cron.service", "server"),
        ("/app/server|/app/server", "", "0::/system.slice/run-u12.service", "server"),
        ("/app/server|/app/server", "", "0::/user.slice/user@0.service/init.scope", "server"),
        (
            "/app/server|/app/server",
            "",
            "0::/user.slice/user@0.service/app.slice/billing.service",
            "billing",
        ),
        ("/app/server|/app/server", "", "1:name=systemd:/system.slice/billing.service", "billing"),
        ("/app/server|/app/server", "", inside.as_str(), "billing"),
        ("/app/server|/app/server", "", around.as_str(), "server"),
    ];
    for (command, environment, cgroup, expected) in cases {
        let (executable, args) = command.split_once('|').unwrap();
        let mut facts = facts(executable, args, "/");
        facts.cgroup = (*cgroup).to_owned();
        let variables = environment.split_whitespace().filter_map(|pair| pair.split_once('='));
        facts.environment = variables.map(|(name, value)| (name.into(), value.into())).collect();
        let identity = identify(&facts);
        let namespace = identity.namespace.map_or(String::new(), |space| space + "/");
        let told = namespace + &identity.service.unwrap();
        assert_eq!(told, *expected, "{command} {environment} {cgroup}");
    }
}

#[test]
fn nothing_known_gives_no_name() {
    assert_eq!(identify(&ProcessFacts::default()), Identity::default());
}

proptest! {
    #[test]
    fn no_command_line_makes_it_panic_or_gives_an_empty_name(
        executable in "(/usr/bin/)?(python3|node|java|ruby|php|bash|busybox|uwsgi|perl|dotnet|é)?",
        args in prop::collection::vec(
            "(-m|-c|-jar|-e|run|--|-|bundle|exec|-Dotel.service.name=|--name|:|\\[|\\]|é| |[a-z.:/-]{0,6}){0,2}",
            0..6,
        ),
        cgroup in "0::(/|é|\\\\x|\\\\x2d|@|[a-z]{0,3}|.service){0,8}",
        variable in "[0-9a-z_@/-]{0,6}",
    ) {
        let environment = vec![
            ("SUPERVISOR_PROCESS_NAME".to_owned(), variable.clone()),
            ("npm_package_name".to_owned(), variable),
        ];
        let facts = ProcessFacts { executable, args, cgroup, environment, ..ProcessFacts::default() };
        prop_assert!(identify(&facts).service != Some(String::new()));
    }
}

#[test]
fn a_program_that_is_several_is_called_by_the_link() {
    let facts = |comm: &str, title: &str| ProcessFacts {
        executable: "/usr/bin/redis-check-rdb".into(),
        comm: comm.into(),
        args: vec![title.into()],
        working_directory: "/".into(),
        ..ProcessFacts::default()
    };
    for (comm, title, expected) in [
        ("redis-server", "redis-server *:6379", "redis-server"),
        ("redis-server", "/usr/bin/redis-server", "redis-server"),
        ("redis-check-rdb", "/usr/bin/redis-check-rdb", "redis-check-rdb"),
        // One that only calls itself so.
        ("redis-check-rdb", "other *:6379", "redis-check-rdb"),
    ] {
        assert_eq!(identify(&facts(comm, title)).service.as_deref(), Some(expected), "{title}");
    }
}
