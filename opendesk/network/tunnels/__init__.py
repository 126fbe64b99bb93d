"""WireGuard tunnels to routers: the registry says what is wanted, and a pass makes the interface follow."""
