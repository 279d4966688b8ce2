#!/bin/bash
# Build the package with colcon against the same wheels and import everything from the install space.
# Run through scripts/env.sh; writes under .colcon/ only.
set -eu
cd "$(dirname "$0")/.."
colcon --log-base .colcon/log build --base-paths . --packages-select sega_ros \
  --build-base .colcon/build --install-base .colcon/install --event-handlers console_direct- \
  --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$VIRTUAL_ENV/bin/python"
set +u
source .colcon/install/setup.bash
set -u
python scripts/check_install.py "$PWD/.colcon/install"
