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

-- A dead job that is replayed may still be done: then its events are told anew. Nothing that was done is taken back.
CREATE FUNCTION opendesk.decide_events() RETURNS trigger LANGUAGE plpgsql SET search_path = opendesk, pg_temp AS $$
DECLARE
    lanes text;
BEGIN
    IF NEW.type = 'ACK_EVENT' THEN
        -- Where another of it waits, that one tells the news.
        UPDATE events SET acked_at = clock_timestamp()
         WHERE id_hash = decode(NEW.key, 'hex') AND dry_run = (NEW.lane <> '/acks') AND NEW.state = 'done'
           AND NOT EXISTS (SELECT FROM jobs WHERE lane = NEW.lane AND key = NEW.key AND state IN ('due', 'running'));
        RETURN NULL;
    END IF;
    WITH decided AS (
        UPDATE events e
           SET ok = NEW.state = 'done', executed_at = clock_timestamp(), acked_at = NULL, outcome = NEW.result, reason = told.reason,
               result = jsonb_strip_nulls(jsonb_build_object(
                   'reason', told.reason, 'error', CASE WHEN NEW.state = 'dead' THEN NEW.last_error END, 'jobId', NEW.id,
                   'online', NEW.result -> 'online', 'until', NEW.result -> 'until', 'changed', NEW.result -> 'changed',
                   'dryRun', NEW.result -> 'dryRun'))
          FROM events undecided,
               LATERAL (SELECT CASE WHEN NEW.state = 'dead' THEN 'failed'
                                    WHEN undecided.type <> 'REVOKE_REQUESTED' AND NEW.result -> 'online' = 'false' THEN 'superseded'
                               END) AS told (reason)
         WHERE undecided.job_id = NEW.id AND undecided.ok IS NOT TRUE
           AND (e.id_hash, e.dry_run) = (undecided.id_hash, undecided.dry_run)
     RETURNING e.*
    ), acks AS (
        INSERT INTO jobs (type, lane, key, payload, dedupe, trace_id)
        SELECT 'ACK_EVENT', ack_lane, encode(id_hash, 'hex'),
               jsonb_build_object('body', jsonb_build_object('eventId', event_id, 'ok', ok, 'payload', result)::text), 'ack', trace_id
          FROM decided WHERE ack_lane IS NOT NULL AND event_id IS NOT NULL
     RETURNING lane
    )
    SELECT json_agg(DISTINCT lane)::text INTO lanes FROM acks;
    IF lanes IS NOT NULL THEN
        PERFORM pg_notify('opendesk_jobs', lanes);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER jobs_decide_events AFTER UPDATE OF state ON opendesk.jobs
    FOR EACH ROW WHEN (NEW.state IN ('done', 'dead') AND OLD.state <> NEW.state
                       AND NEW.type IN ('AUTHORIZE_BY_PEDIDO', 'REVOKE_SESSION', 'ACK_EVENT'))
    EXECUTE FUNCTION opendesk.decide_events();
