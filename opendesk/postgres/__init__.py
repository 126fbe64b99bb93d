"""PostgreSQL on Trio: driver, pool, embedded server, migrations."""
