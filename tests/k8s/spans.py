"""What the agent sent: spans out of the Collector's file, which holds what arrived."""

import json, urllib.parse


class Span:
    def __init__(self, span, resource):
        self.id, self.trace, self.parent = span["spanId"], span["traceId"], span.get("parentSpanId", "")
        self.server = span["kind"] == 2
        self.start, self.end = int(span["startTimeUnixNano"]) / 1e9, int(span["endTimeUnixNano"]) / 1e9
        told = attributes(span)  # a client knows the whole URL
        self.path = told.get("url.path") or urllib.parse.urlsplit(told.get("url.full", "")).path
        self.resource = resource

    def __getitem__(self, key):
        return self.resource.get(key)

    def __str__(self):
        side = "server" if self.server else "client"
        return f"{side} {self['service.name']} ({self['k8s.pod.name']}/{self['k8s.container.name']}) {self.path}"

    __repr__ = __str__


def attributes(holder):
    return {a["key"]: next(iter(a["value"].values()), "") for a in holder.get("attributes", [])}


class Spans:
    """All spans so far; what has been read once is not read again."""

    def __init__(self, file):
        self.file, self.read, self.all = file, 0, []

    def now(self):
        if self.file.exists():
            with open(self.file, "rb") as lines:
                lines.seek(self.read)
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # half written
                    self.read += len(line)
                    self.take(json.loads(line))
        return self.all

    def take(self, request):
        for group in request.get("resourceSpans", []):
            resource = attributes(group["resource"])
            for scope in group["scopeSpans"]:
                self.all += [Span(span, resource) for span in scope["spans"]]

    def like(self, since=0.0, **expected):
        """Those that began after a time, of a resource as expected (`_` for `.`)."""
        wanted = {key.replace("_", "."): value for key, value in expected.items()}
        fits = lambda span: all(span[key] == value for key, value in wanted.items())
        return [span for span in self.now() if span.start >= since and fits(span)]

    def traces(self, since=0.0):
        found = {}
        for span in self.now():
            if span.start >= since:
                found.setdefault(span.trace, []).append(span)
        return found
