-- Routers that were registered, and what became of each, those of MIKROTIK_NODES included.

-- Empty columns stand for MIKROTIK_PORT, MIKROTIK_USER and MIKROTIK_PASS, which may change. Passwords are sealed with RELAY_MASTER_KEY.
CREATE TABLE opendesk.routers (
    id              text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9._:-]{1,64}$'),
    host            text NOT NULL CHECK (length(host) BETWEEN 1 AND 253),
    port            integer CHECK (port BETWEEN 1 AND 65535),
    tls             boolean NOT NULL DEFAULT false,
    tls_sha256      bytea CHECK (octet_length(tls_sha256) = 32),
    username        text CHECK (length(username) BETWEEN 1 AND 64),
    password_sealed bytea,
    timeout_ms      integer CHECK (timeout_ms BETWEEN 1 AND 120000),
    dry_run         boolean NOT NULL DEFAULT false,   -- registered by a daemon that only pretends: no other sees it
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK (tls OR tls_sha256 IS NULL),
    CHECK (username IS NOT NULL OR password_sealed IS NULL)
);

CREATE FUNCTION opendesk.tell_routers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('opendesk_routers', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER routers_told AFTER INSERT OR UPDATE OR DELETE ON opendesk.routers
    FOR EACH STATEMENT EXECUTE FUNCTION opendesk.tell_routers();

-- Who drives a router, and how it is. Of routers in nobody's table but a daemon's MIKROTIK_NODES there are rows too, hence no reference.
CREATE TABLE opendesk.router_states (
    router_id       text PRIMARY KEY,
    leased_by       uuid NOT NULL,
    leased_until    timestamptz NOT NULL,
    failures        integer NOT NULL DEFAULT 0,
    open_until      timestamptz,                  -- the circuit is open, and stays so after this until a probe has gone well
    resets          integer NOT NULL DEFAULT 0,   -- how often somebody has closed it by hand: whoever drives it follows
    target          text,                            -- host and port that this was learnt of
    moved           boolean NOT NULL DEFAULT false,   -- its id stands for another router, which hasn't been told yet what is granted
    last_contact_at timestamptz,
    booted_at       timestamptz,
    identity        text,
    version         text,
    refused         boolean NOT NULL DEFAULT false,   -- it let nobody in when it was last tried
    last_error      text,
    last_error_at   timestamptz
) WITH (fillfactor = 50);
