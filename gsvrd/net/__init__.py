"""The network beyond the services: addresses that users wrote, and that must not lead into our own neighbourhood."""
