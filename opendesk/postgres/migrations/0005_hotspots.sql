-- Devices behind hotspots, and the access that orders grant them. Routers are named by their ids: some are known from the environment only.

-- Who holds the token is the device, wherever it is now. The token itself is nowhere.
CREATE TABLE opendesk.hotspot_devices (
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),   -- SHA-256
    router_id  text NOT NULL,
    ip         inet NOT NULL,
    mac        macaddr NOT NULL,
    user_agent text CHECK (length(user_agent) <= 512),
    addresses  jsonb NOT NULL,   -- the last pairs of IP and MAC, the newest last; the present one is among them
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
-- For forgetting. Not by `seen_at`: every greeting would write to that index.
CREATE INDEX hotspot_devices_age ON opendesk.hotspot_devices (created_at);

-- One access of one order for one device. Live until `ended_at` is set, or `until` has passed of one whose way may have been open.
CREATE TABLE opendesk.hotspot_grants (
    id          uuid PRIMARY KEY DEFAULT opendesk.uuid7(),
    router_id   text NOT NULL,
    pedido_id   text NOT NULL CHECK (length(pedido_id) BETWEEN 1 AND 128),
    ip          inet NOT NULL,
    mac         macaddr NOT NULL,
    device      bytea,                                   -- the hash of its token, where it came by one
    duration_s  integer CHECK (duration_s > 0),          -- NULL: until it is revoked
    begun_at    timestamptz,                             -- its time runs from here
    until       timestamptz,
    opening_at  timestamptz,                             -- what opens the way was about to be sent: until then no time is used up
    observed_at timestamptz,                             -- a router was first seen to hold it; its time is never set anew then
    had_time    boolean NOT NULL DEFAULT false,          -- there was time of it before: since then it was given more, or came here
    before      jsonb,                                   -- that time, while the new one isn't opened: it holds again if that fails
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    end_reason  text CHECK (end_reason IN ('revoked', 'moved', 'expired', 'removed', 'released', 'failed')),
    trial       boolean NOT NULL DEFAULT false,          -- given for free: its order may be paid, and then this one ends ('released')
    dry_run     boolean NOT NULL,                        -- pretended: a world of its own
    CONSTRAINT hotspot_grants_time CHECK ((begun_at IS NULL) = (until IS NULL) AND (until IS NULL OR duration_s IS NOT NULL)),
    CONSTRAINT hotspot_grants_opening CHECK (opening_at IS NULL OR until IS NOT NULL),
    CONSTRAINT hotspot_grants_end CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) WITH (fillfactor = 80);

-- An order is granted to a device once; the second to say so joins the first.
CREATE UNIQUE INDEX hotspot_grants_live ON opendesk.hotspot_grants (router_id, pedido_id, mac, ip, dry_run) WHERE ended_at IS NULL;
-- What failed can be tried again, until it is revoked.
CREATE INDEX hotspot_grants_ip ON opendesk.hotspot_grants (router_id, ip) WHERE ended_at IS NULL OR end_reason = 'failed';
CREATE INDEX hotspot_grants_mac ON opendesk.hotspot_grants (router_id, mac) WHERE ended_at IS NULL OR end_reason = 'failed';
CREATE INDEX hotspot_grants_device ON opendesk.hotspot_grants (device) WHERE ended_at IS NULL AND device IS NOT NULL;
CREATE INDEX hotspot_grants_order ON opendesk.hotspot_grants (router_id, pedido_id, created_at);
CREATE INDEX hotspot_grants_over ON opendesk.hotspot_grants (ended_at) WHERE ended_at IS NOT NULL;
