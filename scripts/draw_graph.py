#!/usr/bin/env python3
"""Draw docs/graph.png: who sends what to whom, on one machine and on two, as the running nodes' graph says.

Ellipses are nodes, boxes topics; a service that a node calls is dashed, in the direction in which its answer goes.
"""

import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.update(ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST', SDL_VIDEODRIVER='dummy')

import matplotlib as mpl

mpl.use('Agg')
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import rclpy
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter

from sega_ros.io import VideoWriter
from sega_ros.nodes.api import NODES
from sega_ros.nodes.managed import make_executor

PICTURE = Path(__file__).resolve().parent.parent / 'docs' / 'graph.png'
HIDDEN = {'/rosout', '/parameter_events', '/diagnostics'}  # everybody publishes them
DISCOVERY = 30.0  # seconds
WIDTH, HEIGHT = 2.8, 0.8  # of a column, of a row
SHAPE = 2.1, 0.36  # of an ellipse or a box
LINES = {'node': '-', 'topic': '-', 'service': '--'}
LINE_COLOUR = '#444444'
COLOURS = {'': 'white', 'operator': '#e8f0fb', 'robot': '#eaf6e6'}


@dataclass(frozen=True)
class Member:
    """A node of a set-up."""

    name: str
    machine: str = ''
    parameters: tuple[tuple[str, object], ...] = ()


SETUPS = {
    'One machine: avatar.launch.py camera:=0 display:=true': (
        Member('image_source'), Member('avatar_builder'), Member('avatar_driver'), Member('avatar_display')),
    'Two machines: operator.launch.py camera:=0, robot.launch.py': (
        Member('image_source', 'operator'), Member('avatar_builder', 'operator'), Member('avatar_tracker', 'operator'),
        Member('avatar_driver', 'robot', (('source', 'expression'),)), Member('avatar_display', 'robot')),
}


@contextmanager
def running(members: tuple[Member, ...], folder: Path, domain: int):
    """Run the nodes, active, in a domain of their own; yields a node beside them that looks at the graph."""
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    nodes, threads = [], []
    try:
        for member in members:
            nodes.append(make_node(member, folder, context))
            threads.append(threading.Thread(target=spin, args=(make_executor(nodes[-1], context),), daemon=True))
            threads[-1].start()
        yield rclpy.create_node('graph', context=context)
    finally:
        rclpy.try_shutdown(context=context)
        for thread in threads:
            thread.join()
        for node in nodes:
            node.destroy_node()


def make_node(member: Member, folder: Path, context: Context):
    """Return the node, configured and activated where it is a lifecycle node."""
    api = next(api for api in NODES if api.name == member.name)
    values = dict(api.fixed) | dict(member.parameters)
    known = vars(api.config())
    for name, value in (('avatar_dir', str(folder / 'avatars')), ('fullscreen', False)):
        values |= {name: value} if name in known else {}
    if member.name == 'image_source':
        values['source'] = str(folder / 'clip.mp4')
    node = api.kind(context=context, parameter_overrides=[Parameter(k, value=v) for k, v in values.items()],
                    cli_args=['--ros-args', '-r', f'__node:={member.name}', '--log-level', 'error'])
    if api.managed:
        node.trigger_configure()
        node.trigger_activate()
    return node


def spin(executor) -> None:
    """Spin until the context is shut down."""
    try:
        executor.spin()
    except ExternalShutdownException:
        pass


def read_graph(looker, members: tuple[Member, ...]) -> nx.DiGraph:
    """Return nodes, topics and called services as the middleware reports them."""
    graph = nx.DiGraph()
    for member in members:
        graph.add_node(member.name, kind='node', machine=member.machine)
        node = (member.name, '/')
        for name in topics(looker.get_publisher_names_and_types_by_node(*node)):
            graph.add_node(name, kind='topic')
            graph.add_edge(member.name, name)
        for name in topics(looker.get_subscriber_names_and_types_by_node(*node)):
            graph.add_node(name, kind='topic')
            graph.add_edge(name, member.name)
        for name, _ in looker.get_client_names_and_types_by_node(*node):
            graph.add_node(name, kind='service')
            graph.add_edge(name, member.name)
    served = {m.name: {n for n, _ in looker.get_service_names_and_types_by_node(m.name, '/')} for m in members}
    for service in [n for n, kind in graph.nodes(data='kind') if kind == 'service']:
        graph.add_edges_from((name, service) for name, services in served.items() if service in services)
    return graph


def topics(pairs) -> list[str]:
    """Return the names that are drawn."""
    hidden = HIDDEN | {name for name, _ in pairs if '/_action/' in name or name.endswith('/transition_event')}
    return [name for name, _ in pairs if name not in hidden]


def settled(looker, members: tuple[Member, ...]) -> nx.DiGraph:
    """Return the graph when it has everything that the description of the nodes says."""
    def complete() -> bool:
        for member in members:
            api = next(api for api in NODES if api.name == member.name)
            wanted = {e.name.lstrip('/') for e in api.endpoints(dict(member.parameters)) if e.qos is not None} - {'diagnostics'}
            if not {f'/{name}' for name in wanted} <= set(graph.nodes) or member.name not in looker.get_node_names():
                return False
        return True

    end = time.monotonic() + DISCOVERY
    while True:
        graph = read_graph(looker, members) if {m.name for m in members} <= set(looker.get_node_names()) else nx.DiGraph()
        if complete():
            return graph
        if time.monotonic() > end:
            sys.exit(f'the graph is not complete after {DISCOVERY:g} s: {sorted(graph.nodes)}')
        time.sleep(0.1)


# --- picture --------------------------------------------------------------------------------------------------------

def with_ways(graph: nx.DiGraph) -> tuple[nx.DiGraph, list[list[str]]]:
    """Return the graph with what is drawn only: a way through every column that an edge skips; and the columns."""
    columns = [list(layer) for layer in nx.topological_generations(graph)]
    column_of = {name: k for k, layer in enumerate(columns) for name in layer}
    found = graph.copy()
    for start, end in graph.edges:
        ways = [f'{start} to {end} {k}' for k in range(column_of[start] + 1, column_of[end])]
        if ways:
            found.remove_edge(start, end)
            kind = max((graph.nodes[name]['kind'] for name in (start, end)), key=lambda k: len(LINES[k]))
            found.add_nodes_from(ways, kind=kind, way=True)
            nx.add_path(found, [start, *ways, end])
        for k, way in enumerate(ways, column_of[start] + 1):
            columns[k].append(way)
    return found, columns


def places(graph: nx.DiGraph, columns: list[list[str]]) -> dict[str, np.ndarray]:
    """Place everything [2]: columns along the flow, rows near what they come from."""
    found: dict[str, np.ndarray] = {}
    for column, layer in enumerate(columns):
        def above(name: str) -> float:
            return float(np.mean([found[p][1] for p in graph.predecessors(name)] or [0]))

        for row, name in enumerate(sorted(layer, key=lambda n: (-above(n), n))):
            found[name] = np.array([column * WIDTH, ((len(layer) - 1) / 2 - row) * HEIGHT])
    return found


def draw(axes, graph: nx.DiGraph, title: str) -> None:
    """Draw one set-up."""
    graph, columns = with_ways(graph)
    at, half = places(graph, columns), np.array([SHAPE[0] / 2, 0])
    for name, place in at.items():
        kind, machine = graph.nodes[name]['kind'], graph.nodes[name].get('machine', '')
        if graph.nodes[name].get('way'):
            axes.plot(*np.transpose([place - half, place + half]), color=LINE_COLOUR, linewidth=0.8, linestyle=LINES[kind])
            continue
        style = {'facecolor': COLOURS[machine], 'edgecolor': 'black', 'linestyle': LINES[kind]}
        corner = place - np.array(SHAPE) / 2
        axes.add_patch(Ellipse(place, *SHAPE, **style) if kind == 'node' else
                       FancyBboxPatch(corner, *SHAPE, boxstyle='square,pad=0', **style))
        axes.text(*place, name, ha='center', va='center', fontsize=7.3)
    for start, end in graph.edges:
        line = max((LINES[graph.nodes[name]['kind']] for name in (start, end)), key=len)
        style = '-' if graph.nodes[end].get('way') else '-|>'
        axes.add_patch(FancyArrowPatch(at[start] + half, at[end] - half, arrowstyle=style, shrinkA=0, shrinkB=0, mutation_scale=9,
                                       linestyle=line, linewidth=0.8, color=LINE_COLOUR))
    for machine in sorted({m for _, m in graph.nodes(data='machine') if m}):
        axes.scatter([], [], marker='o', s=90, facecolor=COLOURS[machine], edgecolor='black', label=f"{machine}'s machine")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc='upper right', fontsize=8, frameon=False)
    axes.set_title(title, loc='left', fontsize=10)
    axes.set_aspect('equal')
    axes.set_xlim(-0.6 * SHAPE[0], 6 * WIDTH + 0.6 * SHAPE[0])
    axes.set_ylim(-2.0 * HEIGHT, 2.0 * HEIGHT)
    axes.axis('off')


def main() -> None:
    """Run both set-ups, one after the other, and write the picture."""
    figure, all_axes = plt.subplots(len(SETUPS), 1, figsize=(13, 5.4), constrained_layout=True)
    with tempfile.TemporaryDirectory() as folder:
        with VideoWriter(Path(folder) / 'clip.mp4', size=(64, 64), fps=10) as writer:
            writer.write(np.zeros((64, 64, 3), np.uint8))
        for k, (axes, (title, members)) in enumerate(zip(all_axes, SETUPS.items(), strict=True)):
            with running(members, Path(folder), 1 + (os.getpid() + k) % 100) as looker:
                draw(axes, settled(looker, members), title)
    figure.savefig(PICTURE, dpi=110, metadata={'Software': None})


if __name__ == '__main__':
    main()
