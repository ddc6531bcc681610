"""A model hub on this machine, with faults: what `pull` must live through."""

import hashlib
import http.server
import json
import threading

SHA = "a" * 40


class Hub(http.server.ThreadingHTTPServer):
    """files: {name: bytes}; faults change what the next answers are."""

    def __init__(self, files, gated=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.gated = files, gated
        self.cut_after, self.unavailable, self.damage, self.no_ranges, self.extra = {}, 0, set(), False, []
        self.requests, self.tokens = [], []
        self.redirect = None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self):
        self.shutdown()
        self.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        hub = self.server
        hub.requests.append((self.path, self.headers.get("Range")))
        hub.tokens.append(self.headers.get("Authorization"))
        if hub.unavailable > 0:
            hub.unavailable -= 1
            return self.answer(503)
        if hub.gated and not self.headers.get("Authorization"):
            return self.answer(401)
        if self.path.startswith("/api/models/some/model/revision/main"):
            return self.listing()
        if self.path.startswith(f"/some/model/resolve/{SHA}/"):
            return self.file(self.path.removeprefix(f"/some/model/resolve/{SHA}/"))
        return self.answer(404)

    do_HEAD = do_GET

    def listing(self):
        siblings = []
        for name, content in self.server.files.items():
            entry = {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            siblings.append(entry)
        siblings += [{"rfilename": name, "size": 1, "blobId": "b" * 40} for name in self.server.extra]
        self.answer(200, json.dumps({"sha": SHA, "siblings": siblings}).encode())

    def file(self, name):
        hub = self.server
        if hub.redirect:
            return self.answer(302, headers={"Location": hub.redirect + self.path})
        content = hub.files[name]
        if name in hub.damage:
            content = content[:-1] + bytes([content[-1] ^ 1])
        begin = 0
        if self.headers.get("Range") and not hub.no_ranges:
            begin = int(self.headers["Range"].split("=")[1].split("-")[0])
        body = content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = hub.cut_after.pop(name, None)
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True
