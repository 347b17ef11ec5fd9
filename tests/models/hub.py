"""A stand-in for the Hugging Face hub: a server on this machine with the files of one model of timm."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def served(name: str, content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server whose repositories hold one file of this name, and the requests it received."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> bool:
            requests.append(f"{self.command} {self.path}")
            is_there = self.path.endswith(f"/{name}")
            self.send_response(200 if is_there else 404)
            if is_there:
                self.send_header("X-Repo-Commit", "a" * 40)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", str(len(content) if is_there else 0))
            self.end_headers()
            return is_there

        def do_GET(self) -> None:
            if self.do_HEAD():
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
