"""Routers set up through their tunnel: what is pasted into them, asked of them, and changed on them without locking them out."""
