"""Run the scripted upstream alone: `python -m tests.upstream [PORT]`. Prints its address."""

import signal
import sys

from tests.upstream.server import ScriptedUpstream

with ScriptedUpstream(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as upstream:
    print(upstream.base_url, flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
