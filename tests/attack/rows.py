"""The rows of the suite, by number."""

from attack import connections, files, machine, texts
from attack.row import Row

ROWS = (
    Row(1, "trailers without end", connections.trailers, {"sent_mb": 20}),
    Row(2, "pipelined requests, never read", connections.pipelining, {"others_refused": 0}),
    Row(3, "slow pictures", files.slow_pictures, {"other_refused": 0, "other_s": 10}),
    Row(4, "archives that lie", files.lying_archives,
        dict.fromkeys(("bzip2_s", "lzma_s", "entries_s", "png_s", "yaml_s"), 5.0)),
    Row(5, "slow patterns together", texts.slow_patterns, {"reply_s": 5}),
    Row(6, "a log that cannot be written", texts.unwritable_log, {"replies_missing": 0}),
    Row(7, "escape sequences in terminals", texts.terminal_escapes,
        {"escapes_shown": 0, "silent": 0}),
    Row(8, "unfinished uploads", connections.unfinished_uploads, {"others_refused": 0}),
    Row(9, "forged turns in built prompts", texts.forged_turns,
        {"forged_turns": 0, "prompts_lost": 0}),
    Row(10, "all event streams taken", connections.event_streams,
        {"streams": 64, "others_refused": 0}),
    Row(11, "guessed tokens and codes", connections.guessing,
        {
            **dict.fromkeys((f"{way}_guesses_per_minute" for way in
                             ("bearer", "form", "code", "key")), 600.0),
            "right_token_refused": 0,
        }),
    Row(12, "markdown that is hard to render", texts.hostile_markdown,
        {"reply_s": 10, "replies_lost": 0}),
    Row(13, "a database that is locked", machine.locked_database,
        {"untold": 0, "replies_missing": 0}),
    Row(14, "a disk that takes no more", machine.full_disk,
        {"untold": 0, "never_full": 0, "replies_missing": 0}),
)  # fmt: skip
