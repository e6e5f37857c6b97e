"""The lines of the log, in which no key is whole: somebody's mistake puts one into a path, and a path into a line.

Nothing of Django's is imported here, for logging is set up before there are any applications.
"""

import logging
import re

KEY = re.compile(r"(sg-[0-9A-Za-z]{2})[0-9A-Za-z]{30}([0-9A-Za-z]{4})|(ek_[0-9A-Za-z]{2})[0-9A-Za-z_-]{40,}")


class Masked(logging.Formatter):
    """A formatter that shows of a key, or of a client secret, what may be shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and its traceback where it has one, without any key."""
        return KEY.sub(lambda found: f"{found[1] or found[3]}…{found[2] or ''}", super().format(record))
