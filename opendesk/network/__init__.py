"""Routers, hotspots and tunnels: what the network is told, and made, to do."""
