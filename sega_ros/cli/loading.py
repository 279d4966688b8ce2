"""Loading the head model and its landmark embedding with a progress bar; both are built once and cached."""


def load_head(source: str, output):
    """Return the head model named by `source`."""
    from sega_ros.head import load_head as load

    return load(source, progress=lambda steps: output.track(steps, 'building the open head'))


def load_head_and_embedding(source: str, output):
    """Return the head model named by `source` and its landmark embedding."""
    from sega_ros.tracking.embedding import landmark_embedding

    head = load_head(source, output)
    with output.progress('landmarks of the head') as progress:
        return head, landmark_embedding(head, progress=lambda share: progress('', share))
