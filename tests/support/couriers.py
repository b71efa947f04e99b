"""The loop, as far as webhooks go: an outbox, a courier, turns. Run as a program it is a daemon that can be killed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from gsvrd.clock import SystemClock
from gsvrd.daemon.courier import Courier
from gsvrd.daemon.delivering import CourierSettings
from support.outboxes import Desk, open_outbox

SETTINGS = CourierSettings(allowed=("127.0.0.1",), timeout_s=20.0)


class Ahead(SystemClock):
    """The machine's clocks, moved forward by hand."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.by_s

    def monotonic(self) -> float:
        return super().monotonic() + self.by_s


@dataclass
class Loop:
    """Turns as `daemon.supervisor` has them."""

    path: Path
    settings: CourierSettings = SETTINGS
    clock: Ahead = field(default_factory=Ahead)
    desk: Desk = field(init=False)
    courier: Courier = field(init=False)

    def __post_init__(self) -> None:
        self.desk = Desk(open_outbox(self.path), self.clock)
        self.courier = Courier(self.desk.outbox, self.clock, self.settings, give_up_s=86_400.0, chance=lambda: 0.01)

    def put(self, number: int, url: str, batch: int = 1) -> str:
        """An event that is durable."""
        message_id = self.desk.outbox.put("task.completed", {"task": number}, url, batch=batch, task=number)
        self.desk.commit()
        return message_id

    def turn(self) -> None:
        self.courier.hear()
        self.desk.commit()
        self.courier.send()

    def has(self, state: str, *ids: str) -> bool:
        """After a turn: whether these messages are all in that state."""
        self.turn()
        states = self.desk.states()
        return all(states[message_id][0] == state for message_id in ids)

    def error_of(self, message_id: str) -> str:
        row = self.desk.conn.execute("SELECT last_error FROM outbox WHERE id = ?", (message_id,)).fetchone()
        return str(row[0])

    def close(self) -> None:
        self.courier.close()
        self.desk.conn.close()


def main() -> None:
    """A daemon with nothing but a courier: says the child's process id, then goes on until it is killed."""
    import select

    loop, told = Loop(Path(sys.argv[1])), 0
    while True:
        loop.turn()
        if loop.courier.pids and loop.courier.pids[0] != told:
            told = loop.courier.pids[0]
            os.write(1, f"{told}\n".encode())
        select.select([loop.courier.fileno()], [], [], 0.05)


if __name__ == "__main__":
    main()
