"""Run in a pod of the customer's: says what it hears on its input, and is asked by HTTP on port 8000."""

import http.server
import sys
import threading


class Page(http.server.BaseHTTPRequestHandler):
    """Answers with its own path, and as many bytes more as the path says."""

    def do_GET(self) -> None:
        size = self.path.rpartition("/")[2]
        body = self.path.encode() + b"x" * (int(size) if size.isdigit() else 0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the log for what is heard."""


threading.Thread(target=http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever).start()
print("up", flush=True)
for line in sys.stdin:
    print("heard", line, end="", flush=True)
