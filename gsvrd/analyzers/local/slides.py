"""Finds where one slide gives way to the next, from key frames, packet sizes and nothing else.

Called by `stages`; takes a `Track`, returns times. A slide on which a bullet appears is still the same slide; a moving
speaker in a corner, a clip played on the slide and a mouse pointer are no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gsvrd.analyzers.local.film import HEIGHT, WIDTH, Film, Gray, Sizes, Still, Track, shrink

Tiles = NDArray[np.bool_]
_ROWS, _COLUMNS = 10, 20
_TILE_PIXELS = 8
_POINTER_TILES = 5
_MASK_SHARE = 0.55
_INK_STAYS = 0.62
_FEW_PIXELS = 12
_MIN_SLIDE_S = 1.5
_MAX_SLIDES = 200
_LIVE_SLIDE_S = 6.0
_LOOK_S = 0.2
_MAX_CLIP = 60
_MAX_SPIKES = 5
"""More big packets than this between two key frames are a clip that plays."""
_SURE_SHARE = 0.2
"""A packet of this share of the next key frame's can hold a new slide."""
_JUST_BEFORE_S = 0.1


@dataclass(frozen=True, slots=True)
class Deck:
    """The slides of a video, by their starts; `live` when the picture is filmed action and not slides."""

    starts: tuple[float, ...]
    live: bool


def find_slides(track: Track, film: Film, duration_s: float) -> Deck:
    """The slides of `track`; times in seconds, the first is 0. Adds the last frame to the stills of `track`."""
    _add_end(track, film)
    stills = track.stills
    if len(stills) < 2:
        return Deck((0.0,), live=False)
    finder = _Finder(track, film, _noise_floor([s.gray for s in stills]))
    if finder.all_moves():
        return Deck((0.0,), live=True)
    starts = _spread([0.0, *(c.at_s for c in finder.changes() if not finder.is_build(c))], duration_s)
    return Deck(tuple(starts), live=len(starts) > 5 and duration_s / len(starts) < _LIVE_SLIDE_S)


def _add_end(track: Track, film: Film) -> None:
    """Look at the last frame too: what follows the last key frame may be a slide of its own."""
    end = max(track.times, default=0.0)
    if track.stills and end - track.stills[-1].at_s >= track.spacing_s:
        frame = film.frame_at(end)
        if frame is not None:
            track.add(Still(end, shrink(frame)))


@dataclass(frozen=True, slots=True)
class _Change:
    """When the picture changed, and how it looked before and after."""

    at_s: float
    old: Gray
    new: Gray


def _noise_floor(grays: list[Gray]) -> float:
    """The difference a pixel must show to have changed; high in noisy pictures, capped for filmed action."""
    medians = [float(np.median(_difference(a, b))) for a, b in pairwise(grays)]
    return min(40.0, max(18.0, 6 * float(np.median(medians))))


def _difference(a: Gray, b: Gray) -> NDArray[np.int16]:
    return np.asarray(np.abs(a.astype(np.int16) - b))


def _tiles(a: Gray, b: Gray, floor: float) -> Tiles:
    hits = (_difference(a, b) > floor).reshape(_ROWS, HEIGHT // _ROWS, _COLUMNS, WIDTH // _COLUMNS)
    return np.asarray(hits.sum(axis=(1, 3)) >= _TILE_PIXELS)


def _runs(indices: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for i in indices:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _edges(gray: Gray, floor: float) -> Tiles:
    """Where there is writing or drawing: pixels that differ from a neighbour."""
    edges = np.zeros(gray.shape, dtype=np.bool_)
    edges[:, 1:] |= _difference(gray[:, 1:], gray[:, :-1]) > floor
    edges[1:, :] |= _difference(gray[1:, :], gray[:-1, :]) > floor
    return edges


def _spread(starts: list[float], duration_s: float) -> list[float]:
    """Rising starts, none shorter than `_MIN_SLIDE_S`, and not too many."""
    least = _MIN_SLIDE_S
    while True:
        kept = [0.0]
        ends = [*sorted(starts)[1:], duration_s]
        for at, end in zip(sorted(starts), ends, strict=True):
            if at - kept[-1] >= least and end - at >= least:
                kept.append(at)
        if len(kept) <= _MAX_SLIDES:
            return kept
        least *= 2


class _Finder:
    """Finds the changes between the stills of a track; what nearly always moves is masked."""

    def __init__(self, track: Track, film: Film, floor: float) -> None:
        """`floor` is the difference that counts; compares each still with the next."""
        self._track, self._film, self._floor, self._sizes = track, film, floor, Sizes(track)
        self._usual_gap = max(b.at_s - a.at_s for a, b in pairwise(track.stills))
        self._tiles = [_tiles(a.gray, b.gray, floor) for a, b in pairwise(track.stills)]
        self._mask = self._moving()

    def _moving(self) -> Tiles:
        """The tiles that change even where no slide can have changed: a filmed speaker in the picture."""
        quiet = [
            t for t, (a, b) in zip(self._tiles, pairwise(self._track.stills), strict=True) if not self._abrupt(a, b)
        ]
        if len(quiet) < 4:
            return np.zeros((_ROWS, _COLUMNS), dtype=np.bool_)
        return np.asarray(np.mean(quiet, axis=0) > _MASK_SHARE)

    def all_moves(self) -> bool:
        """Whether the picture is filmed action: most of it moves nearly always."""
        if self._mask.mean() > 0.5:
            return True
        return len(self._tiles) >= 3 and bool(np.mean([t.mean() > 0.5 for t in self._tiles]) > 0.8)

    def changes(self) -> Iterator[_Change]:
        """All changes in order, those that only add to a slide included."""
        for i in self._changed(self._track.stills, self._tiles):
            yield from self._between(*self._track.stills[i : i + 2])

    def is_build(self, change: _Change) -> bool:
        """Whether the new picture still shows, in the tiles that changed, what was written there before.

        What all slides share (bars, logos) lies in tiles that do not change, so it does not count.
        """
        changed = _tiles(change.old, change.new, self._floor) & ~self._mask
        if changed.sum() < _POINTER_TILES:
            return True
        there = np.repeat(np.repeat(changed, HEIGHT // _ROWS, axis=0), WIDTH // _COLUMNS, axis=1)
        before = _edges(change.old, self._floor) & there
        gone = int((before & (_difference(change.old, change.new) > self._floor)).sum())
        return gone < _FEW_PIXELS or gone < (1 - _INK_STAYS) * int(before.sum())

    def _changed(self, stills: Sequence[Still], tiles: list[Tiles]) -> list[int]:
        """The intervals with a change, without those inside a clip that plays on a slide and leaves it as it was."""
        counts = [int((t & ~self._mask).sum()) for t in tiles]
        kept: list[int] = []
        for run in _runs([i for i, n in enumerate(counts) if n >= _POINTER_TILES]):
            smooth = {i for i in run if not self._abrupt(stills[i], stills[i + 1])}
            clips = self._clips(stills, run, smooth) if len(smooth) > 1 else set()
            run = [i for i in run if i not in clips]
            most = max((counts[i] for i in run), default=0)
            kept.extend(i for i in run if i not in smooth or counts[i] >= 0.5 * most)
        return kept

    def _clips(self, stills: Sequence[Still], run: list[int], smooth: set[int]) -> set[int]:
        """The intervals of `run` after which the picture is as it was before, with movement in between."""
        inside: set[int] = set()
        for start in run:
            if start in inside:
                continue
            for end in range(min(run[-1], start + _MAX_CLIP), start + 1, -1):
                moving = len(smooth.intersection(range(start, end + 1)))
                if 2 * moving > end - start and self._same(stills[start], stills[end + 1]):
                    inside.update(range(start, end + 1))
                    break
        return inside

    def _same(self, a: Still, b: Still) -> bool:
        return int((_tiles(a.gray, b.gray, self._floor) & ~self._mask).sum()) < _POINTER_TILES

    def _early_key(self, a: Still, b: Still) -> bool:
        """Whether the encoder set a key frame at `b` because the picture changed there."""
        return not self._track.sampled and b.at_s - a.at_s < 0.95 * self._usual_gap

    def _abrupt(self, a: Still, b: Still) -> bool:
        return bool(self._sizes.spikes(a.at_s, b.at_s)) or self._early_key(a, b)

    def _between(self, a: Still, b: Still) -> list[_Change]:
        """The changes between two stills: when they happened is told by the sizes of packets, or else by decoding."""
        whole = _Change(b.at_s, a.gray, b.gray)
        if self.is_build(whole):
            return []
        spikes = self._sizes.spikes(a.at_s, b.at_s)
        early = self._early_key(a, b)
        if self._track.sampled or (early and not spikes):
            return [replace(whole, at_s=(spikes or [b.at_s])[-1])]
        if self._track.reorders or not 0 < len(spikes) <= _MAX_SPIKES:
            return self._look(a, b) or [whole]
        if len(spikes) == 1 and not early and self._sizes.spikes(a.at_s, b.at_s, _SURE_SHARE):
            return [replace(whole, at_s=spikes[0])]
        return self._step(a, b, [*spikes, b.at_s])

    def _step(self, a: Still, b: Still, moments: list[float]) -> list[_Change]:
        """What happened at each of `moments`; stops once all that follows only adds to the slide that is there."""
        changes: list[_Change] = []
        old = a.gray
        for at, next_at in pairwise(moments):
            frame = self._film.frame_at(next_at - _JUST_BEFORE_S)
            if frame is None:
                break
            new = shrink(frame)
            changes.append(_Change(at, old, new))
            if not self.is_build(changes[-1]) and self.is_build(_Change(next_at, new, b.gray)):
                return changes
            old = new
        return [*changes, _Change(moments[-1], old, b.gray)]

    def _look(self, a: Still, b: Still) -> list[_Change]:
        between = [s for s in self._film.grays(a.at_s, b.at_s, _LOOK_S) if a.at_s < s.at_s < b.at_s]
        stills = [a, *between, b]
        found = self._changed(stills, [_tiles(x.gray, y.gray, self._floor) for x, y in pairwise(stills)])
        return [_Change(stills[j + 1].at_s, stills[j].gray, stills[j + 1].gray) for j in found]
