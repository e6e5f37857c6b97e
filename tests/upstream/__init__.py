"""A scripted upstream on raw sockets: it can answer well, badly, late, in pieces, or not at all.

The model named in a request picks the scenario (`scenarios.SCENARIOS`), so any fault can be provoked through any
client: OpenAI's chat and embeddings (`scenarios.SCENARIOS`), and in the words of four vendors (`vendors.SCENARIOS`).
No HTTP library is used, for none would write what these scenarios must. `server.ScriptedUpstream` runs it in
a thread and keeps what it received; `python -m tests.upstream PORT` runs it alone.
"""
