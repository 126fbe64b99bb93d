"""HTTP/1.1 from the socket up: one loop a connection, on hypercorn's listeners."""
