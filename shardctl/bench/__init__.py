"""Measures a fleet's message plane from processes of its own, through the public API."""
