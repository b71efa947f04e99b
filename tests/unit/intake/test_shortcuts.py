from __future__ import annotations

import os
import plistlib
from pathlib import Path

import pytest

from gsvrd.errors import ErrorKind, TaskError
from gsvrd.intake.names import NameRules
from gsvrd.intake.shortcuts import LARGEST_BYTES, read_shortcut
from gsvrd.policy.links import Link

URL = "https://example.org/a.mp4?x=1"
WINDOWS = f"[{{000214A0}}]\r\nProp3=19,2\r\n[InternetShortcut]\r\nIDList=\r\nURL={URL}\r\nIconIndex=0\r\n"


def link(folder: Path, data: bytes, name: str = "a.url") -> Link:
    (folder / name).write_bytes(data)
    descriptor = os.open(folder / name, os.O_RDONLY)
    try:
        return read_shortcut(descriptor, name.encode())
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (WINDOWS.encode(), "a.url"),
        (WINDOWS.encode("utf-16"), "a.URL"),
        (b"\xef\xbb\xbf" + WINDOWS.encode(), "a.url"),
        (f"[internetshortcut]\nurl = {URL}".encode(), "a.url"),
        (f"\n  {URL}\n".encode(), "a.url"),
        (plistlib.dumps({"URL": URL}), "a.webloc"),
        (plistlib.dumps({"URL": URL}, fmt=plistlib.FMT_BINARY), "a.WebLoc"),
    ],
)
def test_shortcuts_of_all_desktops_are_read(data: bytes, name: str, tmp_path: Path) -> None:
    assert link(tmp_path, data, name).url == URL


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"[InternetShortcut]\r\nIconIndex=0\r\n", "a.url", "holds no link"),
        (b"[InternetShortcut]\r\n[Other]\r\nURL=https://example.org/a.mp4", "a.url", "holds no link"),
        (b"https://example.org/a.mp4\nhttps://example.org/b.mp4\n", "a.url", "holds no link"),
        (b"[InternetShortcut]\nURL=ftp://example.org/a.mp4", "a.url", "neither http nor https"),
        (b"\x00\x01\x02\xff\xff", "a.url", "cannot be used"),
        (b"<plist><dict>", "a.webloc", "no property list"),
        (b"bplist00garbage", "a.webloc", "no property list"),
        (plistlib.dumps({"Name": "x"}), "a.webloc", "holds no link"),
        (plistlib.dumps(["x"]), "a.webloc", "holds no link"),
        (
            b'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><plist><string>&b;</string></plist>',
            "a.webloc",
            "no property list",
        ),
        (b"x" * (LARGEST_BYTES + 1), "a.url", "larger than"),
    ],
)
def test_what_is_no_shortcut_is_refused_in_words(data: bytes, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        link(tmp_path, data, name)
    assert caught.value.kind is ErrorKind.LINK
    assert caught.value.hint


def test_an_empty_shortcut_is_empty(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        link(tmp_path, b" \r\n")
    assert caught.value.kind is ErrorKind.EMPTY


@pytest.mark.parametrize(
    ("name", "is_one"), [("a.url", True), ("A.URL", True), ("a.webloc", True), (".a.url", False), ("~a.url", False)]
)
def test_shortcuts_are_known_by_their_names(name: str, is_one: bool) -> None:
    assert NameRules().is_wanted(name.encode()) is is_one
    assert not NameRules(ignore=("*.url", "*.webloc")).is_wanted(name.encode())
    assert not NameRules().is_video(name.encode())
