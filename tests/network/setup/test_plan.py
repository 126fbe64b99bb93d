"""Whatever a router holds: done once the plan is empty, others' rows are as they were, and the undo makes all as it was."""

from hypothesis import given, settings
from hypothesis import strategies as st

from opendesk.network.setup import minimal, redialling, undo
from opendesk.network.setup.minimal import Tables
from opendesk.network.setup.script import ADDRESSES, COMMENT, INTERFACE, PEERS, ROUTES, WIREGUARD, Tunnel
from opendesk.network.setup.steps import Step
from opendesk.simulators.routeros import HandClock, Refused, Router
from tests.network.setup.wires import KEY, OTHER_KEY, POOL, tunnel_of

MENUS = (WIREGUARD, PEERS, ADDRESSES, ROUTES)
CONFIGS = (
    tunnel_of(),
    tunnel_of(vps_host="new.test", keepalive=0, allowed_ips=(POOL, "10.9.0.0/24")),
    tunnel_of(address="10.200.0.8/16", vps_public_key=OTHER_KEY),
)
# Texts that end a literal, a block or a script where they aren't quoted.
HOSTILE = ('a"; /user remove admin; "', "}] on-error={}", "$x\\", "ü\n")

comments = st.sampled_from(["", COMMENT, COMMENT, "mine", *HOSTILE])
switches = st.sampled_from(["no", "no", "yes"])


def rows_of(menu: str, **names: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, dict[str, str]]]:
    kept = st.fixed_dictionaries({**names, "comment": comments, "disabled": switches})
    return kept.map(lambda row: (menu, {name.replace("_", "-"): text for name, text in row.items() if text}))


tied = st.sampled_from([INTERFACE, INTERFACE, "other"])
states = st.tuples(
    st.lists(rows_of(WIREGUARD, name=tied), max_size=2),
    st.lists(
        st.one_of(
            rows_of(
                PEERS,
                interface=tied,
                public_key=st.sampled_from([KEY, OTHER_KEY]),
                allowed_address=st.sampled_from(["", POOL, f"10.9.0.0/24,{POOL}"]),
                endpoint_address=st.sampled_from(["", "vps.test", *HOSTILE]),
                endpoint_port=st.sampled_from(["", "51820", "1"]),
                persistent_keepalive=st.sampled_from(["", "25s", "1m"]),
            ),
            rows_of(
                ADDRESSES, interface=tied, address=st.sampled_from(["10.200.0.7/32", "10.200.0.8/16", "10.1.0.1/24"])
            ),
            rows_of(ROUTES, gateway=tied, dst_address=st.sampled_from([POOL, "10.9.0.0/24", "10.7.0.0/24"])),
        ),
        max_size=8,
    ),
).map(lambda parts: [row for part in parts for row in part])


def holding(state: list[tuple[str, dict[str, str]]]) -> Router:
    """As far as a router takes it."""
    router = Router(clock=HandClock())
    for menu, row in state:
        try:
            router.run(f"{menu}/add", row)
        except Refused:
            continue
    return router


def tables(router: Router, config: Tunnel) -> Tables:
    return {
        query.path.removesuffix("/print"): router.run(
            query.path, {".proplist": ",".join(query.proplist)}, *query.queries
        ).rows
        for query in minimal.queries(config)
    }


def do(router: Router, steps: tuple[Step, ...]) -> None:
    for step in steps:
        router.run(step.command.path, step.command.attributes)


def others(router: Router) -> list[tuple[str, dict[str, str]]]:
    return [(menu, row) for menu in MENUS for row in router.rows(menu) if row.get("comment") != COMMENT]


def everything(router: Router) -> dict[str, list[dict[str, str]]]:
    """But for the private key and the public key of an interface, which no one takes back."""
    return {menu: router.rows(menu) for menu in MENUS}


@settings(max_examples=300)
@given(states, st.sampled_from(CONFIGS))
def test_what_is_done_leaves_nothing_to_do_and_touches_nobody_elses(
    state: list[tuple[str, dict[str, str]]], config: Tunnel
) -> None:
    router = holding(state)
    before = others(router)
    if minimal.conflicts(config, tables(router, config)):
        return
    # The second look tidies what the first has put away.
    for _ in range(2):
        do(router, minimal.plan(config, tables(router, config)))
    assert minimal.plan(config, tables(router, config)) == ()
    assert others(router) == before


@settings(max_examples=300)
@given(states, st.sampled_from(CONFIGS), st.data())
def test_the_undo_takes_back_whatever_was_done_of_it(
    state: list[tuple[str, dict[str, str]]], config: Tunnel, data: st.DataObject
) -> None:
    router = holding(state)
    seen = tables(router, config)
    steps = tuple(step for step in minimal.plan(config, seen) if not minimal.is_tidying(step))
    if minimal.conflicts(config, seen):
        return
    before = everything(router)
    do(router, undo.arm(steps, set()))
    do(router, steps[: data.draw(st.integers(0, len(steps)))])
    clock = router.state.clock
    assert isinstance(clock, HandClock)
    clock.advance(undo.UNDO_S)
    assert (everything(router), router.rows(redialling.SCHEDULERS)) == (before, [])
    assert list(router.script_errors) == []
    assert len(router.rows("/user")) == 1


@given(states, st.sampled_from(CONFIGS))
def test_every_step_that_may_cut_can_be_taken_back(state: list[tuple[str, dict[str, str]]], config: Tunnel) -> None:
    steps = minimal.plan(config, tables(holding(state), config))
    assert all(step.revert for step in steps if step.cuts)
    assert all(minimal.is_tidying(step) == (step.verb == "remove") for step in steps)


def test_an_entry_that_ran_or_will_not_run_is_not_armed() -> None:
    steps = undo.arm(minimal.plan(CONFIGS[0], {}), {"opendesk-undo-1-boot"})
    rows = [{**step.attributes, ".id": f"*{number}", "run-count": "0"} for number, step in enumerate(steps)]
    both = undo.understood(rows)
    assert [entry.name for entry in both] == ["opendesk-undo-2", "opendesk-undo-2-boot"]
    assert undo.are_as_told(both, steps)
    assert [step.row for step in undo.disarm(both)] == ["*1", "*0"]  # what stays alone goes by the clock
    wrongs: list[dict[str, str]] = [
        {"run-count": "1"}, {"disabled": "true"}, {"interval": "1d"}, {"on-event": ""}, {"policy": "read"}, {"name": "opendesk-undo-3"},
    ]  # fmt: skip
    for at, row in enumerate(rows):
        for wrong in (*wrongs, {"start-time": ("startup", "10:00:00")[at]}):
            assert not undo.are_as_told(undo.understood([*rows[:at], row | wrong, *rows[at + 1 :]]), steps)
    assert undo.understood([rows[0] | {".id": "*1; /user"}, rows[0] | {"name": "backup"}]) == ()


def test_what_was_done_last_is_taken_back_first() -> None:
    steps = minimal.plan(CONFIGS[0], {})
    parts = undo.program("opendesk-undo-1", steps).split("; ")
    assert [part.split()[1].lstrip("{") for part in parts[:-2]] == [step.menu for step in reversed(steps)]
    assert (
        parts[-2] == ':do {/system scheduler remove [find name="opendesk-undo-1-boot" comment="opendesk"]} on-error={}'
    )
    assert parts[-1] == '/system scheduler remove [find name="opendesk-undo-1" comment="opendesk"]'
    assert undo.program("opendesk-undo-1-boot", ()).endswith('[find name="opendesk-undo-1-boot" comment="opendesk"]')
