"""The ASGI application: API paths go to the gateway, everything else to Django."""

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aperture_site.settings")

application = ProtocolTypeRouter({"http": get_asgi_application()})
