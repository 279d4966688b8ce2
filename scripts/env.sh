#!/bin/bash
# The environment of the virtual environment as a ROS prefix.
#   scripts/env.sh COMMAND...     runs COMMAND in it
#   source scripts/env.sh         sets it up in this shell
_sega_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_sega_venv="${VENV:-$_sega_root/.venv}"
case "$_sega_venv" in /*) ;; *) _sega_venv="$_sega_root/$_sega_venv" ;; esac
if [ ! -x "$_sega_venv/bin/python" ]; then
  echo "no virtual environment at $_sega_venv: run make setup" >&2
  return 1 2>/dev/null || exit 1
fi
export VIRTUAL_ENV="$_sega_venv"
export PATH="$_sega_venv/bin:$PATH"
export AMENT_PREFIX_PATH="$_sega_venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
export CMAKE_PREFIX_PATH="$_sega_venv${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
unset _sega_root _sega_venv
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  exec "$@"
fi
