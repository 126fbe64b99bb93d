"""How a host's picture reaches its client."""
