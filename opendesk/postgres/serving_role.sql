-- The rights that serving takes, for a role that owns nothing and can't migrate. Applied by `opendesk migrate --grant ROLE`; by hand:
--     psql -v role=ROLE -f serving_role.sql
-- Again after every migration, which may have brought new tables. A test says that every table is here.

REVOKE ALL ON ALL TABLES IN SCHEMA opendesk FROM :"role";
GRANT USAGE ON SCHEMA opendesk TO :"role";
GRANT SELECT ON opendesk.migrations TO :"role";
-- Only read, by `opendesk backup`.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA opendesk TO :"role";

-- Written once. Balances are changed by a trigger with its owner's rights, and by nobody else.
GRANT SELECT, INSERT ON opendesk.accounts, opendesk.transfers, opendesk.entries, opendesk.secrets, opendesk.books TO :"role";

GRANT SELECT, INSERT, UPDATE ON opendesk.users, opendesk.hosts, opendesk.pcs, opendesk.host_beats, opendesk.pc_beats, opendesk.sessions,
      opendesk.tunnel_removals TO :"role";

-- What is forgotten in time.
GRANT SELECT, INSERT, UPDATE, DELETE ON opendesk.login_attempts, opendesk.idempotency_keys, opendesk.relay_nodes,
      opendesk.stream_presence, opendesk.jobs, opendesk.leases, opendesk.events, opendesk.relay_nonces, opendesk.routers, opendesk.router_states,
      opendesk.hotspot_devices, opendesk.hotspot_grants, opendesk.tunnel_devices, opendesk.tunnel_prefixes, opendesk.tunnel_keys,
      opendesk.tunnel_bindings TO :"role";
