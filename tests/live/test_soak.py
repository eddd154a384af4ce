"""A short soak; ``nox -s soak`` is the long one."""

import pytest

from tests.live.soak import Soak

pytestmark = pytest.mark.live


def test_a_server_stays_as_good_as_it_was(server, stand_ins):
    report = Soak(server, seed=5).run(12)
    assert report.problems == [] and report.runs == 12, report.lines()
    assert len(set(report.stock)) == 1 and len(report.kinds) == 3
