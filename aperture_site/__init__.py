"""Wiring: settings, the ASGI application, the servers and their supervision. No business rules live here."""
