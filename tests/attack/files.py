"""Rows 3 and 4: pictures, archives and cards that are small and cost much."""

import threading
import time

from attack import bombs
from attack.client import Browser, import_card
from attack.row import Scene

_PATIENCE_S = 30.0


def slow_pictures(scene: Scene) -> None:
    """A JPEG of 1,200 scans; meanwhile another person sends an ordinary picture."""
    slow = bombs.jpeg_of_scans()
    with scene.program() as (program, _):
        threading.Thread(
            target=lambda: Browser(program.page).say("Look.", slow), daemon=True
        ).start()
        time.sleep(1.0)
        answer = Browser(program.page).say("And this one?", bombs.picture())
        scene.add({"other_refused": float(answer.status != 202), "other_s": answer.taken_s})


def lying_archives(scene: Scene) -> None:
    """Cards whose containers unpack to much more than they weigh."""
    files = {
        "bzip2_s": bombs.charx_bzip2(),
        "lzma_s": bombs.charx_lzma(),
        "entries_s": bombs.charx_of_entries(),
        "png_s": bombs.png_of_packed_cards(),
        "yaml_s": bombs.yaml_of_a_megabyte(),
    }
    with scene.program() as (program, _):
        for name, data in files.items():
            began = time.monotonic()
            import_card(program.page, data, _PATIENCE_S)
            scene.add({name: time.monotonic() - began})
