"""The command line `sega`: avatars from photos, driven by clips or a camera, without ROS."""


def main(argv: list[str] | None = None) -> int:
    """Run `sega` with `argv` (default: the process's); returns the exit status."""
    from sega_ros.cli.app import run

    return run(argv)
