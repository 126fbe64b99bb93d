-- Work that is done later, by whichever daemon, and in order where that matters.

-- A job waits in a lane (a router, or a name of ours). Those of one key run one after the other in the order in which they came;
-- keys and lanes have nothing to do with each other.
CREATE TABLE opendesk.jobs (
    id           uuid PRIMARY KEY DEFAULT opendesk.uuid7(),
    seq          bigint GENERATED ALWAYS AS IDENTITY,   -- who adds to a key holds its lock, so that this is the order of commits, too
    type         text NOT NULL,
    lane         text NOT NULL,
    key          text NOT NULL,
    payload      jsonb NOT NULL,
    dedupe       text,
    trace_id     text,
    state        text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'running', 'done', 'dead')),
    run_at       timestamptz NOT NULL DEFAULT now(),
    attempts     integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),   -- begun, but for those that were given back or came too early
    outcomes     integer NOT NULL DEFAULT 0,                         -- of attempts, written: what a waiting caller looks at
    fence        bigint NOT NULL DEFAULT 0,                          -- how often it was claimed: only the last claim may write an outcome
    leased_by    uuid,
    leased_until timestamptz,
    last_error   text,
    result       jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT jobs_lease CHECK ((state = 'running') = (leased_by IS NOT NULL) AND (state = 'running') = (leased_until IS NOT NULL)),
    CONSTRAINT jobs_finished CHECK ((state IN ('done', 'dead')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 70,
        -- Every job is written three times: what is left of that is swept up while it is little.
        autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);

-- What a lane may take next. One lane's rows lie together, so that another's never cost it anything.
CREATE INDEX jobs_due ON opendesk.jobs (lane, run_at, seq) WHERE state = 'due';
CREATE INDEX jobs_of_key ON opendesk.jobs (lane, key, seq) WHERE state IN ('due', 'running');
-- A claim's snapshot doesn't see what another is just claiming: this decides.
CREATE UNIQUE INDEX jobs_one_running_per_key ON opendesk.jobs (lane, key) WHERE state = 'running';
CREATE INDEX jobs_over ON opendesk.jobs (state, finished_at) WHERE state IN ('done', 'dead');
