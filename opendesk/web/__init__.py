"""HTTP: the server, the application and what every call shares."""
