"""A model that writes a file, with whichever tool an agent offers for that, or in the words that its agent reads.

The file and its words are looked for in the whole request, for agents wrap what their users say in words of their own.
"""

import re
from collections.abc import Callable

from tests.upstream.turn import Offered, Said, Turn, dumped

ORDER = re.compile(r"Write the file ([\w./-]+) with the words ([\w ]+)")
DONE = ("I wrote ", "the file.")
TITLE = ("A file", " with words")

# What is to be said to each tool, best first: Claude Code's, then Codex's, whose names change with its versions.
TOOLS: dict[str, Callable[[str, str], str]] = {
    "Write": lambda path, words: dumped({"file_path": path, "content": words + "\n"}),
    "apply_patch": lambda path, words: f"*** Begin Patch\n*** Add File: {path}\n+{words}\n*** End Patch\n",
    "exec_command": lambda path, words: dumped({"cmd": f"echo {words} > {path}"}),
    "shell_command": lambda path, words: dumped({"command": f"echo {words} > {path}"}),
    "shell": lambda path, words: dumped({"command": ["sh", "-c", f"echo {words} > {path}"]}),
}


def answer(turn: Turn, request: str) -> Said:
    """Return what is said to a REQUEST: the call that writes, until it was answered; or the file, where none can be."""
    found = ORDER.search(request)
    if found is None or turn.choice == "none":
        return Said(texts=TITLE)
    path, words = found.groups()
    if turn.result is not None:
        return Said(texts=DONE)
    offered = {tool.name: tool for tool in turn.tools}
    for name, told in TOOLS.items():
        if name in offered:
            return Said(texts=("On it. ",), calls=[(offered[name], called(offered[name], told(path, words)))], finish="calls")
    return Said(texts=aloud(path, words, request)) if not turn.tools else Said(texts=("No tool of mine writes files.",))


def called(tool: Offered, said: str) -> str:
    """Return what is told to a TOOL: as it is, or, where a text became a function's argument, as that."""
    if tool.custom or said.startswith("{"):
        return said
    return dumped({next(iter(tool.schema["properties"])): said})


def aloud(path: str, words: str, request: str) -> tuple[str, ...]:
    """Return a file as Aider reads one: blocks of search and replace where those are asked for, else whole."""
    if "SEARCH/REPLACE" in request:
        return (f"{path}\n```\n<<<<<<< SEARCH\n", f"=======\n{words}\n>>>>>>> REPLACE\n```\n")
    return (f"{path}\n```\n", f"{words}\n```\n")
