-- Users, hosts, PCs, the ledger and sessions. Rules that must hold whatever the program does are constraints and triggers here.

-- Time-ordered ids (RFC 9562, version 7; the 12 bits after the version hold the fraction of the millisecond, its method 3), told
-- by the database's clock. PostgreSQL has its own from version 18 on; one function for all versions keeps the schema the same.
CREATE FUNCTION opendesk.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(us / 1000), 12, '0') || '7' || lpad(to_hex(us % 1000 * 4096 / 1000), 3, '0')
            || substr(replace(gen_random_uuid()::text, '-', ''), 17))::uuid
      FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS clock (us)
$$;

-- price_per_hour × minutes / 60, half-even, at least 1 unless the PC is free: the same as money.price, and a test compares them.
CREATE FUNCTION opendesk.price(price_per_hour bigint, minutes integer) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN price_per_hour = 0 THEN 0
                ELSE greatest(1, n / 60 + CASE WHEN n % 60 > 30 OR (n % 60 = 30 AND n / 60 % 2 = 1) THEN 1 ELSE 0 END) END
      FROM (SELECT price_per_hour * minutes) AS product (n)
$$;

CREATE FUNCTION opendesk.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA;
END
$$;

-- Keys that the daemon makes on its first start: every daemon of this database shares them.
CREATE TABLE opendesk.secrets (
    name       text PRIMARY KEY,
    value      bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What all amounts are in, written by the first daemon: one that is set otherwise must not rename money.
CREATE TABLE opendesk.books (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    currency text NOT NULL
);

CREATE TABLE opendesk.users (
    id            uuid PRIMARY KEY DEFAULT opendesk.uuid7(),
    email         text NOT NULL,
    username      text NOT NULL,
    display_name  text,
    role          text NOT NULL CHECK (role IN ('CLIENT', 'HOST', 'ADMIN')),
    password_hash text NOT NULL,
    token_version integer NOT NULL DEFAULT 1,   -- a token of an older version is worthless
    banned_at     timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON opendesk.users (lower(email));
CREATE UNIQUE INDEX users_username ON opendesk.users (lower(username));

-- Failed log-ins by (address, e-mail): one row a key, counted up before the password is looked at.
CREATE TABLE opendesk.login_attempts (
    key          bytea PRIMARY KEY,
    failures     integer NOT NULL,
    window_start timestamptz NOT NULL
);
CREATE INDEX login_attempts_age ON opendesk.login_attempts (window_start);

CREATE TABLE opendesk.hosts (
    id                 uuid PRIMARY KEY DEFAULT opendesk.uuid7(),
    user_id            uuid NOT NULL UNIQUE REFERENCES opendesk.users,
    display_name       text NOT NULL,
    reliability_score  integer NOT NULL DEFAULT 100 CHECK (reliability_score BETWEEN 0 AND 100),
    sessions_completed integer NOT NULL DEFAULT 0,
    sessions_dropped   integer NOT NULL DEFAULT 0,
    last_drop_at       timestamptz,
    timed_out_at       timestamptz,   -- its reliability was lowered for the silence it was in then
    created_at         timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

CREATE TABLE opendesk.pcs (
    id                   uuid PRIMARY KEY DEFAULT opendesk.uuid7(),
    host_id              uuid NOT NULL REFERENCES opendesk.hosts,
    local_pc_id          text,
    name                 text NOT NULL,
    level                text NOT NULL CHECK (level IN ('A', 'B', 'C')),
    cpu                  text NOT NULL,
    ram_gb               integer NOT NULL,
    gpu                  text NOT NULL,
    vram_gb              integer NOT NULL,
    storage_type         text NOT NULL,
    internet_upload_mbps integer NOT NULL,
    price_per_hour       bigint NOT NULL CHECK (price_per_hour BETWEEN 0 AND 10000000),
    currency             text NOT NULL,
    categories           text[] NOT NULL DEFAULT '{}',
    software_tags        text[] NOT NULL DEFAULT '{}',
    description          text NOT NULL DEFAULT '',
    network_provider     text NOT NULL DEFAULT 'DIRECT' CHECK (network_provider IN ('DIRECT', 'RELAY')),
    connect_address      text,
    connect_hint         text,
    connection_host      text,
    connection_port      integer CHECK (connection_port BETWEEN 1 AND 65535),
    status               text NOT NULL DEFAULT 'OFFLINE' CHECK (status IN ('ONLINE', 'BUSY', 'OFFLINE')),
    taken_off            boolean NOT NULL DEFAULT false,   -- by its host: only an explicit ONLINE brings it back
    created_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX pcs_local_id ON opendesk.pcs (host_id, local_pc_id) WHERE deleted_at IS NULL;
CREATE INDEX pcs_of_host ON opendesk.pcs (host_id, id) WHERE deleted_at IS NULL;
CREATE INDEX pcs_listed ON opendesk.pcs (id) WHERE deleted_at IS NULL;

-- Heartbeats lie apart from hosts and PCs: written in batches, they never wait for a row that a session holds.
CREATE TABLE opendesk.host_beats (
    host_id      uuid PRIMARY KEY REFERENCES opendesk.hosts ON DELETE CASCADE,
    last_seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE opendesk.pc_beats (
    pc_id        uuid PRIMARY KEY REFERENCES opendesk.pcs ON DELETE CASCADE,
    last_seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE opendesk.sessions (
    id                     uuid PRIMARY KEY DEFAULT opendesk.uuid7(),
    pc_id                  uuid NOT NULL REFERENCES opendesk.pcs,
    host_id                uuid NOT NULL REFERENCES opendesk.hosts,
    client_user_id         uuid NOT NULL REFERENCES opendesk.users,
    status                 text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'ACTIVE', 'ENDED', 'FAILED')),
    minutes_purchased      integer NOT NULL CHECK (minutes_purchased BETWEEN 1 AND 240),
    minutes_used           integer CHECK (minutes_used BETWEEN 0 AND minutes_purchased),
    price_per_hour         bigint NOT NULL,
    price_total            bigint NOT NULL CHECK (price_total >= 0),
    currency               text NOT NULL,
    platform_fee_rate      numeric NOT NULL CHECK (platform_fee_rate BETWEEN 0 AND 1),
    penalty_rate           numeric NOT NULL CHECK (penalty_rate BETWEEN 0 AND 1),
    created_at             timestamptz NOT NULL DEFAULT now(),
    start_at               timestamptz,
    end_at                 timestamptz,
    ended_at               timestamptz,
    end_reason             text CHECK (end_reason IN ('COMPLETED', 'ENDED_BY_CLIENT', 'ENDED_BY_HOST', 'ENDED_BY_ADMIN',
                                                      'HOST_TIMEOUT', 'CANCELLED', 'NEVER_STARTED')),
    failure_reason         text CHECK (failure_reason IN ('NONE', 'HOST', 'CLIENT', 'PLATFORM')),
    claimed_failure_reason text CHECK (claimed_failure_reason IN ('NONE', 'HOST', 'CLIENT', 'PLATFORM')),
    proportional           bigint CHECK (proportional >= 0),
    platform_fee           bigint CHECK (platform_fee >= 0),
    host_payout            bigint CHECK (host_payout >= 0),
    penalty                bigint CHECK (penalty >= 0),
    client_credit          bigint CHECK (client_credit >= 0),
    retained               bigint CHECK (retained >= 0),
    refunded               bigint NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    CONSTRAINT sessions_live_or_settled CHECK (
        CASE WHEN status IN ('PENDING', 'ACTIVE')
             THEN ended_at IS NULL AND end_reason IS NULL AND retained IS NULL
             ELSE ended_at IS NOT NULL AND end_reason IS NOT NULL AND failure_reason IS NOT NULL AND minutes_used IS NOT NULL
                  AND proportional IS NOT NULL AND penalty IS NOT NULL
                  AND platform_fee + host_payout + client_credit + retained IS NOT DISTINCT FROM price_total END),
    CONSTRAINT sessions_started CHECK (status <> 'ACTIVE' OR (start_at IS NOT NULL AND end_at IS NOT NULL)),
    CONSTRAINT sessions_refund_from_retained CHECK (refunded = 0 OR refunded <= coalesce(retained, 0))
) WITH (fillfactor = 80);

-- What the snapshot of a statement can't see, these decide; the name of the one that was hit gives the error.
CREATE UNIQUE INDEX sessions_one_live_per_pc ON opendesk.sessions (pc_id) WHERE status IN ('PENDING', 'ACTIVE');
CREATE UNIQUE INDEX sessions_one_live_per_client ON opendesk.sessions (client_user_id) WHERE status IN ('PENDING', 'ACTIVE');
CREATE INDEX sessions_due ON opendesk.sessions (end_at) WHERE status = 'ACTIVE';
CREATE INDEX sessions_pending ON opendesk.sessions (created_at) WHERE status = 'PENDING';
CREATE INDEX sessions_of_client ON opendesk.sessions (client_user_id, id);
CREATE INDEX sessions_of_host ON opendesk.sessions (host_id, id);
CREATE INDEX sessions_live_of_host ON opendesk.sessions (host_id) WHERE status IN ('PENDING', 'ACTIVE');
CREATE INDEX sessions_of_pc ON opendesk.sessions (pc_id, id);
CREATE INDEX sessions_never_started ON opendesk.sessions (client_user_id, created_at)
    WHERE end_reason IN ('CANCELLED', 'NEVER_STARTED');

-- A session's life goes one way: PENDING → ACTIVE → ENDED | FAILED, PENDING → FAILED. Nothing else, and what is over stays as it was.
CREATE FUNCTION opendesk.check_session_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.status, NEW.status) IN (('PENDING', 'ACTIVE'), ('PENDING', 'FAILED'), ('ACTIVE', 'ENDED'), ('ACTIVE', 'FAILED')) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a session does not go from % to %', OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'sessions_step';
END
$$;
CREATE TRIGGER sessions_step BEFORE UPDATE OF status ON opendesk.sessions
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION opendesk.check_session_step();
-- Price and rates are those of the reservation, so that a settlement may be reckoned from a row that nobody locked; and a settlement stays
-- as it was written. (A WHEN costs next to nothing; the function is only called to refuse.)
CREATE TRIGGER sessions_terms BEFORE UPDATE ON opendesk.sessions
    FOR EACH ROW WHEN ((OLD.pc_id, OLD.host_id, OLD.client_user_id, OLD.minutes_purchased, OLD.price_per_hour, OLD.price_total, OLD.currency,
                        OLD.platform_fee_rate, OLD.penalty_rate)
        IS DISTINCT FROM (NEW.pc_id, NEW.host_id, NEW.client_user_id, NEW.minutes_purchased, NEW.price_per_hour, NEW.price_total, NEW.currency,
                          NEW.platform_fee_rate, NEW.penalty_rate))
    EXECUTE FUNCTION opendesk.refuse('the terms of a session never change');
CREATE TRIGGER sessions_settled BEFORE UPDATE ON opendesk.sessions
    FOR EACH ROW WHEN (OLD.retained IS NOT NULL
        AND (NEW.refunded < OLD.refunded
             OR (OLD.created_at, OLD.start_at, OLD.end_at, OLD.ended_at, OLD.end_reason, OLD.failure_reason, OLD.claimed_failure_reason,
                 OLD.minutes_used, OLD.proportional, OLD.platform_fee, OLD.host_payout, OLD.penalty, OLD.client_credit, OLD.retained)
                IS DISTINCT FROM
                (NEW.created_at, NEW.start_at, NEW.end_at, NEW.ended_at, NEW.end_reason, NEW.failure_reason, NEW.claimed_failure_reason,
                 NEW.minutes_used, NEW.proportional, NEW.platform_fee, NEW.host_payout, NEW.penalty, NEW.client_credit, NEW.retained)))
    EXECUTE FUNCTION opendesk.refuse('a session that is over stays as it was');

-- The ledger. A transfer is a set of entries that sums to zero. Wallets carry a balance; the accounts that everybody pays into
-- (ids below 100) don't, so that nobody queues for them.
CREATE TABLE opendesk.accounts (
    id         bigint GENERATED ALWAYS AS IDENTITY (START WITH 100) PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('WALLET', 'ESCROW', 'FEES', 'RETAINED', 'EXTERNAL')),
    user_id    uuid UNIQUE REFERENCES opendesk.users,
    balance    bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_wallet_has_owner_and_balance CHECK (
        (kind = 'WALLET') = (user_id IS NOT NULL) AND (kind = 'WALLET') = (balance IS NOT NULL) AND (kind = 'WALLET') = (id >= 100)),
    CONSTRAINT wallet_not_negative CHECK (balance >= 0)
) WITH (fillfactor = 70);
INSERT INTO opendesk.accounts (id, kind) OVERRIDING SYSTEM VALUE
VALUES (1, 'ESCROW'), (2, 'FEES'), (3, 'RETAINED'), (4, 'EXTERNAL');

CREATE TABLE opendesk.transfers (
    id         uuid PRIMARY KEY DEFAULT opendesk.uuid7(),
    kind       text NOT NULL CHECK (kind IN ('CREDIT', 'DEBIT', 'HOLD', 'RELEASE', 'SETTLEMENT', 'REFUND')),
    session_id uuid REFERENCES opendesk.sessions,
    made_by    uuid REFERENCES opendesk.users,   -- an admin; NULL: the session itself, or the command line
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT transfers_of_a_session CHECK (kind IN ('CREDIT', 'DEBIT') OR session_id IS NOT NULL)
);
CREATE UNIQUE INDEX transfers_one_hold ON opendesk.transfers (session_id) WHERE kind = 'HOLD';
CREATE UNIQUE INDEX transfers_one_close ON opendesk.transfers (session_id) WHERE kind IN ('RELEASE', 'SETTLEMENT');
CREATE INDEX transfers_of_session ON opendesk.transfers (session_id);

CREATE TABLE opendesk.entries (
    transfer_id uuid NOT NULL REFERENCES opendesk.transfers,
    account_id  bigint NOT NULL REFERENCES opendesk.accounts,
    amount      bigint NOT NULL CHECK (amount <> 0),
    reason      text NOT NULL,
    id          uuid NOT NULL DEFAULT opendesk.uuid7(),
    PRIMARY KEY (transfer_id, account_id)
);
CREATE UNIQUE INDEX entries_of_wallet ON opendesk.entries (account_id, id) WHERE account_id >= 100;

-- Every statement that adds entries is checked whole: each transfer sums to zero, none is added to later, and the wallets follow,
-- locked in the order of their ids. Only this function may change a balance (SECURITY DEFINER: the daemon's role needs no right to).
CREATE FUNCTION opendesk.post_entries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = opendesk, pg_temp AS $$
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
-- Else a role without the right to change balances could hang it on a temporary table of its own and post entries there that are none.
REVOKE ALL ON FUNCTION opendesk.post_entries() FROM PUBLIC;
CREATE TRIGGER entries_posted AFTER INSERT ON opendesk.entries REFERENCING NEW TABLE AS posted
    FOR EACH STATEMENT EXECUTE FUNCTION opendesk.post_entries();

CREATE TRIGGER entries_final BEFORE UPDATE OR DELETE ON opendesk.entries
    FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('an entry is never changed or deleted');
CREATE TRIGGER entries_kept BEFORE TRUNCATE ON opendesk.entries
    FOR EACH STATEMENT EXECUTE FUNCTION opendesk.refuse('an entry is never changed or deleted');
CREATE TRIGGER transfers_final BEFORE UPDATE OR DELETE ON opendesk.transfers
    FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('a transfer is never changed or deleted');
CREATE TRIGGER transfers_kept BEFORE TRUNCATE ON opendesk.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION opendesk.refuse('a transfer is never changed or deleted');
CREATE TRIGGER accounts_balance BEFORE UPDATE OF balance ON opendesk.accounts
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION opendesk.refuse('a balance changes by entries only');
CREATE TRIGGER accounts_empty BEFORE INSERT ON opendesk.accounts
    FOR EACH ROW WHEN (NEW.balance <> 0) EXECUTE FUNCTION opendesk.refuse('an account starts at zero');
CREATE TRIGGER accounts_kept BEFORE DELETE ON opendesk.accounts
    FOR EACH ROW EXECUTE FUNCTION opendesk.refuse('an account is never deleted');

-- Answers to requests that carried an Idempotency-Key, written in the transaction that the key guards.
CREATE TABLE opendesk.idempotency_keys (
    caller      uuid NOT NULL REFERENCES opendesk.users ON DELETE CASCADE,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,       -- SHA-256 of method, path and body
    status      smallint,
    body        bytea,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_keys_age ON opendesk.idempotency_keys (created_at);
