--
-- PostgreSQL database dump
--



SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: opendesk; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA opendesk;


--
-- Name: check_session_step(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.check_session_step() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (OLD.status, NEW.status) IN (('PENDING', 'ACTIVE'), ('PENDING', 'FAILED'), ('ACTIVE', 'ENDED'), ('ACTIVE', 'FAILED')) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a session does not go from % to %', OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'sessions_step';
END
$$;


--
-- Name: decide_events(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.decide_events() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'opendesk', 'pg_temp'
    AS $$
DECLARE
    some_acked   boolean;
    some_decided boolean;
    some_failed  boolean;
    unopened     uuid[];
    lanes        text;
BEGIN
    SELECT bool_or(type = 'ACK_EVENT' AND state = 'done'), bool_or(type IN ('AUTHORIZE_BY_PEDIDO', 'REVOKE_SESSION') AND state IN ('done', 'dead')),
           bool_or(type IN ('AUTHORIZE_BY_PEDIDO', 'RESYNC_DEVICE') AND state = 'dead')
      INTO some_acked, some_decided, some_failed FROM written;
    IF some_acked THEN
        -- Where another of it waits, that one tells the news.
        UPDATE events SET acked_at = clock_timestamp()
          FROM written ack
         WHERE ack.type = 'ACK_EVENT' AND ack.state = 'done' AND id_hash = decode(ack.key, 'hex') AND dry_run = (ack.lane <> '/acks')
           AND NOT EXISTS (SELECT FROM jobs WHERE lane = ack.lane AND key = ack.key AND state IN ('due', 'running') OFFSET 0);
    END IF;
    IF some_decided THEN
        WITH ended AS MATERIALIZED (
            -- Time that ran out after what opens the way was sent, and before anybody saw it open, may be time that nobody had.
            SELECT id, state, result, last_error, CASE WHEN type = 'AUTHORIZE_BY_PEDIDO' AND result -> 'online' = 'false' THEN coalesce((
                       SELECT g.opening_at IS NOT NULL AND g.observed_at IS NULL
                              AND (g.end_reason = 'expired' OR g.ended_at IS NULL AND g.until <= now())
                         FROM hotspot_grants g
                        WHERE g.router_id = regexp_replace(lane, '^dry run/', '') AND g.dry_run = starts_with(lane, 'dry run/')
                          AND g.pedido_id = payload ->> 'pedidoId'
                          AND g.ip = (payload #>> '{about,0}')::inet AND g.mac = (payload #>> '{about,1}')::macaddr
                        ORDER BY g.created_at DESC, g.id DESC LIMIT 1), false) END AS is_unseen
              FROM written WHERE type IN ('AUTHORIZE_BY_PEDIDO', 'REVOKE_SESSION') AND state IN ('done', 'dead')
        ), told AS (
            SELECT id, state = 'done' AND is_unseen IS NOT TRUE AS ok, result AS outcome,
                   CASE WHEN state = 'dead' THEN last_error
                        WHEN is_unseen THEN 'its time ran out before it was seen on the router: it may never have been open' END AS error,
                   CASE WHEN state = 'dead' THEN 'failed' WHEN is_unseen THEN 'grant_ended' WHEN NOT is_unseen THEN 'superseded' END AS reason
              FROM ended
        ), decided AS (
            -- Of what is forgotten (it has no type) nothing comes back.
            UPDATE events e
               SET ok = told.ok, executed_at = clock_timestamp(), acked_at = NULL, reason = told.reason,
                   outcome = CASE WHEN e.type IS NOT NULL THEN told.outcome END,
                   result = CASE WHEN e.type IS NOT NULL THEN jsonb_strip_nulls(jsonb_build_object(
                       'reason', told.reason, 'error', told.error, 'jobId', told.id,
                       'online', told.outcome -> 'online', 'until', told.outcome -> 'until', 'changed', told.outcome -> 'changed',
                       'dryRun', told.outcome -> 'dryRun')) END
              FROM told WHERE e.job_id = told.id AND e.ok IS NOT TRUE
         RETURNING e.*
        ), acks AS (
            INSERT INTO jobs (type, lane, key, payload, dedupe, trace_id)
            SELECT 'ACK_EVENT', ack_lane, encode(id_hash, 'hex'),
                   jsonb_build_object('body', jsonb_build_object('eventId', event_id, 'ok', ok, 'payload', result)::text), 'ack', trace_id
              FROM decided WHERE ack_lane IS NOT NULL AND event_id IS NOT NULL
         RETURNING lane
        )
        SELECT json_agg(DISTINCT lane)::text INTO lanes FROM acks;
    END IF;
    IF some_failed THEN
        -- What was never opened, and is told so, nobody opens later. Who holds it now asks for it again, or ends it: neither is waited for.
        -- Their jobs are looked for only once it is ours, when all that was asked for is there.
        unopened := ARRAY(
            SELECT g.id
              FROM written w
                   JOIN hotspot_grants g
                     ON g.router_id = regexp_replace(w.lane, '^dry run/', '') AND g.dry_run = starts_with(w.lane, 'dry run/')
                        AND g.pedido_id = w.payload ->> 'pedidoId'
                        AND g.ip = (w.payload #>> '{about,0}')::inet AND g.mac = (w.payload #>> '{about,1}')::macaddr
             WHERE w.type IN ('AUTHORIZE_BY_PEDIDO', 'RESYNC_DEVICE') AND w.state = 'dead'
               AND g.ended_at IS NULL AND g.opening_at IS NULL AND g.observed_at IS NULL
               FOR UPDATE OF g SKIP LOCKED);
        -- What was given more time than it had has again what it had: of that nothing was taken away.
        UPDATE hotspot_grants g
           SET ended_at = CASE WHEN before IS NULL THEN now() END, end_reason = CASE WHEN before IS NULL THEN 'failed' END, before = NULL,
               duration_s = coalesce((before ->> 'duration_s')::int, duration_s), trial = coalesce((before ->> 'trial')::bool, trial),
               begun_at = coalesce((before ->> 'begun_at')::timestamptz, begun_at), until = coalesce((before ->> 'until')::timestamptz, until),
               opening_at = (before ->> 'opening_at')::timestamptz, observed_at = (before ->> 'observed_at')::timestamptz
         WHERE g.id = ANY (unopened)
           AND NOT EXISTS (SELECT FROM jobs j
                            WHERE j.lane = CASE WHEN g.dry_run THEN 'dry run/' ELSE '' END || g.router_id AND j.key = upper(g.mac::text)
                              AND j.state IN ('due', 'running') AND j.type IN ('AUTHORIZE_BY_PEDIDO', 'RESYNC_DEVICE') OFFSET 0);
    END IF;
    IF lanes IS NOT NULL THEN
        PERFORM pg_notify('opendesk_jobs', lanes);
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: follow_tunnel_device(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.follow_tunnel_device() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: post_entries(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.post_entries() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'opendesk', 'pg_temp'
    AS $$
BEGIN
    IF EXISTS (SELECT FROM posted GROUP BY transfer_id HAVING sum(amount) <> 0) THEN
        RAISE EXCEPTION 'a transfer must sum to zero' USING ERRCODE = 'check_violation', CONSTRAINT = 'transfer_sums_to_zero';
    END IF;
    IF EXISTS (SELECT FROM posted JOIN transfers ON transfers.id = posted.transfer_id WHERE transfers.created_at <> now()) THEN
        RAISE EXCEPTION 'a transfer is never added to' USING ERRCODE = 'check_violation', CONSTRAINT = 'transfer_is_final';
    END IF;
    PERFORM FROM accounts WHERE id IN (SELECT account_id FROM posted WHERE account_id >= 100) ORDER BY id FOR NO KEY UPDATE;
    UPDATE accounts SET balance = balance + delta
      FROM (SELECT account_id, sum(amount)::bigint AS delta FROM posted WHERE account_id >= 100 GROUP BY account_id) AS change
     WHERE accounts.id = change.account_id;
    RETURN NULL;
END
$$;


--
-- Name: price(bigint, integer); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.price(price_per_hour bigint, minutes integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT CASE WHEN price_per_hour = 0 THEN 0
                ELSE greatest(1, n / 60 + CASE WHEN n % 60 > 30 OR (n % 60 = 30 AND n / 60 % 2 = 1) THEN 1 ELSE 0 END) END
      FROM (SELECT price_per_hour * minutes) AS product (n)
$$;


--
-- Name: refuse(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA;
END
$$;


--
-- Name: tell_routers(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.tell_routers() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('opendesk_routers', '');
    RETURN NULL;
END
$$;


--
-- Name: tell_session_status(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.tell_session_status() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('opendesk_sessions', NEW.id || ' ' || NEW.status);
    RETURN NULL;
END
$$;


--
-- Name: tell_tunnel_binding(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.tell_tunnel_binding() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM opendesk.tunnel_devices
                    WHERE dry_run = coalesce(NEW.dry_run, OLD.dry_run) AND public_key = coalesce(NEW.public_key, OLD.public_key)) THEN
        PERFORM pg_notify('opendesk_tunnels', '');
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: tell_tunnel_device(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.tell_tunnel_device() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('opendesk_tunnels', coalesce(NEW.id, OLD.id));
    RETURN NULL;
END
$$;


--
-- Name: tell_tunnels(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.tell_tunnels() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('opendesk_tunnels', '');
    RETURN NULL;
END
$$;


--
-- Name: uuid7(); Type: FUNCTION; Schema: opendesk; Owner: -
--

CREATE FUNCTION opendesk.uuid7() RETURNS uuid
    LANGUAGE sql PARALLEL SAFE
    AS $$
    SELECT (lpad(to_hex(us / 1000), 12, '0') || '7' || lpad(to_hex(us % 1000 * 4096 / 1000), 3, '0')
            || substr(replace(gen_random_uuid()::text, '-', ''), 17))::uuid
      FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS clock (us)
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: accounts; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.accounts (
    id bigint NOT NULL,
    kind text NOT NULL,
    user_id uuid,
    balance bigint,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT accounts_kind_check CHECK ((kind = ANY (ARRAY['WALLET'::text, 'ESCROW'::text, 'FEES'::text, 'RETAINED'::text, 'EXTERNAL'::text]))),
    CONSTRAINT accounts_wallet_has_owner_and_balance CHECK ((((kind = 'WALLET'::text) = (user_id IS NOT NULL)) AND ((kind = 'WALLET'::text) = (balance IS NOT NULL)) AND ((kind = 'WALLET'::text) = (id >= 100)))),
    CONSTRAINT wallet_not_negative CHECK ((balance >= 0))
)
WITH (fillfactor='70');


--
-- Name: accounts_id_seq; Type: SEQUENCE; Schema: opendesk; Owner: -
--

ALTER TABLE opendesk.accounts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME opendesk.accounts_id_seq
    START WITH 100
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: books; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.books (
    only_one boolean DEFAULT true NOT NULL,
    currency text NOT NULL,
    CONSTRAINT books_only_one_check CHECK (only_one)
);


--
-- Name: entries; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.entries (
    transfer_id uuid NOT NULL,
    account_id bigint NOT NULL,
    amount bigint NOT NULL,
    reason text NOT NULL,
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    CONSTRAINT entries_amount_check CHECK ((amount <> 0))
);


--
-- Name: events; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.events (
    id_hash bytea NOT NULL,
    dry_run boolean NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    validated_at timestamp with time zone,
    routed_at timestamp with time zone,
    executed_at timestamp with time zone,
    acked_at timestamp with time zone,
    ok boolean,
    reason text,
    job_id uuid,
    event_id text,
    type text,
    source text,
    trace_id text,
    router_id text,
    pedido_id text,
    ip inet,
    mac macaddr,
    body text,
    result jsonb,
    outcome jsonb,
    ack_lane text,
    CONSTRAINT events_body_check CHECK ((length(body) <= 4096)),
    CONSTRAINT events_decided CHECK (((ok IS NULL) = (executed_at IS NULL))),
    CONSTRAINT events_done_by CHECK (((job_id IS NOT NULL) OR (ok IS NOT NULL))),
    CONSTRAINT events_event_id_check CHECK ((length(event_id) <= 256)),
    CONSTRAINT events_id_hash_check CHECK ((length(id_hash) = 32)),
    CONSTRAINT events_reason_check CHECK ((length(reason) <= 64)),
    CONSTRAINT events_source_check CHECK ((source = ANY (ARRAY['backend'::text, 'file'::text]))),
    CONSTRAINT events_type_check CHECK ((length(type) <= 64))
)
WITH (fillfactor='80');


--
-- Name: host_beats; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.host_beats (
    host_id uuid NOT NULL,
    last_seen_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');


--
-- Name: hosts; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.hosts (
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    user_id uuid NOT NULL,
    display_name text NOT NULL,
    reliability_score integer DEFAULT 100 NOT NULL,
    sessions_completed integer DEFAULT 0 NOT NULL,
    sessions_dropped integer DEFAULT 0 NOT NULL,
    last_drop_at timestamp with time zone,
    timed_out_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT hosts_reliability_score_check CHECK (((reliability_score >= 0) AND (reliability_score <= 100)))
)
WITH (fillfactor='80');


--
-- Name: hotspot_devices; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.hotspot_devices (
    token_hash bytea NOT NULL,
    router_id text NOT NULL,
    ip inet NOT NULL,
    mac macaddr NOT NULL,
    user_agent text,
    addresses jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT hotspot_devices_token_hash_check CHECK ((length(token_hash) = 32)),
    CONSTRAINT hotspot_devices_user_agent_check CHECK ((length(user_agent) <= 512))
)
WITH (fillfactor='70');


--
-- Name: hotspot_grants; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.hotspot_grants (
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    router_id text NOT NULL,
    pedido_id text NOT NULL,
    ip inet NOT NULL,
    mac macaddr NOT NULL,
    device bytea,
    duration_s integer,
    begun_at timestamp with time zone,
    until timestamp with time zone,
    opening_at timestamp with time zone,
    observed_at timestamp with time zone,
    had_time boolean DEFAULT false NOT NULL,
    before jsonb,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    end_reason text,
    trial boolean DEFAULT false NOT NULL,
    dry_run boolean NOT NULL,
    CONSTRAINT hotspot_grants_duration_s_check CHECK ((duration_s > 0)),
    CONSTRAINT hotspot_grants_end CHECK (((ended_at IS NULL) = (end_reason IS NULL))),
    CONSTRAINT hotspot_grants_end_reason_check CHECK ((end_reason = ANY (ARRAY['revoked'::text, 'moved'::text, 'expired'::text, 'removed'::text, 'released'::text, 'failed'::text]))),
    CONSTRAINT hotspot_grants_opening CHECK (((opening_at IS NULL) OR (until IS NOT NULL))),
    CONSTRAINT hotspot_grants_pedido_id_check CHECK (((length(pedido_id) >= 1) AND (length(pedido_id) <= 128))),
    CONSTRAINT hotspot_grants_time CHECK ((((begun_at IS NULL) = (until IS NULL)) AND ((until IS NULL) OR (duration_s IS NOT NULL))))
)
WITH (fillfactor='80');


--
-- Name: idempotency_keys; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.idempotency_keys (
    caller uuid NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint,
    body bytea,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: jobs; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.jobs (
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    seq bigint NOT NULL,
    type text NOT NULL,
    lane text NOT NULL,
    key text NOT NULL,
    payload jsonb NOT NULL,
    dedupe text,
    trace_id text,
    state text DEFAULT 'due'::text NOT NULL,
    run_at timestamp with time zone DEFAULT now() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    outcomes integer DEFAULT 0 NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    leased_by uuid,
    leased_until timestamp with time zone,
    last_error text,
    result jsonb,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT jobs_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT jobs_finished CHECK (((state = ANY (ARRAY['done'::text, 'dead'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT jobs_lease CHECK ((((state = 'running'::text) = (leased_by IS NOT NULL)) AND ((state = 'running'::text) = (leased_until IS NOT NULL)))),
    CONSTRAINT jobs_state_check CHECK ((state = ANY (ARRAY['due'::text, 'running'::text, 'done'::text, 'dead'::text])))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='5000');


--
-- Name: jobs_seq_seq; Type: SEQUENCE; Schema: opendesk; Owner: -
--

ALTER TABLE opendesk.jobs ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME opendesk.jobs_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: leases; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.leases (
    name text NOT NULL,
    held_by uuid NOT NULL,
    until timestamp with time zone NOT NULL
);


--
-- Name: login_attempts; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.login_attempts (
    key bytea NOT NULL,
    failures integer NOT NULL,
    window_start timestamp with time zone NOT NULL
);


--
-- Name: migrations; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


--
-- Name: pc_beats; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.pc_beats (
    pc_id uuid NOT NULL,
    last_seen_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');


--
-- Name: pcs; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.pcs (
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    host_id uuid NOT NULL,
    local_pc_id text,
    name text NOT NULL,
    level text NOT NULL,
    cpu text NOT NULL,
    ram_gb integer NOT NULL,
    gpu text NOT NULL,
    vram_gb integer NOT NULL,
    storage_type text NOT NULL,
    internet_upload_mbps integer NOT NULL,
    price_per_hour bigint NOT NULL,
    currency text NOT NULL,
    categories text[] DEFAULT '{}'::text[] NOT NULL,
    software_tags text[] DEFAULT '{}'::text[] NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    network_provider text DEFAULT 'DIRECT'::text NOT NULL,
    connect_address text,
    connect_hint text,
    connection_host text,
    connection_port integer,
    status text DEFAULT 'OFFLINE'::text NOT NULL,
    taken_off boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    CONSTRAINT pcs_connection_port_check CHECK (((connection_port >= 1) AND (connection_port <= 65535))),
    CONSTRAINT pcs_level_check CHECK ((level = ANY (ARRAY['A'::text, 'B'::text, 'C'::text]))),
    CONSTRAINT pcs_network_provider_check CHECK ((network_provider = ANY (ARRAY['DIRECT'::text, 'RELAY'::text]))),
    CONSTRAINT pcs_price_per_hour_check CHECK (((price_per_hour >= 0) AND (price_per_hour <= 10000000))),
    CONSTRAINT pcs_status_check CHECK ((status = ANY (ARRAY['ONLINE'::text, 'BUSY'::text, 'OFFLINE'::text])))
)
WITH (fillfactor='80');


--
-- Name: relay_nodes; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.relay_nodes (
    id uuid NOT NULL,
    alive_until timestamp with time zone NOT NULL
)
WITH (fillfactor='50');


--
-- Name: relay_nonces; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.relay_nonces (
    nonce text NOT NULL,
    forget_at timestamp with time zone NOT NULL
);


--
-- Name: router_states; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.router_states (
    router_id text NOT NULL,
    leased_by uuid NOT NULL,
    leased_until timestamp with time zone NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    open_until timestamp with time zone,
    resets integer DEFAULT 0 NOT NULL,
    target text,
    moved boolean DEFAULT false NOT NULL,
    last_contact_at timestamp with time zone,
    booted_at timestamp with time zone,
    identity text,
    version text,
    refused boolean DEFAULT false NOT NULL,
    last_error text,
    last_error_at timestamp with time zone
)
WITH (fillfactor='50');


--
-- Name: routers; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.routers (
    id text NOT NULL,
    host text NOT NULL,
    port integer,
    tls boolean DEFAULT false NOT NULL,
    tls_sha256 bytea,
    username text,
    password_sealed bytea,
    timeout_ms integer,
    dry_run boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT routers_check CHECK ((tls OR (tls_sha256 IS NULL))),
    CONSTRAINT routers_check1 CHECK (((username IS NOT NULL) OR (password_sealed IS NULL))),
    CONSTRAINT routers_host_check CHECK (((length(host) >= 1) AND (length(host) <= 253))),
    CONSTRAINT routers_id_check CHECK ((id ~ '^[A-Za-z0-9._:-]{1,64}$'::text)),
    CONSTRAINT routers_port_check CHECK (((port >= 1) AND (port <= 65535))),
    CONSTRAINT routers_timeout_ms_check CHECK (((timeout_ms >= 1) AND (timeout_ms <= 120000))),
    CONSTRAINT routers_tls_sha256_check CHECK ((octet_length(tls_sha256) = 32)),
    CONSTRAINT routers_username_check CHECK (((length(username) >= 1) AND (length(username) <= 64)))
);


--
-- Name: secrets; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.secrets (
    name text NOT NULL,
    value bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: sessions; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.sessions (
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    pc_id uuid NOT NULL,
    host_id uuid NOT NULL,
    client_user_id uuid NOT NULL,
    status text DEFAULT 'PENDING'::text NOT NULL,
    minutes_purchased integer NOT NULL,
    minutes_used integer,
    price_per_hour bigint NOT NULL,
    price_total bigint NOT NULL,
    currency text NOT NULL,
    platform_fee_rate numeric NOT NULL,
    penalty_rate numeric NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    start_at timestamp with time zone,
    end_at timestamp with time zone,
    ended_at timestamp with time zone,
    end_reason text,
    failure_reason text,
    claimed_failure_reason text,
    proportional bigint,
    platform_fee bigint,
    host_payout bigint,
    penalty bigint,
    client_credit bigint,
    retained bigint,
    refunded bigint DEFAULT 0 NOT NULL,
    stream_expires_at timestamp with time zone,
    stream_node uuid,
    stream_url text,
    stream_by_relay boolean DEFAULT false NOT NULL,
    CONSTRAINT sessions_check CHECK (((minutes_used >= 0) AND (minutes_used <= minutes_purchased))),
    CONSTRAINT sessions_claimed_failure_reason_check CHECK ((claimed_failure_reason = ANY (ARRAY['NONE'::text, 'HOST'::text, 'CLIENT'::text, 'PLATFORM'::text]))),
    CONSTRAINT sessions_client_credit_check CHECK ((client_credit >= 0)),
    CONSTRAINT sessions_end_reason_check CHECK ((end_reason = ANY (ARRAY['COMPLETED'::text, 'ENDED_BY_CLIENT'::text, 'ENDED_BY_HOST'::text, 'ENDED_BY_ADMIN'::text, 'HOST_TIMEOUT'::text, 'CANCELLED'::text, 'NEVER_STARTED'::text]))),
    CONSTRAINT sessions_failure_reason_check CHECK ((failure_reason = ANY (ARRAY['NONE'::text, 'HOST'::text, 'CLIENT'::text, 'PLATFORM'::text]))),
    CONSTRAINT sessions_host_payout_check CHECK ((host_payout >= 0)),
    CONSTRAINT sessions_live_or_settled CHECK (
CASE
    WHEN (status = ANY (ARRAY['PENDING'::text, 'ACTIVE'::text])) THEN ((ended_at IS NULL) AND (end_reason IS NULL) AND (retained IS NULL))
    ELSE ((ended_at IS NOT NULL) AND (end_reason IS NOT NULL) AND (failure_reason IS NOT NULL) AND (minutes_used IS NOT NULL) AND (proportional IS NOT NULL) AND (penalty IS NOT NULL) AND (NOT ((((platform_fee + host_payout) + client_credit) + retained) IS DISTINCT FROM price_total)))
END),
    CONSTRAINT sessions_minutes_purchased_check CHECK (((minutes_purchased >= 1) AND (minutes_purchased <= 240))),
    CONSTRAINT sessions_penalty_check CHECK ((penalty >= 0)),
    CONSTRAINT sessions_penalty_rate_check CHECK (((penalty_rate >= (0)::numeric) AND (penalty_rate <= (1)::numeric))),
    CONSTRAINT sessions_platform_fee_check CHECK ((platform_fee >= 0)),
    CONSTRAINT sessions_platform_fee_rate_check CHECK (((platform_fee_rate >= (0)::numeric) AND (platform_fee_rate <= (1)::numeric))),
    CONSTRAINT sessions_price_total_check CHECK ((price_total >= 0)),
    CONSTRAINT sessions_proportional_check CHECK ((proportional >= 0)),
    CONSTRAINT sessions_refund_from_retained CHECK (((refunded = 0) OR (refunded <= COALESCE(retained, (0)::bigint)))),
    CONSTRAINT sessions_refunded_check CHECK ((refunded >= 0)),
    CONSTRAINT sessions_retained_check CHECK ((retained >= 0)),
    CONSTRAINT sessions_started CHECK (((status <> 'ACTIVE'::text) OR ((start_at IS NOT NULL) AND (end_at IS NOT NULL)))),
    CONSTRAINT sessions_status_check CHECK ((status = ANY (ARRAY['PENDING'::text, 'ACTIVE'::text, 'ENDED'::text, 'FAILED'::text]))),
    CONSTRAINT sessions_stream CHECK ((num_nonnulls(stream_expires_at, stream_node, stream_url) = ANY (ARRAY[0, 3])))
)
WITH (fillfactor='80');


--
-- Name: stream_presence; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.stream_presence (
    session_id uuid NOT NULL,
    node uuid NOT NULL,
    host_down_since timestamp with time zone,
    client_up_since timestamp with time zone,
    client_left_at timestamp with time zone,
    last_byte_at timestamp with time zone,
    seen_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');


--
-- Name: transfers; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.transfers (
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    kind text NOT NULL,
    session_id uuid,
    made_by uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT transfers_kind_check CHECK ((kind = ANY (ARRAY['CREDIT'::text, 'DEBIT'::text, 'HOLD'::text, 'RELEASE'::text, 'SETTLEMENT'::text, 'REFUND'::text]))),
    CONSTRAINT transfers_of_a_session CHECK (((kind = ANY (ARRAY['CREDIT'::text, 'DEBIT'::text])) OR (session_id IS NOT NULL)))
);


--
-- Name: tunnel_bindings; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.tunnel_bindings (
    dry_run boolean NOT NULL,
    public_key text NOT NULL,
    device_id text NOT NULL,
    mikrotik_ip inet NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT tunnel_bindings_device_id_check CHECK ((device_id ~ '^[A-Za-z0-9._:-]{1,64}$'::text)),
    CONSTRAINT tunnel_bindings_mikrotik_ip_check CHECK ((masklen(mikrotik_ip) =
CASE family(mikrotik_ip)
    WHEN 4 THEN 32
    ELSE 128
END)),
    CONSTRAINT tunnel_bindings_public_key_check CHECK ((public_key ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'::text))
);


--
-- Name: tunnel_devices; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.tunnel_devices (
    dry_run boolean NOT NULL,
    id text NOT NULL,
    seq bigint NOT NULL,
    public_key text NOT NULL,
    preshared_key_sealed bytea,
    next_public_key text,
    next_preshared_key_sealed bytea,
    next_since timestamp with time zone,
    next_username text,
    next_password_sealed bytea,
    next_port integer,
    tunnel_ip inet,
    allowed_ips cidr[] NOT NULL,
    endpoint text,
    keepalive integer DEFAULT 25 NOT NULL,
    meta jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    endpoint_changed_at timestamp with time zone,
    CONSTRAINT tunnel_devices_allowed_ips_check CHECK ((cardinality(allowed_ips) <= 128)),
    CONSTRAINT tunnel_devices_endpoint_check CHECK ((length(endpoint) <= 262)),
    CONSTRAINT tunnel_devices_host CHECK (((tunnel_ip IS NULL) OR ((masklen(tunnel_ip) =
CASE family(tunnel_ip)
    WHEN 4 THEN 32
    ELSE 128
END) AND (tunnel_ip <<= ANY ((allowed_ips)::inet[]))))),
    CONSTRAINT tunnel_devices_id_check CHECK ((id ~ '^[A-Za-z0-9._:-]{1,64}$'::text)),
    CONSTRAINT tunnel_devices_keepalive_check CHECK (((keepalive >= 0) AND (keepalive <= 65535))),
    CONSTRAINT tunnel_devices_meta_check CHECK ((jsonb_typeof(meta) = 'object'::text)),
    CONSTRAINT tunnel_devices_next_port_check CHECK (((next_port >= 1) AND (next_port <= 65535))),
    CONSTRAINT tunnel_devices_next_public_key_check CHECK ((next_public_key ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'::text)),
    CONSTRAINT tunnel_devices_next_username_check CHECK (((length(next_username) >= 1) AND (length(next_username) <= 64))),
    CONSTRAINT tunnel_devices_public_key_check CHECK ((public_key ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'::text)),
    CONSTRAINT tunnel_devices_rotation CHECK ((((next_public_key IS NULL) = (next_since IS NULL)) AND (next_public_key <> public_key) AND ((next_public_key IS NOT NULL) OR ((next_preshared_key_sealed IS NULL) AND (next_username IS NULL))) AND ((next_username IS NOT NULL) OR ((next_password_sealed IS NULL) AND (next_port IS NULL)))))
);


--
-- Name: tunnel_devices_seq_seq; Type: SEQUENCE; Schema: opendesk; Owner: -
--

ALTER TABLE opendesk.tunnel_devices ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME opendesk.tunnel_devices_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: tunnel_keys; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.tunnel_keys (
    dry_run boolean NOT NULL,
    public_key text NOT NULL,
    device_id text,
    removed_at timestamp with time zone,
    CONSTRAINT tunnel_keys_check CHECK (((device_id IS NOT NULL) OR (removed_at IS NOT NULL)))
);


--
-- Name: tunnel_prefixes; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.tunnel_prefixes (
    dry_run boolean NOT NULL,
    prefix cidr NOT NULL,
    device_id text NOT NULL
);


--
-- Name: tunnel_removals; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.tunnel_removals (
    is_only_one boolean DEFAULT true NOT NULL,
    removed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT tunnel_removals_is_only_one_check CHECK (is_only_one)
);


--
-- Name: users; Type: TABLE; Schema: opendesk; Owner: -
--

CREATE TABLE opendesk.users (
    id uuid DEFAULT opendesk.uuid7() NOT NULL,
    email text NOT NULL,
    username text NOT NULL,
    display_name text,
    role text NOT NULL,
    password_hash text NOT NULL,
    token_version integer DEFAULT 1 NOT NULL,
    banned_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT users_role_check CHECK ((role = ANY (ARRAY['CLIENT'::text, 'HOST'::text, 'ADMIN'::text])))
);


--
-- Name: accounts accounts_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);


--
-- Name: accounts accounts_user_id_key; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.accounts
    ADD CONSTRAINT accounts_user_id_key UNIQUE (user_id);


--
-- Name: books books_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.books
    ADD CONSTRAINT books_pkey PRIMARY KEY (only_one);


--
-- Name: entries entries_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.entries
    ADD CONSTRAINT entries_pkey PRIMARY KEY (transfer_id, account_id);


--
-- Name: events events_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id_hash, dry_run);


--
-- Name: host_beats host_beats_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.host_beats
    ADD CONSTRAINT host_beats_pkey PRIMARY KEY (host_id);


--
-- Name: hosts hosts_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.hosts
    ADD CONSTRAINT hosts_pkey PRIMARY KEY (id);


--
-- Name: hosts hosts_user_id_key; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.hosts
    ADD CONSTRAINT hosts_user_id_key UNIQUE (user_id);


--
-- Name: hotspot_devices hotspot_devices_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.hotspot_devices
    ADD CONSTRAINT hotspot_devices_pkey PRIMARY KEY (token_hash);


--
-- Name: hotspot_grants hotspot_grants_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.hotspot_grants
    ADD CONSTRAINT hotspot_grants_pkey PRIMARY KEY (id);


--
-- Name: idempotency_keys idempotency_keys_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (caller, key);


--
-- Name: jobs jobs_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);


--
-- Name: leases leases_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (name);


--
-- Name: login_attempts login_attempts_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.login_attempts
    ADD CONSTRAINT login_attempts_pkey PRIMARY KEY (key);


--
-- Name: migrations migrations_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);


--
-- Name: pc_beats pc_beats_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.pc_beats
    ADD CONSTRAINT pc_beats_pkey PRIMARY KEY (pc_id);


--
-- Name: pcs pcs_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.pcs
    ADD CONSTRAINT pcs_pkey PRIMARY KEY (id);


--
-- Name: relay_nodes relay_nodes_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.relay_nodes
    ADD CONSTRAINT relay_nodes_pkey PRIMARY KEY (id);


--
-- Name: relay_nonces relay_nonces_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.relay_nonces
    ADD CONSTRAINT relay_nonces_pkey PRIMARY KEY (nonce);


--
-- Name: router_states router_states_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.router_states
    ADD CONSTRAINT router_states_pkey PRIMARY KEY (router_id);


--
-- Name: routers routers_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.routers
    ADD CONSTRAINT routers_pkey PRIMARY KEY (id);


--
-- Name: secrets secrets_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY (name);


--
-- Name: sessions sessions_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);


--
-- Name: stream_presence stream_presence_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.stream_presence
    ADD CONSTRAINT stream_presence_pkey PRIMARY KEY (session_id, node);


--
-- Name: transfers transfers_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.transfers
    ADD CONSTRAINT transfers_pkey PRIMARY KEY (id);


--
-- Name: tunnel_bindings tunnel_bindings_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_bindings
    ADD CONSTRAINT tunnel_bindings_pkey PRIMARY KEY (dry_run, public_key);


--
-- Name: tunnel_devices tunnel_devices_next_public_key; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_devices
    ADD CONSTRAINT tunnel_devices_next_public_key UNIQUE (dry_run, next_public_key);


--
-- Name: tunnel_devices tunnel_devices_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_devices
    ADD CONSTRAINT tunnel_devices_pkey PRIMARY KEY (dry_run, id);


--
-- Name: tunnel_devices tunnel_devices_public_key; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_devices
    ADD CONSTRAINT tunnel_devices_public_key UNIQUE (dry_run, public_key);


--
-- Name: tunnel_devices tunnel_devices_seq; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_devices
    ADD CONSTRAINT tunnel_devices_seq UNIQUE (dry_run, seq);


--
-- Name: tunnel_devices tunnel_devices_tunnel_ip; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_devices
    ADD CONSTRAINT tunnel_devices_tunnel_ip UNIQUE (dry_run, tunnel_ip);


--
-- Name: tunnel_keys tunnel_keys_one_device; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_keys
    ADD CONSTRAINT tunnel_keys_one_device PRIMARY KEY (dry_run, public_key);


--
-- Name: tunnel_prefixes tunnel_prefixes_apart; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_prefixes
    ADD CONSTRAINT tunnel_prefixes_apart EXCLUDE USING gist (prefix inet_ops WITH &&) WHERE ((NOT dry_run));


--
-- Name: tunnel_prefixes tunnel_prefixes_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_prefixes
    ADD CONSTRAINT tunnel_prefixes_pkey PRIMARY KEY (dry_run, prefix);


--
-- Name: tunnel_prefixes tunnel_prefixes_pretended_apart; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_prefixes
    ADD CONSTRAINT tunnel_prefixes_pretended_apart EXCLUDE USING gist (prefix inet_ops WITH &&) WHERE (dry_run);


--
-- Name: tunnel_removals tunnel_removals_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.tunnel_removals
    ADD CONSTRAINT tunnel_removals_pkey PRIMARY KEY (is_only_one);


--
-- Name: users users_pkey; Type: CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);


--
-- Name: entries_of_wallet; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX entries_of_wallet ON opendesk.entries USING btree (account_id, id) WHERE (account_id >= 100);


--
-- Name: events_age; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX events_age ON opendesk.events USING btree (received_at) WHERE (type IS NOT NULL);


--
-- Name: events_device; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX events_device ON opendesk.events USING btree (mac) WHERE (mac IS NOT NULL);


--
-- Name: events_failed; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX events_failed ON opendesk.events USING btree (received_at) WHERE (NOT ok);


--
-- Name: events_job; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX events_job ON opendesk.events USING btree (job_id) WHERE (job_id IS NOT NULL);


--
-- Name: events_order; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX events_order ON opendesk.events USING btree (pedido_id) WHERE (pedido_id IS NOT NULL);


--
-- Name: events_waiting; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX events_waiting ON opendesk.events USING btree (received_at) WHERE (ok IS NULL);


--
-- Name: hotspot_devices_age; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX hotspot_devices_age ON opendesk.hotspot_devices USING btree (created_at);


--
-- Name: hotspot_grants_device; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX hotspot_grants_device ON opendesk.hotspot_grants USING btree (device) WHERE ((ended_at IS NULL) AND (device IS NOT NULL));


--
-- Name: hotspot_grants_ip; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX hotspot_grants_ip ON opendesk.hotspot_grants USING btree (router_id, ip) WHERE ((ended_at IS NULL) OR (end_reason = 'failed'::text));


--
-- Name: hotspot_grants_live; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX hotspot_grants_live ON opendesk.hotspot_grants USING btree (router_id, pedido_id, mac, ip, dry_run) WHERE (ended_at IS NULL);


--
-- Name: hotspot_grants_mac; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX hotspot_grants_mac ON opendesk.hotspot_grants USING btree (router_id, mac) WHERE ((ended_at IS NULL) OR (end_reason = 'failed'::text));


--
-- Name: hotspot_grants_order; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX hotspot_grants_order ON opendesk.hotspot_grants USING btree (router_id, pedido_id, created_at);


--
-- Name: hotspot_grants_over; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX hotspot_grants_over ON opendesk.hotspot_grants USING btree (ended_at) WHERE (ended_at IS NOT NULL);


--
-- Name: idempotency_keys_age; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX idempotency_keys_age ON opendesk.idempotency_keys USING btree (created_at);


--
-- Name: jobs_due; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX jobs_due ON opendesk.jobs USING btree (lane, run_at, seq) WHERE (state = 'due'::text);


--
-- Name: jobs_of_key; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX jobs_of_key ON opendesk.jobs USING btree (lane, key, seq) WHERE (state = ANY (ARRAY['due'::text, 'running'::text]));


--
-- Name: jobs_one_running_per_key; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX jobs_one_running_per_key ON opendesk.jobs USING btree (lane, key) WHERE (state = 'running'::text);


--
-- Name: jobs_over; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX jobs_over ON opendesk.jobs USING btree (state, finished_at) WHERE (state = ANY (ARRAY['done'::text, 'dead'::text]));


--
-- Name: login_attempts_age; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX login_attempts_age ON opendesk.login_attempts USING btree (window_start);


--
-- Name: pcs_listed; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX pcs_listed ON opendesk.pcs USING btree (id) WHERE (deleted_at IS NULL);


--
-- Name: pcs_local_id; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX pcs_local_id ON opendesk.pcs USING btree (host_id, local_pc_id) WHERE (deleted_at IS NULL);


--
-- Name: pcs_of_host; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX pcs_of_host ON opendesk.pcs USING btree (host_id, id) WHERE (deleted_at IS NULL);


--
-- Name: relay_nonces_age; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX relay_nonces_age ON opendesk.relay_nonces USING btree (forget_at);


--
-- Name: sessions_due; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX sessions_due ON opendesk.sessions USING btree (end_at) WHERE (status = 'ACTIVE'::text);


--
-- Name: sessions_live_of_host; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX sessions_live_of_host ON opendesk.sessions USING btree (host_id) WHERE (status = ANY (ARRAY['PENDING'::text, 'ACTIVE'::text]));


--
-- Name: sessions_never_started; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX sessions_never_started ON opendesk.sessions USING btree (client_user_id, created_at) WHERE (end_reason = ANY (ARRAY['CANCELLED'::text, 'NEVER_STARTED'::text]));


--
-- Name: sessions_of_client; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX sessions_of_client ON opendesk.sessions USING btree (client_user_id, id);


--
-- Name: sessions_of_host; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX sessions_of_host ON opendesk.sessions USING btree (host_id, id);


--
-- Name: sessions_of_pc; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX sessions_of_pc ON opendesk.sessions USING btree (pc_id, id);


--
-- Name: sessions_one_live_per_client; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX sessions_one_live_per_client ON opendesk.sessions USING btree (client_user_id) WHERE (status = ANY (ARRAY['PENDING'::text, 'ACTIVE'::text]));


--
-- Name: sessions_one_live_per_pc; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX sessions_one_live_per_pc ON opendesk.sessions USING btree (pc_id) WHERE (status = ANY (ARRAY['PENDING'::text, 'ACTIVE'::text]));


--
-- Name: sessions_pending; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX sessions_pending ON opendesk.sessions USING btree (created_at) WHERE (status = 'PENDING'::text);


--
-- Name: transfers_of_session; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX transfers_of_session ON opendesk.transfers USING btree (session_id);


--
-- Name: transfers_one_close; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX transfers_one_close ON opendesk.transfers USING btree (session_id) WHERE (kind = ANY (ARRAY['RELEASE'::text, 'SETTLEMENT'::text]));


--
-- Name: transfers_one_hold; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX transfers_one_hold ON opendesk.transfers USING btree (session_id) WHERE (kind = 'HOLD'::text);


--
-- Name: tunnel_keys_removed; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX tunnel_keys_removed ON opendesk.tunnel_keys USING btree (dry_run, device_id) WHERE (removed_at IS NOT NULL);


--
-- Name: tunnel_prefixes_of; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE INDEX tunnel_prefixes_of ON opendesk.tunnel_prefixes USING btree (dry_run, device_id);


--
-- Name: users_email; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX users_email ON opendesk.users USING btree (lower(email));


--
-- Name: users_username; Type: INDEX; Schema: opendesk; Owner: -
--

CREATE UNIQUE INDEX users_username ON opendesk.users USING btree (lower(username));


--
-- Name: accounts accounts_balance; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER accounts_balance BEFORE UPDATE OF balance ON opendesk.accounts FOR EACH ROW WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION opendesk.refuse('a balance changes by entries only');


--
-- Name: accounts accounts_empty; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER accounts_empty BEFORE INSERT ON opendesk.accounts FOR EACH ROW WHEN ((new.balance <> 0)) EXECUTE FUNCTION opendesk.refuse('an account starts at zero');


--
-- Name: accounts accounts_kept; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER accounts_kept BEFORE DELETE ON opendesk.accounts FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('an account is never deleted');


--
-- Name: entries entries_final; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER entries_final BEFORE DELETE OR UPDATE ON opendesk.entries FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('an entry is never changed or deleted');


--
-- Name: entries entries_kept; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER entries_kept BEFORE TRUNCATE ON opendesk.entries FOR EACH STATEMENT EXECUTE FUNCTION opendesk.refuse('an entry is never changed or deleted');


--
-- Name: entries entries_posted; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER entries_posted AFTER INSERT ON opendesk.entries REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION opendesk.post_entries();


--
-- Name: jobs jobs_decide_events; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER jobs_decide_events AFTER UPDATE ON opendesk.jobs REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION opendesk.decide_events();


--
-- Name: routers routers_told; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER routers_told AFTER INSERT OR DELETE OR UPDATE ON opendesk.routers FOR EACH STATEMENT EXECUTE FUNCTION opendesk.tell_routers();


--
-- Name: sessions sessions_settled; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER sessions_settled BEFORE UPDATE ON opendesk.sessions FOR EACH ROW WHEN (((old.retained IS NOT NULL) AND ((new.refunded < old.refunded) OR ((((((((((((((old.created_at IS DISTINCT FROM new.created_at) OR (old.start_at IS DISTINCT FROM new.start_at)) OR (old.end_at IS DISTINCT FROM new.end_at)) OR (old.ended_at IS DISTINCT FROM new.ended_at)) OR (old.end_reason IS DISTINCT FROM new.end_reason)) OR (old.failure_reason IS DISTINCT FROM new.failure_reason)) OR (old.claimed_failure_reason IS DISTINCT FROM new.claimed_failure_reason)) OR (old.minutes_used IS DISTINCT FROM new.minutes_used)) OR (old.proportional IS DISTINCT FROM new.proportional)) OR (old.platform_fee IS DISTINCT FROM new.platform_fee)) OR (old.host_payout IS DISTINCT FROM new.host_payout)) OR (old.penalty IS DISTINCT FROM new.penalty)) OR (old.client_credit IS DISTINCT FROM new.client_credit)) OR (old.retained IS DISTINCT FROM new.retained))))) EXECUTE FUNCTION opendesk.refuse('a session that is over stays as it was');


--
-- Name: sessions sessions_step; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER sessions_step BEFORE UPDATE OF status ON opendesk.sessions FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION opendesk.check_session_step();


--
-- Name: sessions sessions_terms; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER sessions_terms BEFORE UPDATE ON opendesk.sessions FOR EACH ROW WHEN ((((((((((old.pc_id IS DISTINCT FROM new.pc_id) OR (old.host_id IS DISTINCT FROM new.host_id)) OR (old.client_user_id IS DISTINCT FROM new.client_user_id)) OR (old.minutes_purchased IS DISTINCT FROM new.minutes_purchased)) OR (old.price_per_hour IS DISTINCT FROM new.price_per_hour)) OR (old.price_total IS DISTINCT FROM new.price_total)) OR (old.currency IS DISTINCT FROM new.currency)) OR (old.platform_fee_rate IS DISTINCT FROM new.platform_fee_rate)) OR (old.penalty_rate IS DISTINCT FROM new.penalty_rate))) EXECUTE FUNCTION opendesk.refuse('the terms of a session never change');


--
-- Name: sessions sessions_told; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER sessions_told AFTER UPDATE OF status ON opendesk.sessions FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) AND (new.stream_expires_at IS NOT NULL))) EXECUTE FUNCTION opendesk.tell_session_status();


--
-- Name: transfers transfers_final; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER transfers_final BEFORE DELETE OR UPDATE ON opendesk.transfers FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('a transfer is never changed or deleted');


--
-- Name: transfers transfers_kept; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER transfers_kept BEFORE TRUNCATE ON opendesk.transfers FOR EACH STATEMENT EXECUTE FUNCTION opendesk.refuse('a transfer is never changed or deleted');


--
-- Name: tunnel_bindings tunnel_bindings_told; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER tunnel_bindings_told AFTER INSERT OR DELETE OR UPDATE ON opendesk.tunnel_bindings FOR EACH ROW EXECUTE FUNCTION opendesk.tell_tunnel_binding();


--
-- Name: tunnel_devices tunnel_devices_followed; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER tunnel_devices_followed AFTER INSERT OR DELETE OR UPDATE OF public_key, next_public_key, allowed_ips ON opendesk.tunnel_devices FOR EACH ROW EXECUTE FUNCTION opendesk.follow_tunnel_device();


--
-- Name: tunnel_devices tunnel_devices_named; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER tunnel_devices_named BEFORE UPDATE OF dry_run, id ON opendesk.tunnel_devices FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('a device keeps its id');


--
-- Name: tunnel_devices tunnel_devices_told; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER tunnel_devices_told AFTER INSERT OR DELETE OR UPDATE ON opendesk.tunnel_devices FOR EACH ROW EXECUTE FUNCTION opendesk.tell_tunnel_device();


--
-- Name: tunnel_keys tunnel_keys_told; Type: TRIGGER; Schema: opendesk; Owner: -
--

CREATE TRIGGER tunnel_keys_told AFTER INSERT ON opendesk.tunnel_keys FOR EACH ROW WHEN ((new.device_id IS NULL)) EXECUTE FUNCTION opendesk.tell_tunnels();


--
-- Name: accounts accounts_user_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.accounts
    ADD CONSTRAINT accounts_user_id_fkey FOREIGN KEY (user_id) REFERENCES opendesk.users(id);


--
-- Name: entries entries_account_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.entries
    ADD CONSTRAINT entries_account_id_fkey FOREIGN KEY (account_id) REFERENCES opendesk.accounts(id);


--
-- Name: entries entries_transfer_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.entries
    ADD CONSTRAINT entries_transfer_id_fkey FOREIGN KEY (transfer_id) REFERENCES opendesk.transfers(id);


--
-- Name: host_beats host_beats_host_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.host_beats
    ADD CONSTRAINT host_beats_host_id_fkey FOREIGN KEY (host_id) REFERENCES opendesk.hosts(id) ON DELETE CASCADE;


--
-- Name: hosts hosts_user_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.hosts
    ADD CONSTRAINT hosts_user_id_fkey FOREIGN KEY (user_id) REFERENCES opendesk.users(id);


--
-- Name: idempotency_keys idempotency_keys_caller_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.idempotency_keys
    ADD CONSTRAINT idempotency_keys_caller_fkey FOREIGN KEY (caller) REFERENCES opendesk.users(id) ON DELETE CASCADE;


--
-- Name: pc_beats pc_beats_pc_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.pc_beats
    ADD CONSTRAINT pc_beats_pc_id_fkey FOREIGN KEY (pc_id) REFERENCES opendesk.pcs(id) ON DELETE CASCADE;


--
-- Name: pcs pcs_host_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.pcs
    ADD CONSTRAINT pcs_host_id_fkey FOREIGN KEY (host_id) REFERENCES opendesk.hosts(id);


--
-- Name: sessions sessions_client_user_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.sessions
    ADD CONSTRAINT sessions_client_user_id_fkey FOREIGN KEY (client_user_id) REFERENCES opendesk.users(id);


--
-- Name: sessions sessions_host_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.sessions
    ADD CONSTRAINT sessions_host_id_fkey FOREIGN KEY (host_id) REFERENCES opendesk.hosts(id);


--
-- Name: sessions sessions_pc_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.sessions
    ADD CONSTRAINT sessions_pc_id_fkey FOREIGN KEY (pc_id) REFERENCES opendesk.pcs(id);


--
-- Name: stream_presence stream_presence_session_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.stream_presence
    ADD CONSTRAINT stream_presence_session_id_fkey FOREIGN KEY (session_id) REFERENCES opendesk.sessions(id);


--
-- Name: transfers transfers_made_by_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.transfers
    ADD CONSTRAINT transfers_made_by_fkey FOREIGN KEY (made_by) REFERENCES opendesk.users(id);


--
-- Name: transfers transfers_session_id_fkey; Type: FK CONSTRAINT; Schema: opendesk; Owner: -
--

ALTER TABLE ONLY opendesk.transfers
    ADD CONSTRAINT transfers_session_id_fkey FOREIGN KEY (session_id) REFERENCES opendesk.sessions(id);


--
-- PostgreSQL database dump complete
--


