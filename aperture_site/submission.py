"""Put a job in the queue by hand.

On a connection of its own each time: a kept one that Redis closed meanwhile would refuse a job that Redis would take.
"""

from redis.exceptions import RedisError

# As long as somebody may remember having asked for it.
EXPIRES_S = 3600.0
# Somebody waits for the page.
IMPATIENT = {"socket_connect_timeout": 3.0, "socket_timeout": 3.0}


class QueueAway(Exception):
    """Redis did not take the job; the message is for the person who asked."""


def send(task: str) -> None:
    """Have a worker run a task once, without arguments; raise QueueAway."""
    from kombu.exceptions import OperationalError

    from aperture_site.celery import app

    headers = {"aperture_by_hand": True}
    try:
        with app.connection_for_write(transport_options=IMPATIENT) as connection:
            # Else the first use would try for twelve seconds.
            connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)
            with app.amqp.Producer(connection) as producer:
                app.send_task(task, headers=headers, expires=EXPIRES_S, producer=producer, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        raise QueueAway(
            f"The job was not queued, for Redis does not answer ({type(error).__name__}). Requests are unaffected; "
            "try again when it is back."
        ) from None
