-- Events from the backend: each id takes effect once, for good; and each is acknowledged.

-- An event is decided when its intent is written: refused at once, or with a job that does it. What becomes of the job is what becomes of
-- the event (a trigger, so that no way to end a job can forget it), and in the same transaction stands the ACK that tells the backend.
CREATE TABLE opendesk.events (
    id_hash      bytea NOT NULL CHECK (length(id_hash) = 32),    -- SHA-256 of the eventId: kept for good, so that it never runs again
    dry_run      boolean NOT NULL,                               -- pretended: a world of its own
    received_at  timestamptz NOT NULL DEFAULT now(),
    -- How far it came. NULL: not so far.
    validated_at timestamptz,
    routed_at    timestamptz,                                    -- its router is known
    executed_at  timestamptz,                                    -- decided: done, refused, or failed for good
    acked_at     timestamptz,                                    -- the backend took the ACK
    ok           boolean,                                        -- NULL: not yet decided
    reason       text CHECK (length(reason) <= 64),
    job_id       uuid,                                           -- what does it; several events may be done by one job
    -- Details: NULL from when they are older than EVENTS_RETENTION_DAYS.
    event_id     text CHECK (length(event_id) <= 256),
    type         text CHECK (length(type) <= 64),
    source       text CHECK (source IN ('backend', 'file')),
    trace_id     text,
    router_id    text,
    pedido_id    text,
    ip           inet,
    mac          macaddr,
    body         text CHECK (length(body) <= 4096),              -- as it came, cut
    result       jsonb,                                          -- what the ACK tells
    outcome      jsonb,                                          -- what the job tells: commands, and why
    ack_lane     text,                                           -- where its ACKs wait; NULL: nobody wants any
    PRIMARY KEY (id_hash, dry_run),
    CONSTRAINT events_decided CHECK ((ok IS NULL) = (executed_at IS NULL)),
    CONSTRAINT events_done_by CHECK (job_id IS NOT NULL OR ok IS NOT NULL)
) WITH (fillfactor = 80);

CREATE INDEX events_job ON opendesk.events (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX events_age ON opendesk.events (received_at) WHERE type IS NOT NULL;   -- those that have details
CREATE INDEX events_order ON opendesk.events (pedido_id) WHERE pedido_id IS NOT NULL;
CREATE INDEX events_device ON opendesk.events (mac) WHERE mac IS NOT NULL;
CREATE INDEX events_waiting ON opendesk.events (received_at) WHERE ok IS NULL;
CREATE INDEX events_failed ON opendesk.events (received_at) WHERE NOT ok;

-- One of several daemons does it at a time.
CREATE TABLE opendesk.leases (
    name    text PRIMARY KEY,
    held_by uuid NOT NULL,
    until   timestamptz NOT NULL
);

-- A dead job that is replayed may still be done: then its events are told anew. Nothing that was done is taken back. Once a statement, for
-- all jobs that it ended: to begin costs more than what is done for each. Nothing is ever written to a job that is over, but to begin it anew.
CREATE FUNCTION opendesk.decide_events() RETURNS trigger LANGUAGE plpgsql SET search_path = opendesk, pg_temp AS $$
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
CREATE TRIGGER jobs_decide_events AFTER UPDATE ON opendesk.jobs REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION opendesk.decide_events();
