"""A stand-in for model hubs: the parts of the Hugging Face and ModelScope interfaces that ridge uses, a
simple index for pip, a forward proxy, and the faults that real ones have."""

import dataclasses
import hashlib
import http.server
import json
import threading
import urllib.parse


@dataclasses.dataclass
class File:
    data: bytes
    etag: str = '"1"'  # None: the server gives none
    stated_sha256: str = None  # None: the true one; "": not stated in the listing
    stated_size: int = None  # None: the true one; 0: not stated in the listing
    linked_etag: str = None  # X-Linked-Etag on the first answer
    ranges: bool = True  # False: a Range is ignored
    cuts: list = dataclasses.field(default_factory=list)  # bytes after which each next answer is cut
    chunked: bool = False  # no Content-Length
    pause_s: float = 0  # between pieces of 64 kB
    redirect: str = None  # "{path}" stands for the path of the bytes themselves

    @property
    def sha256(self):
        return hashlib.sha256(self.data).hexdigest()


@dataclasses.dataclass
class Request:
    method: str
    host: str  # the Host header
    path: str  # without the query; the whole URL where ridge took us for a proxy
    headers: dict  # keys in lower case


class Hub:
    """Listens on all of 127.0.0.0/8 at one port, so that 127.0.0.1 and 127.0.0.2 are two hosts."""

    def __init__(self):
        self.repositories = {}  # "org/name" -> {path: File}
        self.index = {}  # wheel file name -> bytes
        self.requests = []  # every Request, in order
        self.token = None  # where set: 401 without it, 403 with another
        self.answers = []  # (status, headers) given, one each, before anything else
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                hub._answer(self)

            do_HEAD = do_GET

        self.server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def url(self, host="127.0.0.1"):
        return f"http://{host}:{self.port}"

    def add(self, repository, path, data, **options):
        file = File(data, **options)
        self.repositories.setdefault(repository, {})[path] = file
        return file

    def paths(self, prefix="/"):
        return [request.path for request in self.requests if request.path.startswith(prefix)]

    # -- answers -------------------------------------------------------------------------------

    def _answer(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        headers = {key.lower(): value for key, value in handler.headers.items()}
        path = urllib.parse.unquote(url.path)
        shown = f"{url.scheme}://{url.netloc}{path}" if url.scheme else path
        self.requests.append(Request(handler.command, headers.get("host", ""), shown, headers))
        if self.answers:
            status, extra = self.answers.pop(0)
            return self._send(handler, status, b"no", extra)
        if path.startswith("/bytes/"):
            return self._send_file(handler, headers, path.removeprefix("/bytes/"))
        if path.startswith(("/simple/", "/wheels/")):
            return self._send_index(handler, path)
        if self.token and headers.get("authorization") is None:
            return self._send(handler, 401, b"")
        if self.token and headers["authorization"] != f"Bearer {self.token}":
            return self._send(handler, 403, b"")
        if path.startswith("/api/models/"):
            return self._send_listing(handler, path.removeprefix("/api/models/").split("/revision/")[0])
        if path.startswith("/api/v1/models/"):
            return self._send_modelscope(handler, headers, path.removeprefix("/api/v1/models/"), url.query)
        if "/resolve/" in path:
            repository, rest = path[1:].split("/resolve/", 1)
            return self._send_file(handler, headers, f"{repository}:{rest.split('/', 1)[1]}")
        return self._send(handler, 404, b"")

    def _send(self, handler, status, body, headers=None):
        handler.send_response(status)
        for key, value in (headers or {}).items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def _send_json(self, handler, body):
        self._send(handler, 200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _send_listing(self, handler, repository):
        if repository not in self.repositories:
            return self._send(handler, 404, b"{}")
        siblings = [{"rfilename": "README.md", "size": 3, "blobId": "0" * 40}]
        for path, file in self.repositories[repository].items():
            lfs = {"pointerSize": 135}
            lfs["sha256"] = file.sha256 if file.stated_sha256 is None else file.stated_sha256
            lfs["size"] = len(file.data) if file.stated_size is None else file.stated_size
            siblings.append({"rfilename": path, "lfs": lfs})
        self._send_json(handler, {"id": repository, "sha": self.commit, "siblings": siblings})

    def _send_modelscope(self, handler, headers, path, query):
        repository, _, rest = path.partition("/repo")
        if repository not in self.repositories:
            return self._send(handler, 404, b"{}")
        if rest == "/files":
            files = [
                {"Path": path, "Type": "blob", "Size": len(file.data), "Sha256": file.sha256}
                for path, file in self.repositories[repository].items()
            ]
            return self._send_json(handler, {"Code": 200, "Data": {"Files": files}})
        wanted = urllib.parse.parse_qs(query)["FilePath"][0]
        self._send_file(handler, headers, f"{repository}:{wanted}")

    def _send_index(self, handler, path):
        if path.startswith("/wheels/"):
            return self._send(handler, 200, self.index[path.removeprefix("/wheels/")])
        links = "".join(f'<a href="/wheels/{name}">{name}</a>' for name in self.index)
        self._send(handler, 200, f"<html><body>{links}</body></html>".encode(), {"Content-Type": "text/html"})

    def _send_file(self, handler, headers, name):
        repository, path = name.split(":", 1)
        file = self.repositories.get(repository, {}).get(path)
        if file is None:
            return self._send(handler, 404, b"")
        extra = {}
        if file.linked_etag and not handler.path.startswith("/bytes/"):
            extra["X-Linked-Etag"] = f'"{file.linked_etag}"'
            extra["X-Linked-Size"] = str(len(file.data))
        if file.redirect and not handler.path.startswith("/bytes/"):
            path = "/bytes/" + urllib.parse.quote(name)
            location = file.redirect.format(path=path, port=self.port)
            return self._send(handler, 302, b"", {**extra, "Location": location})
        self._send_bytes(handler, headers, file, extra)

    def _send_bytes(self, handler, headers, file, extra):
        start = 0
        wanted = headers.get("range")
        if_range = headers.get("if-range")
        if wanted and file.ranges and (if_range is None or if_range == file.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(file.data) > 0 and start:
            return self._send(handler, 416, b"", {"Content-Range": f"bytes */{len(file.data)}"})
        body = file.data[start:]
        handler.send_response(206 if start else 200)
        for key, value in extra.items():
            handler.send_header(key, value)
        if file.etag:
            handler.send_header("ETag", file.etag)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(file.data) - 1}/{len(file.data)}")
        if file.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        cut = file.cuts.pop(0) if file.cuts else None
        self._write(handler, body if cut is None else body[:cut], file)
        if cut is not None:
            handler.close_connection = True
            handler.connection.shutdown(2)  # both ways, in the middle of the body

    def _write(self, handler, body, file):
        try:
            for at in range(0, len(body), 65536):
                piece = body[at : at + 65536]
                if file.chunked:
                    piece = b"%x\r\n%s\r\n" % (len(piece), piece)
                handler.wfile.write(piece)
                if file.pause_s:
                    handler.wfile.flush()
                    threading.Event().wait(file.pause_s)
            if file.chunked:
                handler.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True  # ridge went away, as some tests make it do
