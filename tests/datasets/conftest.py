"""A real HTTP server on 127.0.0.1, a cache of a test's own, and a real file to fetch into it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import datasets
from datasets import sources
from datasets.sources import File


@dataclass
class Server:
    """Serves `pages`: path -> (status, body, promised length). Counts requests; `gate` holds back half of a
    body; where it is `endless`, zeros follow the first half until the client has gone."""

    pages: dict[str, tuple[int, bytes, int]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    gate: threading.Event | None = None
    endless: bool = False
    url: str = ""

    def serve(self, path: str, body: bytes, status: int = 200, promised: int | None = None) -> str:
        self.pages[f"/{path}"] = (status, body, len(body) if promised is None else promised)
        return self.url + path


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            status, body, promised = state.pages.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            with contextlib.suppress(ConnectionError):
                while state.endless:
                    self.wfile.write(bytes(1 << 16))
            if state.gate is not None:
                state.gate.wait(20)
            with contextlib.suppress(ConnectionError):  # the client may have been killed
                self.wfile.write(body[half:])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(scope="session")
def content() -> bytes:
    """A real file of 2 MB: MovieLens-100K, from the checkout's cache."""
    return datasets.fetch("movielens_100k")[0].read_bytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sources, "CACHE", tmp_path / "data")
    monkeypatch.delenv("ASSAY_MIRROR", raising=False)
    return tmp_path / "data"


@pytest.fixture
def file(content: bytes) -> File:
    return File("ml.inter", hashlib.sha256(content).hexdigest(), len(content))
