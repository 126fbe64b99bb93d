"""WireGuard tunnels to routers: the registry says what is wanted, and a pass makes the interface follow.

`registry` is the intent, in SQL; `keeping` makes the interface follow it; `api` is how it is asked for; `takeover` reads an earlier system's files.
"""
