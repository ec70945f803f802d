"""A small Hub on this machine: as much of it as huggingface_hub calls to upload and to load."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, hf_api

__all__ = ["READER", "WRITER", "Hub", "running", "speak_to"]

WRITER, READER = "hf_may_write", "hf_may_read"


@dataclass
class Hub:
    """What the server holds, and how it is to misbehave.

    Attributes:
        lfs: Large files go through LFS; otherwise all are ordinary ones.
        cut: Connections are cut where a request's method and path begin like this, so many times.
        commits: Of each repository, the files after each commit, by its id.
        proposals: Files that were proposed in pull requests, by repository.
        stored: LFS objects, by SHA-256.
        asked: Every request: method and path.
    """

    lfs: bool = True
    cut: dict[tuple[str, str], int] = field(default_factory=dict)
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    proposals: dict[str, dict[str, bytes]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def head(self, repository: str) -> str:
        """Give the id of a repository's last commit."""
        return list(self.commits[repository])[-1]

    def files(self, repository: str) -> dict[str, bytes]:
        """Give what a repository holds now."""
        return self.commits[repository][self.head(repository)]

    def put(self, repository: str, files: Mapping[str, bytes]) -> str:
        """Make a commit, and give its id."""
        before = self.commits.setdefault(repository, {})
        identity = hashlib.sha1(f"{repository} {len(before)}".encode()).hexdigest()
        before[identity] = dict(files)
        return identity


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve a Hub on loopback until the block ends."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def speak_to(hub: Hub, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the Hub's client in this process use this Hub, with a cache of its own."""
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(hf_api.api, "endpoint", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", hub.lfs)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        for (method, begin), left in self.hub.cut.items():
            if left and method == self.command and path.startswith(begin):
                self.hub.cut[method, begin] -= 1
                self.rfile.read(100)
                self.close_connection = True
                self.connection.close()
                return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._model("/".join(parts[2:4]), parts[4:], body)
        elif parts[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[:2] == ["api", "validate-yaml"]:
            known = "license: nonsense" not in json.loads(body)["content"]
            error = [] if known else [{"message": '"license" must be one of [...]'}]
            self._json({"errors": error, "warnings": []}, 200 if known else 400)
        elif parts[0] == "lfs":
            self.hub.stored[parts[1]] = body
            self._json({})
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, "EntryNotFound", "no such thing")

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _may_write(self) -> bool:
        if self._token() == WRITER:
            return True
        known = self._token() == READER
        self._refuse(403 if known else 401, "", "you may not write here" if known else "who?")
        return False

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if not self._may_write():
            return
        exists = name in self.hub.commits
        if not exists:
            self.hub.put(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": f"{self.hub.url}/{name}"}, 409 if exists else 200)

    def _model(self, name: str, rest: list[str], body: bytes) -> None:
        if name not in self.hub.commits:
            self._refuse(404, "RepoNotFound", "Repository not found")
            return
        what, revision = [*rest, "", ""][:2]
        if what == "discussions":
            self._json(
                {
                    "num": 1,
                    "title": "",
                    "author": {"name": "me"},
                    "status": "draft",
                    "createdAt": "2026-01-01T00:00:00.000Z",
                    "isPullRequest": True,
                    "repo": {"name": name, "type": "model"},
                    "events": [],
                    "changes": {"base": "refs/heads/main"},
                    "diffUrl": None,
                    "filesWithConflicts": [],
                }
            )
            return
        if revision not in ("", "main") and not revision.startswith("refs"):
            if revision not in self.hub.commits[name]:
                self._refuse(404, "RevisionNotFound", "Invalid rev id")
                return
        else:
            revision = self.hub.head(name)
        files = self.hub.commits[name][revision]
        if what == "tree":
            below = "".join(f"{part}/" for part in rest[2:])
            listed = [self._entry(*file) for file in files.items() if file[0].startswith(below)]
            if listed:
                self._json(listed)
            else:
                self._refuse(404, "EntryNotFound", "no such folder")
        elif what == "preupload":
            self._preupload(files, json.loads(body))
        elif what == "commit":
            if self._may_write():
                self._commit(name, "/".join(rest[1:]), files, body)
        else:
            siblings = [{"rfilename": path} for path in files]
            self._json(
                {
                    "id": name,
                    "modelId": name,
                    "sha": revision,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "siblings": siblings,
                }
            )

    def _is_large(self, path: str) -> bool:
        return self.hub.lfs and path.endswith(".safetensors")

    def _entry(self, path: str, content: bytes) -> dict[str, Any]:
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": oid}
        if self._is_large(path):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
        return entry

    def _preupload(self, files: Mapping[str, bytes], asked: dict[str, Any]) -> None:
        answers = []
        for one in asked["files"]:
            path = one["path"]
            there = self._entry(path, files[path]) if path in files else {}
            oid = there.get("lfs", {}).get("oid") or there.get("oid")
            mode = "lfs" if self._is_large(path) else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for one in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            more = {} if one["oid"] in self.hub.stored else {"actions": upload}
            objects.append({**one, **more})
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, revision: str, files: Mapping[str, bytes], body: bytes) -> None:
        after = dict(files)
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "file":
                after[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                after[value["path"]] = self.hub.stored[value["oid"]]
            elif one["key"] == "deletedFile":
                after.pop(value["path"], None)
        proposed = "create_pr=1" in self.path or revision.startswith("refs")
        if proposed:
            self.hub.proposals[name] = after
            identity = "0" * 40
        else:
            identity = self.hub.put(name, after)
        self._json(
            {
                "commitUrl": f"{self.hub.url}/{name}/commit/{identity}",
                "commitOid": identity,
                "pullRequestUrl": f"{self.hub.url}/{name}/discussions/1" if proposed else None,
            }
        )

    def _file(self, name: str, revision: str, path: str) -> None:
        commits = self.hub.commits.get(name, {})
        if commits and revision != "main" and revision not in commits:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        revision = self.hub.head(name) if revision == "main" and commits else revision
        content = commits.get(revision, {}).get(path)
        if content is None:
            self._refuse(404, "EntryNotFound" if commits else "RepoNotFound", "no such file")
            return
        entry = self._entry(path, content)
        digest = entry.get("lfs", {}).get("oid") or entry["oid"]
        self._send(200, content, {"X-Repo-Commit": revision, "ETag": f'"{digest}"'})

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, said: str) -> None:
        self._send(
            status,
            json.dumps({"error": said}).encode(),
            {"X-Error-Code": code, "X-Error-Message": said, "Content-Type": "application/json"},
        )

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
