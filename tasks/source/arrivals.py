"""What a source has delivered so far, as a digest that changes when there may be something to process or to assess.

Files are listed and not read, so that a look at many models takes milliseconds. A database counts rows.
"""

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from configs.load import Model
from tasks.source.kinds import open_tables
from tasks.storage.answer_log import segments, served_folder, served_partitions
from tasks.storage.files import digest_json
from tasks.storage.partitions import containing, parse_key, partition


class Arrivals(NamedTuple):
    """A digest of what is there to be processed, and one of what is there to be assessed. Empty if nothing is."""

    to_process: str
    to_assess: str


def arrivals(model: Model, now: datetime) -> Arrivals:
    """Digest the files and states of databases that complete partitions read, and the partitions that are complete and have matured.

    A digest changes when a file of a complete partition comes or changes, or when time makes another partition complete (or matured) for
    which there can be rows. Files of a partition that is not complete yet do not count.

    Args:
        model: The model.
        now: The present, aware.
    """
    config, zone = model.config, ZoneInfo(model.config.partition.timezone)
    complete = containing(config, now - config.partition.grace).start
    matured = containing(config, now - max(config.partition.grace, config.target.delay)).start
    until = complete.astimezone(zone).replace(tzinfo=None)
    tables = dict(sorted(open_tables(model).items()))
    arrived = {name: table.arrived(complete) for name, table in tables.items()}
    served = [key for key in _served(model) if parse_key(key, config.partition.every) < until]
    if not served and not all(state for state, _ in arrived.values()):
        return Arrivals("", "")
    ranged = [end for name, (_, end) in arrived.items() if end and tables[name].is_ranged]
    others = [end for name, (_, end) in arrived.items() if end and not tables[name].is_ranged]
    ends = [min(ranged)] if ranged else [max(others)] if others else []
    newest = max([*ends, *(partition(config, key).end for key in served[-1:])])
    files = [(name, *one) for name, (state, _) in arrived.items() for one in state]
    answers = [path.name for key in served for path in segments(served_folder(config.name) / key)]
    state = [files, served, answers, min(complete, newest)]
    return Arrivals(digest_json(state), digest_json([state, min(matured, newest)]))


def _served(model: Model) -> list[str]:
    """The partitions whose rows are served requests, oldest first."""
    first = model.config.source.served_from
    return [key for key in served_partitions(model.config.name) if key >= first] if first else []
