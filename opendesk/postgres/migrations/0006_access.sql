-- Who may call the network API.

-- The nonces of signed calls: one that is here, and not yet to be forgotten, isn't taken again, on any daemon.
CREATE TABLE opendesk.relay_nonces (
    nonce     text PRIMARY KEY,
    forget_at timestamptz NOT NULL
);
CREATE INDEX relay_nonces_age ON opendesk.relay_nonces (forget_at);
