-- Streaming: what `stream/start` writes of a session, which daemons are alive, and how the others' relays hear of starts and ends.

-- How long the session's tokens admit to the relay, and the daemon whose relay both sides were sent to. Tokens themselves are nowhere:
-- they are made from the key `stream` in `secrets`.
ALTER TABLE opendesk.sessions
    ADD COLUMN stream_expires_at timestamptz,
    ADD COLUMN stream_node uuid,
    ADD COLUMN stream_url text,
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

-- What a relay saw of a session's room, as of `seen_at`: what is older than 15 s is of a relay that is gone, and proves nothing. Written in
-- batches, apart from `sessions`, so that it waits for nobody.
CREATE TABLE opendesk.stream_presence (
    session_id      uuid PRIMARY KEY REFERENCES opendesk.sessions,
    host_down_since timestamptz,
    client_up_since timestamptz,
    last_byte_at    timestamptz,
    seen_at         timestamptz NOT NULL
) WITH (fillfactor = 50);
