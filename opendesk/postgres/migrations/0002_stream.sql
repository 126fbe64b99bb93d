-- Streaming: what `stream/start` writes of a session, which daemons are alive, and how the others' relays hear of starts and ends.

-- How long the session's tokens admit to the relay, and the daemon whose relay both sides were sent to. Tokens themselves are nowhere:
-- they are made from the key `stream` in `secrets`.
ALTER TABLE opendesk.sessions
    ADD COLUMN stream_expires_at timestamptz,
    ADD COLUMN stream_node uuid,
    ADD COLUMN stream_url text,
    -- Both sides were told that the relay is the only way. A host can't untell it in the midst of a session, and so be missed by nobody.
    ADD COLUMN stream_by_relay boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT sessions_stream CHECK (num_nonnulls(stream_expires_at, stream_node, stream_url) IN (0, 3));

-- Each daemon's own row, written anew every few seconds. Sessions name a node after it was forgotten: that is a dead one.
CREATE TABLE opendesk.relay_nodes (
    id          uuid PRIMARY KEY,
    alive_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Commits that notify wait for each other in all of the server, so sessions that never streamed do without.
CREATE FUNCTION opendesk.tell_session_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('opendesk_sessions', NEW.id || ' ' || NEW.status);
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_told AFTER UPDATE OF status ON opendesk.sessions
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.stream_expires_at IS NOT NULL)
    EXECUTE FUNCTION opendesk.tell_session_status();

-- What each daemon's relay saw of a session's room, as of `seen_at`: who was where, in what is older than 15 s, is of a relay that is gone, and
-- proves nothing. A row a daemon: the client may have a socket at any of them, and a room without a host there says nothing of the host
-- elsewhere. Written in batches, apart from `sessions`, so that it waits for nobody.
CREATE TABLE opendesk.stream_presence (
    session_id      uuid NOT NULL REFERENCES opendesk.sessions,
    node            uuid NOT NULL,
    host_down_since timestamptz,
    client_up_since timestamptz,
    client_left_at  timestamptz,
    last_byte_at    timestamptz,
    seen_at         timestamptz NOT NULL,
    PRIMARY KEY (session_id, node)
) WITH (fillfactor = 50);
