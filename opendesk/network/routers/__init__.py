"""One worker a router: which routers there are, who drives each, and how well it can be reached."""
