"""What the gateway's tests find installed, and a look into both engines. Imports no model: Django may not be up yet."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from psycopg import sql
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from accounts.models import User
    from catalog.models import Provider

# The secret that the operator's provider is called with, and a text no prompt would hold otherwise.
CREDENTIAL = "sk-canary7f3Qupstream9d1Wcredential"
CANARY = "canary-5b1f0e6d-prompt"


@dataclass
class Installation:
    """The rows that a module's tests share, the clear texts of the keys, and a look into both engines."""

    database_url: str
    redis_url: str
    keys: dict[str, str] = field(default_factory=dict)
    users: dict[str, "User"] = field(default_factory=dict)
    providers: dict[str, "Provider"] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of Alice, who may call everything."""
        return self.keys["alice"]

    def usage(self, request_id: str) -> list[dict[str, Any]]:
        """Return the usage rows of a request."""
        return self.query("SELECT * FROM billing_usage WHERE request_id = %s", uuid.UUID(request_id))

    def usage_count(self) -> int:
        """Return how many usage rows there are."""
        return int(self.query("SELECT count(*) AS n FROM billing_usage")[0]["n"])

    def balance(self, organization_id: int) -> tuple[int, int]:
        """Return what an organization's wallet has posted and held, in nano-dollars."""
        columns = "posted_nanos, held_nanos"
        [row] = self.query(f"SELECT {columns} FROM billing_wallet WHERE organization_id = %s", organization_id)
        return row["posted_nanos"], row["held_nanos"]

    def query(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Run a statement on a connection of its own."""
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as raw:
            return raw.execute(statement.encode(), values).fetchall()

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """End everybody's connections to the database and let no new ones in, for the length of the block."""
        name = self.database_url.split("@/")[1].split("?")[0]
        elsewhere = self.database_url.replace(f"@/{name}?", "@/postgres?")
        switch = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
        with psycopg.connect(elsewhere, autocommit=True) as raw:
            raw.execute(switch.format(sql.Identifier(name), sql.SQL("false")))
            try:
                raw.execute(b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
                yield
            finally:
                raw.execute(switch.format(sql.Identifier(name), sql.SQL("true")))

    def database_text(self) -> str:
        """Return everything that every table of the database holds, as text; bytes in hexadecimal and in clear."""
        texts: list[str] = []
        with psycopg.connect(self.database_url, autocommit=True) as raw:
            tables = raw.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for schema, table in tables:
                for row in raw.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))):
                    texts.extend(_clear(value) for value in row)
        return "\n".join(texts)

    def redis_text(self) -> str:
        """Return every key and value in Valkey: Celery's queues are among them."""
        client: Any = redis.Redis.from_url(self.redis_url)
        readers: dict[bytes, Callable[[bytes], Any]] = {
            b"string": client.get,
            b"list": lambda name: client.lrange(name, 0, -1),
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"zset": lambda name: client.zrange(name, 0, -1),
            b"stream": client.xrange,
        }
        texts = []
        for name in client.scan_iter():
            texts += [_clear(name), _clear(readers[client.type(name)](name))]
        client.close()
        return "\n".join(texts)


def _clear(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex() + "\n" + bytes(value).decode("utf-8", "replace")
    return str(value)
