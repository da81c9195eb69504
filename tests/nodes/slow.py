"""Run in a pod: asks for one long answer on many connections, and reads each of them slowly.

    slow.py URL CONNECTIONS RATE

RATE is in bytes a second for each. Prints `reading` once all answers have begun; when all are over, as JSON,
what came of each: `whole`, or why it is not.
"""

import http.client
import json
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

PIECE = 32 * 1024


def main() -> None:
    url, number, rate = urlsplit(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    context = ssl.create_default_context(cafile="/tmp/caData")
    context.load_cert_chain("/tmp/certData", "/tmp/keyData")
    begun = threading.Barrier(number + 1)
    found: list[str] = []

    def read() -> None:
        connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=30)
        connection.request("GET", url.path)
        answer = connection.getresponse()
        begun.wait()
        size = 0
        try:
            while data := answer.read(PIECE):
                size += len(data)
                time.sleep(len(data) / rate)
        except (OSError, http.client.HTTPException) as e:
            found.append(f"{type(e).__name__} {e} after {size} bytes")
        else:
            # Of a length that was promised http.client misses nothing.
            whole = answer.status == 200 and not answer.length
            found.append("whole" if whole else f"{answer.status}, cut after {size} bytes")

    threads = [threading.Thread(target=read) for _ in range(number)]
    for each in threads:
        each.start()
    begun.wait()
    print("reading", flush=True)
    for each in threads:
        each.join()
    print(json.dumps(found))


main()
