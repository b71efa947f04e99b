from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.intakes import put

from gsvrd.errors import ErrorKind, TaskError
from gsvrd.intake import identity as identity_module
from gsvrd.intake.identity import SYNC_TOGETHER, Candidate, Identity, durable, open_checked


def identity(path: Path) -> Identity:
    return Identity.of(os.lstat(path))


def opened(path: Path, inbox: Path, known: Identity) -> bytes:
    descriptor = open_checked(os.fsencode(path), os.fsencode(inbox), known)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def refusal(path: Path, inbox: Path, known: Identity) -> ErrorKind:
    with pytest.raises(TaskError) as caught:
        opened(path, inbox, known)
    return caught.value.kind


def test_the_file_that_was_queued_is_opened(tmp_path: Path) -> None:
    video = tmp_path / "term/week/a.mp4"
    put(video, b"content")
    assert opened(video, tmp_path, identity(video)) == b"content"


def test_the_inbox_may_end_in_a_slash_and_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real/a.mp4", b"content")
    (tmp_path / "inbox").symlink_to(tmp_path / "real")
    video = tmp_path / "inbox/a.mp4"
    descriptor = open_checked(os.fsencode(video), os.fsencode(tmp_path / "inbox") + b"/", identity(video))
    os.close(descriptor)


def test_a_file_that_grew_or_was_replaced_has_changed(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    put(video)
    before = identity(video)
    with video.open("ab") as file:
        file.write(b"more")
    assert refusal(video, tmp_path, before) is ErrorKind.CHANGED
    before = identity(video)
    put(tmp_path / "b.mp4")
    os.replace(tmp_path / "b.mp4", video)
    assert refusal(video, tmp_path, before) is ErrorKind.CHANGED


def test_a_file_or_folder_that_vanished_is_not_found(tmp_path: Path) -> None:
    video = tmp_path / "term/a.mp4"
    put(video)
    before = identity(video)
    video.unlink()
    assert refusal(video, tmp_path, before) is ErrorKind.NOT_FOUND
    video.parent.rmdir()
    assert refusal(video, tmp_path, before) is ErrorKind.NOT_FOUND


def test_a_missing_inbox_is_trouble_of_the_place(tmp_path: Path) -> None:
    video = tmp_path / "inbox/a.mp4"
    put(video)
    before = identity(video)
    os.rename(tmp_path / "inbox", tmp_path / "elsewhere")
    assert refusal(video, tmp_path / "inbox", before) is ErrorKind.PLACE


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    put(tmp_path / "secret.mp4", b"secret")
    inbox.mkdir()
    (inbox / "a.mp4").symlink_to(tmp_path / "secret.mp4")
    assert refusal(inbox / "a.mp4", inbox, identity(tmp_path / "secret.mp4")) is ErrorKind.NOT_REGULAR


def test_a_folder_exchanged_for_a_link_is_not_followed(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    put(tmp_path / "outside/a.mp4", b"secret")
    inbox.mkdir()
    (inbox / "term").symlink_to(tmp_path / "outside")
    kind = refusal(inbox / "term/a.mp4", inbox, identity(tmp_path / "outside/a.mp4"))
    assert kind in (ErrorKind.NOT_REGULAR, ErrorKind.NOT_FOUND)


def test_a_path_never_leads_up_and_out_of_the_inbox(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    put(tmp_path / "a.mp4", b"secret")
    assert refusal(inbox / "../a.mp4", inbox, identity(tmp_path / "a.mp4")) is ErrorKind.NOT_REGULAR
    with pytest.raises(ValueError, match="not below the inbox"):
        opened(tmp_path / "a.mp4", inbox, identity(tmp_path / "a.mp4"))


@pytest.mark.timeout(10)
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert refusal(tmp_path / "a.mp4", tmp_path, identity(tmp_path / "a.mp4")) is ErrorKind.NOT_REGULAR


def test_no_descriptor_is_left_open_by_refusals(tmp_path: Path) -> None:
    video = tmp_path / "term/a.mp4"
    put(video)
    wrong = Identity(1, 2, 3, 4)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert refusal(video, tmp_path, wrong) is ErrorKind.CHANGED
        assert refusal(tmp_path / "term/b.mp4", tmp_path, wrong) is ErrorKind.NOT_FOUND
    assert len(os.listdir("/proc/self/fd")) == before


def test_durable_keeps_what_is_unchanged_and_leaves_out_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = []
    for name in ("term/stays.mp4", "grows.mp4", "vanishes.mp4"):
        put(tmp_path / name)
        candidates.append(Candidate(os.fsencode(tmp_path / name), name, identity(tmp_path / name)))
    with (tmp_path / "grows.mp4").open("ab") as file:
        file.write(b"more")
    (tmp_path / "vanishes.mp4").unlink()
    synced: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    assert [kept.name for kept in durable(candidates, os.fsencode(tmp_path))] == ["term/stays.mp4"]
    assert synced == [str(tmp_path / "term/stays.mp4"), str(tmp_path / "term"), str(tmp_path)]


def test_a_large_batch_is_flushed_once_and_checked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = []
    for number in range(SYNC_TOGETHER + 4):
        video = tmp_path / f"term/{number:02}.mp4"
        put(video)
        candidates.append(Candidate(os.fsencode(video), f"{number:02}", identity(video)))
    (tmp_path / "term/00.mp4").unlink()
    flushed: list[int] = []

    def flush(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_dev)
        real(descriptor)
        with (tmp_path / "term/05.mp4").open("ab") as file:
            file.write(b"late")

    real = identity_module.syncfs
    monkeypatch.setattr(identity_module, "syncfs", flush)
    kept = [found.name for found in durable(candidates, os.fsencode(tmp_path))]
    assert flushed == [tmp_path.stat().st_dev]
    assert kept == [found.name for found in candidates if found.name not in ("00", "05")]


def test_a_flush_that_fails_is_told() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        identity_module.syncfs(-1)


def test_a_time_that_nobody_can_count_and_a_huge_inode_number_fit_into_the_database(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    put(video)
    os.utime(video, (14_000_000_000, 14_000_000_000))  # the year 2413
    found = os.lstat(video)
    huge = os.stat_result((found.st_mode, 2**64 - 5, *found[2:]), {"st_mtime_ns": found.st_mtime_ns})
    for known in (identity(video), Identity.of(huge)):
        assert all(-(2**63) <= number < 2**63 for number in (known.dev, known.ino, known.size, known.mtime_ns))
    assert opened(video, tmp_path, identity(video)) == b"video"
