#!/usr/bin/env python3
"""Build what is built once: the open head, its landmarks, and the compiled kernels. `make setup` runs it.

Everything lies in the user's cache and would otherwise be made at the first use.
"""

import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

from skimage import data
from tqdm import tqdm

from sega_ros.avatar.create import create_avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.head import load_head
from sega_ros.tracking.embedding import landmark_embedding
from sega_ros.tracking.tracker import FaceTracker


def main() -> None:
    """Go once through everything that a user does."""
    head = load_head()
    embedding = landmark_embedding(head)
    photo = data.astronaut()
    with tqdm(total=100, desc='compiling', bar_format='{desc}: {percentage:3.0f}%|{bar}| {elapsed}') as bar:
        def progress(stage: str, fraction: float, preview: object = None) -> None:
            bar.set_description(f'compiling: {stage}', refresh=False)
            bar.n = max(bar.n, 90 * fraction)
            bar.refresh()

        avatar = create_avatar(photo, head=head, embedding=embedding, quality='preview', consent='not stated',
                               progress=progress, cancelled=lambda: False)
        driver = AvatarDriver(avatar, head)
        with FaceTracker(head, embedding) as tracker:
            driver.render(tracker.track(photo, 0), View('frontal'))
        bar.n = 100


if __name__ == '__main__':
    main()
