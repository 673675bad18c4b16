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
        (PY, "python3|-c|import x", "/", "python3.11"),
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
        (PY, "gunicorn: worker [shop]", "/", "shop"),
        (PY, "gunicorn: master [stock:app]", "/", "stock"),
        (PY, "/usr/bin/python3|/usr/local/bin/celery|-A|billing|worker", "/", "billing"),
        (PY, "python3|/usr/bin/opentelemetry-instrument|python|pay.py", "/", "pay"),
        ("/usr/bin/uwsgi", "uwsgi|--http|:80|--module|shop.wsgi:app", "/", "shop"),
        (NODE, "node|/srv/shop/server.js", "/", "shop"),
        (NODE, "node|server.js", "/app", "server"),
        (NODE, "node|-r|dotenv/config|--max-old-space-size=64|cart.mjs", "/app", "cart"),
        (NODE, "node|-e|code", "/srv/x", "node"),
        (NODE, "node|dist/index.js", "/srv/mail", "mail"),
        (JAVA, "java|-Xmx1g|-jar|/srv/shop-1.2.3-SNAPSHOT.jar|--port=1", "/", "shop"),
        (JAVA, "java|-cp|a.jar:b.jar|com.acme.shop.Main|x", "/", "shop"),
        (JAVA, "java|-cp|a.jar|com.acme.ShopServer", "/", "ShopServer"),
        (JAVA, "java|-Dotel.service.name=pay|-jar|x.jar", "/", "pay"),
        (JAVA, "java|-p|mods|-m|com.acme.cart/com.acme.cart.Main", "/", "cart"),
        (JAVA, "java|-cp|x|org.apache.catalina.startup.Bootstrap|start", "/", "tomcat"),
        (JAVA, "java|-version", "/", "java"),
        ("/usr/bin/ruby3.1", "ruby|bin/rails|server", "/srv/forum", "forum"),
        ("/usr/bin/ruby3.1", "ruby|/srv/wiki/bin/rails|server", "/", "wiki"),
        ("/usr/bin/ruby3.1", "puma 5.6.5 (tcp://0.0.0.0:3000) [forum]", "/", "forum"),
        ("/usr/bin/ruby3.1", "/usr/bin/ruby|/usr/bin/bundle|exec|puma", "/srv/forum", "forum"),
        ("/usr/bin/ruby3.1", "sidekiq 6.5.1 jobs [0 of 10 busy]", "/", "sidekiq"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "/", "php-fpm"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool shop", "/", "shop"),
        ("/usr/bin/php8.2", "php|artisan|serve", "/srv/crm", "crm"),
        ("/usr/bin/php8.2", "php|-S|0.0.0.0:80|-t|public", "/srv/crm", "php8.2"),
        ("/usr/bin/perl", "/usr/bin/perl|-w|/srv/report.pl", "/", "report"),
        ("/usr/bin/bash", "bash|/srv/backup.sh|now", "/", "backup"),
        ("/usr/bin/bash", "bash|-ec|curl h", "/", "bash"),
        ("/usr/bin/dash", "sh|-c|curl h", "/", "dash"),
        ("/srv/deploy.sh", "/bin/sh|/srv/deploy.sh", "/", "deploy"),
        ("/srv/shop/app.py", "/usr/bin/python3|/srv/shop/app.py", "/", "shop"),
        ("/usr/bin/dotnet", "dotnet|Shop.Web.dll", "/", "Shop.Web"),
        ("/usr/lib/erlang/erts-13/bin/beam.smp", "beam.smp|-K|-sname|chat@host", "/", "chat"),
        ("/usr/bin/busybox", "httpd|-f", "/", "httpd"),
        ("/usr/bin/busybox", "busybox|nc|-l", "/", "nc"),
        ("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2|/opt/cart", "/", "cart"),
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
fn nothing_known_gives_no_name() {
    assert_eq!(identify(&ProcessFacts::default()), Identity::default());
}

proptest! {
    #[test]
    fn no_command_line_makes_it_panic_or_gives_an_empty_name(
        executable in "(/usr/bin/)?(python3|node|java|ruby|php|bash|busybox|uwsgi|perl|é)?",
        args in prop::collection::vec(
            "(-m|-c|-jar|-e|run|--|-|bundle|exec|-Dotel.service.name=|--name|:|\\[|\\]|é| |[a-z.:/-]{0,6}){0,2}",
            0..6,
        ),
    ) {
        let facts = ProcessFacts { executable, args, ..ProcessFacts::default() };
        prop_assert!(identify(&facts).service != Some(String::new()));
    }
}
