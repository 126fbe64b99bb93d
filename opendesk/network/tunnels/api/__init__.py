"""The calls of backends: devices, peers, routers, and setting these up."""
