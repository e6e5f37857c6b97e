"""A model that writes a file, with whichever tool an agent offers for that, or in the words that its agent reads.

The file and its words are looked for in the whole request, for agents wrap what their users say in words of their own.
Without such an order it answers as `agent` does.
"""

import re
from collections.abc import Callable

from tests.upstream import turn as turns
from tests.upstream.turn import PIECES, THOUGHT, Offered, Said, Turn, dumped

ORDER = re.compile(r"Write the file ([\w./-]+) with the words ([\w ]+)")
DONE = ("I wrote ", "the file.")
TOOLLESS = ("None of these tools writes files.",)

# What is to be said to each tool, best first: Claude Code's and Continue's, then Codex's, of which it offers some.
TOOLS: dict[str, Callable[[str, str], str | dict[str, str]]] = {
    "Write": lambda path, words: {"path": path, "content": words + "\n"},
    "apply_patch": lambda path, words: f"*** Begin Patch\n*** Add File: {path}\n+{words}\n*** End Patch\n",
    "exec_command": lambda path, words: {"cmd": f"echo {words} > {path}"},
    "shell_command": lambda path, words: {"command": f"echo {words} > {path}"},
}


def answer(turn: Turn, request: str) -> Said:
    """Return what is said to a REQUEST: the call that writes, until it was answered; or the file, where none can be."""
    found = ORDER.search(request)
    if found is None:
        return turns.answer(turn, "agent")
    thought = THOUGHT if turn.reasons else ()
    path, words = found.groups()
    if turn.result is not None:
        return Said(thought, DONE)
    if not turn.tools:
        return Said(thought, listed(path, words, request))
    offered = {tool.name: tool for tool in turn.tools}
    for name, told in TOOLS.items():
        if name in offered:
            call = (offered[name], filled(offered[name], told(path, words)))
            return Said(thought, ("On it. ",), [call], "calls", first=len(request))
    return Said(thought, TOOLLESS)


def filled(tool: Offered, told: str | dict[str, str]) -> str:
    """Return what a TOOL is told, under the names of its own schema: agents call a path `file_path`, or `filepath`."""
    names = list(tool.schema.get("properties") or {})
    if isinstance(told, str):
        return told if tool.custom else dumped({names[0]: told})
    return dumped({next((own for own in names if own.endswith(name)), name): value for name, value in told.items()})


def listed(path: str, words: str, request: str) -> tuple[str, ...]:
    """Return a file as Aider reads one: a block of search and replace where those are asked for, or the whole of it."""
    if "SEARCH/REPLACE" in request:
        return (f"{path}\n```\n<<<<<<< SEARCH\n", f"=======\n{words}\n>>>>>>> REPLACE\n```\n")
    return (f"{path}\n```\n", f"{words}\n```\n") if "file listing" in request else PIECES
