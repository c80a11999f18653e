# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The documentation says what the code does: tables, topics, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inspatio_ros.demo.topics import TOPICS
from inspatio_ros.generators import GENERATORS
from inspatio_ros.ros.parameters import table

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def test_the_readme_s_parameters_are_the_node_s() -> None:
    """The tables between the markers are those that the module prints."""
    between = README.split('<!-- parameters -->')[1].split('<!-- /parameters -->')[0]
    assert between.strip() == table().replace('### ', '#### ').strip(), \
        'run `python -m inspatio_ros.ros.parameters` and put its tables into the README'


@pytest.mark.parametrize('topic', [topic.name.lstrip('/') for topic in TOPICS])
def test_every_topic_that_the_demo_records_is_in_the_readme(topic: str) -> None:
    """By its name, in code."""
    assert re.search(rf'`/?{re.escape(topic)}`', README)


@pytest.mark.parametrize('name', GENERATORS)
def test_every_generator_is_in_the_readme(name: str) -> None:
    """In a table's first column."""
    assert f'| `{name}` |' in README


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Relative links and pictures exist."""
    links = re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', page.read_text(encoding='utf-8'))
    broken = [link for link in links if '://' not in link and not (page.parent / link).exists()]
    assert not broken
