#!/usr/bin/env python
"""Run one of Aperture's commands; `manage.py help` lists them."""

import os
import sys

# They ask nothing of PostgreSQL or Valkey; `serve` brings the engines up itself, once it knows that it may serve.
WITHOUT_ENGINES = {
    "",
    "help",
    "version",
    "--help",
    "-h",
    "--version",
    "check",
    "collectstatic",
    "diffsettings",
    "serve",
}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")
    from django.core.management import execute_from_command_line

    from aperture_site import engines, env

    try:
        if sys.argv[1:2] == ["serve"]:
            # Not by way of Django's set-up, which takes a second that the web process can use as well: see `serve`.
            from aperture_site.management.commands.serve import Command

            Command().run_from_argv(sys.argv)
            return
        if (sys.argv[1:] or [""])[0] in WITHOUT_ENGINES or "--help" in sys.argv:
            execute_from_command_line(sys.argv)
            return
        with engines.configured().running():
            execute_from_command_line(sys.argv)
    except (env.SettingError, engines.EngineError) as error:
        sys.exit(f"aperture: {error}")


if __name__ == "__main__":
    main()
