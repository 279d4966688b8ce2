"""One machine of two: `far_end.py operator|robot DIRECTORY LOG [FRAMES]`, until its standard input ends.

A line there sets a parameter of the end's last node: its name, and a number.

The operator's builder, tracker and camera, or the robot's driver and a viewer who notes when pictures come.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import Image

from sega_ros.nodes import qos
from sega_ros.nodes.convert import stamp_to_ns

ROOT = Path(__file__).resolve().parent.parent.parent


def start(executable, name, **parameters):
    """Start a node of the package."""
    options = [part for key, value in parameters.items() for part in ('-p', f'{key}:={value}')]
    return subprocess.Popen([sys.executable, str(ROOT / 'scripts' / executable), '--ros-args', '-r', f'__node:={name}', *options])


def activate(node, name):
    """Configure and activate a node, as launch does."""
    client = node.create_client(ChangeState, f'{name}/change_state')
    if not client.wait_for_service(60):
        raise SystemExit(f'{name} did not come up')
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        while not future.done():
            time.sleep(0.02)
        if not future.result().success:
            raise SystemExit(f'{name} could not be started')


def main(role, directory, log, *frames):
    """Run one end."""
    rclpy.init()
    node, executor = Node(f'{role}_viewer', start_parameter_services=False, enable_rosout=False), SingleThreadedExecutor()
    executor.add_node(node)

    def spin():
        try:
            executor.spin()
        except ExternalShutdownException:
            pass

    threading.Thread(target=spin, daemon=True).start()
    with Path(log).open('w', buffering=1) as out:
        if role == 'operator':
            processes = [start('avatar_builder', 'avatar_builder', avatar_dir=directory),
                         start('avatar_driver', 'avatar_tracker', avatar_dir=directory, render='false')]
            names = ('avatar_builder', 'avatar_tracker')
            processes.append(subprocess.Popen([sys.executable, '-m', 'sega_ros.nodes.fast_camera', *frames, '--rate', '30',
                                               '--log', f'{log}.camera']))
        else:
            def note(message):
                out.write(f'image {time.time_ns()} {stamp_to_ns(message.header.stamp)}\n')

            node.create_subscription(Image, 'avatar/image', note, qos.newest())
            processes = [start('avatar_driver', 'avatar_driver', avatar_dir=directory, source='expression', width=160,
                               height=120)]
            names = ('avatar_driver',)
        try:
            for name in names:
                activate(node, name)
            out.write('ready 0 0\n')
            parameters = AsyncParameterClient(node, names[-1])
            for line in sys.stdin:
                key, value = line.split()
                parameters.set_parameters([Parameter(key, value=float(value))])
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
            rclpy.try_shutdown()


if __name__ == '__main__':
    main(*sys.argv[1:])
