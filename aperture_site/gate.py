"""Load what a web process needs, wait until it may begin, then become it.

The imports take most of a start, and the database may be migrating meanwhile: this way both happen at once. The word
to begin is one byte on standard input; the end of the input instead means that there will be no start.
"""

import os
import runpy
import sys

BEGIN = b"b"


def main() -> None:
    """Run the module named first on the command line, with the rest as its arguments, once BEGIN was read."""
    # Imported for what it loads; it opens no connection.
    import aperture_site.asgi  # noqa: F401

    if sys.stdin.buffer.read(1) != BEGIN:
        sys.exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
