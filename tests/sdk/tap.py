"""A recording tap: a reverse proxy between the SDKs and victor that judges every answer.

    python tap.py --to http://127.0.0.1:8000 [--faults FILE]

Prints `tap ready URL` once it listens. A client's base URL may begin with the name of its cell, as
in `URL/@openai-python~simo~plain~chat/v1`; that part is taken off. Bytes pass through as they come;
an answer ends for the client only after it has been judged. `GET /@tap/report?cell=NAME` is what was
seen of a cell so far, all of them without a name. Standard library only, but for the grammar's types.
"""

import argparse
import http.client
import http.server
import json
import socket
import sys
import threading
import urllib.parse

import grammar

# Between two parts of one message only (RFC 9110 section 7.6.1), and what is framed anew.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
# How long a report waits for answers that are still on their way.
SETTLE_SECONDS = 10


class Ledger:
    """What was seen, by cell."""

    def __init__(self, path):
        self.changed = threading.Condition()
        self.cells = {}
        self.file = open(path, "a", encoding="utf-8") if path else None

    def _cell(self, name):
        empty = {"exchanges": 0, "events": 0, "open": 0, "faults": [], "dropped": []}
        return self.cells.setdefault(name, empty)

    def begin(self, name):
        with self.changed:
            cell = self._cell(name)
            cell["exchanges"] += 1
            cell["open"] += 1

    def end(self, name, events):
        with self.changed:
            cell = self._cell(name)
            cell["events"] += events
            cell["open"] -= 1
            self.changed.notify_all()

    def fault(self, name, text):
        with self.changed:
            self._cell(name)["faults"].append(text)
            if self.file:
                self.file.write(f"{name}: {text}\n")
                self.file.flush()

    def dropped(self, name, fields):
        with self.changed:
            self._cell(name)["dropped"] += [field.strip() for field in fields.split(",")]

    def report(self, name):
        with self.changed:
            cell = self._cell(name)
            if not self.changed.wait_for(lambda: not cell["open"], SETTLE_SECONDS):
                cell["faults"].append("an answer has not ended")
            return self.cells.pop(name)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An event must not wait for the acknowledgement of the one before it.
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/@tap/report"):
            return self.report(url)
        cell, path = "-", url.path
        if path.startswith("/@"):
            cell, _, path = path[2:].partition("/")
            cell, path = urllib.parse.unquote(cell).replace("~", "/"), "/" + path
        self.ledger.begin(cell)
        judge = None
        try:
            judge = self.exchange(cell, path, url.query)
        except Exception as error:  # a grammar that stumbles has met something unforeseen
            self.ledger.fault(cell, f"{self.command} {path}: {error!r}")
            self.close_connection = True
        finally:
            self.ledger.end(cell, judge.events if judge else 0)

    do_GET = do_POST = do_DELETE = do_HEAD = do

    def report(self, url):
        name = urllib.parse.parse_qs(url.query).get("cell", ["-"])[0]
        body = json.dumps(self.ledger.report(name)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def request_body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def exchange(self, cell, path, query):
        body = self.request_body()
        upstream = http.client.HTTPConnection(self.upstream, timeout=120)
        upstream.connect()
        upstream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            target = path + (f"?{query}" if query else "")
            upstream.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    upstream.putheader(name, value)
            if body or self.command == "POST":
                upstream.putheader("content-length", str(len(body)))
            upstream.endheaders(body)
            return self.answer(cell, path, body, upstream.getresponse())
        finally:
            upstream.close()

    def answer(self, cell, path, request_body, response):
        headers = {name.lower(): value for name, value in response.getheaders()}
        asked = {name.lower(): value for name, value in self.headers.items()}
        judge, faults = grammar.judge(
            self.command, path, asked, request_body, response.status, headers
        )
        place = f"{self.command} {path} ({response.status}, {headers.get('x-request-id', '?')})"
        tell = lambda found: [self.ledger.fault(cell, f"{place}: {one}") for one in found]
        tell(faults)
        if headers.get("x-victor-dropped"):
            self.ledger.dropped(cell, headers["x-victor-dropped"])
        client = Client(self, response, headers)
        complete = True
        try:
            while data := response.read1(65536):
                tell(judge.feed(data))
                client.send(data)
        except http.client.IncompleteRead:
            complete = False
        tell(judge.end(complete))
        client.end(complete)
        return judge


class Client:
    """The answer on its way to the client, which may leave before its end: that is no fault."""

    def __init__(self, handler, response, headers):
        self.handler = handler
        self.length = headers.get("content-length")
        self.gone = False
        handler.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                handler.send_header(name, value)
        if self.length is None:
            handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()

    def write(self, data):
        try:
            if not self.gone:
                self.handler.wfile.write(data)
        except OSError:
            self.gone = True
            self.handler.close_connection = True

    def send(self, data):
        self.write(data if self.length is not None else b"%x\r\n%s\r\n" % (len(data), data))

    def end(self, complete):
        if not complete:
            self.handler.close_connection = True
        elif self.length is None:
            self.write(b"0\r\n\r\n")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", required=True)
    parser.add_argument("--listen", type=int, default=0)
    parser.add_argument("--faults")
    options = parser.parse_args()
    Handler.upstream = urllib.parse.urlsplit(options.to).netloc
    Handler.ledger = Ledger(options.faults)
    server = Server(("127.0.0.1", options.listen), Handler)
    print(f"tap ready http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
