"""Autobahn's cases in a process of their own, since they run on asyncio; kosoku drives them.

python tests/conformance/suite.py against PORT    asks the echo that listens there, and says how it went
python tests/conformance/suite.py serve           prints its port, serves each case once, and says the same

A line of JSON for each case: id, verdict, that of the end, the close code that came, opcodes that were sent.
"""

import asyncio
import json
import sys
from typing import Any

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

LEFT_OUT = ["12.*", "13.*"]
"""Compression: a tunnel agrees to no extension, and both ends are tested for that elsewhere."""


async def against(port: str) -> Any:
    """All cases, with the echo at `port` as the server."""
    return await run_fuzzingclient(f"ws://127.0.0.1:{port}", None, LEFT_OUT, concurrency=8)


async def serve() -> Any:
    """All cases, with whoever dials as the client."""
    async with run_fuzzingserver(None, LEFT_OUT, host="127.0.0.1", port=0) as server:
        print(server.port, flush=True)
        return await server.get_result()


def main() -> None:
    """As the file says."""
    try:
        results = asyncio.run(against(sys.argv[2]) if sys.argv[1] == "against" else serve())
    except FailureError as error:
        results = error.results
    for each in results:
        verdicts = (each.behavior.value, each.behavior_close.value)
        print(json.dumps([each.case_id, *verdicts, each.remote_close_code, list(each.tx_frame_stats)]))


if __name__ == "__main__":
    main()
