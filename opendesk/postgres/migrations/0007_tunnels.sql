-- WireGuard peers: what is asked for of the interface, and what is asked of it no more. `dry_run` tells pretended rows, a world of their own.

CREATE TABLE opendesk.tunnel_devices (
    dry_run                   boolean NOT NULL,
    id                        text NOT NULL CHECK (id ~ '^[A-Za-z0-9._:-]{1,64}$'),
    seq                       bigint GENERATED ALWAYS AS IDENTITY,
    public_key                text NOT NULL CHECK (public_key ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'),
    preshared_key_sealed      bytea,
    next_public_key           text CHECK (next_public_key ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'),   -- a rotation runs
    next_preshared_key_sealed bytea,                     -- NULL: it takes over the present one's
    next_since                timestamptz,
    next_username             text CHECK (length(next_username) BETWEEN 1 AND 64),   -- NULL: the router's login stays as it is
    next_password_sealed      bytea,                     -- as the router's own, so that it can be moved there
    next_port                 integer CHECK (next_port BETWEEN 1 AND 65535),
    tunnel_ip                 inet,
    allowed_ips               cidr[] NOT NULL CHECK (cardinality(allowed_ips) <= 128),
    endpoint                  text CHECK (length(endpoint) <= 262),
    keepalive                 integer NOT NULL DEFAULT 25 CHECK (keepalive BETWEEN 0 AND 65535),
    meta                      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(meta) = 'object'),
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now(),
    endpoint_changed_at       timestamptz,               -- NULL: it is the one that the device was registered with
    PRIMARY KEY (dry_run, id),
    CONSTRAINT tunnel_devices_seq UNIQUE (dry_run, seq),
    CONSTRAINT tunnel_devices_public_key UNIQUE (dry_run, public_key),
    CONSTRAINT tunnel_devices_next_public_key UNIQUE (dry_run, next_public_key),
    CONSTRAINT tunnel_devices_tunnel_ip UNIQUE (dry_run, tunnel_ip),
    CONSTRAINT tunnel_devices_rotation CHECK (
        (next_public_key IS NULL) = (next_since IS NULL) AND next_public_key <> public_key
        AND (next_public_key IS NOT NULL OR (next_preshared_key_sealed IS NULL AND next_username IS NULL))
        AND (next_username IS NOT NULL OR (next_password_sealed IS NULL AND next_port IS NULL))),
    CONSTRAINT tunnel_devices_host CHECK (
        tunnel_ip IS NULL
        OR (masklen(tunnel_ip) = CASE family(tunnel_ip) WHEN 4 THEN 32 ELSE 128 END AND tunnel_ip <<= ANY (allowed_ips::inet[])))
);
CREATE TRIGGER tunnel_devices_named BEFORE UPDATE OF dry_run, id ON opendesk.tunnel_devices
    FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('a device keeps its id');

-- Whose each address is: WireGuard moves one that two peers have to the last, without a word.
CREATE TABLE opendesk.tunnel_prefixes (
    dry_run   boolean NOT NULL,
    prefix    cidr NOT NULL,
    device_id text NOT NULL,
    PRIMARY KEY (dry_run, prefix),
    CONSTRAINT tunnel_prefixes_apart EXCLUDE USING gist (prefix inet_ops WITH &&) WHERE (NOT dry_run),
    CONSTRAINT tunnel_prefixes_pretended_apart EXCLUDE USING gist (prefix inet_ops WITH &&) WHERE (dry_run)
);
CREATE INDEX tunnel_prefixes_of ON opendesk.tunnel_prefixes (dry_run, device_id);

-- Every key that may be on the interface because somebody asked for it.
CREATE TABLE opendesk.tunnel_keys (
    dry_run    boolean NOT NULL,
    public_key text NOT NULL,
    device_id  text,                                     -- NULL: no device that we know of ever had it
    removed_at timestamptz,                              -- a tombstone: it is to go, and stays here until the interface was seen without it
    CONSTRAINT tunnel_keys_one_device PRIMARY KEY (dry_run, public_key),
    CHECK (device_id IS NOT NULL OR removed_at IS NOT NULL)
);
CREATE INDEX tunnel_keys_removed ON opendesk.tunnel_keys (dry_run, device_id) WHERE removed_at IS NOT NULL;

-- Keys and addresses follow their device. What was pretended is on no interface, and leaves no tombstone.
CREATE FUNCTION opendesk.follow_tunnel_device() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    realm  constant boolean := coalesce(NEW.dry_run, OLD.dry_run);
    device constant text    := coalesce(NEW.id, OLD.id);
    had    constant text[]  := array_remove(ARRAY[OLD.public_key, OLD.next_public_key], NULL);
    has    constant text[]  := array_remove(ARRAY[NEW.public_key, NEW.next_public_key], NULL);
    one_key text;
BEGIN
    UPDATE opendesk.tunnel_keys SET removed_at = now()
     WHERE dry_run = realm AND NOT realm AND public_key = ANY (had) AND public_key <> ALL (has);
    DELETE FROM opendesk.tunnel_keys WHERE dry_run = realm AND realm AND public_key = ANY (had) AND public_key <> ALL (has);
    FOREACH one_key IN ARRAY has LOOP
        CONTINUE WHEN one_key = ANY (had);
        INSERT INTO opendesk.tunnel_keys AS k (dry_run, public_key, device_id) VALUES (realm, one_key, device)
            ON CONFLICT (dry_run, public_key) DO UPDATE SET device_id = excluded.device_id, removed_at = NULL
         WHERE k.removed_at IS NOT NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a public key is one device''s' USING ERRCODE = 'unique_violation', CONSTRAINT = 'tunnel_keys_one_device';
        END IF;
    END LOOP;
    DELETE FROM opendesk.tunnel_prefixes
     WHERE dry_run = realm AND device_id = device AND prefix <> ALL (coalesce(NEW.allowed_ips, '{}'));
    INSERT INTO opendesk.tunnel_prefixes (dry_run, prefix, device_id)
    SELECT realm, wanted.prefix, device FROM unnest(NEW.allowed_ips) AS wanted (prefix)
     WHERE wanted.prefix <> ALL (coalesce(OLD.allowed_ips, '{}'));
    RETURN NULL;
END
$$;
CREATE TRIGGER tunnel_devices_followed AFTER INSERT OR DELETE OR UPDATE OF public_key, next_public_key, allowed_ips
    ON opendesk.tunnel_devices FOR EACH ROW EXECUTE FUNCTION opendesk.follow_tunnel_device();

-- Which router is behind a peer, for those who know it by its key only. Peers of which no device is registered may be bound too.
CREATE TABLE opendesk.tunnel_bindings (
    dry_run     boolean NOT NULL,
    public_key  text NOT NULL CHECK (public_key ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'),
    device_id   text NOT NULL CHECK (device_id ~ '^[A-Za-z0-9._:-]{1,64}$'),
    mikrotik_ip inet NOT NULL CHECK (masklen(mikrotik_ip) = CASE family(mikrotik_ip) WHEN 4 THEN 32 ELSE 128 END),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dry_run, public_key)
);

CREATE FUNCTION opendesk.tell_tunnel_device() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('opendesk_tunnels', coalesce(NEW.id, OLD.id));
    RETURN NULL;
END
$$;
-- By row: a statement that changes none must wake nobody.
CREATE TRIGGER tunnel_devices_told AFTER INSERT OR UPDATE OR DELETE ON opendesk.tunnel_devices
    FOR EACH ROW EXECUTE FUNCTION opendesk.tell_tunnel_device();

CREATE FUNCTION opendesk.tell_tunnels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('opendesk_tunnels', '');
    RETURN NULL;
END
$$;
-- Of a device's key it is known without a binding: whoever listens need not read them all when one is registered.
CREATE FUNCTION opendesk.tell_tunnel_binding() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM opendesk.tunnel_devices
                    WHERE dry_run = coalesce(NEW.dry_run, OLD.dry_run) AND public_key = coalesce(NEW.public_key, OLD.public_key)) THEN
        PERFORM pg_notify('opendesk_tunnels', '');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tunnel_bindings_told AFTER INSERT OR UPDATE OR DELETE ON opendesk.tunnel_bindings
    FOR EACH ROW EXECUTE FUNCTION opendesk.tell_tunnel_binding();
CREATE TRIGGER tunnel_keys_told AFTER INSERT ON opendesk.tunnel_keys
    FOR EACH ROW WHEN (NEW.device_id IS NULL) EXECUTE FUNCTION opendesk.tell_tunnels();

-- When peers that nobody asked for were last taken off the interface: a few at a time, whoever does it.
CREATE TABLE opendesk.tunnel_removals (
    is_only_one boolean PRIMARY KEY DEFAULT true CHECK (is_only_one),
    removed_at  timestamptz NOT NULL DEFAULT now()
);
