#!/usr/bin/env python3
"""Build what is built once: the open head, its landmarks, and the compiled kernels. `make setup` runs it.

Everything lies in the user's cache and would otherwise be made at the first use.
"""

import sys

from skimage import data
from tqdm import tqdm

from sega_ros.avatar.create import create_avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.first_start import KernelLoader
from sega_ros.head import load_head
from sega_ros.tracking.embedding import landmark_embedding
from sega_ros.tracking.tracker import FaceTracker


def main() -> None:
    """Go once through everything that a user does."""
    kernels = KernelLoader()
    head = load_head()
    embedding = landmark_embedding(head)
    photo = data.astronaut()
    seconds = 0.1 if sys.stderr.isatty() else 10.0  # between two drawings of the bar
    layout = '{desc}{percentage:3.0f}%|{bar}| {elapsed}'
    with tqdm(total=100, desc='compiling', bar_format=layout, mininterval=seconds) as bar:
        def progress(stage: str, fraction: float, preview: object = None) -> None:
            bar.set_description(f'compiling: {stage}', refresh=False)
            bar.update(max(0.0, 90 * fraction - bar.n))

        avatar = create_avatar(photo, head=head, embedding=embedding, quality='preview', consent='not stated',
                               progress=progress, cancelled=lambda: False)
        driver = AvatarDriver(avatar, head)
        with FaceTracker(head, embedding) as tracker:
            kernels.load()
            driver.render(tracker.track(photo, 0), View('frontal'))
        bar.update(100 - bar.n)


if __name__ == '__main__':
    main()
