"""What the agent wrote (OTLP/JSON, a request a line), to be asked."""

import json

KINDS = {2: "SERVER", 3: "CLIENT"}


def attributes(item):
    return {a["key"]: next(iter(a["value"].values()), None) for a in item.get("attributes", [])}


class Span:
    """One span with its service."""

    def __init__(self, raw, service):
        self.raw, self.service = raw, service
        self.id, self.parent_id = raw["spanId"], raw.get("parentSpanId", "")
        self.kind = KINDS.get(raw.get("kind"), "OTHER")
        self.start, self.end = int(raw["startTimeUnixNano"]), int(raw["endTimeUnixNano"])
        found = attributes(raw)
        url = found.get("url.path") or found.get("url.full") or ""
        self.path = "/" + url.split("://", 1)[-1].split("/", 1)[-1] if "://" in url else url
        self.method = found.get("http.request.method")
        self.code = found.get("http.response.status_code")
        self.body = found.get("http.response.body.size")
        self.port = int(found.get("server.port", 0))

    def __str__(self):
        return f"{self.kind} {self.service} {self.method} {self.path} {self.code}"


class Report:
    """Spans and log records of a run."""

    def __init__(self, path):
        self.spans, self.logs = [], []
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                # The last may be cut where the agent had to end: what it lacks is missed below.
                if line.endswith("\n"):
                    self.take(json.loads(line))
        self.by_id = {span.id: span for span in self.spans}

    def take(self, request):
        for resource in request.get("resourceSpans", []):
            service = attributes(resource["resource"]).get("service.name")
            for scope in resource["scopeSpans"]:
                self.spans += [Span(raw, service) for raw in scope["spans"]]
        for resource in request.get("resourceLogs", []):
            for scope in resource["scopeLogs"]:
                self.logs += scope["logRecords"]

    def below(self, prefix):
        """Spans of requests for paths that begin like this."""
        return [span for span in self.spans if span.path.startswith(prefix)]

    def parent(self, span):
        return self.by_id.get(span.parent_id)

    def seen(self, spans):
        """Each span with its parent, as a line."""
        return [f"{span} < {self.parent(span) or 'none'}" for span in spans]

    def on_port(self, prefix, port):
        """The same of requests to a server at this port."""
        return [span for span in self.below(prefix) if span.port == port]

    @staticmethod
    def attributes(record):
        return attributes(record)

    def wrong(self, spans, expected, status=lambda path: (200, "200"), joined=True):
        """Sentences where kinds, paths and services differ from `expected`, (kind, service, path) of
        each span; and, when `joined`, where a server span has no client span around it."""
        want = sorted(expected)
        have = sorted((s.kind, str(s.service), s.path) for s in spans)
        sentences = []
        if want != have:
            lacking = [w for w in want if w not in have][:5]
            strange = [h for h in have if h not in want][:5]
            sentences.append(f"{len(have)} spans, {len(want)} expected; lacking {lacking}, strange {strange}")
        for span in spans:
            parent = self.parent(span)
            if span.code not in status(span.path):
                sentences.append(f"{span} has another status than {status(span.path)[0]}")
            if span.kind != "SERVER" or not joined:
                continue
            if parent is None or parent.kind != "CLIENT" or parent.path != span.path:
                sentences.append(f"{span} is not joined to its client span: {parent}")
            elif not (parent.start <= span.start and span.end <= parent.end):
                sentences.append(f"{span} is not inside its client span")
        return sentences[:8]
