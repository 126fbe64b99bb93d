"""What is counted of tunnels."""

from prometheus_client.parser import text_string_to_metric_families

from opendesk.network.tunnels.figures import RIGHT, TunnelFigures
from opendesk.network.tunnels.keeping.plan import Kind
from opendesk.ops.metrics import Metrics


def shown(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """But for what has counted nothing."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name.startswith("opendesk_tunnel")
        and not sample.name.endswith("_bucket")
        and (sample.value or not sample.name.endswith("_total"))
    }


def test_what_nobody_knows_is_not_shown() -> None:
    metrics = Metrics()
    on = TunnelFigures(metrics)
    gauges = {"opendesk_tunnel_peers", "opendesk_tunnel_unknown_peers", "opendesk_tunnel_key_differs"}
    assert not {name for name, *_ in shown(metrics)} & {*gauges, "opendesk_tunnel_interface_up"}
    for _ in range(2):
        on.interface_is(up=True)
        on.peers_are({"ONLINE": 2})
        on.unknown_are(4)
        on.key_is(other=True)
        assert gauges <= {name for name, *_ in shown(metrics)}
        on.interface_is(up=False)
        assert not {name for name, *_ in shown(metrics)} & gauges
        assert shown(metrics)["opendesk_tunnel_interface_up",] == 0


def test_all_that_is_counted_is_shown() -> None:
    metrics = Metrics()
    on = TunnelFigures(metrics)
    on.drifted(Kind.STOLEN, 3)
    on.peers_are({"ONLINE": 2, "OFFLINE": 1})
    on.interface_is(up=True)
    on.key_is(other=False)
    on.unknown_are(4)
    on.passed(RIGHT, 0.2)
    on.turned("OFFLINE")
    assert shown(metrics) == {
        ("opendesk_tunnel_drift_total", "stolen"): 3,
        ("opendesk_tunnel_interface_up",): 1,
        ("opendesk_tunnel_key_differs",): 0,
        ("opendesk_tunnel_peers", "ONLINE"): 2,
        ("opendesk_tunnel_peers", "OFFLINE"): 1,
        ("opendesk_tunnel_peers", "NEVER_CONNECTED"): 0,
        ("opendesk_tunnel_unknown_peers",): 4,
        ("opendesk_tunnel_passes_total", "right"): 1,
        ("opendesk_tunnel_pass_seconds_count",): 1,
        ("opendesk_tunnel_pass_seconds_sum",): 0.2,
        ("opendesk_tunnel_transitions_total", "OFFLINE"): 1,
    }
