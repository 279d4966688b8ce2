#!/usr/bin/env python3
"""Write the landmark embedding of the open head into sega_ros/tracking, so that no first start waits for it.

To be run when the open head or the method has changed: the file's name holds the head's fingerprint and the method's number.
"""

from sega_ros.head import load_head
from sega_ros.tracking.embedding import SHIPPED, compute_embedding, embedding_file, write_embedding


def main() -> None:
    """Compute it, and remove those of other heads."""
    head = load_head()
    path = SHIPPED / embedding_file(head)
    for old in SHIPPED.glob('landmarks-*.npz'):
        old.unlink()
    write_embedding(path, compute_embedding(head))
    print(path)


if __name__ == '__main__':
    main()
