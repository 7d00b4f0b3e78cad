"""Importing cards into the folder of personas."""

import json
import os
from pathlib import Path

from understudy.conversation.personas.importing import import_card

CARD = json.dumps({"spec": "chara_card_v2", "data": {"name": "Ann"}}).encode()


def test_an_imported_card_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = import_card(CARD, tmp_path / "personas")
    finally:
        os.umask(before)

    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
