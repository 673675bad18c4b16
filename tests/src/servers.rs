//! The servers that people run, a row each: all of them answer `GET /NAME/size/N`.

use crate::golang;
use crate::netns::Netns;
use crate::nginx::Nginx;
use crate::process::{Process, free_ports, until};
use crate::scenario::{Scenario, crate_dir, find_program};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Bytes of the page that every server has, and of the one that is asked for without counting.
pub const SIZES: [usize; 2] = [700, 701];

/// A virtual machine that compiles its program first, beside fifteen others.
const READY: Duration = Duration::from_secs(90);

/// One server. In commands and files `{port}` is where it listens, `{dir}` its directory, `{www}` the directory
/// of pages, `{web}` that of the programs in `workloads/web`, `{hyper}` and `{go}` programs of the tests,
/// `{behind}` another free port.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Name, and first part of its paths.
    pub name: &'static str,
    /// `service.name` of its spans.
    pub service: &'static str,
    /// The command.
    pub command: &'static str,
    /// That of what it needs beside it, if anything.
    pub beside: &'static str,
    /// Its configuration: file name and content.
    pub files: &'static [(&'static str, &'static str)],
}

/// All of them. A new one is a row here.
pub const SERVERS: &[Server] = &[
    row("nginx", "nginx", "/usr/sbin/nginx -p {dir} -c {dir}/nginx.conf", "", NGINX),
    row(
        "apache-prefork",
        "apache2",
        "/usr/sbin/apache2 -f {dir}/prefork.conf -D FOREGROUND",
        "",
        APACHE,
    ),
    row(
        "apache-event",
        "apache2",
        "/usr/sbin/apache2 -f {dir}/event.conf -D FOREGROUND",
        "",
        APACHE,
    ),
    row("lighttpd", "lighttpd", "/usr/sbin/lighttpd -D -f {dir}/lighttpd.conf", "", LIGHTTPD),
    row(
        "haproxy",
        "haproxy",
        "/usr/sbin/haproxy -W -f {dir}/haproxy.cfg",
        "{hyper} serve {behind}",
        HAPROXY,
    ),
    row(
        "caddy",
        "caddy",
        "/usr/bin/caddy run --adapter caddyfile --config {dir}/Caddyfile",
        "",
        CADDY,
    ),
    row(
        "gunicorn-sync",
        "sizes_wsgi",
        "/usr/bin/gunicorn --chdir {web} -w 2 -b 0.0.0.0:{port} sizes_wsgi:application",
        "",
        &[],
    ),
    row(
        "gunicorn-gthread",
        "sizes_wsgi",
        "/usr/bin/gunicorn --chdir {web} -k gthread --threads 4 --keep-alive 75 -b 0.0.0.0:{port} \
         sizes_wsgi:application",
        "",
        &[],
    ),
    row(
        "uvicorn",
        "sizes_asgi",
        "/usr/bin/uvicorn --app-dir {web} --log-level warning --timeout-keep-alive 75 --host 0.0.0.0 \
         --port {port} sizes_asgi:app",
        "",
        &[],
    ),
    row("node", "sizes", "/usr/bin/node {web}/sizes.js {port}", "", &[]),
    row("go", "web", "{go} serve {port}", "", &[]),
    row("jdk", "Sizes", "/usr/bin/java -XX:TieredStopAtLevel=1 {web}/Sizes.java {port}", "", &[]),
    row(
        "tomcat",
        "tomcat",
        "/usr/bin/java -XX:TieredStopAtLevel=1 -Dcatalina.home=/usr/share/tomcat10 -Dcatalina.base={dir} -cp \
         /usr/share/tomcat10/bin/bootstrap.jar:/usr/share/java/tomcat10-juli.jar \
         org.apache.catalina.startup.Bootstrap start",
        "",
        TOMCAT,
    ),
    row(
        "php",
        "nginx",
        "/usr/sbin/nginx -p {dir} -c {dir}/nginx.conf",
        "/usr/sbin/php-fpm8.2 -y {dir}/fpm.conf",
        PHP,
    ),
    row("puma", "puma", "/usr/bin/puma -t 4:4 -b tcp://0.0.0.0:{port} {web}/config.ru", "", &[]),
    row("hyper", "hyper_http", "{hyper} serve {port}", "", &[]),
];

const fn row(
    name: &'static str,
    service: &'static str,
    command: &'static str,
    beside: &'static str,
    files: &'static [(&'static str, &'static str)],
) -> Server {
    Server { name, service, command, beside, files }
}

const NGINX: &[(&str, &str)] = &[(
    "nginx.conf",
    "daemon off; user www-data; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {}
http {
  access_log off; sendfile on; keepalive_requests 1000000;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  server { listen 0.0.0.0:{port}; root {www}; }
}
",
)];

const APACHE: &[(&str, &str)] = &[
    (
        "common.conf",
        "ServerRoot /usr/lib/apache2
ServerName localhost
PidFile {dir}/pid
ErrorLog {dir}/error.log
Listen 0.0.0.0:{port}
User www-data
MaxKeepAliveRequests 0
LoadModule authz_core_module modules/mod_authz_core.so
DocumentRoot {www}
",
    ),
    (
        "prefork.conf",
        "Include {dir}/common.conf
LoadModule mpm_prefork_module modules/mod_mpm_prefork.so
StartServers 12
",
    ),
    (
        "event.conf",
        "Include {dir}/common.conf
LoadModule mpm_event_module modules/mod_mpm_event.so
StartServers 1
",
    ),
];

const LIGHTTPD: &[(&str, &str)] = &[(
    "lighttpd.conf",
    "server.document-root = \"{www}\"
server.bind = \"0.0.0.0\"
server.port = {port}
mimetype.assign = (\"\" => \"text/plain\")
",
)];

const HAPROXY: &[(&str, &str)] = &[(
    "haproxy.cfg",
    "defaults
  mode http
  timeout client 75s
  timeout connect 5s
  timeout server 75s
listen front
  bind 0.0.0.0:{port}
  http-request replace-path /haproxy/(.*) /behind-haproxy/\\1
  server one 127.0.0.1:{behind}
",
)];

const CADDY: &[(&str, &str)] = &[(
    "Caddyfile",
    "{
  admin off
  auto_https off
}
http://:{port} {
  root * {www}
  file_server
}
",
)];

const TOMCAT: &[(&str, &str)] = &[
    (
        "conf/server.xml",
        "<Server port=\"-1\"><Service name=\"Catalina\">
  <Connector port=\"{port}\" maxKeepAliveRequests=\"-1\"/>
  <Engine name=\"Catalina\" defaultHost=\"localhost\">
    <Host name=\"localhost\" appBase=\"{dir}/none\" autoDeploy=\"false\" deployOnStartup=\"false\">
      <Context path=\"\" docBase=\"{www}\"/>
    </Host>
  </Engine>
</Service></Server>
",
    ),
    (
        "conf/web.xml",
        "<web-app xmlns=\"https://jakarta.ee/xml/ns/jakartaee\" version=\"5.0\" metadata-complete=\"true\">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
    <load-on-startup>1</load-on-startup>
  </servlet>
  <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
</web-app>
",
    ),
    ("temp/none", ""),
];

const PHP: &[(&str, &str)] = &[
    (
        "nginx.conf",
        "daemon off; user www-data; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {}
http {
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  server {
    listen 0.0.0.0:{port};
    location / {
      fastcgi_pass unix:{dir}/fpm.sock;
      fastcgi_param SCRIPT_FILENAME {web}/sizes.php;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param REQUEST_URI $uri;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
    }
  }
}
",
    ),
    (
        "fpm.conf",
        "[global]
daemonize = no
error_log = {dir}/fpm.log
[www]
user = www-data
listen = {dir}/fpm.sock
listen.mode = 0666
pm = static
pm.max_children = 4
",
    ),
];

/// Programs of the tests that servers and clients are made of.
#[derive(Clone, Debug)]
pub struct Tools {
    web: PathBuf,
    www: PathBuf,
    /// `hyper_http`.
    pub hyper: PathBuf,
    /// `workloads/web/go`; none without a toolchain.
    pub go: Option<PathBuf>,
}

impl Tools {
    /// Makes pages and programs ready.
    ///
    /// # Panics
    /// When they cannot be written or built.
    pub fn make(scenario: &Scenario, hyper: &str) -> Tools {
        // Where every user may read them.
        let web = scenario.path("web");
        std::fs::create_dir_all(&web).expect("a directory");
        let programs = std::fs::read_dir(crate_dir("workloads/web")).expect("the programs");
        for program in programs.filter_map(Result::ok).filter(|entry| entry.path().is_file()) {
            std::fs::copy(program.path(), web.join(program.file_name())).expect("a copy");
        }
        for server in SERVERS {
            for size in SIZES {
                let page = format!("{}/size/{size}", server.name);
                let page = Path::new(&page);
                let above = page.parent().expect("its directory");
                std::fs::create_dir_all(scenario.path("www").join(above)).expect("a directory");
                Nginx::page(scenario, &page.to_string_lossy(), size);
            }
        }
        let go = golang::build_of(scenario, "workloads/web/go", "web-go/web", "local", &[]);
        Tools { web, www: scenario.path("www"), hyper: hyper.into(), go }
    }

    /// `text` with what stands in braces replaced; `None` when that is missing here.
    pub fn fill(&self, text: &str, more: &[(&str, String)]) -> Option<String> {
        let path = |path: &Path| path.display().to_string();
        let mut known: BTreeMap<&str, String> =
            more.iter().map(|(name, value)| (*name, value.clone())).collect();
        known.insert("web", path(&self.web));
        known.insert("www", path(&self.www));
        known.insert("hyper", path(&self.hyper));
        if let Some(go) = &self.go {
            known.insert("go", path(go));
        }
        let mut text = text.to_owned();
        for (name, value) in known {
            text = text.replace(&format!("{{{name}}}"), &value);
        }
        (!text.contains("{go}")).then_some(text)
    }
}

/// A running server.
#[derive(Debug)]
pub struct Running {
    /// Its row.
    pub server: Server,
    /// Where it listens.
    pub port: u16,
    /// How it is reached.
    pub host: &'static str,
    /// Words to run a client by that reaches it.
    pub wrap: Vec<String>,
    process: Process,
    _beside: Option<Process>,
    _netns: Option<Netns>,
}

impl Running {
    /// Starts it, with `apart` in pid, mount, net and cgroup namespaces of its own. `None` when its program is not
    /// installed.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(
        scenario: &Scenario,
        tools: &Tools,
        server: &Server,
        apart: bool,
    ) -> Option<Running> {
        let dir = scenario.path("servers").join(server.name);
        let [port, behind] = free_ports();
        let more = [
            ("dir", dir.display().to_string()),
            ("port", port.to_string()),
            ("behind", behind.to_string()),
        ];
        let command = tools.fill(server.command, &more)?;
        let program = Path::new(command.split_whitespace().next()?);
        find_program(&program.file_name()?.to_string_lossy())
            .or_else(|| program.is_file().then(|| program.to_owned()))?;
        std::fs::create_dir_all(&dir).expect("a directory");
        for (name, content) in server.files {
            let file = dir.join(name);
            // Caddy's and nginx's files have braces of their own: only known names are replaced.
            let content = tools.fill(content, &more)?;
            std::fs::create_dir_all(file.parent().expect("its directory")).expect("a directory");
            std::fs::write(file, content).expect("a configuration");
        }
        let netns = apart.then(Netns::pair);
        let wraps = netns.as_ref().map_or([vec![], vec![]], |pair| [pair.wrap(0), pair.wrap(1)]);
        let host = netns.as_ref().map_or("127.0.0.1", |pair| pair.addresses[1]);
        let [near, far] = wraps;
        let run = |command: &str, name: &str| {
            let mut words: Vec<&str> = far.iter().map(String::as_str).collect();
            words.extend(command.split_whitespace());
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).current_dir(&dir).env("HOME", &dir);
            Process::start(command, scenario.dir(), name)
        };
        let beside = (!server.beside.is_empty()).then(|| {
            let command = tools.fill(server.beside, &more).expect("known names");
            run(&command, &format!("{}-beside", server.name))
        });
        let process = run(&command, server.name);
        Some(Running {
            server: *server,
            port,
            host,
            wrap: near,
            process,
            _beside: beside,
            _netns: netns,
        })
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self) {
        let url = self.url(SIZES[0], "start");
        let mut words = self.wrap.clone();
        words.extend(["curl", "-sf", "-m", "5", "-o", "/dev/null", &url].map(str::to_owned));
        until(&format!("{} answers", self.server.name), READY, || {
            assert!(self.process.is_running(), "it ended: {}", self.process.tail());
            let mut command = Command::new(&words[0]);
            let status = command.args(&words[1..]).status().expect("curl");
            status.success().then_some(())
        });
    }

    /// The page of a size, as asked for by a client of that name.
    pub fn url(&self, size: usize, client: &str) -> String {
        let Running { server, port, host, .. } = self;
        format!("http://{host}:{port}/{}/size/{size}?by={client}", server.name)
    }
}
