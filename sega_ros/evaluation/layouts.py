"""Recordings to evaluate on: the benchmark's own scenes, and sequences of public sets that the user has, in their real layouts.

::

    VFHQ-Test   ROOT[/GT]/[Interval1_512x512_LANCZOS4/]Clip+VIDEO+P0+C1+F4196-4320/00000000.png, 00000001.png, ...
    HDTF        ROOT/RD_Radio11_000.mp4, WDA_BarackObama_000.mp4, WRA_...    as its download script names the cut clips
    NeRSemble   ROOT/017/sequences/EXP-1-head/images/cam_222200037.mp4       see `training/data/nersemble.py`

Sources: github.com/tobias-kirschstein/flexavatar (README 3.1) and the archive itself for VFHQ-Test, github.com/universome/HDTF
(download.py), github.com/tobias-kirschstein/nersemble-data and nersemble-benchmark.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sega_ros.errors import DatasetError, RequestError
from sega_ros.training.data.nersemble import NersembleSource
from sega_ros.training.data.views import subfolders

Kind = Literal['bag', 'clip', 'frames']
FRONT_CAMERA = '222200037'  # NeRSemble's, the one that its benchmark gives for training
_VFHQ_CLIP = re.compile(r'Clip\+.+\+P\d+\+C\d+\+F\d+-\d+')
_VFHQ_FOLDERS = ('.', 'GT/Interval1_512x512_LANCZOS4', 'Interval1_512x512_LANCZOS4', 'GT')
_VFHQ_RATE = 25.0  # frames/s: the folders state none; the videos behind them have about that
_HDTF_CLIP = re.compile(r'(RD|WDA|WRA)_.+_\d{3}')
_SKIPPED = ('BACKGROUND', 'GLASSES', 'HAIR')  # of NeRSemble: the face is not what they show


@dataclass(frozen=True)
class Entry:
    """One sequence of one person."""

    name: str  # of its results
    kind: Kind  # a bag, a clip, or a folder with one picture per frame, in the order of their names
    path: Path
    photo: int = 0  # index of the frame that the avatar is made of
    topic: str = ''  # of a bag: where the pictures are
    truth: Path | None = None  # of a synthetic scene: its truth.npz
    rate: float | None = None  # frames/s, of frames; clips and bags say themselves


def list_layout(layout: str, root: Path | str, *, names: Sequence[str] | None = None) -> list[Entry]:
    """List the sequences of a folder in the layout 'vfhq', 'hdtf' or 'nersemble'.

    Args:
        layout: how the folder is laid out.
        root: the folder.
        names: the wanted ones (a test split), by their names; default: all.

    Raises:
        RequestError: an unknown layout.
        DatasetError: no such folder, none of its sequences, or some of `names` are missing.
    """
    if layout not in LAYOUTS:
        raise RequestError(f'layout: found {layout!r}, wanted one of {", ".join(LAYOUTS)}')
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f'{root}: no such folder; wanted the one that holds the {layout} recordings')
    found = LAYOUTS[layout](root)
    if names is None:
        return found
    known = {r.name: r for r in found}
    if missing := [n for n in names if n not in known]:
        raise DatasetError(f'{root}: {len(missing)} of {len(names)} listed sequences are missing: {", ".join(missing[:5])}'
                           f'{" ..." if len(missing) > 5 else ""}; found {len(known)}, e.g. {next(iter(known))}')
    return [known[n] for n in names]


def vfhq_recordings(root: Path) -> list[Entry]:
    """Clips of VFHQ-Test, folders of PNG frames.

    Raises:
        DatasetError: there are none, or a clip is empty or lacks frames.
    """
    for folder in (root / f for f in _VFHQ_FOLDERS):
        clips = [name for name in subfolders(folder) if _VFHQ_CLIP.fullmatch(name)] if folder.is_dir() else []
        if clips:
            return [_vfhq_clip(folder / name) for name in clips]
    raise DatasetError(f'{root}: no clip of VFHQ-Test in it; wanted folders such as Clip+-1Jouc19Ixo+P0+C1+F4196-4320 with '
                       'frames 00000000.png, ..., here or in GT/Interval1_512x512_LANCZOS4')


def _vfhq_clip(folder: Path) -> Entry:
    frames = sorted(p.stem for p in folder.glob('*.png'))
    wanted = [f'{k:08d}' for k in range(len(frames))]
    if not frames or frames != wanted:
        lacking = sorted(set(wanted) - set(frames))
        found = f'frame {lacking[0]}.png is missing' if lacking else 'no frames in it'
        raise DatasetError(f'{folder}: {found}; wanted 00000000.png, 00000001.png, ...: extract the archive again')
    return Entry(folder.name, 'frames', folder, rate=_VFHQ_RATE)


def hdtf_recordings(root: Path) -> list[Entry]:
    """Cut and cropped clips of HDTF.

    Raises:
        DatasetError: there are none.
    """
    clips = sorted(p for p in root.glob('*.mp4') if _HDTF_CLIP.fullmatch(p.stem))
    if clips:
        return [Entry(p.stem, 'clip', p) for p in clips]
    raw = ' (only its uncut videos, in _videos_raw)' if (root / '_videos_raw').is_dir() else ''
    raise DatasetError(f'{root}: no clip of HDTF in it{raw}; wanted files such as RD_Radio11_000.mp4 or WDA_BarackObama_000.mp4, '
                       'as the data set\'s download script cuts them')


def nersemble_recordings(root: Path) -> list[Entry]:
    """Sequences of NeRSemble (or of its monocular benchmark) seen by the front camera.

    Raises:
        DatasetError: there are none with that camera.
    """
    source, found = NersembleSource(root), []
    for person in source.people():
        for sequence in source.sequences(person):
            clip = root / person / 'sequences' / sequence / 'images' / f'cam_{FRONT_CAMERA}.mp4'
            # The monocular benchmark keeps the pictures of its test sequences to itself.
            if sequence not in _SKIPPED and clip.is_file():
                found.append(Entry(f'{person}-{sequence}', 'clip', clip))
    if not found:
        raise DatasetError(f'{root}: no sequence has the front camera; wanted PERSON/sequences/NAME/images/'
                           f'cam_{FRONT_CAMERA}.mp4; fetch it with "nersemble-data download" or "nersemble-benchmark-download"')
    return found


LAYOUTS: dict[str, Callable[[Path], list[Entry]]] = {
    'vfhq': vfhq_recordings, 'hdtf': hdtf_recordings, 'nersemble': nersemble_recordings}
