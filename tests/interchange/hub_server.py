"""A small stand-in for the Hugging Face Hub: repositories of datasets in memory, over HTTP on this machine."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_stand_in"


class Hub:
    """Files by name of each dataset; what was asked, for messages."""

    def __init__(self) -> None:
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.private: dict[str, bool] = {}

    def revision(self, name: str) -> str:
        """A commit's name that follows from the content."""
        total = hashlib.sha1()
        for path, content in sorted(self.datasets[name].items()):
            total.update(path.encode() + content)
        return total.hexdigest()


def _handler(hub: Hub, address: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            hub.asked.append(" ".join(map(str, words[1:])))

        def answer(self, content: Any, code: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/octet-stream" if body is content else "application/json")
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_POST(self) -> None:
            body, path = self.body(), self.path.partition("?")[0]
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer({"error": "Invalid user token"}, 401)
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.private.setdefault(name, asked.get("visibility") == "private" or bool(asked.get("private")))
                hub.datasets.setdefault(name, {})
                return self.answer({"url": f"{address[0]}/datasets/{name}", "name": name, "id": name})
            if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/main", path):
                modes = {"uploadMode": "regular", "shouldIgnore": False}
                return self.answer({"files": [{"path": file["path"], **modes} for file in json.loads(body)["files"]]})
            if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/main", path):
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        hub.datasets[match[1]][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                revision = hub.revision(match[1])
                url = f"{address[0]}/datasets/{match[1]}/commit/{revision}"
                return self.answer({"success": True, "commitOid": revision, "commitUrl": url, "hookOutput": ""})
            return self.answer({}, 200 if path == "/api/validate-yaml" else 404)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if match := re.fullmatch(r"/(?:api/)?datasets/([^/]+/[^/]+)(/.*)?", path):
                name, rest = match[1], match[2] or ""
                if name not in hub.datasets:
                    return self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
                files, revision = hub.datasets[name], hub.revision(name)
                if found := re.fullmatch(r"/resolve/[^/]+/(.+)", rest):
                    if found[1] not in files:
                        return self.answer(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=revision)
                    tag = hashlib.sha256(files[found[1]]).hexdigest()
                    return self.answer(files[found[1]], ETag=f'"{tag}"', X_Repo_Commit=revision)
                if rest.startswith("/tree/"):
                    listed = [
                        {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for path, content in files.items()
                    ]
                    return self.answer(listed)
                siblings = [{"rfilename": path} for path in files]
                about = {"id": name, "sha": revision, "siblings": siblings, "private": hub.private[name], "tags": []}
                return self.answer({**about, "downloads": 0, "likes": 0})
            return self.answer({"error": "not found"}, 404)

        do_HEAD = do_GET  # noqa: N815  # the library's name

    return Handler


@contextmanager
def running() -> Iterator[tuple[Hub, str]]:
    """A stand-in, and its address."""
    hub, address = Hub(), [""]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, address))
    address[0] = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, address[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
