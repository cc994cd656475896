# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of VARIABLE="value" lines as systemd reads them."""

from __future__ import annotations

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._environment import parse, render


@pytest.mark.parametrize(
    "value", ["plain", "", "two words", 'a "quoted" one', "back\\slash", "a=b"]
)
def test_what_is_rendered_is_parsed_back(value: str) -> None:
    assert parse(render({"ETCD_NAME": value}, "a comment")) == {"ETCD_NAME": value}


def test_the_distributions_file_of_comments_has_no_settings() -> None:
    assert parse('# ETCD_NAME="x"\n\n  # more\n') == {}


def test_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="ETCD_NAME"):
        render({"ETCD_NAME": "a\nb"}, "a comment")
