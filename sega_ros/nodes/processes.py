"""Nodes as processes of their own, started by a program of ours."""

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 10.0  # seconds for a process to end by itself


def quiet_environment() -> dict[str, str]:
    """Variables for processes that talk to each other only: pictures through shared memory, nobody else on the network."""
    return {
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(_ROOT / 'config' / 'fastdds.xml'),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100),
    }


def stop(process: subprocess.Popen) -> None:
    """End a process, by force where it does not end by itself."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
